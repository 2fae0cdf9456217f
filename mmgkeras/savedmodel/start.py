"""An exported model as what a new training starts from, head included.

Owns which models a network can start from, and the guard against one that has learned from the fold's test patients.
"""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mmgkeras.config import ModelConfig
from mmgkeras.errors import InputError, WeightsError
from mmgkeras.savedmodel.metadata import read_metadata

_VARIABLES = Path("variables/variables")
_KEY = "weights/{}/.ATTRIBUTES/VARIABLE_VALUE"


def check_start(folder: Path, *, config: ModelConfig, store_checksum: str, test_patients_sha256: str) -> None:
    """Refuses a model of another kind, or one that was trained on test patients of the fold.

    Of models trained on another store only the digest of their patients is known: that they share no patient with
    this store is for the user to know.

    Args:
        folder: of the SavedModel, such as `saved_models/phantom/1`.
        config: of the network that is to start from it.
        store_checksum: of the store to train on.
        test_patients_sha256: `patients_digest` of the fold's test patients.

    Raises:
        InputError: if the folder is no model of mmgkeras, or it cannot be started from.
    """
    metadata = read_metadata(folder)
    for key in ("network", "normalisation"):
        theirs = metadata.config.get("model", {}).get(key)
        if theirs != getattr(config, key):
            raise InputError(
                f"model.{key}: {folder}, to start from, has {theirs!r}. Received: {getattr(config, key)!r}"
            )
    if metadata.store_checksum == store_checksum and metadata.test_patients_sha256 != test_patients_sha256:
        raise InputError(
            f"model.weights: {folder} was trained on fold {metadata.fold} of this very store, so on this fold's test "
            f"patients; start from a model of other patients"
        )


def load_exported_weights(network: keras.Model, folder: Path) -> None:
    """Gives a network, whole, the variables of a model that `check_start` has passed.

    Args:
        network: from `build_network`, of the model's configuration; the patch size may be another. Changed in place.
        folder: of the SavedModel.

    Raises:
        WeightsError: if its variables are missing, damaged or of another shape.
    """
    try:
        stored = tf.train.load_checkpoint(str(folder / _VARIABLES))
        shapes = stored.get_variable_to_shape_map()
        keys = [_KEY.format(number) for number in range(len(network.variables))]
        expected = {key: list(variable.shape) for key, variable in zip(keys, network.variables, strict=True)}
        if {key: shape for key, shape in shapes.items() if key.startswith("weights/")} != expected:
            raise WeightsError(f"{folder}: its weights are not those of {network.name}")
        for key, variable in zip(keys, network.variables, strict=True):
            variable.assign(np.asarray(stored.get_tensor(key)))
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{folder}: its weights cannot be read: {str(error).splitlines()[0]}") from error
