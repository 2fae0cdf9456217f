"""TIFF and BigTIFF to pixels: one gray image in strips or tiles, every byte of it accounted for.

Owns what is taken and what is refused of TIFF. Other readers mend what they can: tifffile drops broken tags and fills
missing strips, libtiff passes over deflate's checksum and over what follows the last row. Here a strip must give
exactly the bytes that the header promises. Deflate is zlib's, PackBits imagecodecs', LZW and Zstandard libtiff's (for
imagecodecs' own LZW reads memory that it has not set where the codes are damaged), JPEG `jpeg`'s. Format: TIFF 6.0 and
its technical notes; BigTIFF as in libtiff.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
from imagecodecs import PackbitsError, TiffError, packbits_decode, packints_decode, tiff_decode
from numpy.typing import NDArray
from PIL.ExifTags import Base as Tag
from PIL.TiffTags import lookup

from mmgkeras.errors import InputError
from mmgkeras.images.jpeg import decode_stream
from mmgkeras.images.samples import check_size, check_upright, damaged, full_range, gray_of
from mmgkeras.schema import Pixels

_TYPES: Final = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
"""Of whole numbers without sign."""
_BYTES: Final = 7
"""The type of JPEG tables alone."""
_DEPTHS: Final = (32997, 32998)
"""Tags of how many images deep an image and its tiles are."""
_PLAIN, _LZW, _JPEG, _PACKBITS, _ZSTD, _DEFLATE = 1, 5, 7, 32773, 50000, (8, 32946)
_WHITE_IS_ZERO, _YCBCR = 0, 6
_COLOURS: Final = {_WHITE_IS_ZERO: 1, 1: 1, 2: 3, _YCBCR: 3}
"""Channels by photometric interpretation: the second is black is zero, the third RGB."""
_SIGNED: Final = 2
_SUPPORTED: Final[dict[int, tuple[int | None, Any]]] = {
    Tag.PhotometricInterpretation: (None, _COLOURS),
    Tag.Compression: (_PLAIN, (_PLAIN, _LZW, _JPEG, _PACKBITS, _ZSTD, *_DEFLATE)),
    Tag.SampleFormat: (1, (1, _SIGNED)),
    Tag.BitsPerSample: (1, range(2, 17)),
    Tag.SamplesPerPixel: (1, range(1, 5)),
    Tag.Predictor: (1, (1, 2)),
    Tag.FillOrder: (1, (1, 2)),
}
"""The default of each tag, and the values that are read."""
_NAMES: Final = {
    Tag.PhotometricInterpretation: {3: "palette", 5: "CMYK"},
    Tag.Compression: {2: "CCITT", 3: "CCITT", 4: "CCITT", 6: "old-style JPEG", 34712: "JPEG 2000", 34925: "LZMA"},
    Tag.SampleFormat: {3: "floating point", 5: "complex", 6: "complex"},
}
_MAX_PARTS: Final = 20_000
"""Strips or tiles: one a row of the highest image that there is, or 64 x 64 pixels of three times the largest."""
_REVERSED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def decode_tiff(data: bytes) -> Pixels:
    """(H, W) uint8 for up to 8 bits, else uint16, at full range; white-is-zero is turned round.

    Raises:
        InputError: for damage, several pages, a kind of TIFF that is not supported, values below 0, true colour,
            transparency, an orientation, or a size over the limit.
    """
    with _directory_faults():
        directory = _Directory(data)
        tags = _check(directory)
        image = _assemble(data, directory, tags)
    gray = gray_of(image, has_alpha=tags[Tag.SamplesPerPixel] in (2, 4))
    if tags[Tag.SampleFormat] == _SIGNED and (lowest := gray.view(f"i{gray.itemsize}").min()) < 0:
        raise InputError(f"must hold no value below 0. Received: {lowest}")
    largest = 2 ** tags[Tag.BitsPerSample] - 1
    is_white_zero = tags[Tag.PhotometricInterpretation] == _WHITE_IS_ZERO
    return full_range(largest - gray if is_white_zero else gray, largest=largest)


def tiff_size(data: bytes) -> tuple[int, int]:
    """Height and width by the tags; no pixel is decoded.

    Raises:
        InputError: as `decode_tiff`, for what the tags tell.
    """
    with _directory_faults():
        directory = _Directory(data)
        _check(directory)
        return _size(directory)


def tiff_is_lossy(data: bytes) -> bool:
    """Whether its strips or tiles are JPEG; no pixel is decoded.

    Raises:
        InputError: as `tiff_size`.
    """
    with _directory_faults():
        return _check(_Directory(data))[Tag.Compression] == _JPEG


@contextmanager
def _directory_faults() -> Iterator[None]:
    """Turns what reading beyond the end raises into the one error."""
    try:
        yield
    except (struct.error, OverflowError) as error:
        raise damaged("its directory lies beyond its end") from error


class _Directory:
    """The tags of the one directory of a TIFF, and which (start, end) bytes of the file it takes up."""

    def __init__(self, data: bytes) -> None:
        is_big = 43 in data[2:4]
        count, entry, self._offset = ("Q", "HHQ8x", "Q") if is_big else ("H", "HHI4x", "I")
        self._data = data
        self.order: Literal["<", ">"] = "<" if data[:2] == b"II" else ">"
        (start,) = self._unpack(self._offset, 8 if is_big else 4)
        (num_tags,) = self._unpack(count, start)
        position = start + struct.calcsize(count)
        self._entries: dict[int, tuple[int, int, int]] = {}
        for _ in range(num_tags):
            tag, kind, length = self._unpack(entry, position)
            if tag <= (previous := next(reversed(self._entries), 0)):
                raise damaged(f"its tags are not in ascending order: {tag} follows {previous}")
            position += struct.calcsize(f"<{entry}")
            self._entries[tag] = kind, length, position - struct.calcsize(self._offset)
        if self._unpack(self._offset, position) != (0,):
            raise InputError("must hold one image. Received: a TIFF of several pages")
        self.used = [(0, 16 if is_big else 8), (start, position + struct.calcsize(self._offset))]

    def __contains__(self, tag: int) -> bool:
        return tag in self._entries

    def values(self, tag: int, default: int | None = None) -> tuple[int, ...]:
        """The whole numbers of a tag; it must be there unless it has a default."""
        if tag not in self and default is not None:
            return (default,)
        kind, length, place = self._entries.get(tag, (0, 0, 0))
        code = "B" if (tag, kind) == (Tag.JPEGTables, _BYTES) else _TYPES.get(kind)
        if code is None or not length:
            raise damaged(f"its {_name(tag)} is missing or no whole number")
        size = length * struct.calcsize(code)
        if size > struct.calcsize(self._offset):
            (place,) = self._unpack(self._offset, place)
            self.used.append((place, place + size))
        if place + size > len(self._data):
            raise damaged(f"its {_name(tag)} lies beyond its end")
        return self._unpack(f"{length}{code}", place)

    def number(self, tag: int, default: int | None = None) -> int:
        """The one number of a tag; where each channel has its own, all must be equal."""
        numbers = set(self.values(tag, default))
        if len(numbers) > 1:
            raise _unsupported(f"channels that differ in {_name(tag)}")
        return numbers.pop()

    def _unpack(self, layout: str, place: int) -> tuple[int, ...]:
        return struct.unpack_from(self.order + layout, self._data, place)


def _name(tag: int) -> str:
    return str(lookup(tag).name)


def _unsupported(kind: str) -> InputError:
    return InputError(f"is a TIFF of a kind that is not supported: {kind}")


def _check(directory: _Directory) -> dict[int, int]:
    """The numbers of `_SUPPORTED`, once each kind of TIFF that is not supported has been refused by its name."""
    check_upright(directory.number(Tag.Orientation, 1))
    tags = {tag: directory.number(tag, default) for tag, (default, _) in _SUPPORTED.items()}
    for tag, (_, allowed) in _SUPPORTED.items():
        if tags[tag] not in allowed:
            raise _unsupported(_NAMES.get(tag, {}).get(tags[tag], f"{_name(tag)} {tags[tag]}"))
    bits, channels, compression = (tags[tag] for tag in (Tag.BitsPerSample, Tag.SamplesPerPixel, Tag.Compression))
    photometric = tags[Tag.PhotometricInterpretation]
    if any(directory.number(tag, 1) != 1 for tag in _DEPTHS):
        raise _unsupported("more than one image deep")
    if channels - _COLOURS[photometric] not in (0, 1):
        raise _unsupported(f"{channels} channels")
    if channels > 1 and bits != 8:
        raise InputError(f"must be gray to hold other than 8 bits. Received: {channels} channels of {bits} bits")
    if channels > 1 and directory.number(Tag.PlanarConfiguration, 1) != 1:
        raise _unsupported("channels in planes of their own")
    if (photometric == _YCBCR) != (compression == _JPEG and channels > 1):
        raise _unsupported("YCbCr without JPEG, or JPEG of other colours")
    if tags[Tag.SampleFormat] == _SIGNED and (bits not in (8, 16) or photometric == _WHITE_IS_ZERO):
        raise _unsupported("signed values of other than 8 or 16 bits, or with white as zero")
    if tags[Tag.Predictor] == 2 and (bits not in (8, 16) or compression in (_PLAIN, _JPEG, _PACKBITS)):
        raise _unsupported("a predictor with other than 8 or 16 bits, or with a compression that has none")
    return tags


def _size(directory: _Directory) -> tuple[int, int]:
    width, height = directory.number(Tag.ImageWidth), directory.number(Tag.ImageLength)
    check_size(width, height)
    return height, width


def _assemble(data: bytes, directory: _Directory, tags: dict[int, int]) -> NDArray[Any]:
    """(H, W, C) uint8 or uint16 as stored, from all strips or tiles."""
    height, width = _size(directory)
    is_tiled = Tag.TileWidth in directory
    columns = directory.number(Tag.TileWidth) if is_tiled else width
    rows = directory.number(Tag.TileLength) if is_tiled else min(directory.number(Tag.RowsPerStrip, height), height)
    check_size(columns, rows)
    places = _places(directory, number=-(-height // rows) * -(-width // columns), num_bytes=len(data))
    corners = [(top, left) for top in range(0, height, rows) for left in range(0, width, columns)]
    channels = tags[Tag.SamplesPerPixel]
    image = np.empty((height, width, channels), dtype=np.uint8 if tags[Tag.BitsPerSample] <= 8 else np.uint16)
    tables = bytes(directory.values(Tag.JPEGTables)) if Tag.JPEGTables in directory else b""
    for number, ((top, left), (start, end)) in enumerate(zip(corners, places, strict=True), start=1):
        shape = (rows if is_tiled else min(rows, height - top), columns, channels)
        try:
            if tags[Tag.Compression] == _JPEG:
                part = decode_stream(tables[:-2] + data[start + 2 : end] if tables else data[start:end], shape=shape)
            else:
                part = _decode_part(data[start:end], tags, shape=shape, order=directory.order)
        except InputError as error:
            raise InputError(f"{error} (in strip or tile {number:,} of {len(corners):,})") from error
        image[top : top + rows, left : left + columns] = part[: height - top, : width - left]
    return image


def _places(directory: _Directory, *, number: int, num_bytes: int) -> list[tuple[int, int]]:
    """(start, end) of each strip or tile; the file must hold them all, and use no byte twice."""
    is_tiled = Tag.TileWidth in directory
    starts = directory.values(Tag.TileOffsets if is_tiled else Tag.StripOffsets)
    sizes = directory.values(Tag.TileByteCounts if is_tiled else Tag.StripByteCounts)
    if not len(starts) == len(sizes) == number <= _MAX_PARTS:
        raise damaged(
            f"{number:,} strips or tiles expected, {_MAX_PARTS:,} allowed. "
            f"Received: {len(starts):,} offsets, {len(sizes):,} byte counts"
        )
    places = [(start, start + size) for start, size in zip(starts, sizes, strict=True)]
    in_order = sorted([*places, *directory.used])
    if in_order[-1][1] > num_bytes or any(before[1] > after[0] for before, after in pairwise(in_order)):
        raise damaged("its strips or tiles overlap with others or with the header, or lie beyond its end")
    return places


def _decode_part(
    raw: bytes, tags: dict[int, int], *, shape: tuple[int, int, int], order: Literal["<", ">"]
) -> NDArray[Any]:
    """(rows, columns, channels) the samples of one strip or tile, each row of which begins on a byte."""
    rows, columns, channels = shape
    bits = tags[Tag.BitsPerSample]
    if tags[Tag.FillOrder] == 2:
        raw = raw.translate(_REVERSED)
    packed = _expand(raw, tags[Tag.Compression], num_bytes=rows * -(-columns * channels * bits // 8))
    stored = np.dtype(np.uint8 if bits <= 8 else np.uint16)
    if bits in (8, 16):
        values = np.frombuffer(packed, dtype=stored.newbyteorder(order)).astype(stored).reshape(shape)
    else:
        values = packints_decode(packed, stored, bits, runlen=columns).reshape(shape)
    return np.add.accumulate(values, axis=1, dtype=stored) if tags[Tag.Predictor] == 2 else values


def _expand(raw: bytes, compression: int, *, num_bytes: int) -> bytes:
    """The bytes of one strip or tile without compression: exactly `num_bytes`, all it holds."""
    expanded, is_ended = raw, True
    try:
        if compression in (_LZW, _ZSTD):
            expanded = _expand_by_libtiff(raw, compression, num_bytes=num_bytes)
            with suppress(TiffError):
                expanded = _expand_by_libtiff(raw, compression, num_bytes=num_bytes + 1)
        elif compression == _PACKBITS:
            expanded = bytes(packbits_decode(raw, out=num_bytes + 1))
        elif compression in _DEFLATE:
            stream = zlib.decompressobj()
            expanded = stream.decompress(raw, num_bytes + 1)
            is_ended = stream.eof
    except (TiffError, PackbitsError, zlib.error) as error:
        raise damaged(error) from error
    if len(expanded) != num_bytes or not is_ended:
        raise damaged(f"{num_bytes:,} bytes of pixels expected. Received: {len(expanded):,}, or no end after them")
    return expanded


def _expand_by_libtiff(raw: bytes, compression: int, *, num_bytes: int) -> bytes:
    """The first bytes of what libtiff expands, asked for as the one row of an image; it fails if there are fewer."""
    tags = (256, num_bytes), (257, 1), (258, 8), (259, compression), (262, 1), (273, 122), (277, 1), (278, 1)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in (*tags, (279, len(raw))))
    return bytes(tiff_decode(struct.pack("<2sHIH", b"II", 42, 8, 9) + entries + bytes(4) + raw))
