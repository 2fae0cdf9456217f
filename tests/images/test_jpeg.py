"""JPEG: what libjpeg-turbo decodes without a remark, and nothing else; the other kinds of JPEG by their names."""

import struct
from collections.abc import Callable
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from mmgkeras.images.jpeg import decode_jpeg

FILM = (120 + 90 * np.sin(np.add.outer(np.arange(60) / 5, np.arange(75) / 9))).astype(np.uint8)
FILM[20:30, 40:50] += np.random.default_rng(1).integers(0, 40, (10, 10)).astype(np.uint8)


def jpeg(array: np.ndarray = FILM, **options: object) -> bytes:
    buffer = BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(data)))


PROGRESSIVE = jpeg(progressive=True)


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 95},
        {"quality": 10},
        {"progressive": True},
        {"optimize": True},
        {"restart_marker_rows": 1},
        {"restart_marker_blocks": 3, "progressive": True},
    ],
    ids=str,
)
def test_gray_equals_other_decoders(options: dict[str, object]) -> None:
    data = jpeg(**options)
    pixels = decode_jpeg(data)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, by_pillow(data))
    np.testing.assert_array_equal(pixels, imagecodecs.jpeg8_decode(data))


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_gray_stored_as_colour(subsampling: str) -> None:
    data = jpeg(np.repeat(FILM[..., None], 3, axis=2), subsampling=subsampling)
    np.testing.assert_array_equal(decode_jpeg(data), by_pillow(data)[..., 0])


def test_padding_after_the_end_is_no_part_of_it() -> None:
    np.testing.assert_array_equal(decode_jpeg(jpeg() + b"\0\0\xff"), by_pillow(jpeg()))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (imagecodecs.ljpeg_encode(FILM, bitspersample=8), "lossless"),
        (imagecodecs.jpegls_encode(FILM), "JPEG-LS"),
        (imagecodecs.jpeg8_encode(FILM.astype(np.uint16) * 16, bitspersample=12), "12 bits"),
        (jpeg().replace(b"\xff\xc0", b"\xff\xc9"), "arithmetic"),
        (PROGRESSIVE.replace(b"\xff\xc2", b"\xff\xca"), "arithmetic"),
        (jpeg().replace(b"\xff\xc0", b"\xff\xc5"), "hierarchical"),
    ],
)
def test_kinds_that_are_not_supported_are_named(refused: Callable[[bytes, str], str], data: bytes, kind: str) -> None:
    assert "damaged" not in refused(data, f"is a JPEG of a kind that is not supported: {kind}. Allowed: ")


def test_colour(refused: Callable[[bytes, str], str]) -> None:
    refused(jpeg(np.full((8, 8, 3), (200, 10, 10), dtype=np.uint8)), "red = green = blue. Received: true colour")


def test_cmyk(refused: Callable[[bytes, str], str]) -> None:
    buffer = BytesIO()
    Image.new("CMYK", (8, 8)).save(buffer, "JPEG")
    refused(buffer.getvalue(), r"must be a JPEG of 1 or 3 components. Received: 4 \(as CMYK has\)")


def test_several_images(refused: Callable[[bytes, str], str]) -> None:
    buffer = BytesIO()
    Image.fromarray(FILM).save(buffer, "MPO", save_all=True, append_images=[Image.fromarray(255 - FILM)])
    refused(buffer.getvalue(), r"must end with its one image. Received: [\d,]+ bytes after its end")


@pytest.mark.parametrize("options", [{"exif": True}, {"xmp": b'<x tiff:Orientation="6"/>'}])
def test_orientation_to_be_applied(refused: Callable[[bytes, str], str], options: dict[str, object]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if "exif" in options else options
    refused(jpeg(**options), "Received: EXIF orientation 6, allowed: 1 or none")


def test_size_is_limited_before_decoding(refused: Callable[[bytes, str], str]) -> None:
    size = struct.pack(">HH", 60, 75)
    refused(
        jpeg().replace(b"\x08" + size, b"\x08" + struct.pack(">HH", 30_001, 30_000)),
        "must hold at most 100,000,000 pixels. Received: 30000 x 30001",
    )
    refused(jpeg().replace(b"\x08" + size, b"\x08\0\0\0\x4b"), "must be at least 1 pixel wide and high")


def scans_of(data: bytes) -> tuple[bytes, list[bytes]]:
    """What comes before the first scan, and each scan with the tables before the next."""
    head, *scans = data[:-2].split(b"\xff\xda")
    return head, [b"\xff\xda" + scan for scan in scans]


class TestDamage:
    @pytest.mark.parametrize("data", [jpeg(), PROGRESSIVE], ids=["baseline", "progressive"])
    def test_every_place_where_it_may_be_cut(self, refused: Callable[[bytes, str], str], data: bytes) -> None:
        for end in range(3, len(data) - 2, 7):
            refused(data[:end], "is damaged or cut short")
            refused(data[:end] + b"\xff\xd9", "is damaged or cut short")

    def test_a_scan_less_is_found_though_no_decoder_remarks_it(self, refused: Callable[[bytes, str], str]) -> None:
        head, scans = scans_of(PROGRESSIVE)
        assert len(scans) > 3
        for left_out in range(1, len(scans)):
            data = head + b"".join(scans[:left_out]) + b"\xff\xd9"
            assert by_pillow(data).shape == FILM.shape
            refused(data, "it ends before its last scan")

    def test_scans_without_end_are_not_decoded(self, refused: Callable[[bytes, str], str]) -> None:
        head, scans = scans_of(PROGRESSIVE)
        refused(head + b"".join(scans) + scans[-1] * 100 + b"\xff\xd9", "must hold at most 64 scans. Received: more")

    @pytest.mark.parametrize(
        ("data", "rule"),
        [
            (b"\xff\xd8\xff\xd9", "it holds no frame"),
            (b"\xff\xd8\xff\xd8", "is damaged or cut short"),
            (b"\xff\xd8" + b"\xff" * 1_000_000 + b"\0", "a marker is missing at byte 1,000,001"),
            (b"\xff\xd8\xff\xe0\0\x01", "it ends inside the segment at byte 6"),
            (b"\xff\xd8\xff\xe0\xff\xff", "it ends inside the segment at byte 6"),
            (b"\xff\xd8\xff\xc0\0\x07" + bytes(5), "its frame header has a wrong length"),
            (jpeg().replace(b"\xff\xda\0\x08\x01", b"\xff\xda\0\x08\x02"), "a scan header has a wrong length"),
            (jpeg()[:-2] + bytes(20) + b"\xff\xd9", r"Corrupt JPEG data: \d+ extraneous bytes before marker 0xd9"),
            (jpeg() + b"x", "must end with its one image. Received: 1 bytes after its end"),
        ],
    )
    def test_faults(self, refused: Callable[[bytes, str], str], data: bytes, rule: str) -> None:
        refused(data, rule)

    def test_remarks_of_libjpeg_are_faults(self, refused: Callable[[bytes, str], str]) -> None:
        data = bytearray(jpeg(restart_marker_rows=1))
        place = data.index(b"\xff\xd3")
        data[place + 1] = 0xD5
        assert by_pillow(bytes(data)).shape == FILM.shape
        refused(bytes(data), "is damaged or cut short: Corrupt JPEG data")
