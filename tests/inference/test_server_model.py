import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import numpy as np
import pytest

from mmgkeras.errors import InputError
from mmgkeras.inference.server_model import ServerModel
from mmgkeras.savedmodel.classifier import Classifier, load
from mmgkeras.savedmodel.servable import servables
from mmgkeras.schema import ImageRecord, Mammogram
from mmgkeras.service.rest_api import RestApi, ServedModel
from tests.service.conftest import serving
from tests.service.grpc_server import PredictionService, grpc_serving


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory, export_mean_model: Callable[..., Path]) -> Classifier:
    path = tmp_path_factory.mktemp("models") / "mean" / "1"
    return load(export_mean_model(path, changes={"stride_px": 5, "pixel_type": "uint16"}))


@pytest.fixture(scope="module")
def finer(tmp_path_factory: pytest.TempPathFactory, export_mean_model: Callable[..., Path]) -> Classifier:
    """Of patches as large in smaller pixels."""
    changes = {"patch_px": 16, "stride_px": 10, "spacing_mm": 0.1, "pixel_type": "uint16"}
    return load(export_mean_model(tmp_path_factory.mktemp("models") / "finer" / "1", changes=changes))


@pytest.fixture(scope="module")
def models(classifier: Classifier, finer: Classifier) -> dict[str, ServedModel]:
    """`mine` alone; `both` with its finer one, version 1 of which is labelled; `odd` with another one of that name.

    `newer` has a version 2, of which there is no finer one.
    """
    versions = {number: servables(classifier, name="mine", version=number)[0] for number in (1, 2)}
    named = {"both": classifier, "both-finer": finer, "odd": finer, "odd-finer": classifier}
    others = {
        name: ServedModel({1: servables(one, name=name, version=1)[0]}, {"stable": 1}) for name, one in named.items()
    }
    newer = {"newer": ServedModel(versions), "newer-finer": others["both-finer"]}
    return {"mine": ServedModel(versions, {"stable": 1}), **others, **newer}


@pytest.fixture(scope="module")
def rest(models: dict[str, ServedModel]) -> Iterator[str]:
    with serving(RestApi(models)) as (host, port):
        yield f"http://{host}:{port}"


@pytest.fixture(scope="module")
def grpc_and_service(models: dict[str, ServedModel]) -> Iterator[tuple[str, PredictionService]]:
    with grpc_serving(models) as place:
        yield place


@pytest.fixture(params=["rest", "grpc"])
def server(request: pytest.FixtureRequest, rest: str, grpc_and_service: tuple[str, PredictionService]) -> str:
    return rest if request.param == "rest" else grpc_and_service[0]


def mammogram(dtype: type = np.uint16) -> Mammogram:
    pixels = np.random.default_rng(4).integers(0, np.iinfo(dtype).max, (30, 21), dtype=dtype)
    return Mammogram(pixels, ImageRecord("x", "", "p", "R", "CC", "none"))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_server_gives_the_answer_of_the_model_here(server: str, classifier: Classifier, dtype: type) -> None:
    model = ServerModel(server, "mine")
    here, there = classifier.scan(mammogram(dtype)), model.scan(mammogram(dtype))
    assert there[0].grid == here[0].grid
    np.testing.assert_array_equal(there[0].probabilities, here[0].probabilities)
    np.testing.assert_array_equal(there[1].values, here[1].values)
    np.testing.assert_array_equal(there[1].centres_px, here[1].centres_px)
    for name in ("patch_px", "stride_px", "spacing_mm", "threshold"):
        assert getattr(model.metadata, name) == getattr(classifier.metadata, name)
    assert model.identity == {"server": server, "name": "mine", "version": "2", "store_checksum": "0" * 64}


def test_versions_and_labels(server: str) -> None:
    assert ServerModel(server, "mine/1").identity["version"] == "1"
    assert ServerModel(server, "mine/stable").identity["version"] == "1"


def test_a_version_that_comes_later_is_not_asked(server: str, models: dict[str, ServedModel]) -> None:
    model, before = ServerModel(server, "mine"), models["mine"]
    models["mine"] = ServedModel({**before.versions, 3: models["odd"].versions[min(models["odd"].versions)]})
    try:
        assert model.scan(mammogram())[0].probabilities.size
    finally:
        models["mine"] = before


def test_a_model_that_is_not_there_is_one_line_at_once(server: str) -> None:
    for name in ("other", "mine/9", "mine/canary"):
        with pytest.raises(InputError, match=f"^{server}: {name}: ") as fault:
            ServerModel(server, name)
        assert "\n" not in str(fault.value)


@pytest.mark.parametrize("version", ["", "/1", "/stable"])
def test_the_finer_model_is_taken_where_the_server_has_it(server: str, finer: Classifier, version: str) -> None:
    model = ServerModel.with_finer(server, f"both{version}")
    assert model.finer is not None
    assert model.finer.finer is None
    assert model.finer.metadata.spacing_mm == finer.metadata.spacing_mm
    assert model.identity["finer"] == model.finer.identity
    assert model.identity["finer"]["name"] == "both-finer"
    np.testing.assert_array_equal(
        model.finer.scan(mammogram())[0].probabilities, finer.scan(mammogram())[0].probabilities
    )


@pytest.mark.parametrize("name", ["mine", "mine/2", "odd", "both-finer", "newer"])
def test_a_model_without_a_finer_one_is_as_it_is(server: str, name: str) -> None:
    model = ServerModel.with_finer(server, name)
    assert model.finer is None
    assert "finer" not in model.identity


