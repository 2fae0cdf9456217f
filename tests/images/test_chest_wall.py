"""The chest-wall side by the pixels."""

import numpy as np
import pytest

from mmgkeras.images import estimate_chest_wall


def half_ellipse(*, height: int, width: int, reach_px: int, margin_px: int = 0) -> np.ndarray:
    """A bright breast on black whose chest wall is a straight edge `margin_px` from the left."""
    rows, cols = np.mgrid[:height, :width]
    down = (rows - height / 2) / (0.45 * height)
    across = (cols - margin_px) / reach_px
    return np.where((down**2 + across**2 <= 1) & (cols >= margin_px), 180, 0).astype(np.uint8)


def test_breast_at_the_left_edge_has_its_chest_wall_left() -> None:
    assert estimate_chest_wall(half_ellipse(height=200, width=150, reach_px=90)) == "left"


def test_mirrored_image_gives_the_other_side() -> None:
    assert estimate_chest_wall(half_ellipse(height=200, width=150, reach_px=90)[:, ::-1]) == "right"


def test_film_padded_at_the_chest_wall_gives_the_breasts_own_side() -> None:
    assert estimate_chest_wall(half_ellipse(height=200, width=300, reach_px=90, margin_px=120)) == "left"


def test_16_bit_image_gives_the_same_side() -> None:
    deep = half_ellipse(height=200, width=150, reach_px=90).astype(np.uint16) * 20
    assert estimate_chest_wall(deep) == "left"


@pytest.mark.parametrize("value", [0, 128], ids=["no breast", "all breast"])
def test_unclear_image_gives_none(value: int) -> None:
    assert estimate_chest_wall(np.full((60, 40), value, dtype=np.uint8)) is None


def test_symmetric_shape_gives_none() -> None:
    rows, cols = np.mgrid[:100, :100]
    disc = np.where((rows - 50) ** 2 + (cols - 50) ** 2 < 900, 200, 0).astype(np.uint8)
    assert estimate_chest_wall(disc) is None
