"""The images that wait and the results that wait to be sent, as files that outlive the process.

Owns the folder's layout: `images/<key>.<state>` and `results/<key>-<kind>.dcm`. A key is made of an image's SOP
Instance UID, so that an image that comes twice waits once, and that a log line names nobody. Both hold patient data:
the folder is its owner's alone.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Final

from pydicom import Dataset

from mmgkeras.files import atomic_file
from mmgkeras.locks import HIDDEN, output_lock, remove

_NEXT_STATE: Final = {".new": ".first", ".first": ".last"}
"""The state of an image at work, by that in which it waits: `.first` where the process died over it."""
_RESULT: Final = ".dcm"


def image_key(instance_uid: str) -> str:
    """What stands for an image in names and in the log: the last 16 digits of its UID's SHA-256 as a number.

    Digits alone, for a file's name may tell the view: "cc" would.
    """
    return f"{int(hashlib.sha256(instance_uid.encode()).hexdigest(), 16) % 10**16:016}"


class Spool:
    """The folder at work; use `open_spool`.

    Attributes:
        limit: the most images that wait, those whose results wait to be sent included.
    """

    def __init__(self, folder: Path, *, limit: int) -> None:
        """Use `open_spool`."""
        self.limit = limit
        self._images, self._results = folder / "images", folder / "results"
        for place in (self._images, self._results):
            place.mkdir(parents=True, exist_ok=True)
            place.chmod(0o700)
            for left in place.iterdir():
                if HIDDEN.fullmatch(left.name):  # what was being written when a process died
                    remove(left)

    @property
    def is_full(self) -> bool:
        """Whether no further image is taken."""
        keys = {path.stem for path in self._images.iterdir() if not HIDDEN.fullmatch(path.name)}
        return len(keys | {key for key, _ in self._by_key()}) >= self.limit

    def add(self, key: str, data: bytes, *, check: Callable[[Path], None]) -> None:
        """Keeps an image that `check` lets pass; it raises for another one, of which nothing stays.

        Raises:
            InputError: if it cannot be written.
        """
        with atomic_file(self._images / f"{key}.new", overwrite=True) as path:
            path.write_bytes(data)
            check(path)

    def take(self) -> Path | None:
        """The file of the image that has waited longest, which the caller removes when its work is done; None if none.

        One over which the process died is given once more, and not a third time.
        """
        waiting = [path for path in self._images.iterdir() if path.suffix in _NEXT_STATE]
        if not waiting:
            return None
        path = min(waiting, key=lambda path: path.stat().st_mtime_ns)
        return path.rename(path.with_suffix(_NEXT_STATE[path.suffix]))

    def put_back(self, path: Path) -> None:
        """Lets an image that was taken wait again, in the state and at the place in which it waited."""
        before = {later: earlier for earlier, later in _NEXT_STATE.items()}
        path.rename(path.with_suffix(before[path.suffix]))

    def give_up(self) -> list[str]:
        """Removes the images over which the process died twice: their keys."""
        lost = [path for path in self._images.iterdir() if path.suffix == ".last"]
        for path in lost:
            path.unlink()
        return sorted(path.stem for path in lost)

    def keep(self, key: str, results: Mapping[str, Dataset]) -> None:
        """Keeps the results of an image, by kind, until they are sent: all or none.

        Raises:
            InputError: if they cannot be written.
        """
        places = {kind: self._results / f"{key}-{kind}{_RESULT}" for kind in results}
        try:
            for kind, result in results.items():
                with atomic_file(places[kind], overwrite=True) as path:
                    result.save_as(path, enforce_file_format=True)
        except BaseException:
            for place in places.values():
                place.unlink(missing_ok=True)
            raise

    def results(self) -> list[tuple[str, list[Path]]]:
        """The results that wait, by their image's key, the oldest first."""
        return sorted(self._by_key(), key=lambda pair: min(path.stat().st_mtime_ns for path in pair[1]))

    def _by_key(self) -> list[tuple[str, list[Path]]]:
        files = sorted(path for path in self._results.iterdir() if path.suffix == _RESULT)
        return [(key, list(group)) for key, group in groupby(files, key=lambda path: path.stem.rpartition("-")[0])]


@contextmanager
def open_spool(folder: Path, *, limit: int) -> Iterator[Spool]:
    """The folder, for this process alone until the block ends.

    Raises:
        InputError: if another process has it, or it cannot be written.
    """
    with output_lock(folder):
        yield Spool(folder, limit=limit)
