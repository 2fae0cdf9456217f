import numpy as np
import pytest

from mmgkeras.patches.cells import cells_of_pixels


def test_centres_in_the_middle_of_equal_shares_give_equal_shares() -> None:
    cells = cells_of_pixels(np.arange(7) * 32 + 15.5, patch_px=224)
    np.testing.assert_array_equal(cells, np.repeat(np.arange(7), 32))


def test_centres_half_a_cell_before_give_the_first_cell_half_and_the_last_the_rest() -> None:
    cells = cells_of_pixels(np.arange(7) * 32.0, patch_px=224)
    np.testing.assert_array_equal(cells, np.repeat(np.arange(7), [16, 32, 32, 32, 32, 32, 48]))


@pytest.mark.parametrize("centre", [0.0, 15.5])
def test_one_cell_has_all_pixels(centre: float) -> None:
    assert cells_of_pixels(np.array([centre]), patch_px=32).tolist() == [0] * 32
