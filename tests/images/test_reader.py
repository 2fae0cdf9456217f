"""Image files: what is read, exactly, and what is refused, in one line."""

import re
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgkeras.errors import InputError
from mmgkeras.images import MAX_PIXELS, read, read_pixels
from mmgkeras.schema import ImageRecord

GRAY_8 = np.array([[0, 1, 2], [127, 254, 255]], dtype=np.uint8)
GRAY_16 = np.array([[0, 1, 256], [4095, 65534, 65535]], dtype=np.uint16)


def saved(folder: Path, name: str, array: np.ndarray, **options: object) -> Path:
    path = folder / name
    Image.fromarray(array).save(path, **options)
    return path


def refused(path: Path, rule: str) -> str:
    """The error of reading a file: one line that begins with the file's name and holds the rule."""
    with pytest.raises(InputError, match=rule) as caught:
        read_pixels(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def png_head(*, width: int, height: int, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG's signature and IHDR chunk."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff(data: bytes, *, width: int, height: int, bits: int, photometric: int) -> bytes:
    """A little-endian TIFF of one gray strip."""
    tags = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric)]
    tags += [(273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\x00" + struct.pack("<I", 8 + len(data)) + data + directory


class TestReadPixels:
    @pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
    def test_8_bit_gray_is_taken_as_it_is(self, tmp_path: Path, name: str) -> None:
        pixels = read_pixels(saved(tmp_path, name, GRAY_8))
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, GRAY_8)

    @pytest.mark.parametrize("name", ["a.png", "a.tif"])
    def test_16_bit_gray_is_taken_as_it_is(self, tmp_path: Path, name: str) -> None:
        pixels = read_pixels(saved(tmp_path, name, GRAY_16))
        assert pixels.dtype == np.uint16
        assert pixels.dtype.isnative
        np.testing.assert_array_equal(pixels, GRAY_16)

    def test_big_endian_tiff_gives_native_values(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        Image.frombytes("I;16B", (3, 2), GRAY_16.astype(">u2").tobytes()).save(path)
        pixels = read_pixels(path)
        assert path.read_bytes()[:2] == b"MM"
        assert pixels.dtype.isnative
        np.testing.assert_array_equal(pixels, GRAY_16)

    @pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
    def test_compressed_tiff_is_read(self, tmp_path: Path, compression: str) -> None:
        path = saved(tmp_path, "a.tif", GRAY_16, compression=compression)
        np.testing.assert_array_equal(read_pixels(path), GRAY_16)

    def test_gray_jpeg_equals_pillows_decoding(self, tmp_path: Path) -> None:
        gradient = np.add.outer(np.arange(32), np.arange(48)).astype(np.uint8)
        path = saved(tmp_path, "a.jpg", gradient, quality=95)
        np.testing.assert_array_equal(read_pixels(path), np.asarray(Image.open(path)))

    def test_gray_inside_colour_is_gray(self, tmp_path: Path) -> None:
        colour = np.repeat(GRAY_8[..., None], 3, axis=2)
        np.testing.assert_array_equal(read_pixels(saved(tmp_path, "a.png", colour)), GRAY_8)
        flat = np.full((16, 16, 3), 77, dtype=np.uint8)
        np.testing.assert_array_equal(read_pixels(saved(tmp_path, "a.jpg", flat)), flat[..., 0])

    def test_gray_palette_is_gray(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        Image.fromarray(GRAY_8).convert("P").save(path)
        np.testing.assert_array_equal(read_pixels(path), GRAY_8)

    @pytest.mark.parametrize("channels", [2, 4])
    def test_opaque_alpha_is_dropped(self, tmp_path: Path, channels: int) -> None:
        array = np.repeat(GRAY_8[..., None], channels, axis=2)
        array[..., -1] = 255
        np.testing.assert_array_equal(read_pixels(saved(tmp_path, "a.png", array)), GRAY_8)

    def test_4_bit_png_fills_the_range(self, tmp_path: Path) -> None:
        rows = b"\x00" + bytes([0x0F, 0x70])
        png = png_head(width=4, height=1, depth=4) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        path = tmp_path / "a.png"
        path.write_bytes(png)
        np.testing.assert_array_equal(read_pixels(path), [[0, 255, 119, 0]])

    @pytest.mark.parametrize("array", [GRAY_8, GRAY_16], ids=["8 bit", "16 bit"])
    def test_white_is_zero_tiff_is_turned_round(self, tmp_path: Path, array: np.ndarray) -> None:
        path = tmp_path / "a.tif"
        path.write_bytes(tiff(array.tobytes(), width=3, height=2, bits=8 * array.itemsize, photometric=0))
        np.testing.assert_array_equal(read_pixels(path), np.invert(array))

    def test_12_bit_tiff_fills_the_range(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        packed = bytes([0xFF, 0xF0, 0x01, 0x80, 0x00, 0x00])  # 4095, 1, 2048, 0
        path.write_bytes(tiff(packed, width=4, height=1, bits=12, photometric=1))
        np.testing.assert_array_equal(read_pixels(path), [[65535, 16, 32776, 0]])

    def test_pixels_are_the_callers_own(self, tmp_path: Path) -> None:
        pixels = read_pixels(saved(tmp_path, "a.png", GRAY_8))
        pixels[0, 0] = 9
        assert pixels.flags.c_contiguous


class TestRefused:
    def test_missing_file(self, tmp_path: Path) -> None:
        refused(tmp_path / "none.png", "cannot be read: No such file")

    def test_folder(self, tmp_path: Path) -> None:
        refused(tmp_path, "cannot be read: Is a directory")

    def test_empty_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        path.touch()
        refused(path, re.escape("is empty (0 bytes)"))

    @pytest.mark.parametrize(
        "content", [b"not an image at all", b"GIF89a....", b"BM......", b"P2 1 1 255 7", b"\x00" * 200]
    )
    def test_other_formats(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(content)
        refused(path, "is not a PNG, JPEG, TIFF or binary PGM")

    @pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.pgm"])
    @pytest.mark.parametrize("kept", [0.01, 0.1, 0.5, 0.9])
    def test_file_cut_short(self, tmp_path: Path, name: str, kept: float) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
        path = saved(tmp_path, name, noise)
        whole = path.read_bytes()
        path.write_bytes(whole[: max(4, int(kept * len(whole)))])
        refused(path, "cut short|has no PGM header")

    def test_size_is_limited_before_decoding(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(png_head(width=30_000, height=30_000) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
        message = refused(path, "must hold at most 100,000,000 pixels. Received: 30000 x 30000")
        assert message == f"{path}: must hold at most 100,000,000 pixels. Received: 30000 x 30000"

    def test_size_between_pillows_limit_and_ours_gives_no_warning(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(png_head(width=10_000, height=9_900) + chunk(b"IDAT", b"x") + chunk(b"IEND", b""))
        assert MAX_PIXELS > 10_000 * 9_900
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            refused(path, "is damaged or cut short")
        assert caught == []

    def test_true_colour(self, tmp_path: Path) -> None:
        colour = np.repeat(GRAY_8[..., None], 3, axis=2)
        colour[1, 2, 0] = 254
        refused(saved(tmp_path, "a.png", colour), "red = green = blue. Received: true colour")

    def test_colour_palette(self, tmp_path: Path) -> None:
        image = Image.fromarray(np.zeros((2, 2), dtype=np.uint8), mode=None).convert("P")
        image.putpalette([200, 10, 10])
        image.save(tmp_path / "a.png")
        refused(tmp_path / "a.png", "Received: true colour")

    @pytest.mark.parametrize("mode", ["1", "CMYK", "F", "I"])
    def test_other_modes(self, tmp_path: Path, mode: str) -> None:
        path = tmp_path / "a.tif"
        Image.new(mode, (4, 4)).save(path)
        refused(path, f"must be gray of 8 or 16 bits. Received: Pillow's mode {mode}$")

    def test_cmyk_jpeg(self, tmp_path: Path) -> None:
        Image.new("CMYK", (8, 8)).save(tmp_path / "a.jpg")
        refused(tmp_path / "a.jpg", "Pillow's mode CMYK")

    def test_transparency(self, tmp_path: Path) -> None:
        array = np.repeat(GRAY_8[..., None], 2, axis=2)
        refused(saved(tmp_path, "a.png", array), "must be opaque. Received: an alpha channel")

    def test_declared_transparent_value(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        Image.fromarray(GRAY_8).save(path, transparency=127)
        refused(path, "must be opaque. Received: a gray value")

    @pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
    def test_16_bit_colour_png_whose_low_bits_pillow_drops(self, tmp_path: Path, colour: int, channels: int) -> None:
        rows = b"\x00" + b"\x12\x34" * channels
        path = tmp_path / "a.png"
        head = png_head(width=1, height=1, depth=16, colour=colour)
        path.write_bytes(head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
        refused(path, "must be gray to hold more than 8 bits")

    @pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
    def test_orientation_to_be_applied(self, tmp_path: Path, name: str) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        refused(saved(tmp_path, name, GRAY_8, exif=exif), "Received: EXIF orientation 6, allowed: 1 or none")

    def test_upright_orientation_is_read(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 1
        np.testing.assert_array_equal(read_pixels(saved(tmp_path, "a.png", GRAY_8, exif=exif)), GRAY_8)

    def test_several_frames(self, tmp_path: Path) -> None:
        frame = Image.fromarray(GRAY_8)
        for name in ("a.tif", "a.png"):
            frame.save(tmp_path / name, save_all=True, append_images=[Image.fromarray(255 - GRAY_8)])
            refused(tmp_path / name, "must hold one image. Received: 2")

    @pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.pgm"])
    def test_damaged_bytes_give_pixels_or_one_line_and_no_warning(self, tmp_path: Path, name: str) -> None:
        random = np.random.default_rng(1)
        noise = random.integers(0, 256, (16, 16)).astype(np.uint8)
        whole = saved(tmp_path, name, noise).read_bytes()
        path = tmp_path / f"damaged-{name}"
        for _ in range(300):
            damaged = bytearray(whole)
            for place in random.integers(2, min(len(whole), 400), size=3):
                damaged[place] = random.integers(0, 256)
            path.write_bytes(damaged)
            outcome = outcome_of(path)
            assert outcome == "pixels" or (outcome.startswith(f"{path}: ") and "\n" not in outcome)


def outcome_of(path: Path) -> str:
    """ "pixels", or the error's text."""
    try:
        return "pixels" if read_pixels(path).ndim == 2 else "not an image"
    except InputError as error:
        return str(error)


class TestPgm:
    def written(self, folder: Path, header: bytes, body: bytes) -> Path:
        path = folder / "a.pgm"
        path.write_bytes(header + body)
        return path

    @pytest.mark.parametrize(
        ("maxval", "stored", "expected"),
        [
            (65535, [0, 1, 65535], [0, 1, 65535]),
            (4095, [0, 1, 2048, 4095], [0, 16, 32776, 65535]),
            (256, [128], [32768]),
        ],
    )
    def test_16_bits_fill_the_range_exactly(
        self, tmp_path: Path, maxval: int, stored: list[int], expected: list[int]
    ) -> None:
        header = f"P5 {len(stored)} 1 {maxval}\n".encode()
        pixels = read_pixels(self.written(tmp_path, header, np.array(stored, dtype=">u2").tobytes()))
        assert pixels.dtype == np.uint16
        np.testing.assert_array_equal(pixels, [expected])

    def test_other_8_bit_maxval_fills_the_range(self, tmp_path: Path) -> None:
        pixels = read_pixels(self.written(tmp_path, b"P5\n3 1\n15\n", bytes([0, 7, 15])))
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, [[0, 119, 255]])

    def test_comments_in_the_header(self, tmp_path: Path) -> None:
        path = self.written(tmp_path, b"P5\n# film 12 9\n2 # wide\n1\n255\n", bytes([35, 10]))
        np.testing.assert_array_equal(read_pixels(path), [[35, 10]])

    @pytest.mark.parametrize(
        ("header", "body", "rule"),
        [
            (b"P5\n2 x\n255\n", b"", "has no PGM header"),
            (b"P5\n2 0\n255\n", b"", "width and height must be at least 1"),
            (b"P5\n2 2\n65536\n", b"", "maxval 1 to 65535"),
            (b"P5\n30000 30000\n255\n", b"", "must hold at most 100,000,000 pixels. Received: 30000 x 30000"),
            (b"P5\n2 2\n255\n", b"abc", "is cut short: 4 bytes of pixels expected. Received: 3"),
            (b"P5\n2 1\n15\n", bytes([3, 16]), "no value may exceed maxval 15. Received: 16"),
        ],
    )
    def test_faults(self, tmp_path: Path, header: bytes, body: bytes, rule: str) -> None:
        refused(self.written(tmp_path, header, body), rule)


def test_read_finds_the_path_of_the_record_beside_the_table(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    saved(tmp_path / "films", "a.png", GRAY_8)
    record = ImageRecord("a", "films/a.png", "p", "L", "CC", "complete")
    mammogram = read(record, tmp_path)
    assert mammogram.record is record
    np.testing.assert_array_equal(mammogram.pixels, GRAY_8)


def test_read_takes_an_absolute_path_as_it_is(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.png", GRAY_8)
    record = ImageRecord("a", str(path), "p", "L", "CC", "complete")
    np.testing.assert_array_equal(read(record, Path("elsewhere")).pixels, GRAY_8)
