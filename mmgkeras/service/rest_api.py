"""TensorFlow Serving's REST API on servables in this process: predict, status and metadata, by version or label.

Owns paths and status codes; knows nothing of sockets. https://www.tensorflow.org/tfx/serving/api_rest
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

import tensorflow as tf

from mmgkeras.errors import InputError
from mmgkeras.images.samples import shown
from mmgkeras.savedmodel.servable import SERVING_DEFAULT, Servable
from mmgkeras.service.json_tensors import parse_request, to_arrays, to_json

_MODEL: Final = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d{1,18})|/labels/(?P<label>[^/:]+))?"
_PREDICT: Final = re.compile(_MODEL + r":(?P<method>\w+)")
_LOOK_UP: Final = re.compile(_MODEL + r"(?P<metadata>/metadata)?")
_ASSERTION: Final = re.compile(r"assertion failed: \[(.*)\]", re.DOTALL)
_PLACE: Final = re.compile(r"\{\{[^}]*\}\}|\[Op:\w+\]|\[\[.*?\]\]")


class NotServedError(InputError):
    """A model, version or label that is not there."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status code, body and headers of an answer."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def refused(status: int, message: str, **headers: str) -> Answer:
    """An answer that says what was wrong."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, json.dumps({"error": message}).encode(), headers=named)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The versions of one model, and the labels that stand for some of them."""

    versions: Mapping[int, Servable]
    labels: Mapping[str, int] = field(default_factory=dict)


class RestApi:
    """Answers requests on models by name."""

    def __init__(self, models: Mapping[str, ServedModel]) -> None:
        """Takes at least one model, each of at least one version."""
        self.models = models

    @classmethod
    def of(cls, servables: Sequence[Servable]) -> "RestApi":
        """One that serves these, without labels."""
        names = dict.fromkeys(servable.name for servable in servables)
        return cls({name: ServedModel({one.version: one for one in servables if one.name == name}) for name in names})

    def predict(self, path: str, body: bytes) -> Answer:
        """Answers `POST /v1/models/NAME[/versions/N|/labels/L]:predict`."""
        return _answered(lambda: self._predict(path, body))

    def look_up(self, path: str) -> Answer:
        """Answers `GET /v1/models/NAME[/versions/N|/labels/L][/metadata]`."""
        return _answered(lambda: self._look_up(path))

    def _predict(self, path: str, body: bytes) -> bytes:
        matched = _PREDICT.fullmatch(path)
        if matched is None:
            raise NotServedError(f"there is no such path: {shown(path)}")
        if matched["method"] != "predict":
            raise InputError(f"only predict is offered. Received: {shown(matched['method'])}")
        servable = self._chosen(matched)[-1]
        request = parse_request(body)
        endpoint = request.endpoint or SERVING_DEFAULT
        if endpoint not in servable.functions:
            raise InputError(f"has no endpoint {shown(endpoint)}. Allowed: {', '.join(sorted(servable.functions))}")
        optional = servable.optional_inputs(endpoint)
        arrays = to_arrays(request, servable.inputs(endpoint), optional=optional)
        try:
            outputs = servable.run(endpoint, arrays)
        except tf.errors.InvalidArgumentError as error:
            raise InputError(refusal(error)) from error
        return to_json(outputs, is_rows=request.is_rows)

    def _look_up(self, path: str) -> bytes:
        matched = _LOOK_UP.fullmatch(path)
        if matched is None:
            raise NotServedError(f"there is no such path: {shown(path)}")
        chosen = self._chosen(matched)
        if matched["metadata"]:
            return json.dumps(_metadata(chosen[-1]), indent=1).encode()
        status = {"error_code": "OK", "error_message": ""}
        states = [{"version": str(one.version), "state": "AVAILABLE", "status": status} for one in reversed(chosen)]
        return json.dumps({"model_version_status": states}, indent=1).encode()

    def _chosen(self, matched: re.Match[str]) -> list[Servable]:
        """The versions that a path names, the highest last: all where it names none."""
        name, version, label = unquote(matched["name"]), matched["version"], matched["label"]
        served = self.models.get(name)
        if served is None:
            raise NotServedError(f"there is no model {shown(name)}. Allowed: {', '.join(sorted(self.models))}")
        if label is not None:
            version = served.labels.get(unquote(label))
            if version is None:
                raise NotServedError(f"{name}: has no version labelled {shown(unquote(label))}")
        if version is None:
            return [served.versions[number] for number in sorted(served.versions)]
        if int(version) not in served.versions:
            raise NotServedError(f"{name}: has no version {int(version)}")
        return [served.versions[int(version)]]


def refusal(error: tf.errors.OpError) -> str:
    """What the graph says against a request, in one line, without its places in the graph."""
    text = str(error.message)
    asserted = _ASSERTION.search(text)
    if asserted is None:
        last = text.rpartition("\n\n")[2].partition("\n")[0]  # after where in our code the operation was made
        return shown(_PLACE.sub("", last), longest=200)
    return shown(asserted[1].partition("]\n")[0].replace("] [", " "), longest=200)


def _answered(answer: Any) -> Answer:
    try:
        return Answer(200, answer())
    except NotServedError as error:
        return refused(404, str(error))
    except InputError as error:
        return refused(400, str(error))


def _metadata(servable: Servable) -> dict[str, Any]:
    """As TensorFlow Serving prints GetModelMetadataResponse."""
    signatures = {
        endpoint: {
            "inputs": {name: _tensor_info(spec) for name, spec in servable.inputs(endpoint).items()},
            "outputs": {name: _tensor_info(spec) for name, spec in servable.outputs(endpoint).items()},
            "method_name": "tensorflow/serving/predict",
        }
        for endpoint in servable.functions
    }
    return {
        "model_spec": {"name": servable.name, "signature_name": "", "version": str(servable.version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _tensor_info(spec: tf.TensorSpec) -> dict[str, Any]:
    dims = [{"size": str(-1 if size is None else size), "name": ""} for size in spec.shape]
    dtype = tf.dtypes.as_dtype(spec.dtype)
    enum = {"string": "DT_STRING", "float32": "DT_FLOAT", "float64": "DT_DOUBLE"}
    return {
        "dtype": enum.get(dtype.name, f"DT_{dtype.name.upper()}"),
        "tensor_shape": {"dim": dims, "unknown_rank": False},
        "name": spec.name or "",
    }
