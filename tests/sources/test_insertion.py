"""Calcifications put into patches: what changes, how strongly, and that equal seeds give equal bytes."""

import numpy as np
import pytest
from scipy import ndimage

from mmgkeras.schema import Pixels
from mmgkeras.sources.phantom import insertion
from mmgkeras.sources.phantom.cases import plan_exposures
from mmgkeras.sources.phantom.exposure import make_image
from mmgkeras.sources.phantom.insertion import Group, draw_group, insert_group, measure_noise

SPACING_MM = 0.2


def tissue(*, size: int = 64, gray: float = 0.4, deviation: float = 0.012, blur_px: float = 0.0) -> Pixels:
    """(size, size) uint16 even tissue with noise of this deviation after the blur."""
    noise = np.random.default_rng(0).standard_normal((size, size))
    if blur_px:
        noise = ndimage.gaussian_filter(noise, blur_px)
    return np.rint((gray + deviation * noise / noise.std()) * 65535).astype(np.uint16)


def inserted(pixels: Pixels, *, seed: int = 1, number: int = 0) -> tuple[Pixels, np.ndarray | None]:
    changed = pixels.copy()
    truth = insert_group(changed, spacing_mm=SPACING_MM, seed=seed, rng=np.random.default_rng([seed, number]))
    return changed, truth


@pytest.mark.parametrize("blur_px", [0.0, 0.6, 1.0])
def test_noise_and_its_blur_are_measured(blur_px: float) -> None:
    gray = tissue(size=224, blur_px=blur_px) / np.float32(65535)
    noise = measure_noise(gray.astype(np.float32), np.ones(gray.shape, np.bool_))
    assert noise.observed == pytest.approx(0.012, rel=0.1)
    assert noise.blur_px == pytest.approx(np.sqrt(max(0.0, blur_px**2 - 0.35**2)), abs=0.15)
    assert noise.before_blur >= noise.observed


def test_the_slope_told_by_the_noise_is_that_of_the_phantoms_own_display() -> None:
    """In a plain phantom, the gray that a mark adds to what it attenuates is known."""
    image = make_image(plan_exposures(num_patients=1, seed=3)[0], spacing_mm=SPACING_MM)
    mark = max(image.marks, key=lambda one: one.signal.max())
    row, col = (round(place) for place in mark.centre)
    around = np.s_[row - 32 : row + 32, col - 32 : col + 32]
    peak = np.unravel_index(mark.signal.argmax(), mark.signal.shape)
    at = (mark.top + peak[0], mark.left + peak[1])
    slope = (image.pixels[at] - image.twin[at]) / (image.noise_free[at] - image.twin_noise_free[at])
    noise = measure_noise(image.twin[around], np.ones((64, 64), np.bool_))
    assert 0.6 < noise.before_blur / image.noise[around].mean() / slope < 1.7


def test_pixels_change_under_the_marks_alone_and_by_what_they_attenuate(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = np.zeros((7, 7), np.float32)
    mark[2:5, 2:5] = 0.2
    group = Group(noise=0.015, marks=((0, 0, mark),))
    monkeypatch.setattr(insertion, "draw_group", lambda *_, **__: group)
    monkeypatch.setattr(insertion, "BLUR_MM", (0.0, 0.0))
    pixels = tissue()
    changed, truth = inserted(pixels)
    assert truth is not None
    assert truth.sum() == 9
    assert (changed[ndimage.binary_dilation(truth, iterations=2)] >= pixels.min()).all()
    outside = ~ndimage.binary_dilation(truth, iterations=1, structure=np.ones((3, 3)))
    np.testing.assert_array_equal(changed[outside], pixels[outside])
    added = (changed.astype(np.float64) - pixels)[truth] / 65535
    assert added.mean() == pytest.approx(0.2 * 0.012 / 0.015, rel=0.15)


def test_a_blurred_patch_gets_blurred_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = np.zeros((13, 13), np.float32)
    mark[6, 6] = 0.5
    monkeypatch.setattr(insertion, "draw_group", lambda *_, **__: Group(noise=0.015, marks=((0, 0, mark),)))
    monkeypatch.setattr(insertion, "BLUR_MM", (0.0, 0.0))
    extent = []
    for blur_px in (0.0, 1.0):
        pixels = tissue(blur_px=blur_px, deviation=0.006)
        changed, truth = inserted(pixels)
        assert truth is not None
        added = changed.astype(np.float64) - pixels
        extent.append((added > 0.1 * added.max()).sum())
    assert extent[0] == 1
    assert extent[1] >= 9


def test_equal_seeds_give_equal_bytes_and_others_not() -> None:
    pixels = tissue()
    first, truth = inserted(pixels, number=4)
    again, truth_again = inserted(pixels, number=4)
    assert truth is not None
    assert truth_again is not None
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(truth, truth_again)
    assert (first != inserted(pixels, number=5)[0]).any()
    assert (first != inserted(pixels, seed=2, number=4)[0]).any()


def test_most_patches_can_have_a_group_and_its_contrast_is_in_range() -> None:
    pixels = tissue()
    contrasts = []
    for number in range(60):
        changed, truth = inserted(pixels, number=number)
        if truth is not None:
            assert truth.any()
            contrasts.append((changed.astype(np.float64) - pixels)[truth].mean() / 65535)
            assert (changed >= pixels).all()
    assert len(contrasts) > 50
    # From the fainter, five times the noise spread over a mark, to chunks that are white.
    assert 0.02 < np.median(contrasts) < 0.25
    assert min(contrasts) > 0.005


@pytest.mark.parametrize("pixels", [np.full((64, 64), 90, np.uint8), np.zeros((64, 64), np.uint16)])
def test_a_patch_without_noise_stays_as_it_is(pixels: Pixels) -> None:
    changed, truth = inserted(pixels)
    assert truth is None
    np.testing.assert_array_equal(changed, pixels)


def test_near_white_nothing_overflows() -> None:
    pixels = (tissue(gray=0.96) // 257).astype(np.uint8)
    for number in range(10):
        changed, _ = inserted(pixels, number=number)
        assert (changed >= pixels).all()


def test_no_mark_lies_on_the_background() -> None:
    pixels = tissue()
    pixels[:, :30] = 0
    for number in range(20):
        changed, truth = inserted(pixels, number=number)
        np.testing.assert_array_equal(changed[:, :28], 0)
        assert truth is None or not truth[:, :28].any()


def test_a_group_is_what_its_number_says_and_holds_marks_that_can_be_seen() -> None:
    group = draw_group(3, seed=1, spacing_mm=SPACING_MM)
    draw_group.cache_clear()
    again = draw_group(3, seed=1, spacing_mm=SPACING_MM)
    assert [mark[:2] for mark in group.marks] == [mark[:2] for mark in again.marks]
    groups = [draw_group(number, seed=1, spacing_mm=SPACING_MM) for number in range(30)]
    marks = [(group.noise, signal) for group in groups for _, _, signal in group.marks]
    assert len(marks) > 30
    assert all(np.sqrt((signal**2).sum()) >= 5 * noise for noise, signal in marks)
