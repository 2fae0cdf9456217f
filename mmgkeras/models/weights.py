"""The initial weights of a network: random, ImageNet's, the detector's, or those of a local file.

Owns downloads and their hashes, and ResNet18's tensors in torchvision's layout (safetensors).
No pickle is read. The head is new, but for the detector's.
"""

import json
import re
import socket
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mmgkeras.config import ModelConfig
from mmgkeras.errors import ConfigError, WeightsError
from mmgkeras.files import atomic_file, sha256_file
from mmgkeras.json_files import expanded
from mmgkeras.models.backbones import Backbone, find_backbone
from mmgkeras.models.network import backbone_of

_CACHE: Final = "~/.keras/models"
_TIMEOUT_S: Final = 20.0
"""How long a server may be silent."""
_INSTEAD: Final = (
    'fetch that file elsewhere and set model.weights to its path, or to "detector" (learned from phantoms, resnet18) '
    'or "none" (random)'
)
RESNET18_URL: Final = (
    "https://huggingface.co/timm/resnet18.tv_in1k/resolve/bbd144b3e5565108aad885f145491d11bc6ce807/model.safetensors"
)
"""torchvision's first ImageNet weights as timm keeps them, pinned to a revision (46,807,446 bytes)."""
RESNET18_SHA256: Final = "694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81"


def check_weights_file(config: ModelConfig) -> None:
    """Refuses a file named in `weights` that is not there, or not of the network's kind, without reading it.

    Raises:
        WeightsError: if so.
        ConfigError: for an unknown network.
    """
    if config.weights not in ("none", "imagenet", DETECTOR):
        _local_file(expanded(Path(config.weights)), find_backbone(config.network))


def load_weights(network: keras.Model, config: ModelConfig) -> None:
    """Gives a network from `build_network` the weights that the configuration names.

    Args:
        network: changed in place; its head is left as it is, but for the detector's weights.
        config: the one the network was built by. `weights` is "none" for nothing to do; "detector" for those that
            come with the package; "imagenet" for torchvision's (resnet18) or those of keras.applications (any other);
            or a path of a .safetensors file in torchvision's layout (resnet18) or of an .h5 file without the
            classifier, "notop" (any other). What is downloaded is kept in ~/.keras/models.

    Raises:
        WeightsError: if the weights cannot be downloaded or read, or are of another network.
        InputError: if the cache cannot be written.
    """
    if config.weights == "none":
        return
    if config.weights == DETECTOR:
        load_detector(network, config, folder=DETECTOR_FOLDER)
        return
    backbone, target = find_backbone(config.network), backbone_of(network)
    is_ours = backbone.application is None
    if config.weights == "imagenet" and not is_ours:
        # From a second network, the only way in which keras.applications loads its own.
        with _downloading(f"ImageNet weights of {backbone.name}"):
            source = backbone.build(patch_px=network.input_shape[1], weights="imagenet")
        target.set_weights(source.get_weights())
        return
    if config.weights == "imagenet":
        path = _resnet18_imagenet()
    else:
        path = _local_file(expanded(Path(config.weights)), backbone)
    if is_ours:
        load_tensors(target, path)
    else:
        _load_h5(target, path)


def _local_file(path: Path, backbone: Backbone) -> Path:
    suffix = ".safetensors" if backbone.application is None else ".h5"
    if not path.is_file():
        raise WeightsError(
            f'model.weights: no such file {str(path)!r}; allowed: "imagenet", "none", the path of a {suffix} file or '
            "the folder of an exported model"
        )
    if path.suffix != suffix:
        raise WeightsError(f"{path}: {backbone.name} takes weights from a {suffix} file. Received: {path.suffix!r}")
    return path


def _load_h5(target: keras.Model, path: Path) -> None:
    try:
        with warnings.catch_warnings():
            # Keras only warns of parts that the file lacks, and they would stay random.
            warnings.simplefilter("error", UserWarning)
            target.load_weights(path)
    except (ValueError, KeyError, OSError, UserWarning) as error:
        raise WeightsError(
            f"{path}: is not a file of {target.name}'s weights without its classifier: {one_line(error)}"
        ) from error
    for variable, value in zip(target.variables, target.get_weights(), strict=True):
        if not np.isfinite(value).all():
            raise WeightsError(f"{path}: {variable.path} must be finite. Received: infinite values or none at all")


def _resnet18_imagenet() -> Path:
    """The file, downloaded now or before."""
    try:
        path = Path(_CACHE).expanduser() / "resnet18.tv_in1k.safetensors"
    except RuntimeError as error:
        raise WeightsError(
            "model.weights: there is no home folder to keep downloaded weights in; set HOME, or name a file here"
        ) from error
    if path.is_file() and sha256_file(path) == RESNET18_SHA256:
        return path
    with atomic_file(path, overwrite=True) as temporary:
        folder = str(temporary.parent.resolve())
        temporary.unlink()  # Keras would report a damaged file
        with _downloading(RESNET18_URL):
            keras.utils.get_file(temporary.name, RESNET18_URL, file_hash=RESNET18_SHA256, cache_subdir=folder)
    return path


