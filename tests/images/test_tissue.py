"""Breast against background."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mmgkeras.images import breast_alone, estimate_chest_wall, find_breast, tissue_mask
from mmgkeras.images.tissue import over_squares
from mmgkeras.schema import Grid


def disc(*, size_px: int, radius_px: int) -> np.ndarray:
    rows, cols = np.mgrid[:size_px, :size_px]
    middle = size_px // 2
    return (rows - middle) ** 2 + (cols - middle) ** 2 <= radius_px**2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_bright_breast_on_black_is_found_to_the_pixel(dtype: type) -> None:
    breast = np.zeros((100, 80), dtype=np.bool_)
    breast[10:90, :50] = True
    mask = tissue_mask(np.where(breast, 150, 0).astype(dtype))
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask, breast)


def test_fog_of_film_is_background() -> None:
    breast = disc(size_px=200, radius_px=60)
    fog = np.random.default_rng(0).integers(10, 18, breast.shape)
    mask = tissue_mask(np.where(breast, 120, fog).astype(np.uint8))
    assert (mask != breast).mean() < 0.001


def test_dark_skin_zone_belongs_to_the_breast() -> None:
    """Fat under the skin is hardly brighter than the film's fog, far below Otsu's threshold."""
    pixels = np.where(disc(size_px=200, radius_px=60), 24, 8)
    pixels[disc(size_px=200, radius_px=50)] = 180
    mask = tissue_mask(pixels.astype(np.uint8))
    assert mask[disc(size_px=200, radius_px=58)].all()
    assert not mask[~disc(size_px=200, radius_px=62)].any()


def test_bright_label_apart_from_the_breast_is_background() -> None:
    pixels = np.zeros((200, 200), dtype=np.uint8)
    pixels[20:180, :100] = 90
    pixels[10:40, 150:190] = 255
    mask = tissue_mask(pixels)
    assert mask[100, 50]
    assert not mask[:, 101:].any()


def test_thin_bright_line_does_not_join_a_label_to_the_breast() -> None:
    pixels = np.zeros((200, 200), dtype=np.uint8)
    pixels[0:180, :100] = 90
    pixels[0:3, :] = 255
    pixels[0:40, 150:190] = 255
    assert not tissue_mask(pixels)[:, 110:].any()


@pytest.mark.parametrize(("width_px", "is_cut"), [(8, True), (9, False)])
def test_a_bridge_of_eight_pixels_is_cut_and_one_of_nine_is_not(width_px: int, is_cut: bool) -> None:
    pixels = np.zeros((200, 200), dtype=np.uint8)
    pixels[20:180, 20:100] = 90
    pixels[100 : 100 + width_px, 100:150] = 90
    pixels[60:140, 150:190] = 90
    assert tissue_mask(pixels)[:, 105:].any() != is_cut


def test_a_notch_at_the_edge_of_the_image_is_no_hole() -> None:
    pixels = np.zeros((200, 200), dtype=np.uint8)
    pixels[:, :100] = 90
    pixels[90:110, :20] = 0
    assert not tissue_mask(pixels)[90:110, :20].any()


def test_dark_hole_in_the_breast_is_filled() -> None:
    pixels = np.where(disc(size_px=200, radius_px=80), 120, 0).astype(np.uint8)
    pixels[90:110, 90:110] = 0
    assert tissue_mask(pixels)[100, 100]


@pytest.mark.parametrize("value", [1, 40, 255])
def test_uniform_image_is_all_breast(value: int) -> None:
    assert tissue_mask(np.full((50, 70), value, dtype=np.uint8)).all()


def test_image_that_is_breast_throughout_is_all_breast() -> None:
    texture = np.random.default_rng(0).integers(80, 200, (120, 90)).astype(np.uint8)
    assert tissue_mask(texture).all()


def test_black_image_has_no_breast() -> None:
    assert not tissue_mask(np.zeros((50, 70), dtype=np.uint16)).any()


def test_single_bright_pixel_is_the_only_breast() -> None:
    pixels = np.zeros((30, 30), dtype=np.uint8)
    pixels[4, 7] = 255
    assert np.argwhere(tissue_mask(pixels)).tolist() == [[4, 7]]


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (1100, 3), (513, 1025)])
def test_mask_has_the_images_shape(shape: tuple[int, int]) -> None:
    assert tissue_mask(np.full(shape, 200, dtype=np.uint8)).shape == shape


def test_the_mask_of_a_full_size_image_is_its_breast() -> None:
    pixels = np.zeros((2355, 1315), dtype=np.uint16)
    pixels[200:2200, :900] = 30_000
    mask = tissue_mask(pixels)
    assert abs(mask.mean() - 2000 * 900 / pixels.size) < 0.005


def by_the_rule(pixels: np.ndarray) -> tuple[np.ndarray, float, bool]:
    """Mask, background and whether it looks inverted, by what `tissue_mask` promises and by nothing that is quick."""
    k = max(1, -(-max(pixels.shape) // 512))
    rows, cols = range(0, pixels.shape[0], k), range(0, pixels.shape[1], k)
    means = np.array([[pixels[i : i + k, j : j + k].mean() for j in cols] for i in rows], np.float32)
    bright = float(np.percentile(means, 99.0)) or float(means.max())
    counts, edges = np.histogram(np.sqrt(means), bins=256)
    centres, below = (edges[:-1] + edges[1:]) / 2, np.cumsum(counts)[:-1]
    above, sums = counts.sum() - below, np.cumsum(counts * centres)
    apart = sums[:-1] / np.maximum(below, 1) - (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    otsu = float(edges[1 + np.argmax(below * above * apart**2)])

    def largest(candidates: np.ndarray) -> np.ndarray:
        opened = ndimage.binary_opening(candidates, np.ones((9, 9)))
        parts, count = ndimage.label(opened if opened.any() else candidates)
        sizes = np.bincount(parts.ravel(), minlength=2)[1:]
        return ndimage.binary_fill_holes(parts == 1 + np.argmax(sizes)) if count else candidates

    surely = largest(means > min(otsu**2, 0.15 * bright))
    far = means[~ndimage.binary_dilation(surely, np.ones((41, 41))) & (means > 0)]
    fog = float(np.percentile(far, 90.0)) if far.size else 0.0
    background = min(fog + 0.02 * bright, 0.15 * bright)
    mask = np.kron(largest(means > background), np.ones((k, k), np.bool_))[: pixels.shape[0], : pixels.shape[1]]
    white = float(np.percentile(means, 99.5))
    many, few = np.mean(means >= 0.9 * white), np.mean(means <= 0.15 * white)
    return mask, background, bool(white > 0 and many > 0.25 and many > 2 * few)


@st.composite
def images_of_any_kind(draw: st.DrawFn) -> np.ndarray:
    """A breast of some shape on some fog, noise, sparse points or one gray value; up to 1,100 pixels on one side."""
    rng, dtype = np.random.default_rng(draw(st.integers(0, 10_000))), draw(st.sampled_from([np.uint8, np.uint16]))
    height, width = draw(st.tuples(st.integers(1, 1100), st.integers(1, 90)))
    full = np.iinfo(dtype).max
    kind = draw(st.sampled_from(["breast", "noise", "points", "flat"]))
    rows, cols = np.mgrid[:height, :width]
    inside = ((rows - height / 2) / (0.1 + 0.4 * height)) ** 2 + (cols / (0.1 + rng.uniform(0.3, 2) * width)) ** 2 <= 1
    pixels = {
        "breast": np.where(inside, rng.uniform(0.05, 1), rng.uniform(0, 0.1)) * rng.uniform(0.7, 1, inside.shape),
        "noise": rng.random(inside.shape),
        "points": rng.random(inside.shape) < 0.002,
        "flat": np.full(inside.shape, rng.choice([0, 0.002, 0.5, 1])),
    }[kind]
    pixels = (pixels * full).astype(dtype)
    return pixels.T if draw(st.booleans()) else pixels


def arange(height: int, width: int) -> np.ndarray:
    return np.arange(height * width, dtype=np.uint16).reshape(height, width)


@settings(max_examples=60, deadline=None)
@given(pixels=images_of_any_kind())
@example(arange(1030, 7))
@example(arange(512, 3))
@example(np.zeros((1, 1), np.uint8))
def test_the_breast_is_what_the_rule_says_to_the_last_bit(pixels: np.ndarray) -> None:
    found, (mask, background, looks_inverted) = find_breast(pixels), by_the_rule(pixels)
    np.testing.assert_array_equal(found.mask, mask)
    assert (found.background, found.looks_inverted) == (background, looks_inverted)
    np.testing.assert_array_equal(
        breast_alone(pixels, found), np.where(mask, pixels, np.minimum(pixels, pixels.dtype.type(background)))
    )


@settings(max_examples=60, deadline=None)
@given(
    pixels=images_of_any_kind(),
    patch_px=st.integers(1, 300),
    stride=st.floats(0.1, 1),
    wall=st.sampled_from(["left", "right"]),
)
def test_what_is_told_of_blocks_is_that_of_their_pixels(
    pixels: np.ndarray, patch_px: int, stride: float, wall: str
) -> None:
    found = find_breast(pixels)
    stride_px = max(patch_px // 8, round(stride * patch_px), 1)
    grid = Grid(*pixels.shape, patch_px=patch_px, stride_px=stride_px, chest_wall=wall)
    mask = found.mask
    tops, lefts, bottoms, rights = np.moveaxis(grid.boxes().clip(0), -1, 0)
    before = np.pad(np.cumsum(np.cumsum(mask, axis=0), axis=1), ((1, 0), (1, 0)))
    bottoms, rights = bottoms.clip(max=grid.height), rights.clip(max=grid.width)
    expected = before[bottoms, rights] - before[tops, rights] - before[bottoms, lefts] + before[tops, lefts]
    np.testing.assert_array_equal(found.num_px(grid), expected)
    np.testing.assert_array_equal(found.num_px_of_columns(), mask.sum(axis=0))
    for every in (2, 3):
        np.testing.assert_array_equal(found.spread(found.blocks, every=every), mask[::every, ::every])


@pytest.mark.parametrize("size", [1, 3, 5, 9, 41])
def test_over_squares_is_what_scipys_filters_say(size: int) -> None:
    values = np.random.default_rng(size).integers(1, 255, (37, 50)).astype(np.uint8)
    for combine, by_scipy in ((np.maximum, ndimage.maximum_filter), (np.minimum, ndimage.minimum_filter)):
        expected = by_scipy(values, size=size, mode="constant", cval=0)
        np.testing.assert_array_equal(over_squares(combine, values, size=size), expected)


def half_ellipse(*, height: int, width: int, reach_px: int, margin_px: int = 0) -> np.ndarray:
    """A bright breast on black whose chest wall is a straight edge `margin_px` from the left."""
    rows, cols = np.mgrid[:height, :width]
    down = (rows - height / 2) / (0.45 * height)
    across = (cols - margin_px) / reach_px
    return np.where((down**2 + across**2 <= 1) & (cols >= margin_px), 180, 0).astype(np.uint8)


def test_breast_at_the_left_edge_has_its_chest_wall_left() -> None:
    assert estimate_chest_wall(find_breast(half_ellipse(height=200, width=150, reach_px=90))) == "left"


def test_mirrored_image_gives_the_other_side() -> None:
    assert estimate_chest_wall(find_breast(half_ellipse(height=200, width=150, reach_px=90)[:, ::-1])) == "right"


def test_film_padded_at_the_chest_wall_gives_the_breasts_own_side() -> None:
    assert estimate_chest_wall(find_breast(half_ellipse(height=200, width=300, reach_px=90, margin_px=120))) == "left"


def test_16_bit_image_gives_the_same_side() -> None:
    deep = half_ellipse(height=200, width=150, reach_px=90).astype(np.uint16) * 20
    assert estimate_chest_wall(find_breast(deep)) == "left"


@pytest.mark.parametrize("value", [0, 128], ids=["no breast", "all breast"])
def test_unclear_image_gives_none(value: int) -> None:
    assert estimate_chest_wall(find_breast(np.full((60, 40), value, dtype=np.uint8))) is None


def test_symmetric_shape_gives_none() -> None:
    rows, cols = np.mgrid[:100, :100]
    disc = np.where((rows - 50) ** 2 + (cols - 50) ** 2 < 900, 200, 0).astype(np.uint8)
    assert estimate_chest_wall(find_breast(disc)) is None
