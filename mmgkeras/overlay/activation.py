"""Class activation as it is drawn: in which cells of a marked patch the model saw what it marked.

Owns how activations of patches become strengths of pixels. Colours and lines are `marks`' affair.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mmgkeras.patches.cells import cells_of_pixels
from mmgkeras.schema import ActivationMap, Grid


def cell_strengths(
    grid: Grid, activation: ActivationMap, *, is_marked: NDArray[np.bool_], parts: NDArray[np.integer]
) -> NDArray[np.float32]:
    """(height, width) 0 to 1: where the activation of a pixel's cell lies between its part's mean (0) and peak (1).

    It is 0 at the mean and below, and where nothing is marked. A part with the same activation everywhere points
    nowhere and is 0. Where patches overlap, the mean of their activations is taken pixel by pixel.

    Args:
        grid: of the image.
        activation: of its patches.
        is_marked: (height, width) the pixels that are marked.
        parts: (height, width) from 1, the number of the part to which each marked pixel belongs: a patch, or patches
            that overlap.

    Raises:
        ValueError: if the activation is not that of the grid's patches.
    """
    shape = activation.values.shape
    if len(shape) != 4 or shape[:2] != (grid.rows, grid.cols):
        raise ValueError(f"The grid needs activations ({grid.rows}, {grid.cols}, h, w). Received: {shape}")
    strengths = np.zeros(is_marked.shape, dtype=np.float32)
    if not is_marked.any():
        return strengths
    pixels = stitch_cells(grid, activation)
    numbers = np.where(is_marked, parts, 0)
    index = np.arange(1, int(numbers.max()) + 1)
    is_there = np.isin(index, numbers)
    means, peaks = (np.zeros(len(index) + 1, dtype=np.float32) for _ in range(2))
    means[1:][is_there] = ndimage.mean(pixels, numbers, index[is_there])
    peaks[1:][is_there] = ndimage.maximum(pixels, numbers, index[is_there])
    above, room = pixels - means[numbers], (peaks - means)[numbers]
    # A mean of equal floats may differ from them in the last bits, which must not become the whole scale.
    np.divide(above, room, out=strengths, where=is_marked & (room > 1e-4 * np.abs(peaks[numbers])))
    return np.clip(strengths, 0, 1)


def stitch_cells(grid: Grid, activation: ActivationMap) -> NDArray[np.float32]:
    """(height, width) each pixel's mean, over the patches that cover it, of the cell that it belongs to."""
    total = np.zeros((grid.height + grid.pad_top, grid.width + grid.pad_left + grid.pad_right), dtype=np.float32)
    count = np.zeros_like(total)
    cell_of = cells_of_pixels(activation.centres_px, patch_px=grid.patch_px)
    cells = np.ix_(cell_of, cell_of)
    for row in range(grid.rows):
        for col in range(grid.cols):
            top, left = row * grid.stride_px, col * grid.stride_px
            place = np.s_[top : top + grid.patch_px, left : left + grid.patch_px]
            total[place] += activation.values[row, col][cells]
            count[place] += 1
    mean = total / count
    return mean[grid.pad_top :, grid.pad_left : grid.pad_left + grid.width]
