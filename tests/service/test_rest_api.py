import base64
import json
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from mmgkeras.savedmodel.classifier import Classifier
from mmgkeras.savedmodel.servable import servables
from mmgkeras.service.rest_api import RestApi, ServedModel


def png(pixels: np.ndarray) -> dict[str, str]:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return {"b64": base64.b64encode(buffer.getvalue()).decode()}


GRAY = np.full((8, 12), 128, np.uint8)
REQUEST = {"instances": [{"image_bytes": png(GRAY), "chest_wall": "right"}]}


def post(api: RestApi, path: str, request: object) -> tuple[int, dict]:
    answer = api.predict(path, json.dumps(request).encode())
    assert b"\n" not in answer.body
    return answer.status, json.loads(answer.body)


def test_a_mammogram_in_its_patches_probabilities_out(api: RestApi) -> None:
    status, answer = post(api, "/v1/models/mine:predict", REQUEST)
    assert status == 200
    (said,) = answer["predictions"]
    # Column 0 is half padding, at the edge away from the chest wall.
    assert said["probability"][0] == pytest.approx([1 / (1 + np.exp(0.5)), 0.5], abs=2e-3)
    assert (said["model_name"], said["model_version"]) == ("mine", "3")


@pytest.mark.parametrize("way", ["", "/versions/3"])
@pytest.mark.parametrize("endpoint", ["detect", "serving_default", None])
def test_versions_and_endpoints_by_name(api: RestApi, way: str, endpoint: str | None) -> None:
    request = REQUEST if endpoint is None else REQUEST | {"signature_name": endpoint}
    assert post(api, f"/v1/models/mine{way}:predict", request)[0] == 200


def test_patches_are_classified_by_the_other_model(api: RestApi) -> None:
    request = {"signature_name": "classify_patches", "instances": np.zeros((2, 8, 8, 1), int).tolist()}
    status, answer = post(api, "/v1/models/mine-patches:predict", request)
    assert status == 200
    assert answer["predictions"] == pytest.approx([1 / (1 + np.e)] * 2, abs=1e-5)


@pytest.mark.parametrize(
    ("path", "request_", "status", "message"),
    [
        ("/v1/models/other:predict", REQUEST, 404, "there is no model other. Allowed: mine, mine-patches"),
        ("/v1/models/mine/versions/9:predict", REQUEST, 404, "mine: has no version 9"),
        ("/v1/models/mine/labels/stable:predict", REQUEST, 404, "mine: has no version labelled stable"),
        ("/v1/models/mine:classify", REQUEST, 400, "only predict is offered. Received: classify"),
        ("/v1/models/../../etc/passwd:predict", REQUEST, 404, "there is no such path"),
        ("/v1/models/%2e%2e%2fetc:predict", REQUEST, 404, "there is no model ../etc"),
        ("/v1/models/mine", REQUEST, 404, "there is no such path"),
        ("/v1/models/mine:predict", REQUEST | {"signature_name": "x"}, 400, "no endpoint x. Allowed: detect, serving"),
        ("/v1/models/mine:predict", {"instances": [{"image_bytes": png(GRAY), "chest_wall": "up"}]}, 400, "left or"),
        ("/v1/models/mine:predict", {"instances": [{"image_bytes": "no", "chest_wall": "left"}]}, 400, "PNG or a JPEG"),
        (
            "/v1/models/mine:predict",
            {"instances": [{"image_bytes": {"b64": png(GRAY)["b64"][:80]}, "chest_wall": "left"}]},
            400,
            "Invalid PNG data, size 60",
        ),
    ],
)
def test_a_bad_request_is_one_line_and_4xx(
    api: RestApi, path: str, request_: object, status: int, message: str
) -> None:
    received, answer = post(api, path, request_)
    assert received == status
    assert message in answer["error"]
    assert "File" not in answer["error"]
    assert post(api, "/v1/models/mine:predict", REQUEST)[0] == 200


def test_status_and_metadata_are_as_tensorflow_serving_prints_them(api: RestApi) -> None:
    state = {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert json.loads(api.look_up("/v1/models/mine").body) == {"model_version_status": [state]}
    answer = json.loads(api.look_up("/v1/models/mine/versions/3/metadata").body)
    assert answer["model_spec"] == {"name": "mine", "signature_name": "", "version": "3"}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert signatures.keys() == {"detect", "serving_default"}
    assert signatures["detect"]["inputs"]["spacing_mm"]["dtype"] == "DT_DOUBLE"
    dims = signatures["detect"]["outputs"]["probability"]["tensor_shape"]["dim"]
    assert [dim["size"] for dim in dims] == ["-1", "-1", "-1"]
    patches = json.loads(api.look_up("/v1/models/mine-patches/metadata").body)["metadata"]["signature_def"]
    assert patches["signature_def"]["classify_patches"]["inputs"]["patches"]["dtype"] == "DT_UINT16"
    assert api.look_up("/v1/models/none").status == 404
    assert api.look_up("/v1/models").status == 404


def test_the_highest_version_answers_unless_a_version_or_label_is_named(classifier: Classifier) -> None:
    first, _ = servables(classifier, name="mine", version=2)
    second = replace(servables(classifier, name="mine", version=10)[0])
    api = RestApi({"mine": ServedModel({2: first, 10: second}, {"stable": 2})})
    for way, version in [("", "10"), ("/versions/2", "2"), ("/labels/stable", "2")]:
        status, answer = post(api, f"/v1/models/mine{way}:predict", REQUEST)
        assert (status, answer["predictions"][0]["model_version"]) == (200, version)
    states = json.loads(api.look_up("/v1/models/mine").body)["model_version_status"]
    assert [state["version"] for state in states] == ["10", "2"]
