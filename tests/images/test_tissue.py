"""Breast against background."""

import numpy as np
import pytest

from mmgkeras.images import estimate_chest_wall, tissue_mask


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


def half_ellipse(*, height: int, width: int, reach_px: int, margin_px: int = 0) -> np.ndarray:
    """A bright breast on black whose chest wall is a straight edge `margin_px` from the left."""
    rows, cols = np.mgrid[:height, :width]
    down = (rows - height / 2) / (0.45 * height)
    across = (cols - margin_px) / reach_px
    return np.where((down**2 + across**2 <= 1) & (cols >= margin_px), 180, 0).astype(np.uint8)


def test_breast_at_the_left_edge_has_its_chest_wall_left() -> None:
    assert estimate_chest_wall(tissue_mask(half_ellipse(height=200, width=150, reach_px=90))) == "left"


def test_mirrored_image_gives_the_other_side() -> None:
    assert estimate_chest_wall(tissue_mask(half_ellipse(height=200, width=150, reach_px=90)[:, ::-1])) == "right"


def test_film_padded_at_the_chest_wall_gives_the_breasts_own_side() -> None:
    assert estimate_chest_wall(tissue_mask(half_ellipse(height=200, width=300, reach_px=90, margin_px=120))) == "left"


def test_16_bit_image_gives_the_same_side() -> None:
    deep = half_ellipse(height=200, width=150, reach_px=90).astype(np.uint16) * 20
    assert estimate_chest_wall(tissue_mask(deep)) == "left"


@pytest.mark.parametrize("value", [0, 128], ids=["no breast", "all breast"])
def test_unclear_image_gives_none(value: int) -> None:
    assert estimate_chest_wall(tissue_mask(np.full((60, 40), value, dtype=np.uint8))) is None


def test_symmetric_shape_gives_none() -> None:
    rows, cols = np.mgrid[:100, :100]
    disc = np.where((rows - 50) ** 2 + (cols - 50) ** 2 < 900, 200, 0).astype(np.uint8)
    assert estimate_chest_wall(tissue_mask(disc)) is None
