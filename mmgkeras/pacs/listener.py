"""A DICOM node that takes mammograms from a PACS, marks them one at a time, and sends the results to another node.

Owns the answer to each image and the order of the work. An image is answered with success once it has been read and
lies on the disk; results wait there until they are sent. No log line names a patient: an image is told by its
`image_key`. Nothing is encrypted and a caller is known by its title alone, as is DICOM's way without TLS.
"""

import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydicom import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
)
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from mmgkeras.errors import InputError, shown
from mmgkeras.images import read_single
from mmgkeras.images.dicom import SYNTAXES
from mmgkeras.inference.detection import find_marks, prepare, score
from mmgkeras.inference.mark_files import Predicted
from mmgkeras.pacs.algorithm import Algorithm
from mmgkeras.pacs.dicom_results import KINDS, Kind, Reading, build_results, read_source
from mmgkeras.pacs.peer import Peer, check_title, send
from mmgkeras.pacs.spool import Spool, image_key, open_spool
from mmgkeras.savedmodel.classifier import Classifier
from mmgkeras.savedmodel.detector import load_with_finer

Log = Callable[[str], None]

SOP_CLASSES: Final = (DigitalMammographyXRayImageStorageForPresentation, ComputedRadiographyImageStorage)
SUCCESS: Final = 0x0000
FAULT: Final = 0x0110
FULL: Final = 0xA700
UNREADABLE: Final = 0xC000
"""Status of the answer to an image: PS3.4, B.2.3, and PS3.7, C.5.7."""
_COMMENT_CHARACTERS: Final = 64
_MAX_ASSOCIATIONS: Final = 4
_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 60.0
_TURN_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenOptions:
    """How the listener works.

    Attributes:
        model: a SavedModel's folder.
        send_to: the node that gets the results.
        title: of our application entity.
        host, port: to listen at; port 0 for a free one.
        callers: titles of the nodes that may send; all if empty.
        spool: folder of the images and results that wait.
        limit: the most images that wait.
        threshold: of the marks; None for the model's.
        kinds: of the results that are sent.
    """

    model: Path
    send_to: Peer
    title: str = "MMGKERAS"
    host: str = "127.0.0.1"
    port: int = 11112
    callers: Sequence[str] = ()
    spool: Path = Path("spool")
    limit: int = 100
    threshold: float | None = None
    kinds: Sequence[Kind] = KINDS


def listen(options: ListenOptions, *, stop: threading.Event, log: Log, ready: Callable[[int], None]) -> None:
    """Listens until `stop` is set; the image at work is finished first, and what waits stays in the spool.

    Args:
        options: how.
        stop: set by another thread or a signal.
        log: called with each line of the log, from several threads.
        ready: called with the port, when images are taken.

    Raises:
        InputError: if the model cannot be used, another process has the spool, or nothing can listen there.
    """
    check_title(options.title)
    with open_spool(options.spool, limit=options.limit) as spool:
        classifier = load_with_finer(options.model)
        for key in spool.give_up():
            log(f"{key}: left out: the listener died twice over it")
        with _server(options, spool, log=log) as port:
            ready(port)
            _Work(options, spool, classifier, log).run(stop)


@contextmanager
def _server(options: ListenOptions, spool: Spool, *, log: Log) -> Iterator[int]:
    """Takes images, in threads of its own, until the block ends; yields the port."""
    entity = AE(ae_title=options.title)
    entity.require_called_aet = True
    entity.require_calling_aet = [check_title(caller) for caller in options.callers]
    entity.maximum_associations = _MAX_ASSOCIATIONS
    entity.add_supported_context(Verification)
    for sop_class in SOP_CLASSES:
        entity.add_supported_context(sop_class, list(SYNTAXES))
    one_at_a_time = threading.Lock()

    def answer(event: Any) -> Dataset:
        with one_at_a_time:  # what is counted stays true, and one image is decoded at a time
            return _answer(event, spool, log=log)

    try:
        server = entity.start_server(
            (options.host, options.port), block=False, evt_handlers=[(evt.EVT_C_STORE, answer)]
        )
    except OSError as error:
        raise InputError(f"{options.host}:{options.port}: cannot be listened at: {error.strerror or error}") from error
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()


def _answer(event: Any, spool: Spool, *, log: Log) -> Dataset:
    """The answer to one image; once it is success, the image lies in the spool."""
    key = image_key(str(event.request.AffectedSOPInstanceUID))
    try:
        if spool.is_full:
            log(f"{key}: not taken: {spool.limit} images wait already")
            return _status(FULL, "too many images wait")
        spool.add(key, event.encoded_dataset(), check=_check)
    except _RefusedError as error:
        log(f"{key}: not taken: {error}")
        return _status(UNREADABLE, str(error))
    except InputError as error:
        log(f"{key}: not taken: cannot be kept: {_last_part(error)}")
        return _status(FULL, "cannot be kept")
    except Exception as error:
        log(f"{key}: not taken: {_where(error)}")
        return _status(FAULT, "processing failure")
    log(f"{key}: taken from {shown(event.assoc.requestor.ae_title)}")
    return _status(SUCCESS)


