"""PNG: every depth, colour type and filter, and every checksum and length that may be wrong."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mmgkeras.images.png import decode_png

GRAY = np.array([[0, 1, 2], [127, 254, 255]], dtype=np.uint8)
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples: np.ndarray, *, bits: int, colour: int = 0, extra: bytes = b"", is_interlaced: bool = False) -> bytes:
    """A PNG of samples (H, W) or (H, W, C) without filters; `extra` are chunks before the pixels."""
    height, width = samples.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, is_interlaced)
    rows = b""
    for left, top, across, down in ADAM7 if is_interlaced else ((0, 0, 1, 1),):
        for row in samples[top::down, left::across]:
            if row.size:
                text = "".join(format(sample, f"0{bits}b") for sample in row.ravel().tolist())
                rows += b"\0" + int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")
    return wrapped(chunk(b"IHDR", head), extra, chunk(b"IDAT", zlib.compress(rows)))


def wrapped(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def with_size(width: int, height: int, *, rows: bytes = b"") -> bytes:
    """A PNG of 8 bits whose header and compressed rows need not agree."""
    return wrapped(chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), chunk(b"IDAT", rows))


def by_pillow(array: np.ndarray, **options: object) -> bytes:
    buffer = BytesIO()
    Image.fromarray(array).save(buffer, "PNG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("is_interlaced", [False, True])
@pytest.mark.parametrize(("bits", "factor"), [(2, 85), (4, 17), (8, 1), (16, 1)])
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_gray_of_every_depth(bits: int, factor: int, is_interlaced: bool, data: st.DataObject) -> None:
    height, width, seed = (data.draw(st.integers(1, 20)) for _ in range(3))
    samples = np.random.default_rng(seed).integers(0, 2**bits, (height, width))
    pixels = decode_png(png(samples, bits=bits, is_interlaced=is_interlaced))
    assert pixels.dtype == (np.uint16 if bits == 16 else np.uint8)
    np.testing.assert_array_equal(pixels, samples * factor)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_filtered_rows_are_as_libpng_reads_them(dtype: type) -> None:
    ramp = np.add.outer(np.arange(64) ** 2, np.arange(48) * 7).astype(dtype)
    for data in (by_pillow(ramp), imagecodecs.png_encode(ramp, level=9), imagecodecs.png_encode(ramp, filter=0xF8)):
        np.testing.assert_array_equal(decode_png(data), ramp)
        np.testing.assert_array_equal(imagecodecs.png_decode(data), ramp)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_gray_stored_as_colour_or_with_opaque_alpha(channels: int) -> None:
    samples = np.repeat(GRAY[..., None], channels, axis=2)
    if channels != 3:
        samples[..., -1] = 255
    np.testing.assert_array_equal(decode_png(by_pillow(samples)), GRAY)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_palette_of_grays(bits: int) -> None:
    palette = bytes(value for gray in (7, 99, 200, 255) for value in (gray, gray, gray))
    indices = np.array([[3, 2, 1], [0, 1, 2]])
    pixels = decode_png(png(indices, bits=bits, colour=3, extra=chunk(b"PLTE", palette)))
    np.testing.assert_array_equal(pixels, [[255, 200, 99], [7, 99, 200]])


def test_gamma_and_colour_profile_are_not_applied() -> None:
    extra = chunk(b"gAMA", struct.pack(">I", 100_000)) + chunk(b"sBIT", b"\x04") + chunk(b"cHRM", bytes(32))
    np.testing.assert_array_equal(decode_png(png(GRAY, bits=8, extra=extra)), GRAY)
    np.testing.assert_array_equal(decode_png(by_pillow(GRAY, icc_profile=b"not a profile", dpi=(300, 300))), GRAY)


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (png(GRAY % 2, bits=1), "must be gray of 2 to 16 bits. Received: a PNG of 1 bits and colour type 0"),
        (png(GRAY, bits=8, colour=5), "Received: a PNG of 8 bits and colour type 5"),
        (png(np.ones((1, 1, 2), int), bits=16, colour=4), "must be gray to hold more than 8 bits"),
        (png(np.ones((1, 1, 3), int), bits=16, colour=2), "must be gray to hold more than 8 bits"),
        (by_pillow(np.array([[[1, 1, 2]]], dtype=np.uint8)), "red = green = blue. Received: true colour"),
        (by_pillow(np.array([[[1, 254]]], dtype=np.uint8)), "must be opaque. Received: an alpha channel"),
        (by_pillow(GRAY, transparency=127), "must be opaque. Received: a gray value"),
        (png(GRAY, bits=8, extra=chunk(b"acTL", bytes(8))), "must hold one image. Received: an animated PNG"),
        (png(GRAY, bits=8, extra=chunk(b"ABCD", b"")), "a part that is not supported. Received: chunk b'ABCD'"),
        (with_size(30_000, 30_000), "must hold at most 100,000,000 pixels. Received: 30000 x 30000"),
        (with_size(0, 1), "must be at least 1 pixel wide and high. Received: 0 x 1"),
    ],
)
def test_what_is_refused(refused: Callable[[bytes, str], str], data: bytes, rule: str) -> None:
    assert "damaged" not in refused(data, rule)


def test_palette_of_colours(refused: Callable[[bytes, str], str]) -> None:
    refused(png(GRAY * 0, bits=8, colour=3, extra=chunk(b"PLTE", bytes([200, 10, 10]))), "Received: true colour")


def test_animation_by_pillow(refused: Callable[[bytes, str], str]) -> None:
    data = by_pillow(GRAY, save_all=True, append_images=[Image.fromarray(255 - GRAY)])
    refused(data, "must hold one image. Received: an animated PNG")


@pytest.mark.parametrize("kind", ["exif", "xmp"])
def test_orientation_to_be_applied(refused: Callable[[bytes, str], str], kind: str) -> None:
    exif, text = Image.Exif(), PngInfo()
    exif[0x0112] = 6
    text.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    data = by_pillow(GRAY, **({"exif": exif} if kind == "exif" else {"pnginfo": text}))
    refused(data, "Received: EXIF orientation 6, allowed: 1 or none")


def test_upright_orientation_is_read() -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    np.testing.assert_array_equal(decode_png(by_pillow(GRAY, exif=exif)), GRAY)


class TestDamage:
    WHOLE = png(GRAY, bits=8, extra=chunk(b"tRNS", b"") + chunk(b"tEXt", b"a\0b"))

    @pytest.mark.parametrize("kind", [b"IHDR", b"tRNS", b"tEXt", b"IDAT", b"IEND"])
    def test_the_checksum_of_every_chunk_counts(self, refused: Callable[[bytes, str], str], kind: bytes) -> None:
        data = bytearray(self.WHOLE)
        place = data.index(kind)
        length = int.from_bytes(data[place - 4 : place], "big")
        data[place + 4 + length] ^= 1
        refused(bytes(data), rf"the checksum of chunk b'{kind.decode()}' at byte \d+ is wrong")

    def test_every_place_where_it_may_be_cut(self, refused: Callable[[bytes, str], str]) -> None:
        for end in range(4, len(self.WHOLE)):
            refused(self.WHOLE[:end], "is damaged or cut short")

    @pytest.mark.parametrize("data", [b"\x89PNG\n\x1a\n", b"\x89PNG\r\n\x1a\n" + WHOLE[33:]])
    def test_a_start_that_is_not_a_pngs(self, refused: Callable[[bytes, str], str], data: bytes) -> None:
        refused(data, "it does not begin as a PNG must")

    @pytest.mark.parametrize(
        ("rows", "rule"),
        [
            (zlib.compress(bytes(7)), "8 bytes of pixels expected. Received: 7"),
            (zlib.compress(bytes(9)), "8 bytes of pixels expected. Received: 9"),
            (zlib.compress(bytes(8))[:-1], "8 bytes of pixels expected. Received: 8, or no end after them"),
            (zlib.compress(bytes(8))[:-1] + b"\xff", "incorrect data check"),
            (b"", "8 bytes of pixels expected. Received: 0"),
            (zlib.compress(bytes([9]) * 8), "is damaged or cut short"),
        ],
    )
    def test_pixels_that_are_not_what_the_header_promises(
        self, refused: Callable[[bytes, str], str], rows: bytes, rule: str
    ) -> None:
        refused(with_size(3, 2, rows=rows), rule)

    def test_pixels_in_two_places(self, refused: Callable[[bytes, str], str]) -> None:
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 2, 8, 0, 0, 0, 0))
        rows = zlib.compress(bytes(8))
        first, second = chunk(b"IDAT", rows[:5]), chunk(b"IDAT", rows[5:])
        np.testing.assert_array_equal(decode_png(wrapped(head, first, second)), np.zeros((2, 3)))
        refused(wrapped(head, first, chunk(b"tEXt", b"a\0b"), second), "another chunk stands between")

    def test_header_of_a_wrong_length(self, refused: Callable[[bytes, str], str]) -> None:
        refused(wrapped(chunk(b"IHDR", bytes(12))), "its header has a wrong length")

    def test_a_stream_that_never_ends_is_not_kept(self, refused: Callable[[bytes, str], str]) -> None:
        refused(with_size(3, 2, rows=zlib.compress(bytes(20_000_000))), "8 bytes of pixels expected. Received: 9")
