import numpy as np
import pytest

from mmgkeras.images import at_spacing, resample
from mmgkeras.schema import ImageRecord, Mammogram


def test_half_as_many_pixels_are_the_means_of_four() -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (40, 60), dtype=np.uint16)
    means = pixels.reshape(20, 2, 30, 2).mean(axis=(1, 3))
    np.testing.assert_array_equal(resample(pixels, factor=0.5), np.rint(means).astype(np.uint16))


def test_a_pixel_that_two_share_counts_by_its_part() -> None:
    pixels = np.array([[0, 30, 60]], dtype=np.uint8)
    np.testing.assert_array_equal(resample(pixels, factor=2 / 3), [[10, 50]])


@pytest.mark.parametrize(("dtype", "factor"), [(np.uint8, 0.37), (np.uint16, 1.7), (np.uint8, 2.0)])
def test_shape_type_and_an_even_gray_stay(dtype: type, factor: float) -> None:
    full = np.iinfo(dtype).max
    resampled = resample(np.full((50, 31), full, dtype), factor=factor)
    assert resampled.dtype == dtype
    assert resampled.shape == (round(50 * factor), round(31 * factor))
    assert (resampled == full).all()


def test_the_same_size_is_the_same_pixels() -> None:
    pixels = np.zeros((5, 5), np.uint8)
    assert resample(pixels, factor=1.001) is pixels


def mammogram(spacing_mm: float | None) -> Mammogram:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 12), dtype=np.uint8)
    return Mammogram(pixels, ImageRecord("a", "a.png", "p", "L", "CC", "complete", spacing_mm=spacing_mm))


def test_a_mammogram_of_another_pixel_size_is_resampled_and_says_so() -> None:
    found = at_spacing(mammogram(0.1), 0.2)
    np.testing.assert_array_equal(found.pixels, resample(mammogram(0.1).pixels, factor=0.5))
    assert found.record.spacing_mm == 0.2


@pytest.mark.parametrize(("own_mm", "wanted_mm"), [(None, 0.2), (0.2, None), (0.2005, 0.2)])
def test_a_mammogram_of_unknown_or_the_same_pixel_size_stays_as_it_is(
    own_mm: float | None, wanted_mm: float | None
) -> None:
    original = mammogram(own_mm)
    assert at_spacing(original, wanted_mm) is original