class _RefusedError(Exception):
    """The image is at fault, not the disk."""


def _check(path: Path) -> None:
    """Refuses, before it is answered, an image that cannot be marked."""
    try:
        read_source(path)
        read_single(path)
    except InputError as error:
        raise _RefusedError("; ".join(str(error).splitlines()).rpartition(".partial: ")[2]) from error


def _status(status: int, comment: str = "") -> Dataset:
    answer = Dataset()
    answer.Status = status
    if comment:
        answer.ErrorComment = comment.encode("ascii", "replace").decode().replace("\\", "/")[:_COMMENT_CHARACTERS]
    return answer


def _last_part(error: InputError) -> str:
    """What the system says against writing, without the name of the spool's file."""
    return str(error).rpartition(": ")[2]


def _where(error: Exception) -> str:
    """An unforeseen fault by its kind and place, without its words, which may repeat the header."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"unforeseen {type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"


class _Work:
    """Marks what waits and sends what is ready, one at a time."""

    def __init__(self, options: ListenOptions, spool: Spool, classifier: Classifier, log: Log) -> None:
        self._options, self._spool, self._classifier, self._log = options, spool, classifier, log
        self._threshold = classifier.metadata.threshold if options.threshold is None else options.threshold
        self._next_try, self._wait_s = 0.0, _FIRST_WAIT_S
        self._next_mark = 0.0

    def run(self, stop: threading.Event) -> None:
        """Works until `stop` is set."""
        while not stop.is_set():
            path = self._spool.take() if time.monotonic() >= self._next_mark else None
            if path is not None and self._mark(path.stem, path):
                path.unlink()
            elif path is not None:
                self._spool.put_back(path)
                self._next_mark = time.monotonic() + _LONGEST_WAIT_S
            self._send(stop)
            if path is None:
                stop.wait(_TURN_S)

    def _mark(self, key: str, path: Path) -> bool:
        """Keeps the results of an image, or says why there are none; False if the disk does not take them now."""
        begun = time.monotonic()
        try:
            single = read_single(path)
            prepared = prepare(single.mammogram, [self._classifier], breast=single.breast)
            (model,), detection = prepared.models, score(prepared)
            assert isinstance(model, Classifier)
            height, width = single.mammogram.pixels.shape
            marks = find_marks(detection, threshold=self._threshold, shape=(height, width))
            algorithm = Algorithm.of(model, threshold=self._threshold, stride_px=prepared.stride_px)
            reading = Reading(read_source(path), single, detection, marks, algorithm)
            results = build_results(reading, kinds=self._options.kinds)
            try:
                self._spool.keep(key, dict(results.items()))
            except InputError as error:
                reason = _last_part(error)
                self._log(f"{key}: results cannot be kept: {reason}; next try in {_LONGEST_WAIT_S:.0f} s")
                return False
        except InputError as error:
            self._log(f"{key}: not marked: {'; '.join(str(error).splitlines()).removeprefix(f'{path}: ')}")
        except Exception as error:
            self._log(f"{key}: not marked: {_where(error)}")
        else:
            told = Predicted(
                path=Path(key),
                record=single.mammogram.record,
                side_from=single.side_from,
                hangs_mirrored=single.hangs_mirrored,
                resampled_to_mm=detection.resampled_to_mm,
                marks=marks,
                name=key,
            )
            self._log(f"{told.line()}; {time.monotonic() - begun:.1f} s")
            for note in single.notes:
                self._log(f"{key}: note: {note}")
        return True

    def _send(self, stop: threading.Event) -> None:
        """Sends what is ready until `stop` is set, unless the node was not there a moment ago."""
        if time.monotonic() < self._next_try:
            return
        for key, paths in self._spool.results():
            if stop.is_set():
                return
            outcomes = send(paths, self._options.send_to, title=self._options.title)
            sent = [
                path.stem.rpartition("-")[2].upper() for path, (outcome, _) in outcomes.items() if outcome == "sent"
            ]
            if sent:
                self._log(f"{key}: {', '.join(sent)} sent to {self._options.send_to}")
            for path, (outcome, reason) in outcomes.items():
                if outcome != "later":
                    path.unlink()
                if outcome == "refused":
                    kind = path.stem.rpartition("-")[2].upper()
                    self._log(f"{key}: {kind} not taken by {self._options.send_to}: {reason}")
            late = [reason for outcome, reason in outcomes.values() if outcome == "later"]
            if late:
                self._log(f"{key}: {self._options.send_to}: {late[0]}; next try in {self._wait_s:.0f} s")
                self._next_try = time.monotonic() + self._wait_s
                self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)
                return
            self._next_try, self._wait_s = 0.0, _FIRST_WAIT_S
