"""What a network starts from: random weights, ImageNet's, the detector's, or those of a local file.

Owns downloads and their hashes. No pickle is read. The head is new, but for the detector's.
"""

import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import keras

from mmgkeras.config import ModelConfig
from mmgkeras.errors import WeightsError
from mmgkeras.files import atomic_file, sha256_file
from mmgkeras.models.backbones import Backbone, find_backbone
from mmgkeras.models.detector import DETECTOR, DETECTOR_FOLDER, load_detector
from mmgkeras.models.network import backbone_of
from mmgkeras.models.tensor_file import load_tensors, one_line

_CACHE: Final = "~/.keras/models"
_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on the net, its SHA-256 in hexadecimal, and how long its server may be silent."""

    url: str
    sha256: str
    timeout_s: float = _TIMEOUT_S


RESNET18_IMAGENET: Final = RemoteFile(
    url="https://huggingface.co/timm/resnet18.tv_in1k/resolve/bbd144b3e5565108aad885f145491d11bc6ce807/model.safetensors",
    sha256="694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81",
)
"""torchvision's first ImageNet weights as timm keeps them, pinned to a revision (46,807,446 bytes)."""


def load_weights(
    network: keras.Model,
    config: ModelConfig,
    *,
    cache: Path | None = None,
    resnet18: RemoteFile = RESNET18_IMAGENET,
) -> None:
    """Gives a network from `build_network` the weights that the configuration names.

    Args:
        network: changed in place; its head is left as it is, but for the detector's weights.
        config: the one the network was built by. `weights` is "none" for nothing to do; "detector" for those that
            `make detector` made; "imagenet" for torchvision's (resnet18) or those of keras.applications (any other);
            or a path of a .safetensors file in torchvision's layout (resnet18) or of an .h5 file without the
            classifier, "notop" (any other).
        cache: the folder in which resnet18's file is kept; None for ~/.keras/models. Others are kept by Keras.
        resnet18: where resnet18's ImageNet weights are.

    Raises:
        WeightsError: if the weights cannot be downloaded or read, or are of another network.
        InputError: if the cache cannot be written.
    """
    if config.weights == "none":
        return
    if config.weights == DETECTOR:
        load_detector(network, config, folder=DETECTOR_FOLDER)
        return
    backbone = find_backbone(config.network)
    target = backbone_of(network)
    if config.weights != "imagenet":
        _load_local(target, backbone, path=Path(config.weights))
    elif backbone.application is None:
        folder = _home_cache() if cache is None else cache
        load_tensors(target, _downloaded(resnet18, folder / "resnet18.tv_in1k.safetensors"))
    else:
        _load_application(target, backbone, patch_px=network.input_shape[1])


def _home_cache() -> Path:
    try:
        return Path(_CACHE).expanduser()
    except RuntimeError as error:
        raise WeightsError(
            "model.weights: there is no home folder to keep downloaded weights in; set HOME, or name a file here"
        ) from error


def _load_local(target: keras.Model, backbone: Backbone, *, path: Path) -> None:
    suffix = ".safetensors" if backbone.application is None else ".h5"
    if not path.is_file():
        raise WeightsError(
            f'model.weights: no such file {str(path)!r}; allowed: "imagenet", "none", the path of a {suffix} file or '
            "the folder of an exported model"
        )
    if path.suffix != suffix:
        raise WeightsError(f"{path}: {backbone.name} takes weights from a {suffix} file. Received: {path.suffix!r}")
    if backbone.application is None:
        load_tensors(target, path)
    else:
        _load_h5(target, path)


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


def _load_application(target: keras.Model, backbone: Backbone, *, patch_px: int) -> None:
    """Takes the weights from a second network, the only way in which keras.applications loads its own."""
    try:
        with _download_manners(_TIMEOUT_S):
            source = backbone.build(patch_px=patch_px, weights="imagenet")
    except Exception as error:  # Keras raises a bare Exception for whatever goes wrong with a download.
        raise WeightsError(
            f"model.weights: the ImageNet weights of {backbone.name} cannot be downloaded: {one_line(error)}; "
            "fetch that file elsewhere and set model.weights to its path"
        ) from error
    target.set_weights(source.get_weights())


def _downloaded(remote: RemoteFile, path: Path) -> Path:
    """The path, after the file is there and has the right hash."""
    if path.is_file() and sha256_file(path) == remote.sha256:
        return path
    with atomic_file(path, overwrite=True) as temporary:
        folder = str(temporary.parent.resolve())
        temporary.unlink()  # Keras would report a damaged file
        try:
            with _download_manners(remote.timeout_s):
                keras.utils.get_file(temporary.name, remote.url, file_hash=remote.sha256, cache_subdir=folder)
        except Exception as error:  # Keras raises a bare Exception for whatever goes wrong with a download.
            raise WeightsError(
                f"model.weights: {remote.url} cannot be downloaded: {one_line(error.__context__ or error)}; "
                "fetch that file elsewhere and set model.weights to its path"
            ) from error
    return path


@contextmanager
def _download_manners(timeout_s: float) -> Iterator[None]:
    """Keras downloads without a time limit and reports on stdout: limits the wait, and reports on stderr."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(timeout_s)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        socket.setdefaulttimeout(before)
