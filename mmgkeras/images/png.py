"""PNG to pixels: every chunk's checksum and the length of its data are verified here, then libpng or Pillow decodes.

Both stop reading the pixel data where the last row is full. So it is inflated here, by libdeflate, and libpng is given
plain gray as it is then; Pillow reads everything else. Gamma and colour profiles are not applied: gray values are
taken as stored. Format: the PNG specification (W3C, third edition).
"""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from typing import Any, Final, cast

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base
from PIL.PngImagePlugin import PngImageFile

from mmgkeras.errors import InputError
from mmgkeras.images.samples import check_size, check_upright, damaged, gray_of, pillow_faults
from mmgkeras.schema import Pixels

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_END: Final = b"\0\0\0\0IEND\xae\x42\x60\x82"
_PLAIN: Final = (b"\x08\0\0\0\0", b"\x10\0\0\0\0")
"""The end of a header of 8 or 16 bits of gray without interlacing."""
_TELLING: Final = frozenset((b"tRNS", b"eXIf", b"iTXt", b"tEXt", b"zTXt"))
"""Chunks that may tell of transparency or orientation."""
_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""By colour type: gray, colour, palette, gray and alpha, colour and alpha."""
_PASSES: Final = (
    ((0, 0, 1, 1),),
    ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
"""First column and row, and steps along columns and rows, of each pass: without interlacing, and with Adam7."""


def decode_png(data: bytes) -> Pixels:
    """(H, W) uint8, or uint16 for 16 bits; 2 and 4 bits are brought to the full range of uint8.

    Raises:
        InputError: for damage, an animation, 1 bit, true colour, colour of 16 bits, transparency, or a size over the
            limit.
    """
    header, *chunks = _chunks(data)
    bits, expected = _read_header(header[8:-4])
    kinds = [bytes(chunk[4:8]) for chunk in chunks]
    pixels = _inflate(b"".join(chunk[8:-4] for chunk in _of_pixels(chunks, kinds)), expected)
    if _is_plain(header, kinds):
        try:
            return cast(Pixels, imagecodecs.png_decode(_stored(header, pixels)))
        except imagecodecs.PngError as error:
            raise damaged(error) from error
    with pillow_faults():
        image = PngImageFile(BytesIO(data))
        check_upright(image.getexif().get(Base.Orientation, 1))
        image.load()
    if image.mode == "P":
        image = image.convert("RGBA")
    else:
        _check_opaque(image)
    samples: NDArray[Any] = np.asarray(image)
    if samples.ndim == 3:
        samples = gray_of(samples, has_alpha=image.mode in ("LA", "RGBA"))
    return samples.astype(np.uint16) if bits == 16 else samples.astype(np.uint8)


def png_size(data: bytes) -> tuple[int, int]:
    """Height and width by the header; no pixel is decoded.

    Raises:
        InputError: as `decode_png`, for what stands before the pixels.
    """
    header, *chunks = _chunks(data, has_pixels=False)
    _read_header(header[8:-4])
    kinds = [bytes(chunk[4:8]) for chunk in chunks]
    _of_pixels(chunks, kinds)
    if not _is_plain(header, kinds):
        with pillow_faults():
            image = PngImageFile(BytesIO(data))
            orientation = Image.Image.getexif(image).get(Base.Orientation, 1)  # the method of PNG decodes the pixels
        check_upright(orientation)
        if image.mode != "P":
            _check_opaque(image)
    return int.from_bytes(header[12:16], "big"), int.from_bytes(header[8:12], "big")


def _is_plain(header: memoryview, kinds: Sequence[bytes]) -> bool:
    """Whether it is 8 or 16 bits of gray, and no chunk may tell of more."""
    return bytes(header[16:21]) in _PLAIN and _TELLING.isdisjoint(kinds)


def _check_opaque(image: PngImageFile) -> None:
    if "transparency" in image.info:
        raise InputError("must be opaque. Received: a gray value or colour that is declared transparent")


def _of_pixels(chunks: Sequence[memoryview], kinds: Sequence[bytes]) -> Sequence[memoryview]:
    """The IDAT chunks, once no other is of a kind that is not supported."""
    for kind in kinds:
        if kind == b"acTL":
            raise InputError("must hold one image. Received: an animated PNG")
        if kind not in (b"PLTE", b"IDAT", b"IEND") and kind[:1].isupper():
            raise InputError(f"is a PNG with a part that is not supported. Received: chunk {kind!r}")
    first = kinds.index(b"IDAT") if b"IDAT" in kinds else 0
    last = first + kinds.count(b"IDAT")
    if kinds[first:last].count(b"IDAT") < last - first:
        raise damaged("another chunk stands between those of its pixels")
    return chunks[first:last]


def _inflate(compressed: bytes, expected: int) -> bytes | bytearray:
    """The `expected` bytes of a zlib stream; zlib itself says what is wrong of one that libdeflate does not take."""
    with suppress(imagecodecs.DeflateError):
        pixels = imagecodecs.deflate_decode(compressed, raw=False, out=expected)
        if len(pixels) == expected:
            return pixels
    stream = zlib.decompressobj()
    try:
        pixels = stream.decompress(compressed, expected + 1)
    except zlib.error as error:
        raise damaged(error) from error
    if len(pixels) != expected or not stream.eof:
        raise damaged(f"{expected:,} bytes of pixels expected. Received: {len(pixels):,}, or no end after them")
    return pixels


def _chunks(data: bytes, *, has_pixels: bool = True) -> Iterator[memoryview]:
    """Each chunk up to IEND, IHDR being the first; what follows IEND is no part of the image.

    Without `has_pixels`, up to the first IDAT.
    """
    view: Any = memoryview(data)  # imagecodecs' types do not know that it takes them
    position, kind = len(_SIGNATURE), b""
    if not data.startswith(_SIGNATURE) or data[12:16] != b"IHDR":
        raise damaged("it does not begin as a PNG must")
    while kind != b"IEND":
        length = int.from_bytes(view[position : position + 4], "big")
        end = position + 8 + length
        kind = data[position + 4 : position + 8]
        if kind == b"IDAT" and not has_pixels:
            return
        if end + 4 > len(data):
            raise damaged(f"it ends inside the chunk at byte {position:,}")
        if imagecodecs.deflate_crc32(view[position + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise damaged(f"the checksum of chunk {kind!r} at byte {position:,} is wrong")
        yield view[position : end + 4]
        position = end + 4


def _stored(header: memoryview, pixels: bytes | bytearray) -> Any:
    """A PNG of a header and of pixels that are not compressed; in one piece, for copies would take a third longer."""
    first = len(_SIGNATURE) + len(header) + 8  # of the stream in IDAT
    most = len(pixels) + 5 * (len(pixels) // 65535 + 1) + 6
    png: Any = np.empty(first + most + 4 + len(_END), np.uint8).data
    end = first + len(imagecodecs.deflate_encode(pixels, level=0, raw=False, out=png[first : first + most]))
    png[: first - 8] = _SIGNATURE + header
    png[first - 8 : first] = (end - first).to_bytes(4, "big") + b"IDAT"
    png[end : end + 4] = imagecodecs.deflate_crc32(png[first - 4 : end]).to_bytes(4, "big")
    png[end + 4 : end + 4 + len(_END)] = _END
    return png[: end + 4 + len(_END)]


def _read_header(body: memoryview) -> tuple[int, int]:
    """The bits a sample, and how many bytes all rows have, each with the byte of its filter."""
    if len(body) != 13:
        raise damaged("its header has a wrong length")
    width, height = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
    bits, colour, _, _, interlace = body[8:]
    check_size(width, height)
    if bits not in (2, 4, 8, 16) or colour not in _CHANNELS or interlace > 1:
        raise InputError(f"must be gray of 2 to 16 bits. Received: a PNG of {bits} bits and colour type {colour}")
    if bits == 16 and colour:
        raise InputError("must be gray to hold more than 8 bits. Received: colour or alpha with 16 bits a channel")
    num_bytes = 0
    for left, top, across, down in _PASSES[interlace]:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            num_bytes += rows * (1 + -(-columns * _CHANNELS[colour] * bits // 8))
    return bits, num_bytes
