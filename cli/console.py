"""What the commands print, text with nothing in it that a terminal would obey, and types of options that they share.

Results go to stdout, everything else to stderr. A fault that is not ours ends with exit code 1 and no traceback.
"""

import errno
import logging
import math
import os
import sys
import time
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click

_T = TypeVar("_T")
_SILENT_S = 60.0
_BYTES = [chr(code) for code in range(0xDC80, 0xDD00)]
"""What stands in a name for bytes that are no UTF-8."""
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})


class UserErrorGroup(click.Group):
    """A command group that lists its commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names in the order of the work: data first, results last."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; the user's faults and the system's become lines and exit code 1."""
        _quiet_dicom()
        try:
            return super().invoke(ctx)
        except Exception as error:
            lines = fault_lines(error)
            if not lines:
                raise
            for line in lines:
                echo(f"error: {line}", err=True)
            ctx.exit(1)


def _quiet_dicom() -> None:
    """Keeps the logs of the DICOM packages, which repeat values of headers, from handlers that others give the root."""
    for name in ("pydicom", "pynetdicom", "highdicom"):
        logger = logging.getLogger(name)
        logger.propagate = False
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())


def fault_lines(error: Exception) -> list[str]:
    """What to tell the user of an error; nothing of one that is a bug of ours, or that click must see."""
    from mmgkeras.errors import MmgError, shown

    if isinstance(error, MmgError):
        return str(error).splitlines()
    if isinstance(error, MemoryError):
        return [f"too little memory: {str(error).partition(chr(10))[0] or 'the system gave no more'}"]
    if isinstance(error, UnicodeEncodeError) and error.object[error.start] in _BYTES:
        name = shown(error.object[max(0, error.start - 40) : error.start + 40])
        return [f"the name of a file or folder must be UTF-8; rename it. Received: {name}"]
    if isinstance(error, OSError) and error.errno not in (None, errno.EPIPE):
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return [f"{place}{error.strerror}"]
    if type(error).__name__ == "ResourceExhaustedError":  # TensorFlow's, which is not imported here
        return [f"too little memory or space on the disk: {str(error).partition(chr(10))[0]}"]
    return []


def echo(text: object, *, err: bool = False) -> None:
    """Prints a text with its lines, on stderr with `err`; names, ids and paths in it may hold anything."""
    click.echo("\n".join(map(printable, str(text).split("\n"))), err=err)


def printable(text: str) -> str:
    r"""The text with control and invisible characters and halves of characters as escapes, such as \x1b."""
    if text.isprintable():
        return text
    return "".join(
        letter.encode("unicode_escape").decode() if unicodedata.category(letter) in _UNPRINTABLE else letter
        for letter in text
    )


def track(items: Sequence[_T], label: str) -> Iterable[_T]:
    """Passes items on under a bar; where stderr is not a terminal, with a line a minute and one at the end."""
    return _bar(items, label) if sys.stderr.isatty() else _lines(items, label)


def _bar(items: Sequence[_T], label: str) -> Iterator[_T]:
    with click.progressbar(items, label=f"{label:<24}", file=sys.stderr, show_pos=True) as bar:
        yield from bar


def _lines(items: Sequence[_T], label: str) -> Iterator[_T]:
    start = told = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - told >= _SILENT_S:
            told = now
            left = (now - start) / done * (len(items) - done) / 60
            echo(f"{label}: {done:,} of {len(items):,}, about {max(1, round(left))} min left", err=True)
        yield item
    echo(f"{label}: {len(items)}", err=True)


def quiet_tensorflow() -> None:
    """Imports TensorFlow; its messages are silenced, exceptions are not.

    The messages of the import itself come from compiled code before any setting is read, straight to file descriptor
    2, so that descriptor is turned away for as long as the import takes.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device, not a path
        os.dup2(nowhere.fileno(), 2)
    try:
        with suppress(ImportError):  # whoever needs it says so better
            import tensorflow as tf

            tf.config.list_physical_devices()
    finally:
        os.dup2(kept, 2)
        os.close(kept)


PATH = click.Path(path_type=Path)


class NumberRange(click.FloatRange):
    """A range of numbers; NaN, which no comparison leaves out, is in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"must be a number. Received: {value!r}", param, ctx)
        return number


PROBABILITY = NumberRange(0, 1, min_open=True)
"""A threshold: above 0, at which everything would be called, and at most 1."""
