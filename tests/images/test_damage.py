"""Damaged files: the pixels that a second decoder gives, or one clear line; never other pixels, never a traceback.

Where the format has checksums (PNG, deflate), a damaged file gives the undamaged pixels or is refused. Others have
none: a flipped bit may make another file that is as whole. What is then read is what the second decoder reads.
"""

from collections.abc import Callable
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from mmgkeras.errors import InputError

from .damage import damaged_copies

NUMBER = 200
Outcome = tuple[bytes, np.ndarray]
HEIGHT, WIDTH = np.mgrid[:60, :70]
FILM = (128 + 100 * np.sin(HEIGHT / 9) * np.cos(WIDTH / 11) + HEIGHT * WIDTH % 5).astype(np.uint8)
DEEP = FILM.astype(np.uint16) * 251


def by_pillow(array: np.ndarray, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def by_tifffile(array: np.ndarray, **options: object) -> bytes:
    buffer = BytesIO()
    tifffile.imwrite(buffer, array, **{"photometric": "minisblack", "metadata": None, **options})
    return buffer.getvalue()


def second_jpeg(data: bytes) -> np.ndarray:
    samples = imagecodecs.jpeg8_decode(data)
    return samples if samples.ndim == 2 else samples[..., 0]


def second_tiff(data: bytes) -> np.ndarray:
    """What tifffile reads, brought to display polarity and to the full range."""
    with tifffile.TiffFile(BytesIO(data)) as file:
        page = file.pages.first
        values = page.asarray().astype(np.int64)
        largest = 2**page.bitspersample - 1
    values = largest - values if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE else values
    full = 255 if page.bitspersample <= 8 else 65535
    return (values * full + largest // 2) // largest


def second_pgm(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(data)))


WITH_CHECKSUMS = {
    "png8": by_pillow(FILM, "PNG"),
    "png16": by_pillow(DEEP, "PNG"),
    "deflate": by_tifffile(FILM, compression="zlib", rowsperstrip=16),
    "deflate16": by_tifffile(DEEP, compression="zlib", predictor=True, tile=(32, 32), byteorder=">"),
}
WITHOUT = {
    "jpeg": (by_pillow(FILM, "JPEG", quality=90), second_jpeg),
    "progressive": (by_pillow(FILM, "JPEG", progressive=True), second_jpeg),
    "restarts": (by_pillow(FILM, "JPEG", restart_marker_rows=1), second_jpeg),
    "plain": (by_tifffile(DEEP, rowsperstrip=7), second_tiff),
    "plain big-endian": (by_tifffile(FILM, byteorder=">", photometric="miniswhite"), second_tiff),
    "lzw": (by_tifffile(FILM, compression="lzw"), second_tiff),
    "lzw16": (by_tifffile(DEEP, compression="lzw", predictor=True, rowsperstrip=13), second_tiff),
    "packbits": (by_tifffile(FILM, compression="packbits"), second_tiff),
    "zstd": (by_tifffile(DEEP, compression="zstd"), second_tiff),
    "jpeg in tiff": (by_tifffile(FILM, compression="jpeg", rowsperstrip=32), second_tiff),
    "pgm": (by_pillow(FILM, "PPM"), second_pgm),
}


def outcomes(pixels_of: Callable[[bytes], np.ndarray], data: bytes, *, seed: int) -> tuple[list[str], list[Outcome]]:
    """The errors, and the damaged copies that were read, with what was read."""
    errors, read = [], []
    for copy in damaged_copies(data, number=NUMBER, seed=seed):
        try:
            read.append((copy, pixels_of(copy)))
        except InputError as error:
            errors.append(str(error))
    return errors, read


@pytest.mark.parametrize("name", WITH_CHECKSUMS)
def test_checksums_leave_no_wrong_pixel(pixels_of: Callable[[bytes], np.ndarray], name: str) -> None:
    data = WITH_CHECKSUMS[name]
    errors, read = outcomes(pixels_of, data, seed=1)
    assert len(errors) > 0.9 * NUMBER
    assert all(error.isprintable() and len(error) < 500 for error in errors)
    for _, pixels in read:
        np.testing.assert_array_equal(pixels, pixels_of(data))


@pytest.mark.parametrize("name", WITHOUT)
def test_what_is_read_without_checksums_is_what_a_second_decoder_reads(
    pixels_of: Callable[[bytes], np.ndarray], name: str
) -> None:
    data, second = WITHOUT[name]
    np.testing.assert_array_equal(pixels_of(data), second(data))
    errors, read = outcomes(pixels_of, data, seed=2)
    assert len(errors) > 0.4 * NUMBER
    assert all(error.isprintable() and len(error) < 500 for error in errors)
    for copy, pixels in read:
        np.testing.assert_array_equal(pixels, second(copy))
