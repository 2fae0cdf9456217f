"""Initial weights from an exported model, head included.

Owns which models can give a network its initial weights, which settings come with them, and the guard against those
that have learned from the fold's test patients.
"""

from pathlib import Path
from typing import Final

import keras
import numpy as np
import tensorflow as tf
from pydantic import ValidationError

from mmgkeras.config import Config, ModelConfig
from mmgkeras.errors import InputError, WeightsError
from mmgkeras.files import sha256_file
from mmgkeras.json_files import describe_fault, expanded
from mmgkeras.models.weights import DETECTOR, DETECTOR_FOLDER, MODEL, check_detector, load_weights
from mmgkeras.patches.store import PatchStore
from mmgkeras.savedmodel.metadata import ModelMetadata, fold_digests, read_metadata
from mmgkeras.study.run_files import Origin

_KEYWORDS: Final = ("imagenet", "none", DETECTOR)
_POOLING: Final = ("pooling", "pooling_sharpness", "pooling_top_k")
_OF_NETWORK: Final = ("network", "width", "normalisation", *_POOLING)
_NO_WEIGHTS: Final = {"weights": "none"}
_VARIABLES: Final = Path("variables/variables")
_SHARD: Final = Path("variables/variables.data-00000-of-00001")
_KEY: Final = "weights/{}/.ATTRIBUTES/VARIABLE_VALUE"


def is_whole_network(config: ModelConfig) -> bool:
    """Whether the initial weights are those of a network with its head, trained for what this one is."""
    return config.weights == DETECTOR or initial_model(config) is not None


def initial_model(config: ModelConfig) -> Path | None:
    """The folder of the model that gives the initial weights; None where `model.weights` means something else."""
    folder = expanded(Path(config.weights))
    return folder if config.weights not in _KEYWORDS and folder.is_dir() else None


def with_initial_model(config: Config) -> tuple[Config, list[str]]:
    """The configuration with the keys of the network that its initial weights bring along, and a line for each change.

    An exported model and the detector are whole networks: they fit their own `network`, `width` and `normalisation`
    alone, and width and normalisation are taken from them whatever was set. Their pooling is taken unless one was set,
    for the weights fit any. Weights from elsewhere change nothing.

    Raises:
        InputError: if the folder is no model of mmgkeras, or its settings cannot be used.
        WeightsError: if the detector is not there.
    """
    own = _own_settings(config.model)
    if own is None:
        return config, []
    asked, taken, notes = config.model, {}, []
    for key in _OF_NETWORK:
        value, has = getattr(asked, key), getattr(own, key)
        is_set = key in asked.model_fields_set
        if value == has or (is_set and key == "network"):
            continue
        if is_set and key in _POOLING:
            notes.append(f"model.{key} = {value!r}, as set; the initial weights, {asked.weights}, have {has!r}")
            continue
        taken[key] = has
        instead = f", whatever was set ({value!r})" if is_set else ""
        notes.append(f"model.{key} = {has!r}, that of the initial weights, {asked.weights}{instead}")
    return config.model_copy(update={"model": asked.model_copy(update=taken)}), notes


def _own_settings(config: ModelConfig) -> ModelConfig | None:
    """The settings of the network that gives the initial weights; None where they are of no whole network."""
    if config.weights == DETECTOR:
        place, settings = DETECTOR_FOLDER, dict(check_detector(DETECTOR_FOLDER)[MODEL])
    else:
        folder = initial_model(config)
        if folder is None:
            return None
        metadata = read_metadata(folder)
        # What a model from before a key was there does not say is the default.
        place, settings = folder, {**metadata.config.get("model", {}), "network": metadata.network}
    try:
        return ModelConfig.model_validate({key: settings[key] for key in _OF_NETWORK if key in settings} | _NO_WEIGHTS)
    except ValidationError as error:
        raise InputError(f"{place}: says of its network what cannot be: {describe_fault(error.errors()[0])}") from error


