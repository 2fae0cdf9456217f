"""What is opened at all, which format a file is of, and how its faults are told."""

import os
import socket
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless

from mmgkeras.errors import InputError
from mmgkeras.images import read, read_facts, read_pixels
from mmgkeras.images.reader import read_with_header
from mmgkeras.schema import ImageRecord
from tests.images.dicom_files import file_of, mammogram, ramp
from tests.images.test_jpeg import jpeg
from tests.images.test_png import chunk, png
from tests.images.test_tiff import tiff

GRAY_8 = np.array([[0, 1, 2], [127, 254, 255]], dtype=np.uint8)
GRAY_16 = np.array([[0, 1, 256], [4095, 65534, 65535]], dtype=np.uint16)
ROTATED = Image.Exif()
ROTATED[0x0112] = 6


def encoded(form: str, *, mode: str = "L", **options: object) -> bytes:
    """A file by Pillow."""
    buffer = BytesIO()
    Image.fromarray(GRAY_8).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def saved(folder: Path, name: str, array: np.ndarray) -> Path:
    path = folder / name
    Image.fromarray(array).save(path)
    return path


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

    @pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm", "a.jpg"])
    def test_pixels_are_the_callers_own(self, tmp_path: Path, name: str) -> None:
        pixels = read_pixels(saved(tmp_path, name, GRAY_8))
        pixels[0, 0] = 9
        assert pixels.flags.c_contiguous

    @pytest.mark.parametrize("name", ["a.jpg", "a.tif", "a.pgm"])
    def test_the_content_counts_not_the_name(self, tmp_path: Path, name: str) -> None:
        saved(tmp_path, "a.png", GRAY_16).rename(tmp_path / name)
        np.testing.assert_array_equal(read_pixels(tmp_path / name), GRAY_16)