@contextmanager
def _downloading(what: str) -> Iterator[None]:
    """Keras downloads without a time limit and reports on stdout: limits the wait, and reports on stderr."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_S)
    try:
        with redirect_stdout(sys.stderr):
            yield
    except Exception as error:  # Keras raises a bare Exception for whatever goes wrong with a download.
        reason = error.__context__ if what in str(error) else None
        raise WeightsError(
            f"model.weights: {what} cannot be downloaded: {one_line(reason or error)}; {_INSTEAD}"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


_CLASSIFIER: Final = frozenset({"fc.weight", "fc.bias"})
_COUNTER: Final = ".num_batches_tracked"
_FLOATS: Final = ("F64", "F32", "F16", "BF16")
"""Types of tensors that hold weights, as safetensors calls them."""
_TO_KERAS: Final = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
"""Axes of convolutions, of the classifier and of vectors, by their number, as Keras orders torchvision's."""


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
    expected = _torchvision_names(target, head)
    missing = sorted(expected.keys() - tensors.keys())
    if missing:
        raise WeightsError(f"{path}: lacks the tensor {missing[0]!r} of {target.name}, and {len(missing) - 1} more")
    extra = sorted(tensors.keys() - expected.keys())
    if extra:
        raise WeightsError(f"{path}: has the tensor {extra[0]!r}, unknown to {target.name}, and {len(extra) - 1} more")
    for name, variable in expected.items():
        shape = tuple(variable.shape)
        if tensors[name].ndim == len(shape):
            tensors[name] = tensors[name].transpose(_TO_KERAS[len(shape)])
        if tensors[name].shape != shape:
            raise WeightsError(
                f"{path}: the tensor {name!r} must have shape {shape} as Keras orders it. "
                f"Received: shape {tensors[name].shape} as Keras orders it"
            )
        if not np.isfinite(tensors[name]).all():
            raise WeightsError(f"{path}: the tensor {name!r} must be finite. Received: infinite values or none at all")
    for name, variable in expected.items():
        variable.assign(tensors[name])


def save_tensors(target: keras.Model, path: Path, *, head: keras.layers.Layer) -> None:
    """Writes ResNet18 and its classifier in float16, which about halves the file and is read back as float32."""
    tensors = {}
    for name, variable in _torchvision_names(target, head).items():
        values = np.asarray(keras.ops.convert_to_numpy(variable), dtype=np.float16)
        tensors[name] = np.ascontiguousarray(values.transpose(np.argsort(_TO_KERAS[values.ndim])))
    path.write_bytes(save(tensors))


def _read(path: Path, *, without: frozenset[str]) -> dict[str, NDArray[np.floating]]:
    """Every tensor of the file but those named and the counters of batches, as numpy arrays."""
    try:
        with safe_open(path, framework="numpy") as file:
            names = sorted(name for name in set(file.keys()) - without if not name.endswith(_COUNTER))
            types = {name: file.get_slice(name).get_dtype() for name in names}
            odd = next((name for name in names if types[name] not in _FLOATS), None)
            if odd is not None:
                rule = f"the tensor {odd!r} must be of {', '.join(_FLOATS)}"
                raise WeightsError(f"{path}: {rule}. Received: {types[odd]}")
            return {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, TypeError) as error:
        raise WeightsError(f"{path}: is not a readable safetensors file: {one_line(error)}") from error


def _torchvision_names(resnet18: keras.Model, head: keras.layers.Layer | None) -> dict[str, Any]:
    """The variables of our ResNet18, and of its classifier if there is one, by torchvision's names."""
    names = {} if head is None else {"fc.weight": head.kernel, "fc.bias": head.bias}
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


def one_line(error: BaseException) -> str:
    """The message without line breaks, cut to a length that can be read."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}..."


DETECTOR: Final = "detector"
"""The word for these weights in `model.weights`."""
DETECTOR_FOLDER: Final = Path(__file__).parent / "detector_weights"
WEIGHTS: Final = "detector.safetensors"
PROVENANCE: Final = "detector.json"
DIGEST: Final = "weights_sha256"
MODEL: Final = "model"
FIXED_KEYS: Final = ("network", "width", "normalisation")
"""Of `ModelConfig`: a network that takes the weights must have these as the detector had them."""


def save_detector(network: keras.Model, config: ModelConfig, folder: Path, *, provenance: Mapping[str, Any]) -> None:
    """Writes the weights in float16 and beside them, as JSON, what they are and what they were made from.

    Args:
        network: of `build_network`.
        config: that it was built by, of network resnet18.
        folder: that exists.
        provenance: settings, seed, the phantoms' own provenance: whatever shows where the weights come from.
    """
    save_tensors(backbone_of(network), folder / WEIGHTS, head=network.layers[-1])
    described = {DIGEST: sha256_file(folder / WEIGHTS), MODEL: config.model_dump(mode="json"), **provenance}
    (folder / PROVENANCE).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def check_detector(folder: Path) -> dict[str, Any]:
    """What `save_detector` wrote beside the weights.

    Raises:
        WeightsError: if the files are not there, damaged, or do not belong together.
    """
    try:
        described = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        digest = sha256_file(folder / WEIGHTS)
        expected, _ = described[DIGEST], described[MODEL]
    except FileNotFoundError as error:
        raise WeightsError(
            f"the detector is not there, {error.filename} is missing; make detector trains it"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{folder / PROVENANCE}: cannot be read: {error}") from error
    if digest != expected:
        raise WeightsError(f"{folder / WEIGHTS}: is not the file that {PROVENANCE} describes, its checksum differs")
    return dict(described)


def load_detector(network: keras.Model, config: ModelConfig, *, folder: Path) -> None:
    """Gives a network, head included, the detector's weights.

    Raises:
        ConfigError: if the network is of another kind.
        WeightsError: as `check_detector`.
    """
    model = check_detector(folder)[MODEL]
    for key in FIXED_KEYS:
        if getattr(config, key) != model[key]:
            raise ConfigError(f"model.{key}: the detector has {model[key]!r}. Received: {getattr(config, key)!r}")
    load_tensors(backbone_of(network), folder / WEIGHTS, head=network.layers[-1])
