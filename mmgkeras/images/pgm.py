"""Binary PGM (P5) to pixels, at full depth and scaled exactly.

Pillow reads PGM too, but brings 9- to 15-bit values to the full range in a Python loop over pixels. Format: netpbm's
pgm(5): "P5", width, height, maxval, one whitespace, then rows of 1 byte, or of 2 bytes, most significant first. One
image a file.
"""

import re
from typing import Final

import numpy as np

from mmgkeras.errors import InputError
from mmgkeras.images.samples import check_size, damaged, full_range
from mmgkeras.schema import Pixels

_LONGEST_HEADER: Final = 4096
"""In bytes. Comments may be anywhere in it, and need not end."""
_GAP: Final = rb"(?:\s|#[^\r\n]*[\r\n])++"
_HEADER: Final = re.compile(rb"P5" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})\s")


def decode_pgm(data: bytes) -> Pixels:
    """(H, W) uint8 for a maxval up to 255, else uint16; full range: maxval becomes 255 or 65535, rounded.

    Raises:
        InputError: for a header that is not P5's, a size over the limit, too few or too many bytes, a value above
            maxval.
    """
    height, width, maxval, start = _read_header(data)
    stored = np.dtype(np.uint8) if maxval < 256 else np.dtype(">u2")
    expected, received = width * height * stored.itemsize, len(data) - start
    if received != expected:
        raise damaged(f"{expected:,} bytes of pixels expected. Received: {received:,}")
    values = np.frombuffer(data, dtype=stored, offset=start).reshape(height, width)
    if values.max() > maxval:
        raise InputError(f"must hold no value above its maxval {maxval}. Received: {values.max()}")
    return full_range(values, largest=maxval)


def pgm_size(data: bytes) -> tuple[int, int]:
    """Height and width by the header; no pixel is read.

    Raises:
        InputError: as `decode_pgm`, for the header.
    """
    return _read_header(data)[:2]


def _read_header(data: bytes) -> tuple[int, int, int, int]:
    """Height, width and maxval, and where the pixels begin."""
    header = _HEADER.match(data, 0, _LONGEST_HEADER)
    if header is None:
        raise InputError(
            f"has no PGM header (P5, width, height, maxval) in its first {_LONGEST_HEADER:,} bytes. "
            f"Received: {data[:20]!r}"
        )
    width, height, maxval = (int(number) for number in header.groups())
    check_size(width, height)
    if not 1 <= maxval <= 65535:
        raise InputError(f"must have a maxval from 1 to 65535. Received: {maxval}")
    return height, width, maxval, header.end()
