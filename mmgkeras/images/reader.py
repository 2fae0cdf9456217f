"""Image files to pixels: PNG, JPEG and TIFF through Pillow, PGM by `pgm`.

Owns what is accepted and what is refused, and the order of the checks: the size is known and limited before anything
is decoded. Pixels are taken as stored: never resampled, rotated or mirrored. Files must hold display polarity (bright
is dense); a TIFF that says white is zero is inverted into it. Side, breast and patches are found elsewhere.
"""

import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import jpeg_factory
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from mmgkeras.errors import InputError
from mmgkeras.images.pgm import decode_pgm
from mmgkeras.schema import ImageRecord, Mammogram, Pixels

MAX_PIXELS: Final = 100_000_000
"""The most pixels an image may hold. The largest detectors give about 25 million, film scanned at 50 um about 30."""

_MAX_PGM_BYTES: Final = 2 * MAX_PIXELS + 65_536
_ORIENTATION: Final = 0x0112
_TIFF_BITS: Final = 258
_TIFF_PHOTOMETRIC: Final = 262
_TIFF_WHITE_IS_ZERO: Final = 0
_FAULTS: Final = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, zlib.error)
"""What Pillow raises on damaged files."""

_OPENERS: Final[dict[bytes, Callable[[BinaryIO], Image.Image]]] = {
    b"\x89PNG": PngImageFile,
    b"\xff\xd8\xff": jpeg_factory,
    b"II*\x00": TiffImageFile,
    b"MM\x00*": TiffImageFile,
}


def read(record: ImageRecord, folder: Path) -> Mammogram:
    """The mammogram of one row of images.csv; a relative path is sought in `folder`.

    Raises:
        InputError: as `read_pixels`.
    """
    return Mammogram(pixels=read_pixels(folder / record.path), record=record)


def read_pixels(path: Path) -> Pixels:
    """(H, W) uint8 or uint16, display polarity: the gray values of an image file.

    8-bit files give uint8; 2- and 4-bit ones too, brought to the full range. 16-bit PNG and TIFF are taken as they
    are; a PGM or TIFF whose largest value is another (4095, say) is brought to the full range of uint16. Colour is
    accepted where red, green and blue are equal in every pixel, an alpha channel where it is opaque everywhere.

    Raises:
        InputError: if the file is missing, empty, damaged, of another format, larger than `MAX_PIXELS`, in true
            colour, transparent, of 1 bit, of floating point, of several frames, or to be shown rotated.
    """
    try:
        with path.open("rb") as file:
            head = file.read(32)
            file.seek(0)
            if head.startswith(b"P5"):
                return decode_pgm(file.read(_MAX_PGM_BYTES), source=str(path), max_pixels=MAX_PIXELS)
            for magic, opener in _OPENERS.items():
                if head.startswith(magic):
                    return _decode(path, file, opener=opener)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not head:
        raise InputError(f"{path}: is empty (0 bytes)")
    raise InputError(f"{path}: is not a PNG, JPEG, TIFF or binary PGM (P5) file. Received: it begins with {head[:4]!r}")


def _decode(path: Path, file: BinaryIO, *, opener: Callable[[BinaryIO], Image.Image]) -> Pixels:
    """Opens, checks what the header says, decodes, and checks what the pixels say; metadata faults are passed over."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = opener(file)
            _check_header(path, image)
            bits = _tiff_tag(image, _TIFF_BITS)
            is_white_zero = _tiff_tag(image, _TIFF_PHOTOMETRIC) == _TIFF_WHITE_IS_ZERO
            image.load()
            pixels = _to_gray(path, image)
    except _FAULTS as error:
        raise InputError(f"{path}: is damaged or cut short: {_one_line(error)}") from error
    if pixels.dtype == np.uint8 or bits is None:
        return pixels
    return _tiff_full_range(pixels.astype(np.uint16), bits=bits[0], is_white_zero=is_white_zero)


def _check_header(path: Path, image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InputError(f"{path}: must hold at most {MAX_PIXELS:,} pixels. Received: {width} x {height}")
    frames = getattr(image, "n_frames", 1)
    if frames != 1:
        raise InputError(f"{path}: must hold one image. Received: {frames}")
    if image.mode in ("RGB", "RGBA", "LA") and _bits_per_channel(image) > 8:
        raise InputError(
            f"{path}: must be gray to hold more than 8 bits. Received: {image.mode} with 16 bits a channel"
        )
    orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation != 1:
        raise InputError(
            f"{path}: must be stored as shown, for annotations are in stored pixels. "
            f"Received: EXIF orientation {orientation}, allowed: 1 or none"
        )


def _bits_per_channel(image: Image.Image) -> int:
    """Bits as the file has them, for Pillow cuts colour of 16 bits to 8 without a word."""
    bits = _tiff_tag(image, _TIFF_BITS)
    if bits is not None:
        return int(max(bits))
    if isinstance(image, PngImageFile):
        position = image.fp.tell()
        image.fp.seek(24)  # IHDR comes first: signature 8, head of the chunk 8, width 4, height 4, then the bit depth
        depth = image.fp.read(1)[0]
        image.fp.seek(position)
        return int(depth)
    return 8


def _tiff_tag(image: Image.Image, tag: int) -> Any:
    return image.tag_v2.get(tag) if isinstance(image, TiffImageFile) else None


def _to_gray(path: Path, image: Image.Image) -> Pixels:
    if image.mode == "P":
        image = image.convert("RGBA")
    elif "transparency" in image.info:
        raise InputError(f"{path}: must be opaque. Received: a gray value or colour that is declared transparent")
    array: NDArray[Any] = np.asarray(image)
    if image.mode == "L":
        return np.array(array, dtype=np.uint8)
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N"):
        return np.array(array, dtype=np.uint16)
    if image.mode in ("LA", "RGBA"):
        if array[..., -1].min() < 255:
            raise InputError(f"{path}: must be opaque. Received: an alpha channel with values below 255")
        array = array[..., :-1]
    elif image.mode != "RGB":
        raise InputError(f"{path}: must be gray of 8 or 16 bits. Received: Pillow's mode {image.mode}")
    if (array != array[..., :1]).any():
        raise InputError(f"{path}: must be gray, or colour with red = green = blue. Received: true colour")
    return np.array(array[..., 0], dtype=np.uint8)


def _tiff_full_range(pixels: NDArray[np.uint16], *, bits: int, is_white_zero: bool) -> NDArray[np.uint16]:
    """What Pillow leaves undone for deep TIFF: values of 12 bits fill the range, white-is-zero is turned round."""
    largest = 2**bits - 1
    if largest != 65535:
        pixels = ((pixels.astype(np.uint32) * 65535 + largest // 2) // largest).astype(np.uint16)
    return np.invert(pixels) if is_white_zero else pixels


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
