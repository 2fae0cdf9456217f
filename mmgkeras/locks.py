"""Who writes what now, and where nobody may: a lock on an output, temporary names that tell whether their maker lives.

A lock is an `flock`: the system lets go of it when its process ends, however that comes. Over NFS it holds between
machines where the server keeps locks (NFS 4; NFS 3 with lockd). Where a file system has no locks, nothing is locked and
nobody's leftovers are taken away, but every temporary name is still its maker's alone.
"""

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Final, ParamSpec, TypeVar, cast

from mmgkeras import __version__
from mmgkeras.errors import InputError, MmgError, errors_of_writing

_P = ParamSpec("_P")
_T = TypeVar("_T")
PARTIAL: Final = "partial"
ASIDE: Final = "old"
COMMIT: Final = "commit"
WORK: Final = "work"
_LOCK: Final = "lock"
HIDDEN: Final = re.compile(rf"\..+\.([0-9a-f]{{16}}\.({PARTIAL}|{ASIDE}|{COMMIT}|{WORK})|{_LOCK})")
"""Names that this module gives: a file of such a name may be ours, and is no one's work."""
STORE_FILE: Final = "store.json"
MODEL_FILE: Final = "saved_model.pb"
_WHOLES: Final = {STORE_FILE: "a patch store", MODEL_FILE: "a SavedModel"}
"""Files that tell a folder which is checked or served as a whole, and what it is."""
_LONGEST_STEM: Final = 200
"""Bytes of a name that can be put into a hidden one; file systems take 255."""
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF})
"""What `flock` says where there is none: EBADF is NFS' answer for a folder."""


@contextmanager
def output_lock(path: Path) -> Iterator[None]:
    """Keeps `path` for this process until the block ends; another process that asks for it is refused.

    Raises:
        InputError: if another process holds it, or the lock's file, which lies beside `path`, cannot be written; or as
            `check_outside_wholes`.
    """
    check_outside_wholes(path)
    with errors_of_writing(path):
        place = _hidden(path.resolve(), _LOCK)
    with parents_made(place, named=path):
        with errors_of_writing(path):
            descriptor = _open_locked(place, path)
        try:
            with errors_of_writing(path):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()}\n".encode())
            yield
        finally:
            # Before the lock is let go: whoever opened the file meanwhile sees that its name has gone, and tries again.
            with suppress(OSError):
                place.unlink()
            os.close(descriptor)


def check_outside_wholes(path: Path) -> None:
    """Refuses an output in the folder of a patch store or of a SavedModel.

    Raises:
        InputError: if so.
    """
    with errors_of_writing(path):
        for folder in path.resolve().parents:
            for name, what in _WHOLES.items():
                if (folder / name).is_file():
                    raise InputError(f"{folder}: is {what}, and nothing else goes there; name another place")


def locks_output(name: str) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """A decorator: the function runs with the `output_lock` of its argument `name`, a path given by keyword."""

    def decorate(function: Callable[_P, _T]) -> Callable[_P, _T]:
        @wraps(function)
        def locked(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            with output_lock(cast(Path, kwargs[name])):
                return function(*args, **kwargs)

        return locked

    return decorate


@contextmanager
def parents_made(path: Path, *, named: Path) -> Iterator[None]:
    """Makes the folders above `path` that are missing; when the block ends, those still empty go again.

    Raises:
        InputError: if they cannot be made, with the path `named`.
    """
    missing = [folder for folder in path.parents if not folder.exists()]
    try:
        with errors_of_writing(named):
            path.parent.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def temporary_beside(path: Path, *, is_folder: bool) -> Iterator[Path]:
    """Yields a new empty file or folder beside `path`, which goes when the block ends unless it was renamed.

    Those that dead processes left go first.
    """
    for left in leftovers(path, PARTIAL):
        remove(left)
    while True:
        temporary = _hidden(path, f"{secrets.token_hex(8)}.{PARTIAL}")
        if is_folder:
            temporary.mkdir()
        else:
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))
        with suppress(FileNotFoundError):
            descriptor = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            _lock(descriptor)
            if _is_at(descriptor, temporary):
                break
            os.close(descriptor)  # taken for a dead one's between its making and its lock
    try:
        yield temporary
    finally:
        remove(temporary)
        os.close(descriptor)


