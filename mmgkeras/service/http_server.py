"""`mmgkeras serve`: the REST API, health, metrics and the page over HTTP, by uvicorn.

Owns what keeps the server alive under any load: few requests run at once, few wait, the rest is answered 503 at once;
bodies are limited one by one and together; a client that is slow to send is cut off.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import h11
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from uvicorn.protocols.http.h11_impl import H11Protocol

from mmgkeras.errors import InputError
from mmgkeras.service.page import MARK, Page
from mmgkeras.service.rest_api import Answer, RestApi, refused

METRICS: Final = "/monitoring/prometheus/metrics"
"""Where TensorFlow Serving has them."""
HEALTH: Final = "/healthz"
_BUCKETS_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_LOG: Final = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server takes on.

    Attributes:
        running: requests that run at once; each uses all cores, two keep them busy.
        waiting: requests that wait for those.
        body_bytes: of one request.
        all_bodies_bytes: of all requests at once.
        header_s: until the head of a request must be there.
        body_s: until its body must be there, and the answer taken.
        connections: at once.
    """

    running: int = 2
    waiting: int = 8
    body_bytes: int = 128 << 20
    all_bodies_bytes: int = 512 << 20
    header_s: float = 10.0
    body_s: float = 60.0
    connections: int = 256


class _RefusedError(Exception):
    """A request that is not taken on, and the answer to it."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Service:
    """The ASGI application."""

    def __init__(self, api: RestApi, *, page: Page | None = None, limits: Limits | None = None) -> None:
        """Takes what answers; the page may be left out."""
        self._api = api
        self._page = page
        self.limits = limits or Limits()
        self._pool = ThreadPoolExecutor(self.limits.running, thread_name_prefix="score")
        self._num_taken = 0
        self._held_bytes = 0
        self._registry = CollectorRegistry()
        self._requests = Counter("mmgkeras_requests", "Answers", ["kind", "code"], registry=self._registry)
        self._seconds = Histogram(
            "mmgkeras_request_seconds", "From head to answer", ["kind"], buckets=_BUCKETS_S, registry=self._registry
        )
        taken = Gauge("mmgkeras_requests_taken", "Requests that run or wait", registry=self._registry)
        taken.set_function(lambda: self._num_taken)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answers one request; one that is gone before its body was there gets no answer."""
        start = time.perf_counter()
        with suppress(ConnectionError):
            answer = await self._answer(scope, receive)
            kind = _kind(_path(scope))
            self._requests.labels(kind, str(answer.status)).inc()
            self._seconds.labels(kind).observe(time.perf_counter() - start)
            async with asyncio.timeout(self.limits.body_s):
                await _send(send, answer, has_body=scope["method"] != "HEAD")

    async def _answer(self, scope: Mapping[str, Any], receive: Receive) -> Answer:
        if scope["method"] in ("GET", "HEAD"):
            return self._found(_path(scope))
        if scope["method"] != "POST":
            return refused(405, "only GET and POST are allowed", allow="GET, POST")
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.body_s):
                await self._read(scope, receive, into=body)
            return await self._run(scope, receive, body)
        except TimeoutError:
            return refused(408, f"the body must be there within {self.limits.body_s:g} s", connection="close")
        except _RefusedError as error:
            return error.answer
        finally:
            self._held_bytes -= len(body)

    def _found(self, path: str) -> Answer:
        if path == HEALTH:
            return Answer(200, b'{"status": "ok"}')
        if path == METRICS:
            return Answer(200, generate_latest(self._registry), content_type=CONTENT_TYPE_LATEST)
        file = None if self._page is None else self._page.file(path)
        return file or self._api.look_up(path)

    async def _read(self, scope: Mapping[str, Any], receive: Receive, *, into: bytearray) -> None:
        """The body of a request; of one that is refused it is read and thrown away, so that the client hears why."""
        headers = dict(scope["headers"])
        refusal = self._refusal(int(headers.get(b"content-length", b"0")))
        if refusal is not None and b"expect" in headers:
            raise _RefusedError(refusal)
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError
            part, more = message.get("body", b""), message.get("more_body", False)
            refusal = refusal or self._refusal(len(into) + len(part), len(part))
            if refusal is None:
                into += part
                self._held_bytes += len(part)
            elif into:
                self._held_bytes -= len(into)
                into.clear()
        if refusal is not None:
            raise _RefusedError(refusal)

    def _refusal(self, size: int, part: int | None = None) -> Answer | None:
        """The answer to a body of at least this size, of which `part` is not held yet; None for one that is taken."""
        if size > self.limits.body_bytes:
            return refused(413, f"the body must hold at most {self.limits.body_bytes:,} bytes", connection="close")
        if self._held_bytes + (size if part is None else part) > self.limits.all_bodies_bytes:
            return refused(503, "too many large requests at once; try again", retry_after="1")
        return None

    async def _run(self, scope: Mapping[str, Any], receive: Receive, body: bytearray) -> Answer:
        if self._num_taken >= self.limits.running + self.limits.waiting:
            return refused(503, "too many requests wait; try again", retry_after="1")
        gone = asyncio.ensure_future(receive())  # after the body there is nothing to receive but the end
        self._num_taken += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._work, scope, body, gone)
        finally:
            self._num_taken -= 1
            gone.cancel()

    def _work(self, scope: Mapping[str, Any], body: bytearray, gone: "asyncio.Future[Any]") -> Answer:
        """What runs in one of few threads."""
        if gone.done():
            return refused(499, "the client is gone")
        try:
            if self._page is not None and _path(scope) == MARK:
                return self._page.mark(bytes(body), query=scope["query_string"].decode("latin-1"))
            return self._api.predict(_path(scope), bytes(body))
        except Exception:
            _LOG.exception("a request failed")
            return refused(500, "failed; the server's log says why")


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens there, port 0 for a free one.

    Raises:
        InputError: if it cannot.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        raise InputError(f"{host}:{port}: cannot listen there: {getattr(error, 'strerror', None) or error}") from error


