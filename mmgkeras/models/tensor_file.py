"""Files of weights: our ResNet18 in torchvision's layout, as safetensors.

Owns the names of tensors and the order of their axes. No pickle is read.
"""

import re
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mmgkeras.errors import WeightsError

_CLASSIFIER: Final = frozenset({"fc.weight", "fc.bias"})
_COUNTER: Final = ".num_batches_tracked"
_TO_KERAS: Final = {4: (2, 3, 1, 0), 2: (1, 0)}
"""Axes of convolutions and of the classifier, by their number, as Keras orders torchvision's."""


def load_tensors(target: keras.Model, path: Path, *, head: keras.layers.Layer | None = None) -> None:
    """Gives our ResNet18 the weights of a file; nothing is changed unless every tensor fits.

    Args:
        target: ResNet18 without its classifier, changed in place.
        path: of a .safetensors file.
        head: the classifier, to be loaded too; without it, that of the file is passed over.

    Raises:
        WeightsError: for a file that cannot be read, or a tensor that is missing, unknown, not finite or of another
            shape.
    """
    tensors = _read(path, without=frozenset() if head is not None else _CLASSIFIER)
    expected = _named(target, head)
    missing = sorted(expected.keys() - tensors.keys())
    if missing:
        raise WeightsError(f"{path}: lacks the tensor {missing[0]!r} of {target.name}, and {len(missing) - 1} more")
    extra = sorted(name for name in tensors.keys() - expected.keys() if not name.endswith(_COUNTER))
    if extra:
        raise WeightsError(f"{path}: has the tensor {extra[0]!r}, unknown to {target.name}, and {len(extra) - 1} more")
    for name, variable in expected.items():
        if tensors[name].ndim == len(variable.shape) and tensors[name].ndim in _TO_KERAS:
            tensors[name] = tensors[name].transpose(_TO_KERAS[tensors[name].ndim])
        if tensors[name].shape != tuple(variable.shape):
            raise WeightsError(
                f"{path}: the tensor {name!r} must have {_layout(variable.shape)}. "
                f"Received: {_layout(tensors[name].shape)}"
            )
        if not np.isfinite(tensors[name]).all():
            raise WeightsError(f"{path}: the tensor {name!r} must be finite. Received: infinite values or none at all")
    for name, variable in expected.items():
        variable.assign(tensors[name])


def save_tensors(target: keras.Model, path: Path, *, head: keras.layers.Layer) -> None:
    """Writes ResNet18 and its classifier in float16, which about halves the file and is read back as float32."""
    tensors = {}
    for name, variable in _named(target, head).items():
        values = np.asarray(keras.ops.convert_to_numpy(variable), dtype=np.float16)
        order = _TO_KERAS.get(values.ndim)
        tensors[name] = np.ascontiguousarray(values if order is None else values.transpose(np.argsort(order)))
    path.write_bytes(save(tensors))


def _named(target: keras.Model, head: keras.layers.Layer | None) -> dict[str, Any]:
    """The variables of ResNet18, and of its classifier if there is one, by torchvision's names."""
    of_head = {} if head is None else {"fc.weight": head.kernel, "fc.bias": head.bias}
    return _torchvision_names(target) | of_head


def _read(path: Path, *, without: frozenset[str]) -> dict[str, NDArray[np.floating]]:
    """Every tensor of the file but those named, as numpy arrays."""
    try:
        with safe_open(path, framework="numpy") as file:
            names = set(file.keys()) - without
            return {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, TypeError) as error:
        raise WeightsError(f"{path}: is not a readable safetensors file: {one_line(error)}") from error


def _torchvision_names(resnet18: keras.Model) -> dict[str, Any]:
    """The variables of our ResNet18 by torchvision's names."""
    names = {}
    for layer in resnet18.layers:
        if isinstance(layer, keras.layers.Conv2D):
            names[f"{_torchvision_module(layer.name)}.weight"] = layer.kernel
        elif isinstance(layer, keras.layers.BatchNormalization):
            module = _torchvision_module(layer.name)
            names[f"{module}.weight"] = layer.gamma
            names[f"{module}.bias"] = layer.beta
            names[f"{module}.running_mean"] = layer.moving_mean
            names[f"{module}.running_var"] = layer.moving_variance
    return names


def _torchvision_module(layer_name: str) -> str:
    """conv1_bn is bn1; conv3_block1_2_conv is layer2.0.conv2; number 0 of a block, the shortcut, is downsample."""
    match = re.fullmatch(r"conv(\d)_block(\d)_(\d)_(conv|bn)", layer_name)
    if match is None:
        return {"conv1_conv": "conv1", "conv1_bn": "bn1"}[layer_name]
    stage, block, number, kind = match.groups()
    module = f"layer{int(stage) - 1}.{int(block) - 1}"
    if number == "0":
        return f"{module}.downsample.{0 if kind == 'conv' else 1}"
    return f"{module}.{kind}{number}"


def _layout(shape: tuple[int, ...]) -> str:
    return f"shape {tuple(shape)} as Keras orders it"


def one_line(error: BaseException) -> str:
    """The message without line breaks, cut to a length that can be read."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}..."
