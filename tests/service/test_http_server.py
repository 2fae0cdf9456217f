import http.client
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mmgkeras.errors import InputError
from mmgkeras.service.http_server import Limits, listening_socket
from mmgkeras.service.rest_api import Answer, RestApi
from tests.service.conftest import serving
from tests.service.test_rest_api import REQUEST

Address = tuple[str, int]


def ask(
    address: Address, path: str, body: bytes | None = None, *, method: str | None = None
) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection(*address, timeout=60)
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, body)
        response = connection.getresponse()
        return response.status, response.read(), response.headers
    finally:
        connection.close()


def test_it_answers_as_the_api_does(address: Address, api: RestApi) -> None:
    body = json.dumps(REQUEST).encode()
    status, answer, headers = ask(address, "/v1/models/mine:predict", body)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(answer) == json.loads(api.predict("/v1/models/mine:predict", body).body)
    assert ask(address, "/v1/models/mine")[:2] == (200, api.look_up("/v1/models/mine").body)


def test_health_and_metrics(address: Address) -> None:
    assert ask(address, "/healthz")[:2] == (200, b'{"status": "ok"}')
    assert ask(address, "/v1/models/none:predict", b"{}")[0] == 404
    status, text, _ = ask(address, "/monitoring/prometheus/metrics")
    assert status == 200
    assert b'mmgkeras_requests_total{code="404",kind="predict"}' in text
    assert b"mmgkeras_requests_taken 0.0" in text


def test_other_methods_and_paths_are_refused(address: Address) -> None:
    assert ask(address, "/healthz", method="DELETE")[0] == 405
    assert ask(address, "/healthz", method="HEAD")[:2] == (200, b"")
    assert ask(address, "/../../etc/passwd")[0] == 404
    assert ask(address, "/<script>alert(1)</script>")[0] == 404


class SlowApi(RestApi):
    """Answers with the body, once it may."""

    def __init__(self) -> None:
        super().__init__({})
        self.may_answer = threading.Event()
        self.num_running = threading.Semaphore(0)

    def predict(self, path: str, body: bytes) -> Answer:
        self.num_running.release()
        self.may_answer.wait(60)
        return Answer(200, body)


def test_of_too_many_requests_some_are_told_at_once_and_no_answer_is_mixed_up() -> None:
    api = SlowApi()
    with serving(api, limits=Limits(running=1, waiting=2)) as address, ThreadPoolExecutor(12) as clients:
        sent = [clients.submit(ask, address, "/v1/models/x:predict", f"body {n}".encode()) for n in range(12)]
        refused = []
        while len(refused) < 9:  # nothing is answered 200 before it may be
            refused = [one for one in sent if one.done()]
        for one in refused:
            status, body, headers = one.result()
            assert (status, headers["retry-after"]) == (503, "1")
            assert b"too many requests wait" in body
        assert ask(address, "/healthz")[0] == 200
        api.may_answer.set()
        answers = {number: one.result()[:2] for number, one in enumerate(sent) if one not in refused}
        assert answers == {number: (200, f"body {number}".encode()) for number in answers}
        assert len(answers) == 3


def test_a_failure_of_ours_is_500_and_the_server_lives(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(SlowApi):
        def predict(self, path: str, body: bytes) -> Answer:
            raise RuntimeError("secret")

    with serving(Failing()) as address:
        status, body, _ = ask(address, "/v1/models/x:predict", b"{}")
        assert status == 500
        assert b"secret" not in body
        assert ask(address, "/healthz")[0] == 200
    assert "a request failed" in caplog.text


@pytest.mark.parametrize("size", [2001, 3_000_000])
def test_a_body_over_the_limit_is_413_whether_its_length_is_told_or_not(size: int) -> None:
    api = SlowApi()
    api.may_answer.set()
    with serving(api, limits=Limits(body_bytes=2000)) as address:
        assert ask(address, "/x:predict", bytes(2000))[0] == 200
        status, body, _ = ask(address, "/x:predict", bytes(size))
        assert (status, b"at most 2,000 bytes" in body) == (413, True)
        connection = http.client.HTTPConnection(*address, timeout=60)
        connection.request("POST", "/x:predict", iter([bytes(size)]), encode_chunked=True)
        assert connection.getresponse().status == 413
        connection.close()


def test_bodies_are_limited_together() -> None:
    api = SlowApi()
    limits = Limits(running=1, all_bodies_bytes=3000)
    with serving(api, limits=limits) as address, ThreadPoolExecutor(1) as client:
        first = client.submit(ask, address, "/x:predict", bytes(2000))
        assert api.num_running.acquire(timeout=60)
        status, body, _ = ask(address, "/x:predict", bytes(1500))
        assert (status, b"too many large requests" in body) == (503, True)
        api.may_answer.set()
        assert first.result()[0] == 200
        assert ask(address, "/x:predict", bytes(1500))[0] == 200


@pytest.mark.parametrize("head", [b"", b"GET /hea", b"POST / HTTP/1.1\r\nHost: x\r\n"])
def test_a_client_that_is_slow_with_its_head_is_cut_off(head: bytes) -> None:
    with (
        serving(SlowApi(), limits=Limits(header_s=0.2)) as address,
        socket.create_connection(address, timeout=60) as client,
    ):
        client.sendall(head)
        assert client.recv(100) == b""
        assert ask(address, "/healthz")[0] == 200


def test_a_client_that_is_slow_with_its_second_head_is_cut_off_too() -> None:
    with (
        serving(SlowApi(), limits=Limits(header_s=0.2)) as address,
        socket.create_connection(address, timeout=60) as client,
    ):
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /heal")
        received = b""
        while part := client.recv(1000):
            received += part
        assert received.count(b"HTTP/1.1 200") == 1


def test_a_client_that_is_slow_with_its_body_is_told_and_cut_off() -> None:
    with (
        serving(SlowApi(), limits=Limits(body_s=0.2)) as address,
        socket.create_connection(address, timeout=60) as client,
    ):
        client.sendall(b"POST /x:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
        received = b""
        while part := client.recv(1000):
            received += part
        assert received.startswith(b"HTTP/1.1 408")
        assert b"within 0.2 s" in received


def test_no_two_servers_share_a_port() -> None:
    with listening_socket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(InputError, match=rf"127.0.0.1:{port}: cannot listen there: Address already in use"):
            listening_socket("127.0.0.1", port)
    with pytest.raises(InputError, match="cannot listen there"):
        listening_socket("no such host", 0)
