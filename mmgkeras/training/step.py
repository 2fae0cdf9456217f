"""One training step over all devices, what it says of its samples, and the scoring of patches by the network as it is.

The gradient is that of the mean cross-entropy over the whole batch, whatever the number of devices. L2 and the rate
factors are the optimizer's affair: the losses here are data losses. The probabilities of an epoch are those that the
network gave each sample while it learned from it, which makes their metrics worse than those of the finished network.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mmgkeras.evaluation.metrics import THRESHOLD, auc, outcomes
from mmgkeras.patches.store import PatchStore
from mmgkeras.pipeline.batches import even_batches, plain_batches
from mmgkeras.schema import CALCIFICATION
from mmgkeras.training.checkpoint import SAMPLE

Output = tuple[Any, Any, Any]
"""Per-replica (n,) losses, probabilities and labels, still on the devices."""


def make_train_step(
    strategy: tf.distribute.Strategy,
    *,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    batch_size: int,
    jit_compile: bool = False,
) -> Callable[[Any], Output]:
    """A compiled function that takes the next batch of a distributed iterator and learns from it.

    Args:
        strategy: under which `model` and `optimizer` were made.
        model: {"image", "augmentation"} to (n, 2) logits.
        optimizer: already built on the model's trainable variables.
        batch_size: of all devices together.
        jit_compile: compile the forward and backward pass with XLA; the update, which may add up the gradients of
            several devices, is left out.
    """
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")

    def gradients_of(inputs: dict[str, Any], labels: Any) -> tuple[list[Any], Any, Any]:
        with tf.GradientTape() as tape:
            logits = tf.cast(model(inputs, training=True), tf.float32)
            losses = cross_entropy(labels, logits)
            # The optimizer sums the gradients of the replicas, so each gives its share of the mean.
            loss = tf.reduce_sum(losses) / batch_size
        gradients = tape.gradient(loss, model.trainable_variables)
        return gradients, losses, tf.nn.softmax(logits)[:, CALCIFICATION]

    compiled = tf.function(gradients_of, jit_compile=True) if jit_compile else gradients_of

    def on_replica(inputs: dict[str, Any], labels: Any) -> Output:
        gradients, losses, probabilities = compiled(inputs, labels)
        optimizer.apply(gradients, model.trainable_variables)
        return losses, probabilities, labels

    def train_step(iterator: Any) -> Output:
        return cast(Output, strategy.run(on_replica, args=next(iterator)))

    return cast(Callable[[Any], Output], tf.function(train_step, jit_compile=False))


def fetch_samples(strategy: tf.distribute.Strategy, outputs: Sequence[Output]) -> NDArray[np.void]:
    """The samples (n,) of `SAMPLE` of several steps, in the order of the stream, from the devices to the host."""
    columns = [
        np.concatenate([part for output in outputs for part in strategy.experimental_local_results(output[place])])
        for place in range(3)
    ]
    samples = np.zeros(len(columns[0]), SAMPLE)
    for name, column in zip(SAMPLE.names or (), columns, strict=True):
        samples[name] = column
    return samples


def discrimination(
    labels: NDArray[Any], probabilities: NDArray[np.float32]
) -> tuple[dict[str, float], NDArray[np.int64]]:
    """How well probabilities (n,) of 1 tell labels (n,) of 0 and 1 apart, at a threshold of 0.5.

    Returns:
        auc, sensitivity and specificity, NaN where a class is missing; and the confusion matrix (2, 2), rows the truth
        and columns the answer, without calcification first.
    """
    area = auc(labels, probabilities)
    tp, fp, tn, fn = (part.sum() for part in outcomes(labels, probabilities, threshold=THRESHOLD).values())
    matrix = np.array([[tn, fp], [fn, tp]])
    with np.errstate(invalid="ignore"):
        specificity, sensitivity = (matrix.diagonal() / matrix.sum(axis=1)).tolist()
    return {"auc": np.nan if area is None else area, "sensitivity": sensitivity, "specificity": specificity}, matrix


def make_scorer(network: keras.Model) -> Callable[[Any], Any]:
    """A compiled function from raw patches (n, P, P, 1) to (n,) float32 probabilities of calcification."""
    shape = (None, *network.input_shape[1:])

    def score(patches: Any) -> Any:
        logits = tf.cast(network(patches, training=False), tf.float32)
        return tf.nn.softmax(logits)[:, CALCIFICATION]

    signature = [tf.TensorSpec(shape, network.inputs[0].dtype)]
    return cast(Callable[[Any], Any], tf.function(score, input_signature=signature, jit_compile=False))


def score_patches(
    score: Callable[[Any], Any], store: PatchStore, indices: NDArray[np.int64], *, batch_size: int
) -> NDArray[np.float32]:
    """(n,) float32 probabilities of the patches at these places in the store, as they are."""
    batches = plain_batches(store, even_batches(indices, batch_size=batch_size))
    return np.concatenate([np.asarray(score(patches), np.float32) for patches in batches])
