"""Scores and class activation on runs of pixels: rows, and columns, between which nothing changes, taken as one.

A mammogram has millions of pixels and a thousand patches at most. Marks are found and drawn on what differs; the result
is that of every pixel.
"""

from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mmgkeras.patches.region_masks import cells_of_pixels
from mmgkeras.schema import ActivationMap, Grid, ScoreMap

_T = TypeVar("_T", bound=np.generic)

_TRUNCATE: Final = 4.0
"""Standard deviations at which a Gaussian ends."""


@dataclass(frozen=True, slots=True)
class PixelRuns:
    """Runs of rows and of columns of a grid's pixels.

    Attributes:
        grid: of the mammogram.
        tops: (n,) the first row of each run, rising from 0.
        lefts: (m,) the first column of each.
    """

    grid: Grid
    tops: NDArray[np.int64]
    lefts: NDArray[np.int64]

    @property
    def heights(self) -> NDArray[np.int64]:
        """(n,) the rows of each run."""
        return np.diff(self.tops, append=self.grid.height)

    @property
    def widths(self) -> NDArray[np.int64]:
        """(m,) the columns of each run."""
        return np.diff(self.lefts, append=self.grid.width)

    def spread(self, values: NDArray[_T]) -> NDArray[_T]:
        """(height, width) values (n, m) on their pixels."""
        return values.repeat(self.widths, axis=1).repeat(self.heights, axis=0)

    def mean(self, score_map: ScoreMap) -> NDArray[np.float32]:
        """(n, m) what `ScoreMap.stitch` has there."""
        mean = self.grid.stitch_at(score_map.probabilities, self.tops, self.lefts)
        if score_map.breast is None:
            return mean
        return np.where(score_map.breast[np.ix_(self.tops, self.lefts)], mean, np.float32(0))

    def cells(self, activation: ActivationMap) -> NDArray[np.float32]:
        """(n, m) what `stitch_cells` has there."""
        grid, cell_of = self.grid, cells_of_pixels(activation.centres_px, patch_px=self.grid.patch_px)
        total = np.zeros((len(self.tops), len(self.lefts)), dtype=np.float32)
        count = np.zeros_like(total)
        for row, col, is_there in grid.covering(self.tops, self.lefts):
            down = cell_of[(self.tops + grid.pad_top)[:, None] - row * grid.stride_px]
            across = cell_of[(self.lefts + grid.pad_left)[None, :] - col * grid.stride_px]
            total += np.where(is_there, activation.values[row, col, down, across], np.float32(0))
            count += is_there
        return np.asarray(total / count, dtype=np.float32)


def pixel_runs(score_map: ScoreMap, activation: ActivationMap | None) -> PixelRuns:
    """The longest runs in which neither scores nor breast nor, where there is one, the activation change."""
    breast = score_map.breast
    runs = grid_runs(score_map.grid, activation)
    if breast is None:
        return runs
    tops = np.union1d(runs.tops, 1 + np.flatnonzero((breast[1:] != breast[:-1]).any(axis=1)))
    shapes = breast[tops]  # all that there are
    lefts = np.union1d(runs.lefts, 1 + np.flatnonzero((shapes[:, 1:] != shapes[:, :-1]).any(axis=0)))
    return PixelRuns(score_map.grid, tops, lefts)


def grid_runs(grid: Grid, activation: ActivationMap | None) -> PixelRuns:
    """The same of a mammogram that is all breast."""
    if activation is None:
        return PixelRuns(grid, *grid.runs())
    cell_of = cells_of_pixels(activation.centres_px, patch_px=grid.patch_px)
    return PixelRuns(grid, *grid.runs(parts_px=np.flatnonzero(np.diff(cell_of, prepend=-1)).tolist()))


def stitch_cells(grid: Grid, activation: ActivationMap) -> NDArray[np.float32]:
    """(height, width) each pixel's mean, over the patches that cover it, of the cell that it belongs to."""
    runs = grid_runs(grid, activation)
    return runs.spread(runs.cells(activation))


def smoothed_cells(score_map: ScoreMap, activation: ActivationMap, window: tuple[slice, slice]) -> NDArray[np.float64]:
    """(n, m) `stitch_cells` in a window of rows and columns, smoothed, so that a peak lies where cells lean to.

    Gaussian, with a standard deviation of an eighth of a patch. Off the breast it is as low as it is anywhere.
    """
    grid, sigma_px, lowest = score_map.grid, score_map.grid.patch_px / 8, float(activation.values.min())
    reach_px = int(_TRUNCATE * sigma_px + 0.5)
    rows, cols = (
        np.arange(max(side.start - reach_px, 0), min(side.stop + reach_px, length))
        for side, length in zip(window, (grid.height, grid.width), strict=True)
    )
    cells = PixelRuns(grid, rows, cols).cells(activation).astype(np.float64)
    if score_map.breast is not None:
        cells[~score_map.breast[np.ix_(rows, cols)]] = lowest
    smoothed = ndimage.gaussian_filter(cells, sigma_px, mode="constant", cval=lowest, truncate=_TRUNCATE)
    top, left = window[0].start - int(rows[0]), window[1].start - int(cols[0])
    height, width = (side.stop - side.start for side in window)
    return np.asarray(smoothed[top : top + height, left : left + width])


def cell_strengths(runs: PixelRuns, activation: ActivationMap, *, parts: NDArray[np.integer]) -> NDArray[np.float32]:
    """(n, m) 0 to 1: where the activation of a pixel's cell lies between its part's mean (0) and peak (1).

    It is 0 at the mean and below, and where nothing is marked. A part with the same activation everywhere points
    nowhere and is 0. Where patches overlap, the mean of their activations is taken pixel by pixel.

    Args:
        runs: of the score map and the activation.
        activation: of its patches.
        parts: (n, m) from 1, the number of the part to which each marked pixel belongs: a patch, or patches that
            overlap; 0 where nothing is marked.

    Raises:
        ValueError: if the activation is not that of the grid's patches.
    """
    grid, shape = runs.grid, activation.values.shape
    if len(shape) != 4 or shape[:2] != (grid.rows, grid.cols):
        raise ValueError(f"The grid needs activations ({grid.rows}, {grid.cols}, h, w). Received: {shape}")
    strengths = np.zeros(parts.shape, dtype=np.float32)
    if not parts.any():
        return strengths
    values, area = runs.cells(activation), np.outer(runs.heights, runs.widths)
    of_parts = np.bincount(parts.ravel(), weights=(values * area.astype(np.float64)).ravel())
    means = (of_parts / np.bincount(parts.ravel(), weights=area.ravel()).clip(1)).astype(np.float32)
    peaks = np.full_like(means, -np.inf)
    np.maximum.at(peaks, parts, values)
    above, room = values - means[parts], (peaks - means)[parts]
    # A mean of equal floats may differ from them in the last bits, which must not become the whole scale.
    np.divide(above, room, out=strengths, where=(parts > 0) & (room > 1e-4 * np.abs(peaks[parts])))
    return np.clip(strengths, 0, 1)
