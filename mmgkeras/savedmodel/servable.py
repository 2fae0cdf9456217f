"""What a server offers under one name and version: endpoints by name, called with arrays.

Owns the pair that each exported model makes, `<name>` with the endpoint `detect` and `<name>-patches` with the model's
own, in memory and as two SavedModels in TensorFlow Serving's layout; and the loading of those.
"""

import filecmp
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mmgkeras.errors import InputError
from mmgkeras.files import atomic_folder, files_below
from mmgkeras.savedmodel.classifier import Classifier, load_graph
from mmgkeras.savedmodel.export import ENDPOINT, LOCALISE, check_path, errors_of_tensorflow
from mmgkeras.savedmodel.mammogram_endpoint import DETECT, SPACING, UNKNOWN_SPACING, detect_endpoint
from mmgkeras.savedmodel.metadata import read_metadata, write_metadata
from mmgkeras.savedmodel.model_card import write_model_card

SERVING_DEFAULT: Final = "serving_default"
PATCHES_SUFFIX: Final = "-patches"
_DEFAULTS: Final[dict[str, NDArray[Any]]] = {SPACING: np.array([UNKNOWN_SPACING])}
"""Inputs that a request may leave out."""


@dataclass(frozen=True, slots=True)
class Servable:
    """Endpoints under one name and version.

    Attributes:
        name, version: as in the path of a request.
        functions: the endpoints by name, `serving_default` among them.
        model: what holds the variables of the functions.
    """

    name: str
    version: int
    functions: Mapping[str, tf.types.experimental.ConcreteFunction]
    model: object

    def inputs(self, endpoint: str) -> dict[str, tf.TensorSpec]:
        """Type and shape of each input of an endpoint; the first axis may have any length."""
        return {spec.name: spec for spec in tf.nest.flatten(self.functions[endpoint].structured_input_signature)}

    def outputs(self, endpoint: str) -> dict[str, tf.TensorSpec]:
        """The same of each output."""
        return dict(self.functions[endpoint].structured_outputs)

    def optional_inputs(self, endpoint: str) -> set[str]:
        """Those that `run` may be called without."""
        return self.inputs(endpoint).keys() & _DEFAULTS.keys()

    def run(self, endpoint: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The outputs of an endpoint.

        Raises:
            tf.errors.OpError: if the graph refuses the inputs.
        """
        given = {**{name: _DEFAULTS[name] for name in self.optional_inputs(endpoint)}, **inputs}
        tensors = {name: tf.constant(given[name], spec.dtype) for name, spec in self.inputs(endpoint).items()}
        return {name: tensor.numpy() for name, tensor in self.functions[endpoint](**tensors).items()}


def servables(classifier: Classifier, *, name: str, version: int) -> tuple[Servable, Servable]:
    """The pair `<name>` and `<name>-patches` of a loaded model, in memory."""
    detect = detect_endpoint(classifier, name=name, version=str(version)).get_concrete_function()
    endpoints = (ENDPOINT, LOCALISE) if classifier.can_localise else (ENDPOINT,)
    patches = {endpoint: classifier.signature(endpoint) for endpoint in endpoints}
    return (
        Servable(name, version, {DETECT: detect, SERVING_DEFAULT: detect}, classifier),
        Servable(name + PATCHES_SUFFIX, version, {**patches, SERVING_DEFAULT: patches[ENDPOINT]}, classifier),
    )


def write_servables(classifier: Classifier, folder: Path, *, name: str, version: int) -> tuple[Path, Path]:
    """Writes the pair below `folder`, each whole or not at all; a version of this model that is there stays as it is.

    Returns:
        `folder/<name>/<version>` and `folder/<name>-patches/<version>`.

    Raises:
        InputError: if they cannot be written, or the version that is there is another model's.
    """
    check_path(folder.absolute())
    whole, patches = folder / name / str(version), folder / f"{name}{PATCHES_SUFFIX}" / str(version)
    if patches.exists():
        _check_same(classifier, patches)
    else:
        with atomic_folder(patches) as place:
            shutil.copytree(classifier.path, place, dirs_exist_ok=True)
    if not whole.exists():
        module = tf.Module()
        if not classifier.is_folded:
            module.model = classifier.loaded
        module.detect = detect_endpoint(classifier, name=name, version=str(version))
        with atomic_folder(whole) as place, errors_of_tensorflow(whole):
            signatures = {DETECT: module.detect, SERVING_DEFAULT: module.detect}
            tf.saved_model.save(module, str(place), signatures=signatures)
            write_metadata(classifier.metadata, place)
            write_model_card(place)
    return whole, patches


def _check_same(classifier: Classifier, there: Path) -> None:
    """Refuses another model's folder; what makes it another one is its metadata or its weights."""
    weights = classifier.path / "variables"
    names = [file.name for file in files_below(weights)]
    _, others, missing = filecmp.cmpfiles(weights, there / "variables", names, shallow=False)
    if others or missing or read_metadata(there) != classifier.metadata:
        raise InputError(
            f"{there}: is there and is not {classifier.path}; what is served is never replaced, so give the model "
            "another version or --name"
        )


def load_servable(folder: Path) -> Servable:
    """The servable of a folder `<name>/<version>` that `write_servables` wrote.

    Raises:
        InputError: if it is no SavedModel, is damaged, or holds an operation that is not allowed.
    """
    model = load_graph(folder)
    return Servable(folder.parent.name, int(folder.name), dict(model.signatures), model)
