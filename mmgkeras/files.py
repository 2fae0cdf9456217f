"""Writing that is whole or not there, and that replaces nothing but its own: a temporary name, then one rename.

Owns atomic files and folders, what becomes of them when a process is killed, checksums, and the files below a folder;
knows nothing of what is written. An output is on the disk (fsync) before it takes its name. Nothing here locks an
output: a command that must be alone with its output holds its `locks.output_lock`.
"""

import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from mmgkeras.errors import InputError, errors_of_writing
from mmgkeras.locks import (
    ASIDE,
    COMMIT,
    HIDDEN,
    check_outside_wholes,
    leftovers,
    output_lock,
    parents_made,
    remove,
    set_aside,
    temporary_beside,
)

_NOBODYS: Final = re.compile(rf"\.DS_Store|\._.*|Thumbs\.db|desktop\.ini|\.nfs.*|{HIDDEN.pattern}", re.DOTALL)
"""Names that a file browser or file system puts into any folder, and those of unfinished outputs."""


@contextmanager
def atomic_file(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields an empty temporary file beside `path`; it takes that name when the block ends, and goes when it fails.

    Raises:
        InputError: if `path` exists and `overwrite` is not set, or it cannot be written.
    """
    _refuse_existing(path, overwrite=overwrite)
    with (
        parents_made(path, named=path),
        errors_of_writing(path),
        temporary_beside(path, is_folder=False) as temporary,
    ):
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)


@contextmanager
def atomic_folder(path: Path, *, overwrite: bool = False, owned: Sequence[str] = ()) -> Iterator[Path]:
    """Yields a new empty folder beside `path`; it takes that name when the block ends, and goes when it fails.

    An old folder is set aside, the new one takes its name, and the old one is removed. Killed in between, the next call
    for the same path puts the old one back before anything else.

    Args:
        path: of the folder; a symbolic link stands for the folder that it leads to.
        overwrite: replace a folder that holds `owned[0]` and nothing that is not in `owned`, or nothing at all.
        owned: patterns of the paths within the folder that its writer makes, such as "tables/*.csv".

    Raises:
        InputError: if `path` exists and `overwrite` is not set, or it holds something else, or cannot be written; or if
            it is the folder that the process is in, or one above; or as `check_outside_wholes`.
    """
    with errors_of_writing(path):
        place = _own_place(path)
    check_outside_wholes(place)
    with parents_made(place, named=path), errors_of_writing(path):
        for aside in leftovers(place, ASIDE):  # of a process that died before it had replaced it, or after
            if place.exists():
                remove(aside)
            else:
                aside.rename(place)
        _refuse_existing(place, overwrite=overwrite, named=path)
        _refuse_foreign(place, owned, named=path)
        with temporary_beside(place, is_folder=True) as temporary:
            yield temporary
            sync_tree(temporary)
            _refuse_existing(place, overwrite=overwrite, named=path)
            _refuse_foreign(place, owned, named=path)  # what came into it while the block ran
            with set_aside(place) if place.exists() else nullcontext():
                temporary.rename(place)
                sync(place.parent)


@contextmanager
def atomic_files(
    folder: Path,
    names: Sequence[str],
    *,
    label: str,
    overwrite: bool = False,
    is_own: Callable[[Path], bool] | None = None,
    former: Sequence[str] = (),
) -> Iterator[Path]:
    """Yields a new empty folder in `folder`; its files go to `folder` together when the block ends, or none does.

    Killed while they go, the next call with the same label moves the rest, and may replace all of them. No two calls
    with one label work in a folder at once.

    Args:
        folder: that gets the files; it may hold others.
        names: of the files, relative to `folder`; one that the block does not make is removed if it is there.
        label: of the command, for the hidden names.
        overwrite: replace what is there.
        is_own: whether a file that exists was made by this command, so that it may be replaced; None for always.
        former: of files that an earlier call may have made and this one does not: where it overwrites, its own go.

    Raises:
        InputError: if a file exists and `overwrite` is not set or it is not this command's own, another process writes
            them, or they cannot be written.
    """
    key = folder / label
    with parents_made(key, named=folder), errors_of_writing(folder), output_lock(key):
        for left in leftovers(key, COMMIT):
            overwrite = True  # those that arrived are the cut call's own
            _move_in(left, folder)
        for name in names:
            _refuse_existing(folder / name, overwrite=overwrite)
            if is_own is not None and (folder / name).exists() and not is_own(folder / name):
                raise InputError(f"{folder / name}: was not made by this command as it is; name another place")
        there = [name for name in former if overwrite and (folder / name).is_file()]
        going = [name for name in there if is_own is None or is_own(folder / name)]
        with temporary_beside(key, is_folder=True) as temporary:
            yield temporary
            sync_tree(temporary)
            committing = temporary.with_suffix(f".{COMMIT}")
            stale = [*going, *(name for name in names if not (temporary / name).exists())]
            temporary.rename(committing)
            sync(folder)
            _move_in(committing, folder)
            for name in stale:
                (folder / name).unlink(missing_ok=True)


def write_whole(path: Path, data: bytes | memoryview, *, is_synced: bool = True) -> None:
    """Writes a file of an unfinished work: whole or not there, whenever its process ends. It may replace one.

    Args:
        path: of the file.
        data: all of it.
        is_synced: it is on the disk then, for a machine that goes down. Without, `locks.machine_start` belongs to what
            the work depends on.
    """
    # A name of its own: a worker that was given up may still write the same file.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(temporary, flags, 0o666), "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(data)
        if is_synced:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)


def give(path: Path, target: Path) -> None:
    """Gives a file of an unfinished work its place in an output, as a link, so that the work stays whole."""
    try:
        target.hardlink_to(path)
    except OSError:  # a file system without links
        shutil.copyfile(path, target)


def check_outputs(paths: Iterable[Path], *, overwrite: bool = False, inputs: Iterable[Path] = ()) -> None:
    """Refuses before long work what would be refused after it; writes nothing.

    Raises:
        InputError: if a path exists and `overwrite` is not set, or its folder cannot be written, or it is one of the
            inputs, lies in one or holds one; or as `check_outside_wholes`.
    """
    sources = list(inputs)
    for path in paths:
        check_apart(path, sources)
        check_outside_wholes(path)
        _refuse_existing(path, overwrite=overwrite)
        nearest = next((folder for folder in path.absolute().parents if folder.exists()), path)
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise InputError(f"{path}: cannot be written: {nearest} is not a folder that may be written to")


def check_apart(output: Path, inputs: Iterable[Path]) -> None:
    """Refuses an output that is an input, lies in one or holds one.

    Raises:
        InputError: if so.
    """
    with errors_of_writing(output):
        place = output.resolve()
        for source in inputs:
            other = Path(os.path.realpath(source))  # which does not raise for a loop of links
            if place == other or other in place.parents or place in other.parents:
                how = "is" if place == other else "lies in" if other in place.parents else "holds"
                raise InputError(f"{output}: {how} {source}, which is read; name another place")


def sync(path: Path) -> None:
    """Returns when a file or folder is on the disk, where its file system can do that."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems refuse it for folders
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Returns when a folder and all in it are on the disk."""
    for path in sorted(folder.rglob("*")):
        sync(path)
    sync(folder)


def is_nobodys(path: Path) -> bool:
    """Whether a file has a name that a file browser or file system gives, as macOS does with `._image.dcm`."""
    return _NOBODYS.fullmatch(path.name) is not None


def files_below(folder: Path) -> list[Path]:
    """All files below a folder but nobody's, in order; links to other folders are not followed.

    Raises:
        InputError: for a folder that cannot be read, whose files would be missing unseen.
    """
    found = (Path(place, name) for place, _, names in _walk(folder) for name in names)
    return sorted(path for path in found if not is_nobodys(path) and path.is_file())


def note_on_links(folder: Path) -> list[str]:
    """One line that counts the links below a folder that `files_below` passes over: to folders, and to nothing.

    Raises:
        InputError: as `files_below`.
    """
    places = (Path(place, name) for place, folders, files in _walk(folder) for name in (*folders, *files))
    number = sum(place.is_symlink() and not place.is_file() for place in places)
    return [f"{folder}: links to folders and broken links, which are not followed: {number:,}"] if number else []


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be read: {error.strerror or error}") from error

    return os.walk(folder, onerror=refuse)


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_existing(path: Path, *, overwrite: bool, named: Path | None = None) -> None:
    with errors_of_writing(path), suppress(FileNotFoundError):
        path.lstat()  # not Path.exists, which takes a name that is too long for one that is free
        if not overwrite:
            raise InputError(f"{named or path}: already exists; name another place or give --overwrite")


def _own_place(path: Path) -> Path:
    """The folder itself, behind symbolic links."""
    place = path.resolve()
    here = Path.cwd()
    if place == here or place in here.parents:
        raise InputError(f"{path}: is the present folder or one above it; name a folder of its own")
    return place


def _refuse_foreign(folder: Path, owned: Sequence[str], *, named: Path) -> None:
    """Keeps --overwrite from removing what its command did not make."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{named}: is not a folder; name another place")
    files = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()]
    names = [path.relative_to(folder).as_posix() for path in files if not is_nobodys(path)]
    if names and (not owned or owned[0] not in names):
        what = f"it has no {owned[0]}" if owned else "it is not empty"
        raise InputError(f"{named}: is not this command's to replace, {what}; name another place")
    for name in names:
        if not any(fnmatchcase(name, pattern) for pattern in owned):
            raise InputError(f"{named}: holds {name}, which this command did not make; move it or name another place")


def _move_in(committing: Path, folder: Path) -> None:
    """Moves every file to its name in `folder`; can be done again after it was cut."""
    for source in sorted(path for path in committing.rglob("*") if not path.is_dir()):
        target = folder / source.relative_to(committing)
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
        sync(target.parent)
    remove(committing)
