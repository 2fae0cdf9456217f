"""A model on a server, scored as if it were here: TensorFlow Serving's or `mmgkeras serve`'s, by REST or gRPC.

Owns the requests, what is tried again and for how long. The server divides and scores; what it is sent is the mammogram
as `detection` prepares it, losslessly, so that the answer is that of the same model here.
"""

import base64
import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit

import numpy as np
import urllib3
from numpy.typing import NDArray
from PIL import Image

from mmgkeras.errors import InputError, extra_needed
from mmgkeras.images.samples import shown
from mmgkeras.savedmodel.detector import FINER, is_finer_division
from mmgkeras.schema import ActivationMap, Grid, Mammogram, Pixels, ScoreMap

DEADLINE_S: Final = 120.0
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 8.0
_CONNECT_S: Final = 4.0
"""Until a server that is there has taken a connection, a lost packet included; its answer takes longer."""
_AGAIN: Final = frozenset({429, 502, 503, 504})
_BLACK: Final = np.zeros((1, 1), np.uint8)

Call = Callable[[Mapping[str, list[Any]], float], Mapping[str, Any]]


class _NotNowError(Exception):
    """A fault that may pass: the server is not there, or busy."""


class _NoAnswerError(InputError):
    """It did not pass in time."""


@dataclass(frozen=True, slots=True)
class ServedMetadata:
    """What a server tells of a model, as in `ModelMetadata`."""

    patch_px: int
    stride_px: int
    spacing_mm: float | None
    threshold: float


class ServerModel:
    """One model of a server; may be used by several threads.

    Attributes:
        metadata: what the server tells of it.
        identity: which model it is, and where.
        finer: None, unless `with_finer` found one.
    """

    def __init__(self, server: str, model: str, *, deadline_s: float = DEADLINE_S) -> None:
        """Asks the server what the model is.

        Args:
            server: `http://HOST:PORT`, `https://...` or `grpc://HOST:PORT`.
            model: `NAME`, `NAME/VERSION` or `NAME/LABEL`.
            deadline_s: how long one mammogram may take, all tries together.

        Raises:
            InputError: if the address has another form, or there is no such server or model.
        """
        self._place = f"{server}: {model}"
        calls = _rest if server.startswith(("http://", "https://")) else _grpc
        self._call = calls(server, model)
        self._deadline_s = deadline_s
        self._is_gone = False
        self.finer: ServerModel | None = None
        told = self._ask(_BLACK, "left")
        _, _, _, _, patch_px, stride_px, _, _ = np.asarray(told["grid"][0]).tolist()
        spacing_mm = float(told["model_spacing_mm"][0]) or None
        self.metadata = ServedMetadata(patch_px, stride_px, spacing_mm, float(told["threshold"][0]))
        self.identity: dict[str, Any] = {
            "server": server,
            **{name.removeprefix("model_"): _text(told[name][0]) for name in ("model_name", "model_version")},
            "store_checksum": _text(told["store_checksum"][0]),
        }
        # A name or a label may stand for another version before the last mammogram is sent.
        self._call = calls(server, f"{model.partition('/')[0]}/{self.identity['version']}")

    @classmethod
    def with_finer(cls, server: str, model: str, *, deadline_s: float = DEADLINE_S) -> Self:
        """The same, with the finer model where the server has one: `NAME-finer` of the version that answered.

        Raises:
            InputError: as of the constructor, of which another model's fault is none.
        """
        own, name = cls(server, model, deadline_s=deadline_s), model.partition("/")[0]
        try:
            finer = cls(server, f"{name}-{FINER}/{own.identity['version']}", deadline_s=deadline_s)
        except _NoAnswerError:
            raise
        except InputError:
            return own
        if is_finer_division(finer.metadata, own.metadata):
            own.finer = finer
            own.identity |= {"finer": finer.identity}
        return own

    def scan(
        self, mammogram: Mammogram, *, stride_px: int | None = None, chosen: NDArray[np.bool_] | None = None
    ) -> tuple[ScoreMap, ActivationMap | None]:
        """The probability of every patch of a mammogram at the model's pixel size, and the class activation.

        Args:
            mammogram: of any size.
            stride_px: the model's, or None.
            chosen: (rows, cols) the patches to score; the others have probability 0. None for all.

        Raises:
            InputError: if the server refuses it or does not answer in time, or for another stride than the model's.
        """
        own_px = self.metadata.stride_px
        self.check_stride(stride_px)
        height, width = mammogram.pixels.shape
        grid = Grid(height, width, self.metadata.patch_px, own_px, mammogram.record.chest_wall_side)
        chosen = np.ones((grid.rows, grid.cols), np.bool_) if chosen is None else chosen
        answer = self._ask(_needed(mammogram.pixels, grid, chosen), grid.chest_wall)
        probabilities = np.asarray(answer["probability"], np.float32)[0]
        if probabilities.shape != (grid.rows, grid.cols) or not ((probabilities >= 0) & (probabilities <= 1)).all():
            rule = f"must give {grid.rows} x {grid.cols} probabilities from 0 to 1"
            raise InputError(f"{self._place}: {rule}. Received: shape {probabilities.shape}")
        activation = None
        if "activation" in answer:
            values = np.asarray(answer["activation"], np.float32)[0]
            activation = ActivationMap(values, np.asarray(answer["cell_centres_px"], np.float32)[0])
        return ScoreMap(mammogram.record.image_id, grid, np.where(chosen, probabilities, np.float32(0))), activation

    def check_stride(self, stride_px: int | None) -> None:
        """Refuses another distance between patches than the model's; None is that.

        Raises:
            InputError: if so.
        """
        own_px = self.metadata.stride_px
        if stride_px not in (None, own_px):
            raise InputError(f"{self._place}: divides by a stride of {own_px} pixels alone. Received: {stride_px}")

    def _ask(self, pixels: Pixels, side: str) -> Mapping[str, Any]:
        """The outputs of `detect` for one image; a fault that may pass is tried again until the deadline."""
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, "png", compress_level=1)
        inputs: dict[str, list[Any]] = {
            "image_bytes": [buffer.getvalue()],
            "chest_wall": [side.encode()],
            "spacing_mm": [0.0],
        }
        end = time.monotonic() + self._deadline_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                answer = self._call(inputs, max(1.0, end - time.monotonic()))
            except _NotNowError as error:
                if self._is_gone:
                    raise _NoAnswerError(f"{self._place}: still no answer: {error}") from error
                if time.monotonic() + pause_s >= end:
                    self._is_gone = True  # the next mammograms ask once
                    reason = f"no answer within {self._deadline_s:g} s: {error}"
                    raise _NoAnswerError(f"{self._place}: {reason}") from error
                time.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                self._is_gone = False
                return answer


