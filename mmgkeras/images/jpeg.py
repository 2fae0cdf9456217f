"""JPEG to pixels: baseline and progressive, 8 bits, by libjpeg-turbo, whose every warning is a fault.

JPEG has no checksum. A flipped bit among its coefficients may give other coefficients that are as valid: such damage
no decoder can find. What is promised is that libjpeg-turbo decoded the whole stream with nothing to remark, that
every scan is there, and that nothing follows the end. Format: ITU-T T.81.
"""

import re
from collections.abc import Iterator
from io import BytesIO
from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL.ExifTags import Base
from PIL.JpegImagePlugin import JpegImageFile

from mmgkeras.errors import InputError
from mmgkeras.images.samples import check_size, check_upright, damaged, gray_of, pillow_faults
from mmgkeras.schema import Pixels

_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""A marker among entropy-coded data, where 0xFF 0x00 is a byte of data and 0xFF 0xD0 to 0xD7 restart it."""
_END, _SCAN = 0xD9, 0xDA
_FRAMES: Final = {
    **dict.fromkeys((0xC0, 0xC1, 0xC2), ""),
    0xC3: "lossless",
    **dict.fromkeys((0xC5, 0xC6, 0xC7), "hierarchical"),
    **dict.fromkeys((0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF), "arithmetic"),
    0xF7: "JPEG-LS",
}
"""Markers that begin a frame, and what is not supported of them."""
_MAX_SCANS: Final = 64


def decode_jpeg(data: bytes) -> Pixels:
    """(H, W) uint8.

    Raises:
        InputError: for damage, a kind of JPEG that is not supported, true colour, several images, an orientation, or
            a size over the limit.
    """
    samples = decode_stream(data)
    _check_orientation(data)
    return gray_of(samples, has_alpha=False)


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Height and width by the header of the frame; no pixel is decoded.

    Raises:
        InputError: as `decode_jpeg`, for what stands before the first scan.
    """
    for marker, body in _segments(data):
        if marker in _FRAMES:
            height, width, _ = _check_frame(marker, body)
            _check_orientation(data)
            return height, width
    raise damaged("it holds no frame")


def _check_orientation(data: bytes) -> None:
    with pillow_faults():
        orientation = JpegImageFile(BytesIO(data)).getexif().get(Base.Orientation, 1)
    check_upright(orientation)


def decode_stream(data: bytes, *, shape: tuple[int, int, int] | None = None) -> NDArray[np.uint8]:
    """(H, W, 1 or 3) the samples of one JPEG stream, from its start to its end marker; YCbCr becomes RGB.

    Raises:
        InputError: as `decode_jpeg`, but for colour and orientation; for a shape that is not the one given.
    """
    received = _verify(data)
    if shape not in (None, received):
        raise damaged(f"a JPEG of rows, columns and channels {shape} expected. Received: {received}")
    try:
        samples: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, colorspace="GRAY" if received[2] == 1 else "RGB", strict=True
        )
    except ValueError as error:
        raise damaged(error) from error
    return samples


def _verify(data: bytes) -> tuple[int, int, int]:
    """Rows, columns and components of a stream that is of a supported kind and holds all its scans."""
    missing: set[tuple[int, int]] | None = None
    shape, num_scans = (0, 0, 0), 0
    for marker, body in _segments(data):
        if marker in _FRAMES:
            shape = _check_frame(marker, body)
            missing = {(component, order) for component in body[6::3] for order in range(64)}
        elif marker == _SCAN and missing is not None:
            missing -= _completed(body)
            num_scans += 1
            if num_scans > _MAX_SCANS:
                raise InputError(f"must hold at most {_MAX_SCANS} scans. Received: more")
    if missing is None or missing:
        raise damaged("it ends before its last scan" if missing else "it holds no frame")
    return shape


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and body of each segment between the start and the end marker; coefficients are stepped over."""
    position = 2
    while True:
        while data[position : position + 2] == b"\xff\xff":
            position += 1
        if not _MARKER.match(data, position):
            raise damaged(f"a marker is missing at byte {position:,}")
        marker, start = data[position + 1], position + 4
        if marker == _END:
            break
        position += 2 + int.from_bytes(data[position + 2 : start], "big")
        if not start <= position <= len(data):
            raise damaged(f"it ends inside the segment at byte {start:,}")
        yield marker, data[start:position]
        if marker == _SCAN:
            following = _MARKER.search(data, position)
            if following is None:
                raise damaged("it has no end marker")
            position = following.start()
    if data[position + 2 :].strip(b"\x00\xff"):
        raise InputError(f"must end with its one image. Received: {len(data) - position - 2:,} bytes after its end")


def _check_frame(marker: int, body: bytes) -> tuple[int, int, int]:
    """Rows, columns and components of a frame header; a kind that is not supported is refused by its name."""
    kind = _FRAMES[marker]
    if kind:
        raise InputError(f"is a JPEG of a kind that is not supported: {kind}. Allowed: baseline or progressive")
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        raise damaged("its frame header has a wrong length")
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    if body[0] != 8:
        raise InputError(f"is a JPEG of a kind that is not supported: {body[0]} bits. Allowed: 8 bits")
    if body[5] not in (1, 3):
        raise InputError(f"must be a JPEG of 1 or 3 components. Received: {body[5]} (as CMYK has)")
    check_size(width, height)
    return height, width, body[5]


def _completed(scan: bytes) -> set[tuple[int, int]]:
    """(component, coefficient) of all that a scan brings to its last bit."""
    if not scan or len(scan) != 4 + 2 * scan[0]:
        raise damaged("a scan header has a wrong length")
    first, last, bits = scan[-3:]
    is_last_bit = bits & 15 == 0
    return {(component, order) for component in scan[1:-3:2] for order in range(first, last + 1) if is_last_bit}
