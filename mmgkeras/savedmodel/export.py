"""A network as a SavedModel: raw patches in, probabilities out, and where in a patch they come from.

Owns the endpoints' names, inputs and outputs. They are always called by name: the alias `serving_default` that every
SavedModel has is never relied on. Versions are numbered folders, of which TF Serving takes the highest.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mmgkeras.errors import InputError
from mmgkeras.evaluation.operating_point import OperatingPoint
from mmgkeras.files import atomic_folder
from mmgkeras.models.localisation import ACTIVATION, LOGITS, cell_centres_px, localising_model
from mmgkeras.savedmodel.metadata import ModelMetadata, read_metadata, write_metadata
from mmgkeras.savedmodel.model_card import note_operating_point, write_model_card
from mmgkeras.schema import CALCIFICATION

ENDPOINT: Final = "classify_patches"
INPUT: Final = "patches"
OUTPUT: Final = "probability"
LOCALISE: Final = "localise_patches"
ACTIVATION_OUTPUT: Final = "activation"
CENTRES: Final = "cell_centres_px"
"""A function of the SavedModel, not of a server: where the cells of the activation lie, as in `ActivationMap`."""
_ALIAS: Final = "serving_default"
_Endpoint = Callable[[tf.Tensor], dict[str, tf.Tensor]]
_PLACE_IN_GRAPH: Final = re.compile(r"^\{\{[^}]*\}\} ?| \[Op:\w+\]$")


def export(network: keras.Model, path: Path, metadata: ModelMetadata) -> None:
    """Writes a network as a SavedModel whole or not at all; `path` is `<name>/<version>`, TF Serving's layout.

    The endpoint `classify_patches` takes `patches` (N, patch_px, patch_px, 1) of the pixel type in the metadata and
    returns `probability` (N,) float32: the softmax of the two logits, for calcification. A network that ends in global
    average pooling, or that judges cells and pools them, has a second endpoint on the same variables:
    `localise_patches` returns, from one pass, also `activation` (N, h, w) float32, the class activation of each cell of
    the last feature map; pooled over the cells as the network does it is the log odds of `probability`.

    Args:
        network: raw patches (N, patch_px, patch_px, 1) to logits (N, 2), in float32.
        path: the folder to write.
        metadata: what the model says of itself.

    Raises:
        InputError: if `path` exists or cannot be written.
    """
    functions = {ENDPOINT: _classifying(network)}
    localiser = localising_model(network)
    if localiser is not None:
        functions[LOCALISE] = _localising(localiser)
    pixels = tf.TensorSpec((None, metadata.patch_px, metadata.patch_px, 1), metadata.pixel_type, name=INPUT)
    endpoints = {
        name: tf.function(function, input_signature=[pixels], autograph=False) for name, function in functions.items()
    }
    # Not keras.export.ExportArchive: it writes every weight twice, the second time in an order that changes from
    # process to process, so that equal models would not be equal files.
    module = tf.Module()
    module.weights = [variable.value for variable in network.variables]
    for name, endpoint in endpoints.items():
        setattr(module, name, endpoint)
    if localiser is not None:
        setattr(module, CENTRES, _constant(cell_centres_px(network)))
    with atomic_folder(path) as folder, errors_of_tensorflow(path):
        tf.saved_model.save(module, str(folder), signatures={**endpoints, _ALIAS: endpoints[ENDPOINT]})
        write_metadata(metadata, folder)
        write_model_card(folder)


@contextmanager
def errors_of_tensorflow(path: Path) -> Iterator[None]:
    """Turns what TensorFlow says against writing to `path` into one line.

    Raises:
        InputError: for any error of an operation in the block.
    """
    try:
        yield
    except tf.errors.OpError as error:
        reason = _PLACE_IN_GRAPH.sub("", str(error.message).partition("\n")[0]) or type(error).__name__
        raise InputError(f"{path}: cannot be written: {reason}") from error


def _classifying(network: keras.Model) -> _Endpoint:
    def classify_patches(patches: tf.Tensor) -> dict[str, tf.Tensor]:
        return {OUTPUT: _probability(network(_input(patches, network), training=False))}

    return classify_patches


def _localising(localiser: keras.Model) -> _Endpoint:
    def localise_patches(patches: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = localiser(_input(patches, localiser), training=False)
        return {OUTPUT: _probability(outputs[LOGITS]), ACTIVATION_OUTPUT: outputs[ACTIVATION]}

    return localise_patches


def _input(patches: tf.Tensor, network: keras.Model) -> tf.Tensor:
    return tf.cast(patches, network.inputs[0].dtype)


def _probability(logits: tf.Tensor) -> tf.Tensor:
    return tf.nn.softmax(tf.cast(logits, tf.float32))[:, CALCIFICATION]


def _constant(value: NDArray[np.float32]) -> tf.types.experimental.PolymorphicFunction:
    return tf.function(lambda: tf.constant(value), input_signature=[], autograph=False)


def next_version(model: Path) -> int:
    """One more than the highest version in a model's folder; 1 for a new one."""
    names = [path.name for path in model.iterdir()] if model.is_dir() else []
    return 1 + max((int(name) for name in names if name.isdecimal()), default=0)


def add_version(model: Path, operating_point: OperatingPoint) -> Path:
    """Copies a model into the next free version with an operating point in metadata and card, whole or not at all.

    The network is copied as it is: scores do not change, only what is called by default.

    Returns:
        The new version's folder, beside the model's.

    Raises:
        InputError: if the folder is no SavedModel of ours or no numbered version, or cannot be copied.
    """
    metadata = read_metadata(model)
    if not model.name.isdecimal():
        raise InputError(f"{model}: must be a version's folder, saved_models/NAME/1. Received: {model.name!r} as last")
    path = model.with_name(str(next_version(model.parent)))
    with atomic_folder(path) as folder:
        shutil.copytree(model, folder, dirs_exist_ok=True)
        write_metadata(metadata.model_copy(update={"operating_point": operating_point}), folder)
        note_operating_point(folder)
    return path