class TestReadFacts:
    @pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm", "a.jpg"])
    def test_size_of_every_format(self, tmp_path: Path, name: str) -> None:
        assert read_facts(saved(tmp_path, name, GRAY_8)) == (2, 3, None)

    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless])
    def test_dicom_has_its_header_too(self, tmp_path: Path, syntax: UID) -> None:
        path = tmp_path / "a.dcm"
        path.write_bytes(file_of(mammogram(ramp(), ImageLaterality="L", ImagerPixelSpacing=[0.1, 0.1]), syntax))
        height, width, header = read_facts(path)
        assert (height, width) == ramp().shape
        assert header == read_with_header(path)[1]
        assert header is not None
        assert (header.laterality, header.spacing_mm) == ("L", 0.1)

    def test_dicom_without_preamble(self, tmp_path: Path) -> None:
        path = tmp_path / "a.dcm"
        path.write_bytes(file_of(mammogram(ramp()))[132:])
        assert read_facts(path)[:2] == ramp().shape

    def test_pixels_are_not_read(self, tmp_path: Path) -> None:
        path = tmp_path / "a.dcm"
        whole = file_of(mammogram(ramp(shape=(400, 300))))
        path.write_bytes(whole[:-1000])
        assert read_facts(path)[:2] == (400, 300)
        with pytest.raises(InputError, match="is damaged"):
            read_pixels(path)

    @pytest.mark.parametrize("attributes", [{"Modality": "CT"}, {"SamplesPerPixel": 3}, {"NumberOfFrames": 7}])
    def test_dicom_that_would_be_refused_is_refused(self, tmp_path: Path, attributes: dict[str, object]) -> None:
        path = tmp_path / "a.dcm"
        path.write_bytes(file_of(mammogram(ramp(), **attributes)))
        with pytest.raises(InputError, match=r"a\.dcm: "):
            read_facts(path)

    @pytest.mark.parametrize("is_long", [False, True])
    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("bits", [4, 10, 12, 14])
    def test_tiff_of_every_depth_with_its_tags_at_the_end(
        self, pixels_of: Callable[[bytes], np.ndarray], bits: int, order: str, is_long: bool
    ) -> None:
        width, height = (512, 300) if is_long else (7, 5)
        data = bytes(-(-width * bits // 8) * height)
        assert pixels_of(tiff(data, size=(width, height), bits=bits, order=order)).shape == (height, width)

    @pytest.mark.parametrize("bits", [2, 4])
    def test_png_of_few_bits_behind_a_long_chunk(self, pixels_of: Callable[[bytes], np.ndarray], bits: int) -> None:
        whole = png(np.zeros((5, 7), dtype=np.uint8), bits=bits, extra=chunk(b"tEXt", b"Comment\0" + b"x" * 100_000))
        assert pixels_of(whole).shape == (5, 7)

    @pytest.mark.parametrize("segments", [0, 3])
    def test_progressive_jpeg_behind_long_segments(
        self, pixels_of: Callable[[bytes], np.ndarray], segments: int
    ) -> None:
        whole = jpeg(progressive=True)
        long = b"\xff\xeb\xff\xff" + bytes(65533)
        assert pixels_of(whole[:2] + segments * long + whole[2:]).ndim == 2

    @pytest.mark.parametrize("header", [b"P5 3 2 999\n", b"P5\n# a comment\n000000003\t2 1023\n"])
    def test_pgm_of_an_odd_maxval(self, pixels_of: Callable[[bytes], np.ndarray], header: bytes) -> None:
        assert pixels_of(header + bytes(12)).shape == (2, 3)

    @pytest.mark.parametrize(
        "data",
        [
            b"\x89PNG\r\n\x1a\n",
            b"II*\0\x10\0\0\0",
            b"\xff\xd8\xff",
            b"\xff\xd8\xff\xd9",
            bytes(128) + b"DICM",
        ],
    )
    def test_damaged_header_is_one_line(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(InputError, match=r"a\.png: is damaged"):
            read_facts(tmp_path / "a.png")

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"text",
            b"GIF89a....",
            b"P2 1 1 255 7",
            imagecodecs.jpeg2k_encode(GRAY_16),
            png(np.zeros((5, 7), dtype=np.uint8), bits=1),
            png(np.zeros((5, 7), dtype=np.uint16), bits=16, extra=chunk(b"tRNS", b"\0\1")),
            png(np.zeros((5, 7), dtype=np.uint8), bits=8, extra=chunk(b"acTL", bytes(8))),
            encoded("PNG", exif=ROTATED),
            encoded("JPEG", exif=ROTATED),
            encoded("JPEG", mode="CMYK"),
            encoded("TIFF", mode="1"),
            encoded("TIFF", mode="F"),
            encoded("TIFF", save_all=True, append_images=[Image.fromarray(GRAY_8)]),
            tiff(bytes(6), tags={274: 6}),
            b"P5 3 2 70000\n" + bytes(12),
        ],
    )
    def test_what_the_header_tells_is_refused_as_the_pixels_are(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(InputError) as refused:
            read_pixels(tmp_path / "a.png")
        with pytest.raises(InputError) as caught:
            read_facts(tmp_path / "a.png")
        assert str(caught.value) == str(refused.value)

    def test_too_many_pixels_are_refused_by_the_header(self, tmp_path: Path) -> None:
        (tmp_path / "a.pgm").write_bytes(b"P5 20000 20000 255\n")
        with pytest.raises(InputError, match=r"a\.pgm: "):
            read_facts(tmp_path / "a.pgm")


class TestFiles:
    def check(self, path: Path, rule: str) -> str:
        with pytest.raises(InputError, match=rule) as caught:
            read_pixels(path)
        assert str(caught.value).isprintable()
        return str(caught.value)

    def test_missing_file(self, tmp_path: Path) -> None:
        assert self.check(tmp_path / "none.png", "cannot be read: No such file").startswith(
            f"{tmp_path / 'none.png'}: "
        )

    def test_folder_device_pipe_and_socket_are_not_opened(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with socket.socket(socket.AF_UNIX) as listener:
            descriptor = os.open(tmp_path, os.O_RDONLY)
            try:  # the name of a socket may be 108 bytes long: bound by way of the folder's descriptor
                listener.bind(f"/proc/self/fd/{descriptor}/socket")
            finally:
                os.close(descriptor)
        for path in (tmp_path, Path("/dev/zero"), tmp_path / "pipe", tmp_path / "socket"):
            self.check(path, "must be a regular file")

    def test_name_with_nul(self) -> None:
        self.check(Path("a\0b.png"), r"a\\x00b.png: cannot be read: .*null")

    def test_controls_in_a_name_do_not_reach_the_terminal(self, tmp_path: Path) -> None:
        path = tmp_path / "a\x1b[2J\u202e\nb.png"
        path.touch()
        assert r"a\x1b[2J\u202e b.png: is empty (0 bytes)" in self.check(path, "is empty")

    def test_long_name_is_shortened(self) -> None:
        assert len(self.check(Path("x" * 1_000_000), "cannot be read: File name too long")) < 500

    def test_empty_file(self, refused: Callable[[bytes, str], str]) -> None:
        refused(b"", r"is empty \(0 bytes\)")

    def test_too_many_bytes(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        with path.open("wb") as file:
            file.truncate(10**12)
        self.check(path, "must hold at most 401,048,576 bytes")


class TestFormats:
    @pytest.mark.parametrize("content", [b"not an image", b"GIF89a....", b"BM......", b"P6 1 1 255 789", b"\0" * 200])
    def test_other_formats(self, refused: Callable[[bytes, str], str], content: bytes) -> None:
        refused(content, r"is not a PNG, JPEG, TIFF, binary PGM \(P5\) or DICOM file")

    @pytest.mark.parametrize(
        ("content", "name"),
        [
            (imagecodecs.jpeg2k_encode(GRAY_16), "JPEG 2000"),
            (imagecodecs.jpeg2k_encode(GRAY_16, codecformat="j2k"), "JPEG 2000"),
            (b"P2 1 1 255 7", "plain PGM"),
        ],
    )
    def test_what_is_not_supported_is_named(
        self, refused: Callable[[bytes, str], str], content: bytes, name: str
    ) -> None:
        message = refused(content, rf"is {name}.*, which is not supported")
        assert "damaged" not in message

    def test_pillows_own_limit_is_not_asked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
        for name in ("a.png", "a.tif", "a.pgm", "a.jpg"):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                assert read_pixels(saved(tmp_path, name, GRAY_8)).shape == (2, 3)
            assert caught == []


class TestRead:
    def test_the_path_of_the_record_is_sought_beside_the_table(self, tmp_path: Path) -> None:
        (tmp_path / "films").mkdir()
        saved(tmp_path / "films", "a.png", GRAY_8)
        record = ImageRecord("a", "films/a.png", "p", "L", "CC", "complete")
        mammogram = read(record, tmp_path)
        assert mammogram.record is record
        np.testing.assert_array_equal(mammogram.pixels, GRAY_8)

    def test_an_absolute_path_is_taken_as_it_is(self, tmp_path: Path) -> None:
        path = saved(tmp_path, "a.png", GRAY_8)
        record = ImageRecord("a", str(path), "p", "L", "CC", "complete")
        np.testing.assert_array_equal(read(record, Path("elsewhere")).pixels, GRAY_8)
