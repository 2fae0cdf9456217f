"""A network as a SavedModel: raw patches in, probabilities out, and where in a patch they come from.

Owns the endpoints' names, inputs and outputs. They are always called by name: the alias `serving_default` that every
SavedModel has is never relied on. Versions are numbered folders, of which TF Serving takes the highest.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import keras
import tensorflow as tf

from mmgkeras.errors import InputError
from mmgkeras.evaluation.operating_point import OperatingPoint
from mmgkeras.files import atomic_folder
from mmgkeras.json_files import is_unicode
from mmgkeras.models.localisation import LOGITS, cell_centres_px, localising_model
from mmgkeras.savedmodel.metadata import ModelMetadata, read_metadata, write_metadata
from mmgkeras.savedmodel.model_card import note_operating_point, write_model_card
from mmgkeras.schema import CALCIFICATION

ENDPOINT: Final = "classify_patches"
INPUT: Final = "patches"
OUTPUT: Final = "probability"
LOCALISE: Final = "localise_patches"
CENTRES: Final = "cell_centres_px"
"""A function of the SavedModel, not of a server: where the cells of the activation lie, as in `ActivationMap`."""
_ALIAS: Final = "serving_default"
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
    pixels = tf.TensorSpec((None, metadata.patch_px, metadata.patch_px, 1), metadata.pixel_type, name=INPUT)
    endpoints = {ENDPOINT: _endpoint(network, pixels)}
    localiser = localising_model(network)
    if localiser is not None:
        endpoints[LOCALISE] = _endpoint(localiser, pixels)
    # Not keras.export.ExportArchive: it writes every weight twice, the second time in an order that changes from
    # process to process, so that equal models would not be equal files.
    module = tf.Module()
    module.weights = [variable.value for variable in network.variables]
    for name, endpoint in endpoints.items():
        setattr(module, name, endpoint)
    if localiser is not None:
        centres = cell_centres_px(network)
        setattr(module, CENTRES, tf.function(lambda: tf.constant(centres), input_signature=[], autograph=False))
    with atomic_folder(path) as folder, errors_of_tensorflow(path):
        tf.saved_model.save(module, str(folder), signatures={**endpoints, _ALIAS: endpoints[ENDPOINT]})
        write_metadata(metadata, folder)
        write_model_card(folder)


@contextmanager
def errors_of_tensorflow(path: Path) -> Iterator[None]:
    """Turns what TensorFlow says against writing to `path` into one line.

    Raises:
        InputError: for any error of an operation in the block, and for a path that TensorFlow does not take.
    """
    check_path(path.absolute())
    try:
        yield
    except tf.errors.OpError as error:
        reason = _PLACE_IN_GRAPH.sub("", str(error.message).partition("\n")[0]) or type(error).__name__
        raise InputError(f"{path}: cannot be written: {reason}") from error


def check_path(path: Path) -> None:
    """Refuses a path that TensorFlow, or another engine of models, does not take.

    Raises:
        InputError: if it is not UTF-8.
    """
    if not is_unicode(str(path)):
        raise InputError(f"{path}: must be UTF-8, for the engines of models take no other path")


def _endpoint(model: keras.Model, pixels: tf.TensorSpec) -> tf.types.experimental.PolymorphicFunction:
    """From patches to the probabilities and, of a localising model, the activations."""

    def endpoint(patches: tf.Tensor) -> dict[str, tf.Tensor]:
        answers = model(tf.cast(patches, model.inputs[0].dtype), training=False)
        outputs = dict(answers) if isinstance(answers, dict) else {LOGITS: answers}
        logits = tf.cast(outputs.pop(LOGITS), tf.float32)
        return {OUTPUT: tf.nn.softmax(logits)[:, CALCIFICATION], **outputs}

    return tf.function(endpoint, input_signature=[pixels], autograph=False)


def next_version(model: Path) -> int:
    """One more than the highest version in a model's folder; 1 for a new one."""
    names = [path.name for path in model.iterdir()] if model.is_dir() else []
    return 1 + max((int(name) for name in names if name.isdecimal()), default=0)


def new_version(model: Path, *, export: Path | None = None, least: int = 1) -> Path:
    """The folder that `add_version` would make; arguments as there.

    Raises:
        InputError: if the model's folder is no numbered version and `export` is not given.
    """
    if export is None and not model.name.isdecimal():
        raise InputError(f"{model}: must be a version's folder, saved_models/NAME/1. Received: {model.name!r} as last")
    place = export or model.parent
    return place / str(max(least, next_version(place)))


def add_version(model: Path, operating_point: OperatingPoint, *, export: Path | None = None, least: int = 1) -> Path:
    """Copies a model into the next free version with an operating point in metadata and card, whole or not at all.

    The network is copied as it is: scores do not change, only what is called by default. A finer model beside it is
    `detector.add_version_with_finer`'s.

    Args:
        model: the folder of the version that is copied.
        operating_point: of the new version.
        export: the folder that gets it, `saved_models/<name>`; None for the model's own.
        least: the lowest number that it may have.

    Returns:
        The new version's folder.

    Raises:
        InputError: if the folder is no SavedModel of ours or, without `export`, no numbered version, or cannot be
            copied.
    """
    metadata = read_metadata(model)
    path = new_version(model, export=export, least=least)
    with atomic_folder(path) as folder:
        shutil.copytree(model, folder, dirs_exist_ok=True)
        write_metadata(metadata.model_copy(update={"operating_point": operating_point}), folder)
        note_operating_point(folder)
    return path
