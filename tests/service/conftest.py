"""Servers in threads of the tests' own process, on a free port of 127.0.0.1."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mmgkeras.savedmodel.classifier import Classifier, load
from mmgkeras.savedmodel.servable import servables
from mmgkeras.service.http_server import Limits, Service, listening_socket, make_server
from mmgkeras.service.rest_api import RestApi


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory, export_mean_model: Callable[..., Path]) -> Classifier:
    """Patches of 8 px of 0.2 mm; the brighter, the more probable."""
    return load(export_mean_model(tmp_path_factory.mktemp("models") / "mean" / "1", changes={"pixel_type": "uint16"}))


@pytest.fixture(scope="session")
def api(classifier: Classifier) -> RestApi:
    """Of the models `mine` and `mine-patches`, version 3."""
    return RestApi.of(servables(classifier, name="mine", version=3))


@contextmanager
def serving(api: RestApi, *, limits: Limits | None = None) -> Iterator[tuple[str, int]]:
    """Host and port of a server that answers for as long as the block runs."""
    with serving_service(Service(api, limits=limits)) as place:
        yield place


@contextmanager
def serving_service(service: Service) -> Iterator[tuple[str, int]]:
    """The same of a service."""
    listening = listening_socket("127.0.0.1", 0)
    server = make_server(service)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()


@pytest.fixture(scope="session")
def address(api: RestApi) -> Iterator[tuple[str, int]]:
    """Host and port of a server of that."""
    with serving(api) as place:
        yield place
