"""Trains a network on Keras' JAX backend: for GPU machines that have JAX and no TensorFlow.

The network, the augmentation, the optimizer and the balance are those of `mmgkeras fit`; the order of the samples is
another, drawn by numpy. The whole store lies on the device. Nothing is kept before the end: no checkpoints, no events.
For what is to be resumed, or has more patches than the device has room for, `mmgkeras fit` is the way.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import keras
import numpy as np
from numpy.typing import NDArray

from mmgkeras.config import Config
from mmgkeras.models.augmentation import NEGATIVE_OPS, num_positive_ops
from mmgkeras.models.network import batch_norm_layers, build_network, training_model
from mmgkeras.models.optimizer import make_optimizer
from mmgkeras.patches.split import fold_patches
from mmgkeras.patches.store import PatchStore
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION

Epoch = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]
"""Places in the store, operations and labels, each (steps, batch size)."""


def train(store: PatchStore, config: Config, *, note: Callable[[str], None] = print) -> keras.Model:
    """A network that learned from all subsets but the first, in float32, its batch norm recalibrated.

    Args:
        store: with folds.csv.
        config: its sections augmentation, model and train are used.
        note: gets a line after each epoch.
    """
    if (
        config.model.weights != "none"
        or config.model.normalisation == "training"
        or config.augmentation.insertion
        or config.train.validation_patients
    ):
        raise SystemExit("on JAX: only random weights, no training normalisation, insertion or held-out patients")
    keras.utils.set_random_seed(config.train.seed)
    positives, negatives = _learned_from(store, config)
    epochs = [epoch_samples(positives, negatives, config, epoch=number) for number in range(config.train.epochs)]
    network, model = _built(store, config, precision=config.train.precision)
    optimizer = make_optimizer(config.train, steps_per_epoch=len(epochs[0][0]))
    optimizer.build(model.trainable_variables)
    pixels = jax.device_put(store.gather(np.arange(len(store.patches))))
    groups = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    state = [[variable.value for variable in group] for group in groups]
    step = jax.jit(_training_step(model, optimizer), donate_argnums=0)
    for number, samples in enumerate(epochs, 1):
        losses = []
        for batch in _batches(pixels, samples):
            state, loss = step(state, *batch)
            losses.append(loss)
        note(f"epoch {number} of {len(epochs)}: {len(losses)} steps, loss {float(np.mean(jax.device_get(losses))):.4f}")
    for group, values in zip(groups, state, strict=True):
        for variable, value in zip(group, values, strict=True):
            variable.assign(value)
    if config.train.ema_momentum:
        for variable, average in zip(model.trainable_variables, optimizer.averages(), strict=True):
            variable.assign(average)
    finished, finished_model = _built(store, config, precision="float32")
    finished.set_weights(network.get_weights())
    if config.train.batch_norm_recalibration:
        _recalibrate_batch_norm(finished_model, _batches(pixels, epochs[0]))
    return finished


def _learned_from(store: PatchStore, config: Config) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The places in the store of the positives and of the negatives."""
    learned, labels = fold_patches(store, 1).train, store.patches["label"].to_numpy()
    has_tissue = store.patches["tissue"].to_numpy()[learned] >= config.augmentation.min_negative_tissue
    return learned[labels[learned] == CALCIFICATION], learned[(labels[learned] == NO_CALCIFICATION) & has_tissue]


def epoch_samples(positives: NDArray[np.int64], negatives: NDArray[np.int64], config: Config, *, epoch: int) -> Epoch:
    """One epoch of the balanced set, in whole batches, as `mmgkeras.pipeline.epoch` says it, in numpy's order."""
    augmentation, rng = config.augmentation, np.random.default_rng([config.train.seed, epoch])
    if augmentation.negatives_per_positive is not None:
        num_drawn = min(round(augmentation.negatives_per_positive * len(positives)), len(negatives))
        negatives = rng.choice(negatives, num_drawn, replace=False)
    num_ops, num_turns = num_positive_ops(augmentation), len(NEGATIVE_OPS)
    num_negatives = num_turns * len(negatives)
    ops = rng.permutation(num_negatives) % num_ops
    if augmentation.scheme == "paper":
        ops = np.tile(NEGATIVE_OPS, len(negatives))
    columns = (
        np.concatenate([np.repeat(positives, num_ops), np.repeat(negatives, num_turns)]),
        np.concatenate([np.tile(np.arange(num_ops), len(positives)), ops]),
        np.repeat([CALCIFICATION, NO_CALCIFICATION], [num_ops * len(positives), num_negatives]),
    )
    size = config.train.batch_size
    order = rng.permutation(len(columns[0]))[: len(columns[0]) // size * size]
    places, ops, labels = (column[order].reshape(-1, size).astype(np.int32) for column in columns)
    return places, ops, labels


def _built(store: PatchStore, config: Config, *, precision: Any) -> tuple[keras.Model, keras.Model]:
    """A network with random weights, and the same behind the augmentation."""
    network = build_network(config.model, patch_px=store.patch_px, pixel_type=store.pixel_type, precision=precision)
    return network, training_model(network, config.augmentation)


def _batches(pixels: Any, samples: Epoch) -> Iterator[tuple[dict[str, Any], Any]]:
    """What the model takes, and the labels, step by step, on the device."""
    gather = jax.jit(lambda pixels, places: pixels[places])
    for places, ops, labels in zip(*samples, strict=True):
        yield {"image": gather(pixels, places), "augmentation": ops}, labels


def _training_step(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Callable[..., Any]:
    """A function of the state and a batch that gives the new state and the loss."""

    def step(state: Any, inputs: Any, labels: Any) -> Any:
        trainable, others, slots = state

        def loss(trainable: Any) -> Any:
            logits, changed = model.stateless_call(trainable, others, inputs, training=True)
            logits = keras.ops.cast(logits, "float32")
            losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
            return keras.ops.mean(losses), changed

        (value, others), gradients = jax.value_and_grad(loss, has_aux=True)(trainable)
        trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
        return [trainable, others, slots], value

    return step


def _recalibrate_batch_norm(model: keras.Model, batches: Iterable[tuple[dict[str, Any], Any]]) -> None:
    """As `mmgkeras.training.export_run.recalibrate_batch_norm`: the statistics of every layer's inputs in an epoch."""
    layers = batch_norm_layers(model)
    for layer in layers:
        layer.momentum = 0.0  # the moving statistics become those of the batch
    state = [
        [variable.value for variable in group] for group in (model.trainable_variables, model.non_trainable_variables)
    ]
    places = {variable.path: place for place, variable in enumerate(model.non_trainable_variables)}
    moving = [(places[layer.moving_mean.path], places[layer.moving_variance.path]) for layer in layers]

    @jax.jit
    def moments(state: Any, inputs: Any) -> Any:
        _, changed = model.stateless_call(*state, inputs, training=True)
        return [jax.numpy.stack([changed[mean], changed[variance] + changed[mean] ** 2]) for mean, variance in moving]

    found = jax.device_get([moments(state, inputs) for inputs, _ in batches])
    for number, layer in enumerate(layers):
        mean, square = np.mean([parts[number] for parts in found], axis=0, dtype=np.float64)
        layer.moving_mean.assign(mean.astype(np.float32))
        layer.moving_variance.assign(np.maximum(square - mean * mean, 0).astype(np.float32))