def make_server(service: Service) -> uvicorn.Server:
    """What answers on sockets by `run` until the process is told to stop, and then finishes what runs."""
    limits = service.limits
    config = uvicorn.Config(
        service,
        http=_protocol(limits.header_s),
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        limit_concurrency=limits.connections,
        timeout_graceful_shutdown=10,
    )
    return uvicorn.Server(config)


def _protocol(header_s: float) -> type[H11Protocol]:
    """uvicorn's, which alone would wait for the head of a request for ever."""

    class Impatient(H11Protocol):  # type: ignore[misc]  # uvicorn.protocols has no types
        cut: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.cut = self.loop.call_later(header_s, transport.close)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            is_in_head = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
            if is_in_head and self.cut is None:
                self.cut = self.loop.call_later(header_s, self.transport.close)
            elif not is_in_head and self.cut is not None:
                self.cut.cancel()
                self.cut = None

        def connection_lost(self, exc: Exception | None) -> None:
            if self.cut is not None:
                self.cut.cancel()
            super().connection_lost(exc)

    return Impatient


def _path(scope: Mapping[str, Any]) -> str:
    """The path as it was sent, percent-encoded; what it names is decoded once, by who looks it up."""
    path: bytes = scope["raw_path"]
    return path.decode("latin-1").partition("?")[0]


def _kind(path: str) -> str:
    """The label of a path in the metrics, of which there must be few."""
    return "predict" if path.endswith(":predict") else "page" if path == MARK else "other"


async def _send(send: Send, answer: Answer, *, has_body: bool) -> None:
    headers = {
        "content-type": answer.content_type,
        "content-length": str(len(answer.body)),
        "x-content-type-options": "nosniff",
        **answer.headers,
    }
    lines = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": lines})
    await send({"type": "http.response.body", "body": answer.body if has_body else b""})
