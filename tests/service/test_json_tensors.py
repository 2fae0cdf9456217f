import base64
import json

import numpy as np
import pytest
import tensorflow as tf

from mmgkeras.errors import InputError
from mmgkeras.service.json_tensors import PredictRequest, parse_request, to_arrays, to_json

IMAGES = {
    "image_bytes": tf.TensorSpec((None,), tf.string),
    "chest_wall": tf.TensorSpec((None,), tf.string),
    "spacing_mm": tf.TensorSpec((None,), tf.float64),
}
PATCHES = {"patches": tf.TensorSpec((None, 2, 1), tf.uint8)}
B64 = {"b64": base64.b64encode(b"\x00\xff").decode()}


def arrays(content: object, specs: dict[str, tf.TensorSpec], *, is_rows: bool) -> dict[str, np.ndarray]:
    return to_arrays(PredictRequest(None, is_rows, content), specs, optional={"spacing_mm"} & specs.keys())


def test_rows_and_columns_say_the_same() -> None:
    rows = [{"image_bytes": B64, "chest_wall": "left", "spacing_mm": 1}] * 2
    columns = {"image_bytes": [B64, B64], "chest_wall": ["left", "left"], "spacing_mm": [1, 1.0]}
    for received in (arrays(rows, IMAGES, is_rows=True), arrays(columns, IMAGES, is_rows=False)):
        assert received["image_bytes"].tolist() == [b"\x00\xff"] * 2
        assert received["chest_wall"].tolist() == [b"left"] * 2
        assert received["spacing_mm"].tolist() == [1.0, 1.0]
        assert received["spacing_mm"].dtype == np.float64


def test_an_only_input_needs_no_name_and_an_optional_one_may_be_left_out() -> None:
    for content, is_rows in [([[[7], [8]]], True), ([[[7], [8]]], False), ({"patches": [[[7], [8]]]}, False)]:
        received = arrays(content, PATCHES, is_rows=is_rows)["patches"]
        assert received.dtype == np.uint8
        assert received.tolist() == [[[7], [8]]]
    assert "spacing_mm" not in arrays([{"image_bytes": B64, "chest_wall": "left"}], IMAGES, is_rows=True)


@pytest.mark.parametrize(
    ("content", "specs", "is_rows", "message"),
    [
        ([1], IMAGES, True, "must name the inputs chest_wall, image_bytes, spacing_mm"),
        ([1], IMAGES, False, "must name each of the inputs"),
        ([{"image_bytes": B64}], IMAGES, True, "needs the input chest_wall. Its inputs: chest_wall, image_bytes"),
        ([{"patch": 1}], PATCHES, True, "has no input patch. Its inputs: patches"),
        ([{"patches": [[1], [2]]}, {}], PATCHES, True, "element 1 must name the same inputs"),
        ([[[1], [2]], [[1]]], PATCHES, True, "patches: must be lists of equal lengths"),
        ([[[1], [2], [3]]], PATCHES, True, r"must be uint8 of shape \(None, 2, 1\).*Received: shape \(1, 3, 1\)"),
        ([], PATCHES, False, r"Received: shape \(0,\)"),
        ([[[1], [256]]], PATCHES, True, "Received: values from 1 to 256"),
        ([[[-1], [2]]], PATCHES, True, "Received: values from -1 to 2"),
        ([[[0.5], [2]]], PATCHES, True, "values of another type"),
        ([[[True], [False]]], PATCHES, True, "values of another type"),
        ([[["a"], ["b"]]], PATCHES, True, "values of another type"),
        ([[[None], [1]]], PATCHES, True, "values of another type"),
        ([{"image_bytes": 5, "chest_wall": "left"}], IMAGES, True, "image_bytes: must be strings, bytes as"),
        ([{"image_bytes": {"b64": "*"}, "chest_wall": "left"}], IMAGES, True, "image_bytes: is not base64"),
        ([{"image_bytes": [B64], "chest_wall": "left"}], IMAGES, True, r"Received: shape \(1, 1\)"),
    ],
)
def test_what_does_not_fit_the_endpoint_is_one_line(
    content: object, specs: dict[str, tf.TensorSpec], is_rows: bool, message: str
) -> None:
    with pytest.raises(InputError, match=message) as fault:
        arrays(content, specs, is_rows=is_rows)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "must be JSON"),
        (b"\xff", "must be JSON"),
        (b"[" * 100_000, "must be JSON"),
        (b"[]", "must be a JSON object"),
        (b"{}", "must hold one of instances and inputs"),
        (b'{"instances": [1], "inputs": [1]}', "must hold one of instances and inputs"),
        (b'{"instances": []}', "at least one element"),
        (b'{"instances": 5}', "at least one element"),
        (b'{"instances": [1], "signature_name": 5}', "signature_name must be a string"),
    ],
)
def test_a_body_that_is_no_request_is_one_line(body: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as fault:
        parse_request(body)
    assert "\n" not in str(fault.value)


def test_the_endpoint_is_the_one_named() -> None:
    assert parse_request(b'{"signature_name": "detect", "inputs": [1]}') == PredictRequest("detect", False, [1])
    assert parse_request(b'{"instances": [1]}').endpoint is None


def test_answers_are_rows_or_columns_and_floats_are_short() -> None:
    outputs = {
        "b": np.array([0.1, 0.5], np.float32),
        "name": np.array([b"x", b"y"], object),
        "raw_bytes": np.array([b"\x00\xff"] * 2, object),
        "yes": np.array([True, False]),
    }
    rows = json.loads(to_json(outputs, is_rows=True))["predictions"]
    assert rows[0] == {"b": 0.1, "name": "x", "raw_bytes": B64, "yes": True}
    columns = json.loads(to_json(outputs, is_rows=False))["outputs"]
    assert columns == {"b": [0.1, 0.5], "name": ["x", "y"], "raw_bytes": [B64, B64], "yes": [True, False]}
    assert json.loads(to_json({"only": np.array([[1, 2]])}, is_rows=True)) == {"predictions": [[1, 2]]}
    with pytest.raises(ValueError, match="JSON"):
        to_json({"only": np.array([np.nan], np.float32)}, is_rows=True)