def test_a_server_that_falls_silent_is_not_taken_for_one_without_a_finer_model() -> None:
    with answering((200, good()), (503, BUSY)) as (url, _), pytest.raises(InputError, match=r"mine-finer/1: no answer"):
        ServerModel.with_finer(url, "mine", deadline_s=0.5)


def test_another_stride_cannot_be_asked_for(server: str) -> None:
    with pytest.raises(InputError, match=r"divides by a stride of 5 pixels alone. Received: 3"):
        ServerModel(server, "mine").scan(mammogram(), stride_px=3)


@pytest.mark.parametrize("url", ["localhost:8501", "ftp://x", "grpc://", "grpc://x/y"])
def test_an_address_of_another_form_is_one_line(url: str) -> None:
    with pytest.raises(InputError, match=f"a server must be http://HOST:PORT, https://... or grpc.* Received: {url}$"):
        ServerModel(url, "mine")


@pytest.mark.parametrize("url", ["http://", "http://127.0.0.1:85011"])
def test_an_address_that_no_server_can_have_is_one_line_at_once(url: str) -> None:
    with pytest.raises(InputError, match=f"{url}: is no address of a server: "):
        ServerModel(url, "mine")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "grpc://127.0.0.1:9"])
def test_without_a_server_it_gives_up_at_the_deadline(url: str) -> None:
    with pytest.raises(InputError, match=f"{url}: mine: no answer within 0.5 s: ") as fault:
        ServerModel(url, "mine", deadline_s=0.5)
    assert "\n" not in str(fault.value)


def test_a_busy_grpc_server_is_asked_again(grpc_and_service: tuple[str, PredictionService]) -> None:
    url, service = grpc_and_service
    service.num_requests = 0
    service.faults = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert ServerModel(url, "mine").identity["name"] == "mine"
    assert service.num_requests == 3
    service.faults = [grpc.StatusCode.INTERNAL]
    with pytest.raises(InputError, match="internal: a fault that was asked for"):
        ServerModel(url, "mine")


@contextmanager
def answering(*answers: tuple[int, bytes], last_takes_s: float = 0.0) -> Iterator[tuple[str, list[float]]]:
    """A server that gives these answers one after another, the last for ever, and when it was asked."""
    left, times = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            times.append(time.monotonic())
            self.rfile.read(int(self.headers["Content-Length"]))
            if len(left) == 1:
                time.sleep(last_takes_s)
            status, body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", times
    finally:
        server.shutdown()
        server.server_close()


BUSY = json.dumps({"error": "busy"}).encode()


def good(**changes: object) -> bytes:
    outputs = {
        "grid": [[1, 1, 1, 1, 8, 8, 7, 0]],
        "probability": [[[0.5]]],
        "threshold": [0.5],
        "model_spacing_mm": [0.0],
        "model_name": ["mine"],
        "model_version": ["1"],
        "store_checksum": ["00"],
        **changes,
    }
    return json.dumps({"outputs": outputs}).encode()


def test_a_busy_server_is_asked_again_after_growing_pauses() -> None:
    with answering((503, BUSY), (429, BUSY), (502, b"<html>"), (200, good())) as (url, times):
        model = ServerModel(url, "mine")
    assert model.metadata.spacing_mm is None
    pauses = np.diff(times)
    assert len(pauses) == 3
    assert all(pause >= least for pause, least in zip(pauses, (0.125, 0.25, 0.5), strict=True))


def test_once_a_server_is_gone_the_next_mammograms_do_not_wait_for_it() -> None:
    with answering((200, good()), (503, BUSY)) as (url, times):
        model = ServerModel(url, "mine", deadline_s=1.0)
        with pytest.raises(InputError, match="no answer within 1 s: status 503, busy"):
            model.scan(mammogram())
        before = len(times)
        with pytest.raises(InputError, match="mine: still no answer: status 503, busy"):
            model.scan(mammogram())
        assert before > 2
        assert len(times) == before + 1


def test_a_server_that_is_back_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmgkeras.inference.server_model._FIRST_PAUSE_S", 60.0)
    fits = good(grid=[[30, 21, 1, 1, 32, 32, 2, 11]])
    with answering((200, fits), (503, BUSY), (200, fits), last_takes_s=1.5) as (url, _):
        model = ServerModel(url, "mine", deadline_s=30.0)
        with pytest.raises(InputError, match="no answer within 30 s: status 503, busy"):
            model.scan(mammogram())
        scores, _ = model.scan(mammogram())
    assert scores.probabilities.tolist() == [[0.5]]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, b"<html>"), "answers status 200 and no JSON; is it a model server"),
        ((200, b"[]"), "answers status 200 and no JSON; is it a model server"),
        ((200, json.dumps({"outputs": [1]}).encode()), "mine: "),
        ((404, json.dumps({"error": "none"}).encode()), "mine: none"),
        ((200, json.dumps({"predictions": []}).encode()), "mine: "),
    ],
)
def test_what_is_no_answer_is_one_line(answer: tuple[int, bytes], message: str) -> None:
    with answering(answer) as (url, _), pytest.raises(InputError, match=message):
        ServerModel(url, "mine")


@pytest.mark.parametrize("probability", [[[[0.5, 0.5]]], [[[1.5]]], [[[float("nan")]]]])
def test_answers_that_cannot_be_are_refused(probability: list) -> None:
    small = Mammogram(np.zeros((1, 1), np.uint8), ImageRecord("x", "", "p", "R", "CC", "none"))
    with answering((200, good()), (200, good(probability=probability))) as (url, _):
        model = ServerModel(url, "mine")
        with pytest.raises(InputError, match="must give 1 x 1 probabilities from 0 to 1"):
            model.scan(small)