@contextmanager
def resumable_work(path: Path, *, digest: str) -> Iterator[Path]:
    """Yields a hidden folder beside the output `path` for work on it, with what a killed process left there.

    It goes when the block ends, or fails by a fault of the input. It stays where the block was cut from outside: by a
    signal, a full disk, a process that was killed. The next call with the same digest goes on with it; one with another
    removes it. The caller holds the `output_lock` of `path`.

    Args:
        path: of the output.
        digest: 16 hexadecimal digits of what the work depends on.
    """
    with errors_of_writing(path):
        place = path.resolve()
        work = _hidden(place, f"{digest}.{WORK}")
        for left in (*leftovers(place, WORK), *leftovers(place, PARTIAL)):
            if left != work:
                remove(left)
        if work.is_symlink() or work.is_file():
            work.unlink()
        work.mkdir(exist_ok=True)
    try:
        yield work
    except MmgError as error:
        if not isinstance(error.__cause__, OSError | BrokenExecutor):
            _discard(work, of=place)
        raise
    _discard(work, of=place)


def _discard(work: Path, *, of: Path) -> None:
    """Removes a work, under another name at first: what is left of it after a kill must not be taken for whole."""
    unfinished = _hidden(of, f"{secrets.token_hex(8)}.{PARTIAL}")
    with suppress(OSError):
        work.rename(unfinished)
        remove(unfinished)


@contextmanager
def set_aside(path: Path) -> Iterator[None]:
    """Renames a folder to a hidden name for as long as the block takes, and removes it then; back, if the block fails.

    A process that dies in between leaves the hidden folder, which `leftovers` finds.
    """
    aside = _hidden(path, f"{secrets.token_hex(8)}.{ASIDE}")
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _lock(descriptor)
        try:
            path.rename(aside)
            yield
        except BaseException:
            if aside.exists() and not path.exists():
                aside.rename(path)
            raise
        remove(aside)
    finally:
        os.close(descriptor)


def work_digest(*parts: object) -> str:
    """16 hexadecimal digits that differ where a part, or the version of mmgkeras, does."""
    return hashlib.sha256("\0".join(map(str, (__version__, *parts))).encode(errors="surrogateescape")).hexdigest()[:16]


def machine_start() -> str:
    """A text that is another one each time that the machine starts; empty where the system is not Linux."""
    return _BOOT_ID.read_text() if _BOOT_ID.exists() else ""


def leftovers(path: Path, kind: str) -> list[Path]:
    """What dead processes left of `path`, of one kind, the latest first; what a living one holds is not among it."""
    pattern = re.compile(rf"{re.escape(_hidden(path, '').name)}[0-9a-f]{{16}}\.{kind}")
    found = [entry for entry in path.parent.iterdir() if pattern.fullmatch(entry.name) and _is_abandoned(entry, kind)]
    return sorted(found, key=_changed, reverse=True)


def remove(path: Path) -> None:
    """Removes a file, a link or a folder with all that is in it, as far as that can be done."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:  # another process was faster
        return 0.0


def _hidden(path: Path, ending: str) -> Path:
    name = path.name
    if len(os.fsencode(name)) > _LONGEST_STEM:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return path.with_name(f".{name}.{ending}")


def _open_locked(place: Path, path: Path) -> int:
    """A descriptor of the lock's file, locked, with its name still in the folder."""
    while True:
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            _lock(descriptor)
        except BlockingIOError as error:
            owner = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise InputError(
                f"{path}: is being written by another process, {owner}; wait until it has ended or name another place"
            ) from error
        if _is_at(descriptor, place):
            return descriptor
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Locks an open file or folder; False where the file system has no locks. BlockingIOError if another has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))


def _is_abandoned(path: Path, kind: str) -> bool:
    """Whether no living process holds a hidden file or folder.

    Without locks that cannot be known. Then a temporary one is left alone; one aside or half moved in is not, for its
    maker needed it for a moment only.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _lock(descriptor) or kind != PARTIAL
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