def check_initial_model(folder: Path, *, config: Config, store: PatchStore, fold: int) -> tuple[Origin, ...]:
    """Refuses a model of another kind, or one that knows patients who are to be unknown; gives where it comes from.

    It knows them if it, or a model that it started from, was trained on another fold of this store, or of any store
    with the same division of the same patients. Of other stores nothing is known but a digest of the patients: that
    they share none with this store's test subset is for the user to know.

    Args:
        folder: of the SavedModel, such as `saved_models/phantom/1`.
        config: of the run that is to take its weights.
        store: to train on.
        fold: from 1.

    Returns:
        The model, and before it those that it started from.

    Raises:
        InputError: if the folder is no model of mmgkeras, or it cannot be started from.
    """
    metadata = read_metadata(folder)
    if metadata.network != config.model.network:
        raise InputError(
            f"model.network: {folder}, to start from, has {metadata.network!r}. Received: {config.model.network!r}"
        )
    origins = (*metadata.started_from, _origin(folder, metadata))
    digests = fold_digests(store)
    for origin in origins:
        is_this_fold = origin.test_patients_sha256 == digests[fold]
        if not is_this_fold and (
            origin.store_checksum == store.checksum or origin.test_patients_sha256 in digests.values()
        ):
            raise InputError(
                f"model.weights: {folder} has learned from fold {origin.fold} of these patients, so from the test "
                f"patients of fold {fold}; start from a model of other patients"
            )
        if is_this_fold and config.train.validation_patients > 0:
            raise InputError(
                f"model.weights: {folder} has learned from this fold's training patients, so that none of them can be "
                "held out; set train.validation_patients to 0 or start from a model of other patients"
            )
    return origins


def load_initial_weights(network: keras.Model, config: ModelConfig) -> None:
    """Gives a network its initial weights, wherever `model.weights` says that they are.

    Raises:
        ConfigError: as `load_weights`.
        WeightsError: as `load_weights` and `load_exported_weights`.
    """
    folder = initial_model(config)
    if folder is None:
        load_weights(network, config)
    else:
        load_exported_weights(network, folder)


def load_exported_weights(network: keras.Model, folder: Path) -> None:
    """Gives a network, whole, the variables of a model that `check_initial_model` has passed.

    Args:
        network: from `build_network`, of the model's configuration; the patch size may be another. Changed in place.
        folder: of the SavedModel.

    Raises:
        WeightsError: if its variables are missing, damaged, not finite or of another shape; the network is unchanged.
    """
    keys = [_KEY.format(number) for number in range(len(network.variables))]
    expected = {key: list(variable.shape) for key, variable in zip(keys, network.variables, strict=True)}
    try:
        stored = tf.train.load_checkpoint(str(folder / _VARIABLES))
        shapes = stored.get_variable_to_shape_map()
        fits = {key: shape for key, shape in shapes.items() if key.startswith("weights/")} == expected
        arrays = [np.asarray(stored.get_tensor(key)) for key in keys] if fits else []
    except Exception as error:  # a damaged or forged file makes TensorFlow raise whatever there is
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise WeightsError(f"{folder}: its weights cannot be read: {reason}") from error
    if not fits:
        raise WeightsError(f"{folder}: its weights are not those of {network.name}")
    if not all(np.isfinite(array).all() for array in arrays):
        raise WeightsError(f"{folder}: its weights are not finite")
    for array, variable in zip(arrays, network.variables, strict=True):
        variable.assign(array)


def _origin(folder: Path, metadata: ModelMetadata) -> Origin:
    try:
        digest = sha256_file(folder / _SHARD)
    except OSError as error:
        raise InputError(f"{folder / _SHARD}: cannot be read: {error.strerror or error}") from error
    return Origin(
        store_checksum=metadata.store_checksum,
        fold=metadata.fold,
        test_patients_sha256=metadata.test_patients_sha256,
        variables_sha256=digest,
    )
