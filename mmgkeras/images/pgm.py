"""Binary PGM (P5) to pixels, at full depth and scaled exactly.

Pillow reads PGM too, but brings 9- to 15-bit values to the full range in a Python loop over pixels. Format: netpbm's
pgm(5): "P5", width, height, maxval, one whitespace, then rows of 1 byte, or of 2 bytes, most significant first.
"""

import re
from typing import Final

import numpy as np

from mmgkeras.errors import InputError
from mmgkeras.schema import Pixels

_GAP: Final = rb"(?:\s|#[^\r\n]*[\r\n])+"
_HEADER: Final = re.compile(rb"P5" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})\s")


def decode_pgm(data: bytes, *, source: str, max_pixels: int) -> Pixels:
    """(H, W) uint8 for a maxval up to 255, else uint16; full range: maxval becomes 255 or 65535, rounded.

    Args:
        data: the file's bytes.
        source: the file's name, for errors.
        max_pixels: the most that are decoded.

    Raises:
        InputError: for a header that is not P5's, a size over the limit, too few bytes, a value above maxval.
    """
    header = _HEADER.match(data)
    if header is None:
        raise InputError(f"{source}: has no PGM header (P5, width, height, maxval). Received: {data[:20]!r}")
    width, height, maxval = (int(number) for number in header.groups())
    if not width or not height or not 1 <= maxval <= 65535:
        raise InputError(
            f"{source}: width and height must be at least 1, maxval 1 to 65535. Received: {width} x {height}, {maxval}"
        )
    if width * height > max_pixels:
        raise InputError(f"{source}: must hold at most {max_pixels:,} pixels. Received: {width} x {height}")
    stored = np.dtype(np.uint8) if maxval < 256 else np.dtype(">u2")
    expected, received = width * height * stored.itemsize, len(data) - header.end()
    if received < expected:
        raise InputError(f"{source}: is cut short: {expected:,} bytes of pixels expected. Received: {received:,}")
    values = np.frombuffer(data, dtype=stored, count=width * height, offset=header.end()).reshape(height, width)
    if values.max() > maxval:
        raise InputError(f"{source}: no value may exceed maxval {maxval}. Received: {values.max()}")
    full = 255 if maxval < 256 else 65535
    if maxval != full:
        values = (values.astype(np.uint32) * full + maxval // 2) // maxval
    return values.astype(np.uint8) if full == 255 else values.astype(np.uint16)
