import numpy as np
import pytest

from mmgkeras.errors import InputError
from mmgkeras.images import at_spacing, is_resampled_shape, resample
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


def test_a_pixel_size_in_other_units_is_refused_before_it_takes_all_memory() -> None:
    with pytest.raises(InputError, match=r"at most 100,000,000 pixels of 0.2 mm. Received: .* pixels of 50000 mm; is"):
        at_spacing(mammogram(50_000), 0.2)


def test_a_pixel_size_in_metres_is_refused_before_it_leaves_one_pixel() -> None:
    with pytest.raises(InputError, match=r"of 0.2 mm from at most 25 x 25 of its own\. Received: .* of 7e-05 mm; is"):
        at_spacing(mammogram(0.00007), 0.2)
    assert at_spacing(mammogram(0.02), 0.5).pixels.shape == (1, 1)


@pytest.mark.parametrize(("own_mm", "wanted_mm"), [(None, 0.2), (0.2, None), (0.2005, 0.2)])
def test_a_mammogram_of_unknown_or_the_same_pixel_size_stays_as_it_is(
    own_mm: float | None, wanted_mm: float | None
) -> None:
    original = mammogram(own_mm)
    assert at_spacing(original, wanted_mm) is original


@pytest.mark.parametrize(
    ("own_mm", "wanted_mm"), [(0.1, 0.099), (0.0693, 0.07), (0.101001, 0.1), (0.0989, 0.1), (0.1, 0.2), (0.2, 0.07)]
)
def test_the_shape_of_a_resampled_mammogram_is_known_for_what_it_is(own_mm: float, wanted_mm: float) -> None:
    factor = own_mm / wanted_mm
    for height in range(1500, 4500):
        width = height * 1500 // 1914
        assert is_resampled_shape((round(height * factor), round(width * factor)), of=(height, width))


@pytest.mark.parametrize(("own_mm", "wanted_mm"), [(0.1, 0.099), (0.0693, 0.07), (0.1, 0.1009)])
def test_what_is_resampled_and_what_is_taken_for_it_is_decided_by_one_rule(own_mm: float, wanted_mm: float) -> None:
    record = ImageRecord("a", "a.png", "p", "L", "CC", "none", spacing_mm=own_mm)
    for height in range(1, 400):
        seen = at_spacing(Mammogram(np.zeros((height, 2), np.uint8), record), wanted_mm).pixels.shape
        assert is_resampled_shape((seen[0], seen[1]), of=(height, 2))


@pytest.mark.parametrize(
    ("shape", "of"),
    [((3027, 2018), (3000, 2000)), ((301, 400), (300, 400)), ((3100, 2100), (3000, 2000)), ((2, 9), (1, 9))],
)
def test_no_pixel_size_gives_another_shape(shape: tuple[int, int], of: tuple[int, int]) -> None:
    """The first would be one, but for `at_spacing`, which leaves pixels as they are that differ by 0.9 %."""
    assert not is_resampled_shape(shape, of=of)
    assert is_resampled_shape(of, of=of)
