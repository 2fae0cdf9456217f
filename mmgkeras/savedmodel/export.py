"""A network as a SavedModel: one endpoint, raw patches in, probabilities out.

Owns the endpoint's name and its input and output. It is always called by name: the alias `serving_default` that every
SavedModel has is never relied on.
"""

from pathlib import Path
from typing import Final

import keras
import tensorflow as tf

from mmgkeras.files import atomic_folder
from mmgkeras.savedmodel.metadata import ModelMetadata, write_metadata
from mmgkeras.schema import CALCIFICATION

ENDPOINT: Final = "classify_patches"
INPUT: Final = "patches"
OUTPUT: Final = "probability"
_ALIAS: Final = "serving_default"


def export(network: keras.Model, path: Path, metadata: ModelMetadata, *, overwrite: bool = False) -> None:
    """Writes a network as a SavedModel whole or not at all; `path` is `<name>/<version>`, TF Serving's layout.

    The endpoint `classify_patches` takes `patches` (N, patch_px, patch_px, 1) of the pixel type in the metadata and
    returns `probability` (N,) float32: the softmax of the two logits, for calcification.

    Args:
        network: raw patches (N, patch_px, patch_px, 1) to logits (N, 2), in float32.
        path: the folder to write.
        metadata: what the model says of itself.
        overwrite: replace what is there.

    Raises:
        InputError: if `path` exists and `overwrite` is not set, or cannot be written.
    """
    patch_px = metadata.patch_px

    def classify_patches(patches: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = network(tf.cast(patches, network.inputs[0].dtype), training=False)
        return {OUTPUT: tf.nn.softmax(tf.cast(logits, tf.float32))[:, CALCIFICATION]}

    pixels = tf.TensorSpec((None, patch_px, patch_px, 1), metadata.pixel_type, name=INPUT)
    endpoint = tf.function(classify_patches, input_signature=[pixels], autograph=False)
    # Not keras.export.ExportArchive: it writes every weight twice, the second time in an order that changes from
    # process to process, so that equal models would not be equal files.
    module = tf.Module()
    module.weights = [variable.value for variable in network.variables]
    module.classify_patches = endpoint
    with atomic_folder(path, overwrite=overwrite) as folder:
        tf.saved_model.save(module, str(folder), signatures={ENDPOINT: endpoint, _ALIAS: endpoint})
        write_metadata(metadata, folder)
