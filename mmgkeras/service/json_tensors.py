"""Tensors as JSON, by the rules of TensorFlow Serving's REST API: requests to arrays, arrays to answers.

Rows (`instances`, answered by `predictions`) name every input in each element; columns (`inputs`, answered by
`outputs`) give each input whole. Bytes are {"b64": ...}. https://www.tensorflow.org/tfx/serving/api_rest
"""

import base64
import binascii
import json
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mmgkeras.errors import InputError
from mmgkeras.images.samples import shown

_BYTES_SUFFIX: Final = "_bytes"
_ROWS, _COLUMNS = "instances", "inputs"
_MAX_DEPTH: Final = 8
"""Of lists in lists; no tensor here has as many axes."""


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """A request as parsed.

    Attributes:
        endpoint: `signature_name`, None for the default.
        is_rows: whether it came as rows, and is to be answered so.
        content: of `instances` or `inputs`.
    """

    endpoint: str | None
    is_rows: bool
    content: Any


def parse_request(body: bytes) -> PredictRequest:
    """The request in a body.

    Raises:
        InputError: if it is no JSON, or not of the form of a request.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the body must be JSON: {shown(error)}") from error
    if not isinstance(request, dict):
        raise InputError("the body must be a JSON object")
    endpoint = request.get("signature_name")
    if endpoint is not None and not isinstance(endpoint, str):
        raise InputError("signature_name must be a string")
    if (_ROWS in request) == (_COLUMNS in request):
        raise InputError(f"the body must hold one of {_ROWS} and {_COLUMNS}. Received: {shown(sorted(request))}")
    is_rows = _ROWS in request
    if is_rows and not (isinstance(request[_ROWS], list) and request[_ROWS]):
        raise InputError(f"{_ROWS} must be a list of at least one element")
    return PredictRequest(endpoint or None, is_rows, request[_ROWS if is_rows else _COLUMNS])


def to_arrays(
    request: PredictRequest, specs: Mapping[str, tf.TensorSpec], *, optional: Set[str]
) -> dict[str, NDArray[Any]]:
    """An array for each input that the request gives.

    Args:
        request: of an endpoint with these inputs.
        specs: type and shape of each input, the first axis of any length.
        optional: inputs that may be left out.

    Raises:
        InputError: for an input that is missing, not known, or of another type or shape.
    """
    columns = _rows_to_columns(request.content, specs) if request.is_rows else request.content
    if not isinstance(columns, dict) or _is_bytes(columns):
        if len(specs) > 1:
            raise InputError(f"must name each of the inputs {', '.join(sorted(specs))}")
        columns = {next(iter(specs)): columns}
    unknown, missing = columns.keys() - specs.keys(), specs.keys() - columns.keys() - optional
    if unknown or missing:
        what = f"has no input {shown(min(unknown))}" if unknown else f"needs the input {min(missing)}"
        raise InputError(f"the endpoint {what}. Its inputs: {', '.join(sorted(specs))}")
    return {name: _array(name, columns[name], spec) for name, spec in specs.items() if name in columns}


def to_json(outputs: Mapping[str, NDArray[Any]], *, is_rows: bool) -> bytes:
    """The body of an answer.

    Raises:
        ValueError: for a number that is not finite, which JSON cannot hold.
    """
    columns = {name: _plain(name, values) for name, values in sorted(outputs.items())}
    if len(columns) == 1:
        (answer,) = columns.values()
    elif is_rows:
        answer = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    else:
        answer = columns
    return json.dumps({"predictions" if is_rows else "outputs": answer}, allow_nan=False).encode()


def _rows_to_columns(rows: list[Any], specs: Mapping[str, tf.TensorSpec]) -> dict[str, list[Any]]:
    is_named = isinstance(rows[0], dict) and not _is_bytes(rows[0])
    if not is_named:
        if len(specs) > 1:
            raise InputError(f"each of {_ROWS} must name the inputs {', '.join(sorted(specs))}")
        return {next(iter(specs)): rows}
    names = rows[0].keys()
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or row.keys() != names:
            raise InputError(f"{_ROWS}: element {number} must name the same inputs as the first")
    return {name: [row[name] for row in rows] for name in names}


def _is_bytes(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _array(name: str, value: Any, spec: tf.TensorSpec) -> NDArray[Any]:
    """The array of one input, of the type and shape that the endpoint takes."""
    is_string = spec.dtype == tf.string
    try:
        array = np.array(_decoded(name, value) if is_string else value, dtype=object if is_string else None)
    except ValueError as error:
        raise InputError(f"{name}: must be lists of equal lengths") from error
    wanted = f"{spec.dtype.name} of shape {tuple(spec.shape)}"
    if array.ndim != spec.shape.rank or not spec.shape.is_compatible_with(array.shape) or not array.size:
        raise InputError(f"{name}: must be {wanted}, the first of at least 1. Received: shape {array.shape}")
    if is_string:
        return array
    if array.dtype.kind not in ("iu" if spec.dtype.is_integer else "iuf"):
        raise InputError(f"{name}: must be {wanted}. Received: values of another type")
    if spec.dtype.is_integer and not spec.dtype.min <= array.min() <= array.max() <= spec.dtype.max:
        raise InputError(f"{name}: must be {wanted}. Received: values from {array.min()} to {array.max()}")
    return array.astype(spec.dtype.as_numpy_dtype)


def _decoded(name: str, value: Any, depth: int = 0) -> Any:
    """Strings as bytes, in the same lists."""
    if isinstance(value, list) and depth < _MAX_DEPTH:
        return [_decoded(name, item, depth + 1) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", errors="surrogatepass")
    if not _is_bytes(value):
        raise InputError(f'{name}: must be strings, bytes as {{"b64": "..."}}')
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{name}: is not base64: {shown(error)}") from error


def _plain(name: str, values: NDArray[Any]) -> Any:
    """What JSON can hold; a float32 as the shortest number that stands for it."""
    if values.dtype == np.float32:
        return values.astype("U32").astype(np.float64).tolist()
    if values.dtype != object:
        return values.tolist()
    if name.endswith(_BYTES_SUFFIX):
        return [{"b64": base64.b64encode(value).decode()} for value in values.tolist()]
    return [value.decode() for value in values.tolist()]
