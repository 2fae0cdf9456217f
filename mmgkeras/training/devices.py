"""Which devices train, and how exactly: the strategy, determinism, bfloat16 and TensorFloat-32.

Everything here changes the state of the TensorFlow process; nothing else in training does.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import keras
import tensorflow as tf

from mmgkeras.config import TrainConfig
from mmgkeras.errors import InputError

_REWRITING: Final = "auto_mixed_precision_onednn_bfloat16"
_BFLOAT16_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16"})


def choose_devices(text: str | None = None) -> list[str]:
    """The devices to train on, such as ["GPU:0", "GPU:1"].

    Args:
        text: None for all GPUs, or the processor where there is none; a number for the first so many GPUs; or names
            with commas between, such as "GPU:1" or "CPU:0,CPU:1". "CPU:1" and on are made by dividing the processor,
            which must happen before TensorFlow's first operation.

    Raises:
        InputError: for anything else, or a device that is not there.
    """
    num_gpus = len(tf.config.list_physical_devices("GPU"))
    if text is None:
        return [f"GPU:{number}" for number in range(num_gpus)] or ["CPU:0"]
    names = [f"GPU:{number}" for number in range(int(text))] if text.isdecimal() else text.upper().split(",")
    if not names or len(set(names)) < len(names) or not all(re.fullmatch(r"[CG]PU:\d+", name) for name in names):
        raise InputError(f"devices: give a number of GPUs, or names such as GPU:0,GPU:1, each once. Received: {text!r}")
    missing = [name for name in names if name.startswith("GPU") and int(name[4:]) >= num_gpus]
    if missing:
        raise InputError(f"devices: {missing[0]} is not there; this machine has {num_gpus} GPUs. Received: {text!r}")
    _divide_processor(1 + max((int(name[4:]) for name in names if name.startswith("CPU")), default=0))
    return names


def _divide_processor(num_devices: int) -> None:
    if num_devices == 1:
        return
    processor = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * num_devices)
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) < num_devices:
            raise InputError(
                f"devices: the processor cannot be divided into {num_devices} after TensorFlow's first operation"
            ) from error


def open_strategy(devices: list[str]) -> tf.distribute.Strategy:
    """How the work is spread over the devices: mirrored over several, plain on one."""
    if len(devices) == 1:
        return tf.distribute.OneDeviceStrategy(devices[0])
    return tf.distribute.MirroredStrategy(devices)


def use_only(name: str) -> str:
    """Hides all GPUs from the process but one, and gives what that one is then called; before the first operation.

    Otherwise each of several processes would take the memory of all GPUs, and load its finished model onto the first.

    Args:
        name: such as "GPU:1". A processor is left as it is.

    Raises:
        InputError: if there is no such GPU.
    """
    if not name.startswith("GPU"):
        return name
    gpus, number = tf.config.list_physical_devices("GPU"), int(name[4:])
    if number >= len(gpus):
        raise InputError(f"devices: {name} is not there; this machine has {len(gpus)} GPUs")
    tf.config.set_visible_devices(gpus[number], "GPU")
    return "GPU:0"


def set_arithmetic(config: TrainConfig) -> None:
    """Seeds every generator of the process, and sets how exactly it computes: `train.deterministic`, `train.tf32`."""
    keras.utils.set_random_seed(config.seed % 2**32)
    tf.config.experimental.enable_tensor_float_32_execution(config.tf32)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()


def network_precision(config: TrainConfig, *, devices: list[str]) -> Literal["float32", "bfloat16"]:
    """In what the training network's layers are to be built; bfloat16 by Keras' mixed policy is for GPUs alone."""
    return "float32" if on_processor(devices) else config.precision


@contextmanager
def graph_rewriting(config: TrainConfig, *, devices: list[str]) -> Iterator[None]:
    """Functions traced and called inside compute in bfloat16 on the processor where `train.precision` asks for it.

    It is done by oneDNN's rewriting of the graph, which trains faster there than Keras' mixed policy. Weights and
    their updates are float32 either way.
    """
    if config.precision == "float32" or not on_processor(devices):
        yield
        return
    tf.config.optimizer.set_experimental_options({_REWRITING: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({_REWRITING: False})


def precision_note(config: TrainConfig, *, devices: list[str], cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """A line for the user where bfloat16 was asked for and the processor has no instructions for it."""
    if config.precision == "float32" or not on_processor(devices):
        return None
    if not cpuinfo.is_file() or _BFLOAT16_FLAGS & set(cpuinfo.read_text(encoding="utf-8", errors="replace").split()):
        return None
    return "train.precision: this processor has no bfloat16 instructions (AVX512-BF16 or AMX); float32 will be faster"


def on_processor(devices: list[str]) -> bool:
    """Whether processors alone train."""
    return all(device.startswith("CPU") for device in devices)
