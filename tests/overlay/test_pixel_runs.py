"""Scores and cells on runs of pixels, against all pixels."""

import numpy as np
import pytest

from mmgkeras.overlay.pixel_runs import cell_strengths, grid_runs, pixel_runs, stitch_cells
from mmgkeras.schema import ActivationMap, Grid, ScoreMap

PAIR = Grid(4, 8, 4, 4, "left")
"""Two patches of 4 px beside each other."""


def strengths_of(grid: Grid, activation: ActivationMap, *, is_marked: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Of pixels (height, width), from what is told of each."""
    runs = grid_runs(grid, activation)
    numbers = np.where(is_marked, parts, 0)[np.ix_(runs.tops, runs.lefts)]
    return runs.spread(cell_strengths(runs, activation, parts=numbers))


@pytest.mark.parametrize("stride_px", [4, 3])
def test_runs_end_where_scores_breast_or_cells_change(stride_px: int) -> None:
    generator = np.random.default_rng(0)
    grid = Grid(13, 11, 4, stride_px, "right")
    breast = np.zeros((13, 11), np.bool_)
    breast[5:10, 2:9] = True
    score_map = ScoreMap("x", grid, generator.random((grid.rows, grid.cols), np.float32), breast=breast)
    activation = ActivationMap(
        generator.random((grid.rows, grid.cols, 2, 2), np.float32), np.array([0.5, 2.5], np.float32)
    )
    runs = pixel_runs(score_map, activation)
    np.testing.assert_array_equal(runs.spread(runs.mean(score_map)), score_map.stitch())
    np.testing.assert_array_equal(runs.spread(runs.cells(activation)), stitch_cells(grid, activation))
    assert {5, 10} <= set(runs.tops)
    assert {2, 9} <= set(runs.lefts)
    assert runs.heights.sum() == 13
    plain = pixel_runs(ScoreMap("x", Grid(8, 12, 4, 4, "left"), np.zeros((2, 3), np.float32)), None)
    assert (plain.tops.tolist(), plain.lefts.tolist()) == ([0, 4], [0, 4, 8])


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


@pytest.mark.parametrize(("stride_px", "chest_wall"), [(4, "left"), (3, "right"), (1, "left")])
def test_cells_are_averaged_pixel_by_pixel(stride_px: int, chest_wall: str) -> None:
    grid = Grid(11, 9, 4, stride_px, chest_wall)
    values = np.random.default_rng(0).random((grid.rows, grid.cols, 3, 3), dtype=np.float32)
    total = np.zeros((11 + grid.pad_top, 9 + grid.pad_left + grid.pad_right), np.float32)
    count = np.zeros_like(total)
    cells = np.ix_([0, 1, 1, 2], [0, 1, 1, 2])
    for row, col in np.ndindex(grid.rows, grid.cols):
        place = np.s_[row * stride_px : row * stride_px + 4, col * stride_px : col * stride_px + 4]
        total[place] += values[row, col][cells]
        count[place] += 1
    expected = (total / count)[grid.pad_top :, grid.pad_left : grid.pad_left + 9]
    found = stitch_cells(grid, ActivationMap(values, np.array([0, 1.5, 3], np.float32)))
    np.testing.assert_array_equal(found, expected)


def test_strength_runs_from_a_patchs_mean_to_its_peak() -> None:
    activation = activations([[0, 0], [0, 4]], [[-5, -1], [-3, -3]])
    found = strengths_of(PAIR, activation, is_marked=np.ones((4, 8), bool), parts=parts_of_pair())
    # Means 1 and -3, peaks 4 and -1.
    np.testing.assert_array_equal(found, of_cells([[0, 0, 0, 1], [0, 1, 0, 0]]))
    between = strengths_of(
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
    found = strengths_of(PAIR, activation, is_marked=is_marked, parts=parts_of_pair())
    np.testing.assert_array_equal(found, of_cells([[0, 0, 0, 0], [0, 0, 0, 1]]))
    nothing = strengths_of(PAIR, activation, is_marked=np.zeros((4, 8), bool), parts=parts_of_pair())
    assert not nothing.any()


def test_the_same_activation_everywhere_points_nowhere() -> None:
    even = activations([[0.7, 0.7], [0.7, 0.7]], [[0, 0], [0, 0]])
    assert not strengths_of(PAIR, even, is_marked=np.ones((4, 8), bool), parts=parts_of_pair()).any()


def test_activations_of_other_patches_are_refused() -> None:
    with pytest.raises(ValueError, match=r"needs activations \(1, 2, h, w\). Received: \(1, 1, 2, 2\)"):
        strengths_of(PAIR, activations([[0, 0], [0, 0]]), is_marked=np.ones((4, 8), bool), parts=parts_of_pair())