def _needed(pixels: Pixels, grid: Grid, chosen: NDArray[np.bool_]) -> Pixels:
    """The pixels of the chosen patches, zero elsewhere, so that a server passes over the others."""
    needed = np.zeros_like(pixels)
    for top, left, bottom, right in grid.boxes()[chosen].clip(0):
        needed[top:bottom, left:right] = pixels[top:bottom, left:right]
    return needed


def _rest(server: str, model: str) -> Call:
    """Calls by HTTP."""
    name, _, version = model.partition("/")
    way = "" if not version else f"/versions/{version}" if version.isdecimal() else f"/labels/{quote(version, safe='')}"
    url = f"{server.rstrip('/')}/v1/models/{quote(name, safe='')}{way}:predict"
    pool = urllib3.PoolManager(retries=False, maxsize=8)

    def call(inputs: Mapping[str, list[Any]], timeout_s: float) -> Mapping[str, Any]:
        columns = {name: [_json_value(value) for value in values] for name, values in inputs.items()}
        body = json.dumps({"inputs": columns}).encode()
        try:
            patience = urllib3.Timeout(total=timeout_s, connect=min(_CONNECT_S, timeout_s))
            answer = pool.request("POST", url, body=body, timeout=patience)
        except urllib3.exceptions.LocationValueError as error:
            raise InputError(f"{server}: is no address of a server: {shown(error, longest=200)}") from error
        except urllib3.exceptions.HTTPError as error:
            raise _NotNowError(shown(error, longest=200)) from error
        try:
            content = json.loads(answer.data)
        except ValueError:
            content = None
        told = content.get("error", content) if isinstance(content, dict) else "no JSON of a model server"
        if answer.status in _AGAIN:  # also by a proxy, in HTML
            raise _NotNowError(f"status {answer.status}, {shown(told, longest=200)}")
        if not isinstance(content, dict):
            raise InputError(f"{server}: answers status {answer.status} and no JSON; is it a model server?")
        outputs = content.get("outputs")
        if answer.status != 200 or not isinstance(outputs, dict):
            raise InputError(f"{server}: {model}: {shown(told, longest=200)}")
        return outputs

    return call


def _json_value(value: Any) -> Any:
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _grpc(server: str, model: str) -> Call:
    """Calls by gRPC.

    Raises:
        InputError: if the address is none, or the extra `serving` is not installed.
    """
    address = urlsplit(server)
    if address.scheme != "grpc" or not address.netloc or address.path not in ("", "/"):
        raise InputError(f"a server must be http://HOST:PORT, https://... or grpc://HOST:PORT. Received: {server}")
    with extra_needed("serving", to="gRPC"):
        import grpc
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
    again = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED)
    # The default limit of 4 MB is less than one mammogram.
    unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    channel = grpc.insecure_channel(address.netloc, options=unlimited)
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    name, _, version = model.partition("/")

    def call(inputs: Mapping[str, list[Any]], timeout_s: float) -> Mapping[str, Any]:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = name
        if version.isdecimal():
            request.model_spec.version.value = int(version)
        elif version:
            request.model_spec.version_label = version
        for key, values in inputs.items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(values, tf.float64 if key == "spacing_mm" else tf.string))
        try:
            response = stub.Predict(request, timeout=timeout_s)
        except grpc.RpcError as error:
            told = f"{error.code().name.lower()}: {shown(error.details(), longest=200)}"
            if error.code() in again:
                raise _NotNowError(told) from error
            raise InputError(f"{server}: {model}: {told}") from error
        return {key: tf.make_ndarray(value) for key, value in response.outputs.items()}

    return call


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
