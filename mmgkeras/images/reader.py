"""Image files to pixels: PNG, JPEG, TIFF, binary PGM and DICOM, each by the module of its name.

Owns which format a file is of, and the file's name in every error. Only regular files are opened. Pixels are taken as
stored: never resampled, rotated or mirrored. Files must hold display polarity (bright is dense); a TIFF that says
white is zero, and DICOM of MONOCHROME1, are inverted into it. Side, breast and patches are found elsewhere.
"""

import stat
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from mmgkeras.errors import InputError
from mmgkeras.images.dicom_facts import HEAD_BYTES, NAMED, Header, Kind, is_dicom
from mmgkeras.images.jpeg import decode_jpeg, jpeg_size
from mmgkeras.images.pgm import decode_pgm, pgm_size
from mmgkeras.images.png import decode_png, png_size
from mmgkeras.images.samples import MAX_PIXELS, shown
from mmgkeras.images.tiff import decode_tiff, tiff_is_lossy, tiff_size
from mmgkeras.schema import ImageRecord, Mammogram, Pixels

_MAX_BYTES: Final = 4 * MAX_PIXELS + (1 << 20)
_LONGEST_PATH: Final = 400
_JPEG: Final = b"\xff\xd8\xff"
_TIFF: Final = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_HEADER_BYTES: Final = 1 << 16
"""So much of a file is read for its size, and all of it where this does not tell: a TIFF's tags may be at its end."""


class _Format(NamedTuple):
    """How the bytes of a file become pixels, and how they tell height and width by the header alone."""

    decode: Callable[[bytes], Pixels]
    size: Callable[[bytes], tuple[int, int]]


_FORMATS: Final = {
    b"\x89PNG": _Format(decode_png, png_size),
    _JPEG: _Format(decode_jpeg, jpeg_size),
    **dict.fromkeys(_TIFF, _Format(decode_tiff, tiff_size)),
    b"P5": _Format(decode_pgm, pgm_size),
}
_UNSUPPORTED: Final = {
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"P2": "plain PGM (P2)",
}
_ALLOWED: Final = "PNG, JPEG, TIFF, binary PGM (P5) or DICOM"


def read(record: ImageRecord, folder: Path) -> Mammogram:
    """The mammogram of one row of images.csv; a relative path is sought in `folder`.

    Raises:
        InputError: as `read_pixels`.
    """
    return Mammogram(pixels=read_pixels(folder / record.path), record=record)


def read_pixels(path: Path) -> Pixels:
    """(H, W) uint8 or uint16, display polarity: the gray values of an image file.

    Up to 8 bits give uint8, more give uint16, always at full range: 16-bit PNG and TIFF are taken as they are; a PGM
    or TIFF whose largest value is another (4095, say) is brought to it. Colour of 8 bits is accepted where red, green
    and blue are equal in every pixel, an alpha channel where it is opaque everywhere.

    Raises:
        InputError: if the file is missing, no regular file, empty, damaged in a way that its format shows, of
            another format, larger than `MAX_PIXELS`, in true colour, transparent, of 1 bit, of floating point, of
            negative values, of several frames, or to be shown rotated; as `decode_dicom`.
    """
    return read_with_header(path)[0]


def read_with_header(path: Path, *, voi: int = 1, take: Collection[Kind] = NAMED) -> tuple[Pixels, Header | None]:
    """The pixels of an image file, and what its header says where it is DICOM; the file is read once.

    Args:
        path: of the file.
        voi: which VOI LUT or window of a DICOM file is applied, from 1.
        take: as of `decode_dicom`.

    Raises:
        InputError: as `read_pixels`.
    """
    try:
        data = _read_bytes(path)
        if not is_dicom(data[:HEAD_BYTES]):
            return _format_of(data).decode(data), None
        from mmgkeras.images.dicom import decode_dicom

        return decode_dicom(data, voi=voi, take=take)
    except InputError as error:
        raise InputError(f"{shown(path, longest=_LONGEST_PATH)}: {error}") from error


def is_image_file(path: Path) -> bool:
    """Whether a file begins as one of a format that `read_pixels` takes; one that cannot be opened does not."""
    head = _head(path)
    return is_dicom(head) or any(head.startswith(magic) for magic in _FORMATS)


def is_dicom_file(path: Path) -> bool:
    """Whether a file begins as DICOM, whatever its name; one that cannot be opened does not."""
    return is_dicom(_head(path))


def is_lossy(path: Path) -> bool:
    """Whether an image was compressed with loss: it is JPEG, TIFF with JPEG inside, or DICOM that says so.

    One that cannot be read was not.
    """
    head = _head(path)
    with suppress(InputError):
        if is_dicom(head):
            header = read_facts(path).header
            return header is not None and header.is_lossy
        if head.startswith(_TIFF):
            return tiff_is_lossy(_read_bytes(path))
    return head.startswith(_JPEG)


def _head(path: Path) -> bytes:
    """The first bytes of a file; none where it cannot be opened."""
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


class ImageFacts(NamedTuple):
    """What an image file says of itself: its size in pixels, and its header where it is DICOM."""

    height: int
    width: int
    header: Header | None

    @property
    def spacing_mm(self) -> float | None:
        """Edge of a pixel by the header; None where it does not tell."""
        return self.header.spacing_mm if self.header else None

    @property
    def vendor(self) -> str | None:
        """Of the detector or scanner by the header; None where it does not tell."""
        return self.header.vendor if self.header else None


def read_facts(path: Path) -> ImageFacts:
    """The size of an image file, and DICOM's header; no pixel is decoded, so damage to them goes unseen.

    Raises:
        InputError: as `read_pixels`, for what the header tells.
    """
    try:
        head = _read_bytes(path, most=_HEADER_BYTES)
        if is_dicom(head[:HEAD_BYTES]):
            from mmgkeras.images.dicom import inspect_dicom

            return ImageFacts(*inspect_dicom(path))
        size = _format_of(head).size
        try:
            return ImageFacts(*size(head), None)
        except InputError:
            if len(head) < _HEADER_BYTES:
                raise
            return ImageFacts(*size(_read_bytes(path)), None)
    except InputError as error:
        raise InputError(f"{shown(path, longest=_LONGEST_PATH)}: {error}") from error


def _read_bytes(path: Path, *, most: int = _MAX_BYTES) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError("must be a regular file. Received: a folder, a device, a pipe or a socket")
        if status.st_size > _MAX_BYTES:
            raise InputError(f"must hold at most {_MAX_BYTES:,} bytes. Received: {status.st_size:,}")
        with path.open("rb") as file:
            return file.read(min(most, status.st_size + 1))  # Python would make room for as many as it is asked for
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read: {shown(getattr(error, 'strerror', None) or error)}") from error


def _format_of(data: bytes) -> _Format:
    """Of a file that begins with these bytes."""
    for magic, form in _FORMATS.items():
        if data.startswith(magic):
            return form
    for magic, name in _UNSUPPORTED.items():
        if data.startswith(magic):
            raise InputError(f"is {name}, which is not supported. Allowed: {_ALLOWED}")
    if not data:
        raise InputError("is empty (0 bytes)")
    raise InputError(f"is not a {_ALLOWED} file. Received: it begins with {data[:4]!r}")
