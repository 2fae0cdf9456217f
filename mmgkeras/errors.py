"""The errors a user can cause, and how a message shows what was received. Any other exception is a bug of ours.

Owns the exception types and the limits of what a message repeats; knows nothing of what was wrong.
"""

import errno
import os
import reprlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_SHOWN_CHARACTERS: Final = 80
_LINE_CHARACTERS: Final = 2000
_MAX_FAULTS: Final = 1000


class MmgError(Exception):
    """One line for the user: what was wrong, what was received, what is allowed, in which file and line or key.

    Characters that a terminal would act on are escaped, and a line that repeats a huge input is cut in its middle.
    """

    def __init__(self, message: str = "") -> None:
        """Takes the line, or several with newlines between."""
        super().__init__("\n".join(one_line(part) for part in message.split("\n")))


class ConfigError(MmgError):
    """A configuration file or a `--set` breaks a rule."""


class InputError(MmgError):
    """An image, a table or a store breaks a rule."""


class InputFaultsError(InputError):
    """Every fault found in an input, one line each, so that all can be mended at once."""

    def __init__(self, faults: Sequence[str]) -> None:
        """Joins the faults; each must be one line that names its file."""
        self.faults = tuple(one_line(fault) for fault in faults[:_MAX_FAULTS])
        if len(faults) > _MAX_FAULTS:
            self.faults += (f"and {counted(len(faults) - _MAX_FAULTS, 'more fault')}",)
        super().__init__("\n".join(self.faults))


class WeightsError(MmgError):
    """The weights to start from are missing, damaged or of another network."""


@contextmanager
def extra_needed(extra: str, *, to: str) -> Iterator[None]:
    """Turns a package that is not installed, for it belongs to an extra, into one line that says how to install it.

    Raises:
        InputError: for a ModuleNotFoundError of the block.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(f"{to} needs {error.name}, which is not installed: pip install 'mmgkeras[{extra}]'") from error


@contextmanager
def errors_of_writing(path: Path) -> Iterator[None]:
    """Turns what the system says against writing to `path` into one line.

    Raises:
        InputError: for any OSError of the block.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    except RuntimeError as error:  # what Path.resolve has for a loop of links, before Python 3.13
        if not str(error).startswith("Symlink loop"):
            raise
        raise InputError(f"{path}: cannot be written: {os.strerror(errno.ELOOP)}") from error


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number and what it counts, as "1 image", "1,200 images" or "2 patches"; `many` for plurals of another kind."""
    return f"{number:,} {one if number == 1 else many or one + ('es' if one.endswith('ch') else 's')}"


def shown(value: object) -> str:
    """A received value as a message repeats it: its repr in at most 80 characters, control characters escaped."""
    return one_line(_cut(_SHORT.repr(value), _SHOWN_CHARACTERS))


class _ShortRepr(reprlib.Repr):
    """A repr whose cost does not grow with the value."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = _SHOWN_CHARACTERS

    def repr_int(self, x: int, level: int) -> str:  # noqa: ARG002 - reprlib's signature
        """Decimal digits up to the length of a float's; Python itself refuses to write over 4,300 of them."""
        return repr(x) if x.bit_length() < 256 else f"a whole number of {x.bit_length()} bits"

    def repr_instance(self, x: object, level: int) -> str:
        """The repr of any other object, cut."""
        return _cut(super().repr_instance(x, level), _SHOWN_CHARACTERS)


_SHORT: Final = _ShortRepr()


def one_line(text: str) -> str:
    """The text as a message has it: on one line, unprintable characters escaped."""
    text = _cut(text, _LINE_CHARACTERS)
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def _cut(text: str, length: int) -> str:
    """The text, its middle left out where it is longer."""
    if len(text) <= length:
        return text
    head = (length - 3) * 2 // 3
    return f"{text[:head]}...{text[head + 3 - length :]}"
