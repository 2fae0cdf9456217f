"""Writing that is whole or not there: a temporary name beside the target, then one rename.

Owns atomic files and folders and checksums; knows nothing of what is written.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mmgkeras.errors import InputError


@contextmanager
def atomic_file(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside `path`; it takes that name when the block ends, and vanishes when it fails.

    Raises:
        InputError: if `path` exists and `overwrite` is not set, or its folder cannot be written.
    """
    _refuse_existing(path, overwrite=overwrite)
    temporary = _temporary_beside(path)
    try:
        with _named_os_errors(path):
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a new empty folder beside `path`; it takes that name when the block ends, and vanishes when it fails.

    Raises:
        InputError: if `path` exists and `overwrite` is not set, or its parent cannot be written.
    """
    _refuse_existing(path, overwrite=overwrite)
    temporary = _temporary_beside(path)
    try:
        with _named_os_errors(path):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            yield temporary
            if path.exists():
                shutil.rmtree(path)
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_outputs(paths: Iterable[Path], *, overwrite: bool = False) -> None:
    """Refuses before long work what would be refused after it; writes nothing.

    Raises:
        InputError: if a path exists and `overwrite` is not set, or its folder cannot be written.
    """
    for path in paths:
        _refuse_existing(path, overwrite=overwrite)
        nearest = next(folder for folder in path.absolute().parents if folder.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise InputError(f"{path}: cannot be written: {nearest} is not a folder that may be written to")


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_existing(path: Path, *, overwrite: bool) -> None:
    with _named_os_errors(path):
        is_there = path.exists()
    if is_there and not overwrite:
        raise InputError(f"{path}: already exists; name another place or give --overwrite")


def _temporary_beside(path: Path) -> Path:
    with _named_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.partial")


@contextmanager
def _named_os_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
