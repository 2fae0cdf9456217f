"""The rules that hold for every format: the size, the orientation, what counts as gray, and the full range.

The decoders (pgm, png, jpeg, tiff) know their files and call these; none of them knows the file's name.
"""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmgkeras.errors import InputError
from mmgkeras.schema import Pixels

MAX_PIXELS: Final = 100_000_000
"""The most pixels an image may hold. The largest detectors give about 25 million, film scanned at 50 um about 30."""
_NARROW: Final = 1 / 4
"""Of the type's range: 14 bits in a file of 16 use so much, and films of so few gray values lose most marks."""

_PILLOW_FAULTS: Final = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, zlib.error)
_LONGEST: Final = 80


def damaged(reason: str | Exception) -> InputError:
    """The error of a file whose bytes do not hold together."""
    return InputError(f"is damaged or cut short: {shown(reason) if isinstance(reason, Exception) else reason}")


def shown(value: object, *, longest: int = _LONGEST) -> str:
    """What may be printed of a value that comes from outside: one line, its middle left out."""
    text = " ".join(str(value).split()) or type(value).__name__
    return text if len(text) <= longest else f"{text[: longest // 2]}...{text[-(longest // 2) :]}"


@contextmanager
def pillow_faults() -> Iterator[None]:
    """Turns whatever Pillow raises on damaged files into the one error, and keeps its warnings from the terminal."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except _PILLOW_FAULTS as error:
        raise damaged(error) from error


def check_size(width: int, height: int) -> None:
    """Refuses an empty image and one over the limit, by its header alone.

    Raises:
        InputError: if a side is 0, or for more than `MAX_PIXELS`.
    """
    if not width or not height:
        raise InputError(f"must be at least 1 pixel wide and high. Received: {width} x {height}")
    if width * height > MAX_PIXELS:
        raise InputError(f"must hold at most {MAX_PIXELS:,} pixels. Received: {width} x {height}")


def check_upright(orientation: int) -> None:
    """Refuses an image to be shown rotated or mirrored: EXIF's and TIFF's orientation must be 1.

    Raises:
        InputError: for any other value.
    """
    if orientation != 1:
        rule = "must be stored as shown, for annotations are in stored pixels"
        raise InputError(f"{rule}. Received: EXIF orientation {shown(orientation)}, allowed: 1 or none")


def gray_of(samples: NDArray[Any], *, has_alpha: bool) -> NDArray[Any]:
    """(H, W) the gray values of samples (H, W, C).

    Raises:
        InputError: for an alpha channel (the last) with any value below the type's largest, or true colour.
    """
    if has_alpha:
        if samples[..., -1].min() < np.iinfo(samples.dtype).max:
            raise InputError("must be opaque. Received: an alpha channel with values below the largest")
        samples = samples[..., :-1]
    if any((samples[..., 0] != samples[..., channel]).any() for channel in range(1, samples.shape[2])):
        raise InputError("must be gray, or colour with red = green = blue. Received: true colour")
    return np.ascontiguousarray(samples[..., 0])


def full_range(values: NDArray[Any], *, largest: int) -> Pixels:
    """(H, W) uint8 for a largest value up to 255, else uint16: `largest` becomes 255 or 65535, the rest rounded."""
    full = 255 if largest < 256 else 65535
    if largest != full:
        values = (values.astype(np.uint32) * full + largest // 2) // largest
    return values.astype(np.uint8) if full == 255 else values.astype(np.uint16)


def is_narrow(pixels: Pixels) -> bool:
    """Whether no pixel is above a quarter of the type's range: as where 12 or 14 bits lie in a file of 16."""
    return int(pixels.max()) <= _NARROW * np.iinfo(pixels.dtype).max
