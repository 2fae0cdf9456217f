"""The entry points of `mmgkeras serve` and `mmgkeras serve-config`: from a model's folder to what serves it.

Owns what needs the extra `serving`, and says so where it is not installed.
"""

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmgkeras.errors import InputError, extra_needed
from mmgkeras.files import check_apart
from mmgkeras.savedmodel.classifier import compute_in_bfloat16
from mmgkeras.savedmodel.detector import (
    FINER,
    load_with_finer,
    model_folder,
)
from mmgkeras.savedmodel.servable import servables
from mmgkeras.service.rest_api import RestApi

if TYPE_CHECKING:
    from mmgkeras.service.page import Page
    from mmgkeras.service.serving_config import ServedVersions


@dataclass(frozen=True, slots=True)
class Server:
    """A server that listens, and answers once it runs.

    Attributes:
        api: what it answers with.
        page: what it shows at `/`.
        listening: its socket.
    """

    api: RestApi
    page: "Page"
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
            make_server(Service(self.api, page=self.page)).run(sockets=[self.listening])


def open_server(model: Path, *, host: str, port: int, in_bfloat16: bool = False) -> Server:
    """A server of the two servables of a model, and of its finer one, or of a folder that `serve-config` wrote.

    Args:
        model: a SavedModel's folder, NAME/VERSION, or "detector"; or a folder with models.config.
        host: the address to listen on.
        port: to listen on, 0 for a free one.
        in_bfloat16: compute in bfloat16 on processors that can.

    Raises:
        InputError: if the model cannot be used, nothing can listen there, or the extra `serving` is not installed.
    """
    with extra_needed("serving", to="serve"):
        from mmgkeras.service.http_server import listening_socket
        from mmgkeras.service.serving_config import MODELS_CONFIG, read_serving_folder
    from mmgkeras.service.page import Page

    if in_bfloat16:
        compute_in_bfloat16()
    if (model / MODELS_CONFIG).is_file():
        api, classifier, name = read_serving_folder(model)
    else:
        folder, name = _named_model(model)
        classifier = load_with_finer(folder, is_folded=True)
        named = {name: classifier} | ({f"{name}-{FINER}": classifier.finer} if classifier.finer else {})
        pairs = [servables(one, name=each, version=int(folder.name)) for each, one in named.items()]
        api = RestApi.of([servable for pair in pairs for servable in pair])
    return Server(api, Page(classifier, name=name), listening_socket(host, port))


def add_to_serving_folder(
    out: Path, *, model: Path | None, name: str = "", stable: int | None = None
) -> dict[str, "ServedVersions"]:
    """Adds a model, and its finer one, to a folder for TensorFlow Serving, or makes a version stable.

    Args:
        out: the folder.
        model: a SavedModel's folder, NAME/VERSION, or "detector"; None to add none.
        name: whose version is made stable, or another name for the model.
        stable: that version.

    Raises:
        InputError: as `write_serving_config`, and if the model cannot be used or the extra `serving` is not installed.
    """
    with extra_needed("serving", to="serve-config"):
        from mmgkeras.service.serving_config import write_serving_config
    if model is None:
        return write_serving_config(out=out, name=name, stable=stable)
    folder, own_name = _named_model(model)
    check_apart(out, [folder])
    classifier = load_with_finer(folder, is_folded=True)
    return write_serving_config(
        out=out, classifier=classifier, name=name or own_name, version=int(folder.name), stable=stable
    )


def _named_model(model: Path) -> tuple[Path, str]:
    """A model's folder, and the name to serve it by."""
    folder = model_folder(model)
    if folder != model:  # the package's own
        return folder, str(model)
    if not folder.name.isdecimal() or int(folder.name) < 1:
        raise InputError(f"{model}: must be a version's folder, saved_models/NAME/1. Received: {folder.name!r} as last")
    return folder, Path(os.path.realpath(folder)).parent.name
