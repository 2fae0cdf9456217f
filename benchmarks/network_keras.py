"""Worker of benchmarks/network.py for our networks, on Keras' TensorFlow or JAX backend, whichever is there."""

import importlib.util
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from network_worker import Case, Prepared, serve

if "KERAS_BACKEND" not in os.environ and importlib.util.find_spec("tensorflow") is None:
    os.environ["KERAS_BACKEND"] = "jax"

import keras

from mmgkeras.config import ModelConfig, TrainConfig, read_config
from mmgkeras.models.network import build_network
from mmgkeras.models.optimizer import make_optimizer

DETECTOR = Path(__file__).resolve().parent.parent / "configs" / "detector.toml"


def prepare(case: Case) -> Prepared:
    """The network with random weights and a batch of random patches on the device."""
    set_up = prepare_tensorflow if keras.backend.backend() == "tensorflow" else prepare_jax
    return set_up(case)


def batch_of(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Random uint8 patches and labels."""
    generator = np.random.default_rng(0)
    shape = (case.batch, case.patch_px, case.patch_px, 1)
    return generator.integers(0, 256, size=shape, dtype=np.uint8), generator.integers(0, 2, size=case.batch)


def network_of(
    case: Case, *, change: Callable[[keras.Model], keras.Model] | None = None
) -> tuple[keras.Model, keras.optimizers.Optimizer]:
    """The network as `fit` builds and changes it, and the paper's optimizer."""
    precision = "bfloat16" if case.way == "bfloat16" else "float32"
    is_detector = case.network == "detector"
    config = read_config(DETECTOR).model if is_detector else ModelConfig(network=case.network)
    network = build_network(config, patch_px=case.patch_px, pixel_type="uint8", precision=precision)
    network = network if change is None else change(network)
    optimizer = make_optimizer(TrainConfig(), steps_per_epoch=1000)
    optimizer.build(network.trainable_variables)
    return network, optimizer


def loss_of(label: object, logits: object) -> object:
    """Mean cross entropy of the batch."""
    return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(label, logits, from_logits=True))


def count(network: keras.Model) -> int:
    """Number of trainable parameters."""
    return sum(int(np.prod(variable.shape)) for variable in network.trainable_variables)


def prepare_tensorflow(case: Case) -> Prepared:
    """A tf.function; the way "bfloat16-rewrite" lets the graph optimizer put bfloat16 into a float32 graph."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(case.threads)
    if case.way == "bfloat16-rewrite":
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})
    from mmgkeras.training.fast_layers import with_fast_layers

    is_cpu = not tf.config.list_physical_devices("GPU")
    network, optimizer = network_of(
        case, change=partial(with_fast_layers, on_processor=is_cpu and case.mode == "train")
    )
    image, label = (tf.constant(array) for array in batch_of(case))

    @tf.function(jit_compile=case.compiled)
    def step() -> tf.Tensor:
        if case.mode == "infer":
            return network(image, training=False)
        with tf.GradientTape() as tape:
            loss = loss_of(label, network(image, training=True))
        gradients = tape.gradient(loss, [variable.value for variable in network.trainable_variables])
        optimizer.apply(gradients, network.trainable_variables)
        return loss

    def run(num_steps: int) -> None:
        for _ in range(num_steps):
            result = step()
        result.numpy()

    return Prepared(run, count(network), f"Keras on TensorFlow {tf.__version__}", "CPU" if is_cpu else "GPU")


def prepare_jax(case: Case) -> Prepared:
    """A jitted function of the state, which stays on the device."""
    import jax

    network, optimizer = network_of(case)
    image, label = (jax.device_put(array) for array in batch_of(case))
    variables = (network.trainable_variables, network.non_trainable_variables, optimizer.variables)
    state = [[variable.value for variable in group] for group in variables]

    def train(trainable: list, others: list, slots: list) -> tuple:
        def loss(trainable: list) -> tuple:
            logits, changed = network.stateless_call(trainable, others, image, training=True)
            return loss_of(label, logits), changed

        (value, others), gradients = jax.value_and_grad(loss, has_aux=True)(trainable)
        trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
        return [trainable, others, slots], value

    def infer(trainable: list, others: list, slots: list) -> tuple:
        logits, others = network.stateless_call(trainable, others, image, training=False)
        return [trainable, others, slots], logits

    step = jax.jit(train if case.mode == "train" else infer, donate_argnums=(0, 1, 2))

    def run(num_steps: int) -> None:
        nonlocal state
        for _ in range(num_steps):
            state, result = step(*state)
        jax.block_until_ready((state, result))

    device = f"{jax.devices()[0].platform}: {jax.devices()[0].device_kind}"
    return Prepared(run, count(network), f"Keras on JAX {jax.__version__}", device)


if __name__ == "__main__":
    serve(prepare)
