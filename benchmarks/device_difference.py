"""How far five training steps on two halves of the processor come from the same on one device, in a given precision.

    python benchmarks/device_difference.py --store STORE --precision float64

Prints the largest difference over all weights. If it is rounding, it shrinks with the precision; an error of ours would
not. From a start in which rounding grows fast (every batch-norm scale 1) it was 4.1e-03 in float32 and 5.1e-15 in
float64, on a store of 32 px noise patches. Augmentation and preprocessing stay float32, where each patch is on its own;
everything that sums over patches, from the first convolution to the update, is in the precision asked for.

A program, not a test: float64 convolutions take about a minute on two cores.
"""

import argparse
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mmgkeras.config import AugmentationConfig, TrainConfig
from mmgkeras.models.augmentation import NEGATIVE_OPS, Augment, num_positive_ops
from mmgkeras.models.backbones import resnet18
from mmgkeras.models.network import HEAD, batch_norm_layers
from mmgkeras.models.optimizer import make_optimizer
from mmgkeras.models.preprocessing import DivideByMaximum, Preprocess
from mmgkeras.patches.split import fold_patches
from mmgkeras.patches.store import PatchStore
from mmgkeras.pipeline.batches import training_batches
from mmgkeras.pipeline.epoch import EpochPlan
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION
from mmgkeras.training.devices import choose_devices, open_strategy

NUM_STEPS: Final = 5
BATCH_SIZE: Final = 54


def random_network(patch_px: int) -> keras.Model:
    """ResNet18 with the classifier, synchronized, in Keras' precision, from a start in which rounding grows fastest.

    Every scale is 1, those at the end of the blocks too, which otherwise begin at 0.
    """
    keras.utils.set_random_seed(0)
    features = resnet18(input_shape=(patch_px, patch_px, 3))
    for layer in batch_norm_layers(features):
        layer.synchronized = True
        layer.gamma.assign(keras.ops.ones_like(layer.gamma))
    return keras.Model(features.input, keras.layers.Dense(2, name=HEAD)(features.output))


def weights_after(store: PatchStore, plan: EpochPlan, *, devices: list[str]) -> dict[str, NDArray[np.float64]]:
    """The weights by path after `NUM_STEPS` on these devices at the paper's rate."""
    strategy = open_strategy(devices)
    with strategy.scope():
        network = random_network(store.patch_px)
        optimizer = make_optimizer(TrainConfig(), steps_per_epoch=NUM_STEPS)
        optimizer.build(network.trainable_variables)
    augment = Augment(intensities=AugmentationConfig().intensities)
    divide, preprocess = DivideByMaximum(pixel_type=store.pixel_type), Preprocess(network="resnet18")

    def step(inputs: dict[str, Any], labels: Any) -> None:
        images = preprocess(divide(augment(inputs["image"], inputs["augmentation"])))
        with tf.GradientTape() as tape:
            logits = network(tf.cast(images, keras.config.floatx()), training=True)
            losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
            loss = tf.reduce_sum(losses) / BATCH_SIZE
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)

    def stream(_: Any) -> Any:
        return training_batches(store, plan, first_step=0, last_step=NUM_STEPS, pieces_per_batch=len(devices))

    run = tf.function(lambda batch: strategy.run(step, args=batch))
    for batch in strategy.distribute_datasets_from_function(stream):
        run(batch)
    return {variable.path: np.asarray(variable, np.float64) for variable in network.variables}


def whole_plan(store: PatchStore) -> EpochPlan:
    """The paper's epoch over the first fold's training patches."""
    train = fold_patches(store, 1).train
    labels = store.patches["label"].to_numpy()[train]
    return EpochPlan(
        positives=train[labels == CALCIFICATION],
        negatives=train[labels == NO_CALCIFICATION],
        num_positive_ops=num_positive_ops(AugmentationConfig()),
        negative_ops=NEGATIVE_OPS,
        batch_size=BATCH_SIZE,
        seed=0,
    )


def main() -> None:
    """Runs both and prints how far the weights moved, and how far apart they end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, required=True, help="a patch store with folds.csv")
    parser.add_argument("--precision", choices=("float32", "float64"), default="float64")
    arguments = parser.parse_args()
    keras.config.set_floatx(arguments.precision)
    keras.config.set_dtype_policy(arguments.precision)
    # Divides the processor, which must happen before TensorFlow's first operation.
    both = choose_devices("CPU:0,CPU:1")
    store = PatchStore.open(arguments.store)
    plan = whole_plan(store)
    one, two = (weights_after(store, plan, devices=devices) for devices in (both[:1], both))
    start = random_network(store.patch_px)
    moved = max(np.abs(one[variable.path] - np.asarray(variable)).max() for variable in start.trainable_variables)
    print(f"moved by at most      {moved:.3e}")
    print(f"difference at most    {max(np.abs(two[name] - array).max() for name, array in one.items()):.3e}")


if __name__ == "__main__":
    main()
