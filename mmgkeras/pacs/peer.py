"""A DICOM node that results are sent to, and how they are sent: one association, C-STORE for each file.

Owns what becomes of a file that the node does not take: another try later where the node may yet take it, none where it
said that it will not.
"""

import re
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE

from mmgkeras.errors import InputError, shown

Outcome = Literal["sent", "later", "refused"]
_ADDRESS: Final = re.compile(r"(?P<title>[^@]+)@(?P<host>\[[^\]]+\]|[^:\[\]]+):(?P<port>[0-9]{1,5})")
_TITLE: Final = re.compile(r"(?! +$)[ -\[\]-~]{1,16}")
"""PS3.5, 6.2: of the printable ASCII characters but the backslash, not blanks alone."""
_CONNECT_S: Final = 10.0
_ANSWER_S: Final = 60.0
_SLOWEST_BYTES: Final = 100_000
"""A second: a file may take so much longer until it is answered, for the time to send it counts."""


def check_title(title: str) -> str:
    """The title of an application entity, if it is one.

    Raises:
        InputError: if it is not.
    """
    if not _TITLE.fullmatch(title):
        raise InputError(f"an AE title must be 1 to 16 ASCII characters without a backslash. Received: {shown(title)}")
    return title


@dataclass(frozen=True, slots=True)
class Peer:
    """A DICOM node: the title of its application entity, its host and its port."""

    title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The node of `TITLE@HOST:PORT`.

        Raises:
            InputError: if the text is not of that form.
        """
        matched = _ADDRESS.fullmatch(text)
        if matched is None or not 0 < int(matched["port"]) < 65536:
            raise InputError(f"a DICOM node must be TITLE@HOST:PORT, such as ARCHIVE@pacs:104. Received: {shown(text)}")
        return cls(check_title(matched["title"]), matched["host"].strip("[]"), int(matched["port"]))

    def __str__(self) -> str:
        """As `parse` takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.title}@{host}:{self.port}"


def send(paths: Sequence[Path], peer: Peer, *, title: str) -> dict[Path, tuple[Outcome, str]]:
    """What became of each file, and the reason where it was not sent.

    Args:
        paths: of DICOM files.
        peer: that gets them.
        title: our own.
    """
    answer_s = _ANSWER_S + max((path.stat().st_size for path in paths), default=0) / _SLOWEST_BYTES
    done: Future[dict[Path, tuple[Outcome, str]]] = Future()

    def work() -> None:
        try:
            done.set_result(_send(paths, peer, title=title, answer_s=answer_s))
        except BaseException as error:
            done.set_exception(error)

    # pynetdicom waits for a thread of its own without a limit, also where that has ended.
    threading.Thread(target=work, daemon=True).start()
    try:
        return done.result(3 * _CONNECT_S + 2 * answer_s * len(paths))
    except TimeoutError:
        return dict.fromkeys(paths, ("later", "no end of sending"))


def _send(paths: Sequence[Path], peer: Peer, *, title: str, answer_s: float) -> dict[Path, tuple[Outcome, str]]:
    read = {path: _read(path) for path in paths}
    outcomes: dict[Path, tuple[Outcome, str]] = {
        path: ("refused", "its file is damaged") for path, result in read.items() if result is None
    }
    results = {path: result for path, result in read.items() if result is not None}
    if not results:
        return outcomes
    entity = AE(ae_title=title)
    entity.connection_timeout = entity.acse_timeout = _CONNECT_S
    entity.dimse_timeout = entity.network_timeout = answer_s
    for sop_class in sorted({str(result.SOPClassUID) for result in results.values()}):
        entity.add_requested_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    association = entity.associate(peer.host, peer.port, ae_title=peer.title)
    if not association.is_established:
        reason = "it rejects the association" if association.is_rejected else "it cannot be reached"
        return outcomes | dict.fromkeys(results, ("later", reason))
    try:
        taken = {str(context.abstract_syntax) for context in association.accepted_contexts}
        return outcomes | {
            path: _store(association, result, taken=str(result.SOPClassUID) in taken)
            for path, result in results.items()
        }
    finally:
        association.release()


def _read(path: Path) -> Dataset | None:
    """A file that can be sent; None for one that is damaged."""
    try:
        result = dcmread(path)
        if "PixelData" in result:
            result.pixel_array  # noqa: B018 - whether all of it is there
        return result if "SOPClassUID" in result and "SOPInstanceUID" in result else None
    except Exception:  # a damaged file makes pydicom raise whatever there is
        return None


def _store(association: Any, result: Dataset, *, taken: bool) -> tuple[Outcome, str]:
    if not taken:
        return "refused", "it does not take files of this kind"
    if not association.is_established:
        return "later", "the association broke"
    try:
        status = association.send_c_store(result).get("Status")
    except RuntimeError:  # it broke since
        return "later", "the association broke"
    if status is None:
        return "later", "no answer"
    if status == 0 or status >> 12 == 0xB:  # warnings: stored with something changed or left out (PS3.4, B.2.3)
        return "sent", ""
    return ("later" if status >> 8 == 0xA7 else "refused"), f"status {status:04X}"
