"""TIFF: every depth, byte order, polarity and compression against tifffile; other kinds by name; damage as such."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmgkeras.images.tiff import decode_tiff

LAYOUTS = ({}, {"rowsperstrip": 5}, {"rowsperstrip": 1}, {"tile": (16, 32)})


def saved(array: np.ndarray, **options: Any) -> bytes:
    """A TIFF by tifffile."""
    buffer = BytesIO()
    tifffile.imwrite(buffer, array, **{"photometric": "minisblack", "metadata": None, **options})
    return buffer.getvalue()


def tiff(
    data: bytes, *, size: tuple[int, int] = (3, 2), bits: int = 8, tags: dict[int, int] | None = None, order: str = "<"
) -> bytes:
    """A TIFF of one strip, 8 bytes before its directory; each of `tags` is added or replaces one; None removes one."""
    basic = {256: size[0], 257: size[1], 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: size[1], 279: len(data)}
    entries = sorted((tag, value) for tag, value in (basic | (tags or {})).items() if value is not None)
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(data))
    packed = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in entries)
    return head + data + struct.pack(f"{order}H", len(entries)) + packed + bytes(4)


def packed(values: np.ndarray, bits: int) -> bytes:
    """Rows of values, the highest bit first, each row from a new byte."""
    rows = ("".join(format(value, f"0{bits}b") for value in row) for row in values.tolist())
    return b"".join(int(row.ljust(-(-len(row) // 8) * 8, "0"), 2).to_bytes(-(-len(row) // 8), "big") for row in rows)


GRAY = np.array([[0, 1, 2], [127, 254, 255]], dtype=np.uint8)


class TestExact:
    @pytest.mark.parametrize("compression", [None, "zlib", "adobe_deflate", "lzw", "packbits", "zstd"])
    @pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @settings(max_examples=15, deadline=None)
    @given(data=st.data())
    def test_8_and_16_bits(
        self, dtype: type, order: str, photometric: str, compression: str | None, data: st.DataObject
    ) -> None:
        height, width, seed = (data.draw(st.integers(1, 40)) for _ in range(3))
        stored = np.random.default_rng(seed).integers(0, 2**16, (height, width)).astype(dtype)
        stored[: height // 2] = stored[0, 0]
        options = {"predictor": data.draw(st.booleans())} if compression not in (None, "packbits") else {}
        options |= data.draw(st.sampled_from(LAYOUTS)) | {"bigtiff": data.draw(st.booleans())}
        file = saved(stored, byteorder=order, photometric=photometric, compression=compression, **options)
        pixels = decode_tiff(file)
        assert pixels.dtype == dtype
        assert pixels.dtype.isnative
        np.testing.assert_array_equal(pixels, np.invert(stored) if photometric == "miniswhite" else stored)
        np.testing.assert_array_equal(tifffile.imread(BytesIO(file)), stored)

    @pytest.mark.parametrize("compression", [1, 5, 8])
    @pytest.mark.parametrize("is_reversed", [False, True])
    @pytest.mark.parametrize("photometric", [0, 1])
    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("bits", [2, 4, 6, 9, 10, 12, 14, 15])
    def test_other_depths_fill_the_range(
        self, bits: int, order: str, photometric: int, is_reversed: bool, compression: int
    ) -> None:
        largest = 2**bits - 1
        values = np.random.default_rng(bits).integers(0, 2**bits, (7, 13))
        values[0, :2] = 0, largest
        encode = {1: bytes, 5: imagecodecs.lzw_encode, 8: zlib.compress}[compression]
        data = encode(packed(values, bits))
        if is_reversed:
            data = imagecodecs.bitorder_decode(data)
        tags = {259: compression, 262: photometric, 266: 2 if is_reversed else 1}
        file = tiff(data, size=(13, 7), bits=bits, tags=tags, order=order)
        pixels = decode_tiff(file)
        full = 255 if bits <= 8 else 65535
        shown = largest - values if photometric == 0 else values
        assert pixels.dtype == (np.uint8 if bits <= 8 else np.uint16)
        np.testing.assert_array_equal(pixels, np.floor(shown * full / largest + 0.5))
        np.testing.assert_array_equal(tifffile.imread(BytesIO(file)), values)

    def test_12_bits_by_hand(self) -> None:
        data = bytes([0xFF, 0xF0, 0x01, 0x80, 0x00, 0x00])  # 4095, 1, 2048, 0
        np.testing.assert_array_equal(decode_tiff(tiff(data, size=(4, 1), bits=12)), [[65535, 16, 32776, 0]])

    @pytest.mark.parametrize("dtype", [np.int8, np.int16])
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_signed_values_are_taken_as_they_are_where_none_is_negative(self, dtype: type, order: str) -> None:
        values = np.array([[0, 1, 126, 127]], dtype=dtype)
        np.testing.assert_array_equal(decode_tiff(saved(values, byteorder=order)), values)

    @pytest.mark.parametrize(("dtype", "lowest"), [(np.int8, -128), (np.int16, -2)])
    def test_negative_values_are_refused(self, refused: Callable[[bytes, str], str], dtype: type, lowest: int) -> None:
        values = np.array([[0, lowest, -1, 127]], dtype=dtype)
        refused(saved(values), f"must hold no value below 0. Received: {lowest}$")

    @pytest.mark.parametrize("channels", [2, 3, 4])
    @pytest.mark.parametrize("compression", [None, "lzw", "packbits"])
    def test_gray_stored_as_colour_or_with_opaque_alpha(self, channels: int, compression: str | None) -> None:
        samples = np.repeat(GRAY[..., None], channels, axis=2)
        options: dict[str, Any] = {"photometric": "rgb" if channels > 2 else "minisblack", "planarconfig": "contig"}
        if channels != 3:
            samples[..., -1] = 255
            options["extrasamples"] = ["unassalpha"]
        np.testing.assert_array_equal(decode_tiff(saved(samples, compression=compression, **options)), GRAY)

    @pytest.mark.parametrize("layout", LAYOUTS[::3])
    @pytest.mark.parametrize("photometric", ["minisblack", "miniswhite", "rgb"])
    def test_jpeg_in_tiff(self, photometric: str, layout: dict[str, Any]) -> None:
        film = np.add.outer(np.arange(40) * 3, np.arange(50) * 2).astype(np.uint8)
        stored = np.repeat(film[..., None], 3, axis=2) if photometric == "rgb" else film
        file = saved(stored, compression="jpeg", photometric=photometric, **layout)
        second = tifffile.imread(BytesIO(file))
        second = second[..., 0] if second.ndim == 3 else second
        np.testing.assert_array_equal(decode_tiff(file), np.invert(second) if photometric == "miniswhite" else second)

    def test_jpeg_in_tiff_with_common_tables(self) -> None:
        buffer = BytesIO()
        film = np.add.outer(np.arange(40) * 3, np.arange(50) * 2).astype(np.uint8)
        Image.fromarray(film).save(buffer, "TIFF", compression="jpeg")
        assert 347 in Image.open(buffer).tag_v2
        np.testing.assert_array_equal(decode_tiff(buffer.getvalue()), np.asarray(Image.open(buffer)))


class TestRefused:
    @pytest.mark.parametrize(
        ("data", "kind"),
        [
            (saved(GRAY.astype(np.float32)), "floating point"),
            (saved(GRAY.astype(np.complex64)), "complex"),
            (saved(GRAY.astype(np.uint32)), "BitsPerSample 32"),
            (saved(GRAY > 1), "BitsPerSample 1$"),
            (saved(GRAY, photometric="palette", colormap=np.zeros((3, 256), np.uint16)), "palette"),
            (saved(np.zeros((2, 3, 4), np.uint8), photometric="separated"), "CMYK"),
            (saved(np.zeros((3, 2, 3), np.uint8), photometric="rgb", planarconfig="separate"), "channels in planes"),
            (saved(np.zeros((2, 3, 5), np.uint8), planarconfig="contig"), "SamplesPerPixel 5"),
            (saved(np.zeros((2, 3, 3), np.uint8), planarconfig="contig"), "3 channels"),
            (saved(np.zeros((4, 16, 16), np.uint8), volumetric=True, tile=(16, 16, 16)), "more than one image deep"),
            (tiff(bytes(18), tags={262: 6, 277: 3}), "YCbCr without JPEG"),
            (saved(GRAY.astype(np.uint16) * 16, compression="jpeg", compressionargs={"bitspersample": 12}), "12 bits"),
            (tiff(bytes(6), tags={259: 6}), "old-style JPEG"),
            (tiff(bytes(6), tags={259: 4}), "CCITT"),
            (tiff(bytes(6), tags={259: 34712}), "JPEG 2000"),
            (tiff(bytes(6), tags={259: 34925}), "LZMA"),
            (tiff(bytes(6), tags={259: 50001}), "Compression 50001"),
            (tiff(bytes(6), tags={262: 8}), "PhotometricInterpretation 8"),
            (tiff(bytes(6), tags={266: 3}), "FillOrder 3"),
            (tiff(bytes(6), tags={317: 3, 259: 8}), "Predictor 3"),
            (tiff(bytes(6), tags={317: 2}), "a predictor"),
            (tiff(bytes(6), tags={339: 4}), "SampleFormat 4"),
            (tiff(bytes(6), tags={339: 2, 262: 0}), "signed values"),
        ],
    )
    def test_kinds_that_are_not_supported_are_named(
        self, refused: Callable[[bytes, str], str], data: bytes, kind: str
    ) -> None:
        assert "damaged" not in refused(data, rf"of a kind that is not supported: {kind}")

    def test_channels_of_different_depths(self, refused: Callable[[bytes, str], str]) -> None:
        file = bytearray(saved(np.zeros((2, 3, 3), np.uint8), photometric="rgb"))
        place = file.index(struct.pack("<3H", 8, 8, 8))
        file[place : place + 2] = b"\x05\0"
        refused(bytes(file), "not supported: channels that differ in BitsPerSample")

    def test_deep_colour(self, refused: Callable[[bytes, str], str]) -> None:
        data = saved(np.zeros((2, 3, 3), np.uint16), photometric="rgb")
        refused(data, "must be gray to hold other than 8 bits. Received: 3 channels of 16 bits")

    def test_true_colour_and_transparency(self, refused: Callable[[bytes, str], str]) -> None:
        refused(saved(np.full((2, 3, 3), (1, 1, 2), np.uint8), photometric="rgb"), "Received: true colour")
        alpha = saved(np.full((2, 3, 2), 254, np.uint8), planarconfig="contig", extrasamples=["unassalpha"])
        refused(alpha, "must be opaque. Received: an alpha channel")

    def test_orientation_to_be_applied(self, refused: Callable[[bytes, str], str]) -> None:
        refused(tiff(bytes(6), tags={274: 3}), "Received: EXIF orientation 3, allowed: 1 or none")

    def test_size_is_limited_before_decoding(self, refused: Callable[[bytes, str], str]) -> None:
        refused(tiff(b"", size=(30_000, 30_001)), "must hold at most 100,000,000 pixels. Received: 30000 x 30001")
        refused(tiff(b"", size=(0, 1)), "must be at least 1 pixel wide and high. Received: 0 x 1")

    def test_several_pages(self, refused: Callable[[bytes, str], str]) -> None:
        refused(saved(np.zeros((3, 8, 8), np.uint8)), "must hold one image. Received: a TIFF of several pages")
        refused(tiff(bytes(6))[:-4] + b"\x0e\0\0\0", "must hold one image")  # a directory that follows itself


class TestDamage:
    @pytest.mark.parametrize(
        ("data", "rule"),
        [
            (b"II*\0", "its directory lies beyond its end"),
            (b"II*\0\xff\xff\xff\xff", "its directory lies beyond its end"),
            (b"II+\0\x08\0\0\0" + b"\xff" * 8, "its directory lies beyond its end"),
            (b"II*\0\x08\0\0\0\xff\xff", "its directory lies beyond its end"),
            (tiff(bytes(6))[:-4], "its directory lies beyond its end"),
            (tiff(bytes(6), tags={256: None}), "its ImageWidth is missing or no whole number"),
            (tiff(bytes(6), tags={262: None}), "its PhotometricInterpretation is missing"),
            (tiff(bytes(6), tags={279: None}), "its StripByteCounts is missing"),
            (
                tiff(bytes(6)).replace(b"\x01\x01\x04\0", b"\x01\x01\x0b\0"),
                "its ImageLength is missing or no whole number",
            ),
            (tiff(bytes(6)).replace(b"\x11\x01", b"\x05\x01"), "its tags are not in ascending order: 261 follows 262"),
            (
                tiff(bytes(6)).replace(b"\x11\x01\x04\0\x01\0", b"\x11\x01\x04\0\x01\1"),
                "its StripOffsets lies beyond its end",
            ),
            (tiff(bytes(6), tags={278: 1}), "2 strips or tiles expected, 20,000 allowed. Received: 1 offsets, 1 byte"),
            (tiff(bytes(6), tags={278: 0}), "must be at least 1 pixel wide and high. Received: 3 x 0"),
            (tiff(b"", size=(1, 20_001), tags={278: 1}), "20,001 strips or tiles expected, 20,000 allowed"),
            (tiff(bytes(6), tags={322: 2**32 - 1, 323: 2**32 - 1}), "must hold at most 100,000,000 pixels"),
            (tiff(bytes(6), tags={273: 7}), "overlap"),
            (tiff(bytes(6), tags={273: 9}), "overlap"),
            (tiff(bytes(6), tags={273: 2**32 - 1}), "lie beyond its end"),
            (tiff(bytes(6), tags={279: 5}), "6 bytes of pixels expected. Received: 5"),
            (tiff(bytes(7)), "6 bytes of pixels expected. Received: 7"),
            (tiff(zlib.compress(bytes(5)), tags={259: 8}), "6 bytes of pixels expected. Received: 5"),
            (tiff(zlib.compress(bytes(7)), tags={259: 8}), "6 bytes of pixels expected. Received: 7"),
            (tiff(zlib.compress(bytes(10**7)), tags={259: 8}), "6 bytes of pixels expected. Received: 7"),
            (tiff(zlib.compress(bytes(6))[:-1], tags={259: 8}), "Received: 6, or no end after them"),
            (tiff(zlib.compress(bytes(6))[:-1] + b"\xff", tags={259: 8}), "incorrect data check"),
            (tiff(imagecodecs.lzw_encode(bytes(5)), tags={259: 5}), "Not enough data"),
            (tiff(imagecodecs.lzw_encode(bytes(7)), tags={259: 5}), "6 bytes of pixels expected. Received: 7"),
            (tiff(imagecodecs.packbits_encode(bytes(5)), tags={259: 32773}), "6 bytes of pixels expected. Received: 5"),
            (tiff(imagecodecs.packbits_encode(b"abcdef")[:-1], tags={259: 32773}), "is damaged.*CORRUPT"),
            (tiff(imagecodecs.packbits_encode(bytes(7)), tags={259: 32773}), "6 bytes of pixels expected. Received: 7"),
            (tiff(imagecodecs.zstd_encode(bytes(7)), tags={259: 50000}), "6 bytes of pixels expected. Received: 7"),
            (
                tiff(imagecodecs.jpeg8_encode(GRAY), tags={259: 7, 257: 3, 278: 3}),
                r"\(3, 3, 1\) expected. Received: \(2, 3, 1\)",
            ),
        ],
    )
    def test_faults(self, refused: Callable[[bytes, str], str], data: bytes, rule: str) -> None:
        refused(data, rule)

    def test_the_part_is_named(self, refused: Callable[[bytes, str], str]) -> None:
        file = saved(np.arange(80, dtype=np.uint8).reshape(8, 10), compression="zlib", rowsperstrip=2)
        with tifffile.TiffFile(BytesIO(file)) as opened:
            place = opened.pages.first.dataoffsets[2]
        refused(file[:place] + b"\0" + file[place + 1 :], r"incorrect header check \(in strip or tile 3 of 4\)")

    @pytest.mark.parametrize("bigtiff", [False, True])
    @pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "zstd", "jpeg"])
    def test_every_place_where_it_may_be_cut(
        self, refused: Callable[[bytes, str], str], compression: str | None, bigtiff: bool
    ) -> None:
        film = np.add.outer(np.arange(12) * 3, np.arange(20) * 2).astype(np.uint8)
        whole = saved(film, compression=compression, bigtiff=bigtiff, rowsperstrip=8)
        for end in range(4, len(whole), 3):
            refused(whole[:end], "is damaged or cut short")
