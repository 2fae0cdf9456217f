"""The one entry point of `mmgkeras serve`: from a model's folder to a server that answers."""

import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mmgkeras.errors import InputError, extra_needed
from mmgkeras.models.weights import DETECTOR
from mmgkeras.savedmodel.classifier import load
from mmgkeras.savedmodel.detector import model_folder
from mmgkeras.savedmodel.servable import servables
from mmgkeras.service.rest_api import RestApi


@dataclass(frozen=True, slots=True)
class Server:
    """A server that listens, and answers once it runs.

    Attributes:
        api: what it answers with.
        listening: its socket.
    """

    api: RestApi
    listening: socket.socket

    @property
    def models(self) -> list[str]:
        """The names of what is served."""
        return list(self.api.models)

    @property
    def url(self) -> str:
        """Where it listens, `http://127.0.0.1:8501`."""
        host, port = self.listening.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def run(self) -> None:
        """Answers until the process is told to stop."""
        from mmgkeras.service.http_server import Service, make_server

        with suppress(KeyboardInterrupt):
            make_server(Service(self.api)).run(sockets=[self.listening])


def open_server(model: Path, *, host: str, port: int) -> Server:
    """A server of the two servables of a model.

    Args:
        model: a SavedModel's folder, NAME/VERSION, or "detector".
        host: the address to listen on.
        port: to listen on, 0 for a free one.

    Raises:
        InputError: if the model cannot be used, nothing can listen there, or the extra `serving` is not installed.
    """
    with extra_needed("serving", to="serve"):
        from mmgkeras.service.http_server import listening_socket
    folder = model_folder(model)
    is_detector = str(model) == DETECTOR
    if not is_detector and not folder.name.isdecimal():
        raise InputError(f"{model}: must be a version's folder, saved_models/NAME/1. Received: {folder.name!r} as last")
    name = DETECTOR if is_detector else folder.resolve().parent.name
    api = RestApi.of(servables(load(folder), name=name, version=int(folder.name)))
    return Server(api, listening_socket(host, port))
