import numpy as np
import pytest

from mmgkeras.overlay.activation import cell_strengths, stitch_cells
from mmgkeras.overlay.marks import CELL_LINE_OPACITY, CELL_OPACITY, STRONG, mark_pixels
from mmgkeras.schema import ActivationMap, Grid, ScoreMap

GRAY = 100
PAIR = Grid(4, 8, 4, 4, "left")
"""Two patches of 4 px beside each other."""


def of_cells(values: list[list[float]]) -> np.ndarray:
    """The pixels of 2 px cells."""
    return np.kron(np.array(values, np.float32), np.ones((2, 2), np.float32))


def parts_of_pair() -> np.ndarray:
    return np.repeat([1, 2], 4) * np.ones((4, 1), np.int64)


def activations(*patches: list[list[float]]) -> ActivationMap:
    """Of patches of 4 px beside each other, with two cells of 2 px each way."""
    return ActivationMap(np.array([patches], np.float32), np.array([0.5, 2.5], np.float32))


def test_cells_lie_where_their_pixels_are() -> None:
    found = stitch_cells(PAIR, activations([[1, 2], [3, 4]], [[5, 6], [7, 8]]))
    np.testing.assert_array_equal(found, of_cells([[1, 2, 5, 6], [3, 4, 7, 8]]))


def test_cells_of_a_right_breast_reach_into_the_padding_at_top_and_left() -> None:
    found = stitch_cells(Grid(3, 3, 4, 4, "right"), activations([[1, 2], [3, 4]]))
    assert found.tolist() == [[1, 2, 2], [3, 4, 4], [3, 4, 4]]


def test_cells_reach_halfway_to_the_next_centre() -> None:
    cells = ActivationMap(np.array([[[[1, 2], [3, 4]]]], np.float32), np.array([0, 2], np.float32))
    assert stitch_cells(Grid(4, 4, 4, 4, "left"), cells).tolist() == [
        [1, 2, 2, 2],
        [3, 4, 4, 4],
        [3, 4, 4, 4],
        [3, 4, 4, 4],
    ]


def test_cells_of_overlapping_patches_are_averaged() -> None:
    found = stitch_cells(Grid(4, 6, 4, 2, "left"), activations([[1, 2], [3, 4]], [[6, 0], [0, 0]]))
    np.testing.assert_array_equal(found, of_cells([[1, 4, 0], [3, 2, 0]]))


def test_strength_runs_from_a_patchs_mean_to_its_peak() -> None:
    activation = activations([[0, 0], [0, 4]], [[-5, -1], [-3, -3]])
    found = cell_strengths(PAIR, activation, is_marked=np.ones((4, 8), bool), parts=parts_of_pair())
    # Means 1 and -3, peaks 4 and -1.
    np.testing.assert_array_equal(found, of_cells([[0, 0, 0, 1], [0, 1, 0, 0]]))
    between = cell_strengths(
        PAIR,
        activations([[0, 0], [2, 6]], [[0, 0], [0, 0]]),
        is_marked=np.ones((4, 8), bool),
        parts=parts_of_pair(),
    )
    np.testing.assert_array_equal(between, of_cells([[0, 0, 0, 0], [0, 1, 0, 0]]))


def test_patches_that_are_not_marked_have_no_strength_and_no_say() -> None:
    is_marked = np.zeros((4, 8), bool)
    is_marked[:, 4:] = True
    activation = activations([[99, 0], [0, 0]], [[0, 1], [0, 3]])
    found = cell_strengths(PAIR, activation, is_marked=is_marked, parts=parts_of_pair())
    np.testing.assert_array_equal(found, of_cells([[0, 0, 0, 0], [0, 0, 0, 1]]))
    nothing = cell_strengths(PAIR, activation, is_marked=np.zeros((4, 8), bool), parts=parts_of_pair())
    assert not nothing.any()


def test_the_same_activation_everywhere_points_nowhere() -> None:
    even = activations([[0.7, 0.7], [0.7, 0.7]], [[0, 0], [0, 0]])
    assert not cell_strengths(PAIR, even, is_marked=np.ones((4, 8), bool), parts=parts_of_pair()).any()


def test_activations_of_other_patches_are_refused() -> None:
    with pytest.raises(ValueError, match=r"needs activations \(1, 2, h, w\). Received: \(1, 1, 2, 2\)"):
        cell_strengths(PAIR, activations([[0, 0], [0, 0]]), is_marked=np.ones((4, 8), bool), parts=parts_of_pair())


def blended(opacity: float) -> list[int]:
    return [round(GRAY + opacity * (part - GRAY)) for part in STRONG]


def test_the_strong_cells_are_tinted_inside_a_thin_line_and_the_weak_left_alone() -> None:
    grid = Grid(40, 40, 40, 40, "left")
    score_map = ScoreMap("a", grid, np.ones((1, 1), np.float32))
    values = np.zeros((1, 1, 4, 4), np.float32)
    values[0, 0, 1, 2] = 1
    cells = ActivationMap(values, np.arange(4, dtype=np.float32) * 10 + 4.5)
    picture = mark_pixels(np.full((40, 40), GRAY, np.uint8), score_map, threshold=0.5, activation=cells)
    inside = picture[1:39, 1:39]
    assert picture[15, 25].tolist() == blended(CELL_OPACITY)
    is_line = (picture == blended(CELL_LINE_OPACITY)).all(axis=2)
    ring = np.zeros((40, 40), bool)
    ring[10:20, 20:30] = True
    ring[11:19, 21:29] = False
    np.testing.assert_array_equal(is_line, ring)
    is_plain = (inside == GRAY).all(axis=2)
    assert is_plain.sum() == 38 * 38 - 10 * 10


def test_activation_is_drawn_where_patches_overlap() -> None:
    score_map = ScoreMap("a", Grid(20, 40, 20, 10, "left"), np.array([[1.0, 1.0, 0.0]], np.float32))
    values = np.zeros((1, 3, 2, 2), np.float32)
    values[0, 1, 0, 0] = 1
    cells = ActivationMap(values, np.array([4.5, 14.5], np.float32))
    picture = mark_pixels(np.full((20, 40), GRAY, np.uint8), score_map, threshold=0.6, activation=cells)
    assert picture[5, 15].tolist() == blended(CELL_OPACITY)
    assert picture[15, 15].tolist() == [GRAY] * 3
