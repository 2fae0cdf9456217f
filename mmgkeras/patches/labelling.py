"""The label of each patch of an image, by how the annotated regions overlap it.

Owns the rule; regions become pixels in `regions`, the division into patches is `schema.Grid`'s.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmgkeras.patches.region_masks import RegionMask, region_mask
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION, UNKNOWN, Grid, ImageRecord, Region


def label_patches(
    grid: Grid,
    regions: Sequence[Region],
    *,
    record: ImageRecord,
    cluster_fraction: float,
    label_source: Literal["annotated", "assumed"],
) -> NDArray[np.int8]:
    """(rows, cols) 1 for calcification, 0 for none, -1 for unknown: one label a patch.

    A patch is 1 if it holds any pixel of an individual mark (kind "calcification"), or at least `cluster_fraction`
    of a cluster region's pixels (kind "cluster"), or if one covers at least `cluster_fraction` of the patch,
    padding counted. Any other overlap with a cluster region, and any with a region of kind "other", makes it -1.

    A patch that no region touches is 0 if the image's annotation is "complete". With `label_source` "assumed" it is
    also 0 if the reader called the whole image normal (`record.is_called_normal`), which nobody confirmed by marks.
    Otherwise it is -1: on an image with some calcification marked or known, others may be unmarked.

    Args:
        grid: how the image divides.
        regions: those of this image alone.
        record: the image's row of images.csv.
        cluster_fraction: of a cluster region's or the patch's area, above 0 and at most 1.
        label_source: whether normal images without annotation may give patches without calcification.

    Raises:
        InputError: if a region cannot be drawn on the image.
    """
    is_assumed = label_source == "assumed" and record.is_called_normal
    is_clear = record.annotation == "complete" or is_assumed
    labels = np.full((grid.rows, grid.cols), NO_CALCIFICATION if is_clear else UNKNOWN, dtype=np.int8)
    is_positive = np.zeros(labels.shape, dtype=np.bool_)
    for region in regions:
        place, overlap_px, made_positive = _touched(grid, region, cluster_fraction=cluster_fraction)
        labels[place] = np.where(overlap_px > 0, UNKNOWN, labels[place])
        is_positive[place] |= made_positive
    labels[is_positive] = CALCIFICATION
    return labels


def region_overlap(grid: Grid, covered: RegionMask) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The rows (r,) and columns (c,) of patches that a region's window touches, and (r, c) its pixels in each."""
    rows, cols = _reach(grid, covered)
    return rows, cols, _overlap_px(grid, covered, rows=rows, cols=cols)


def positive_patches(grid: Grid, region: Region, *, cluster_fraction: float) -> NDArray[np.bool_]:
    """(rows, cols) which patches one region makes 1 by the rule of `label_patches`, whatever the others do.

    Raises:
        InputError: if the region cannot be drawn on the image.
    """
    is_positive = np.zeros((grid.rows, grid.cols), dtype=np.bool_)
    place, _, made_positive = _touched(grid, region, cluster_fraction=cluster_fraction)
    is_positive[place] = made_positive
    return is_positive


def _touched(
    grid: Grid, region: Region, *, cluster_fraction: float
) -> tuple[tuple[NDArray[np.int64], ...], NDArray[np.int64], NDArray[np.bool_]]:
    """The patches near a region as an index; how many of its pixels each holds; which of them it makes positive."""
    covered = region_mask(region, height=grid.height, width=grid.width)
    rows, cols, overlap_px = region_overlap(grid, covered)
    made_positive = np.zeros(overlap_px.shape, dtype=np.bool_)
    if region.kind == "calcification":
        made_positive = overlap_px > 0
    elif region.kind == "cluster":
        smaller_area_px = min(int(covered.mask.sum()), grid.patch_px**2)
        made_positive = overlap_px >= cluster_fraction * smaller_area_px
    return np.ix_(rows, cols), overlap_px, made_positive


def _reach(grid: Grid, covered: RegionMask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows and columns of patches that the mask's window touches."""
    height, width = covered.mask.shape
    top, left = covered.top + grid.pad_top, covered.left + grid.pad_left
    return (
        _steps(top, height, patch_px=grid.patch_px, stride_px=grid.stride_px, num_steps=grid.rows),
        _steps(left, width, patch_px=grid.patch_px, stride_px=grid.stride_px, num_steps=grid.cols),
    )


def _steps(start_px: int, length_px: int, *, patch_px: int, stride_px: int, num_steps: int) -> NDArray[np.int64]:
    """Which patches along one axis meet the pixels from `start_px`, counted from the padded edge."""
    first = max(0, (start_px - patch_px) // stride_px + 1)
    last = min(num_steps - 1, (start_px + length_px - 1) // stride_px)
    return np.arange(first, last + 1)


def _overlap_px(
    grid: Grid, covered: RegionMask, *, rows: NDArray[np.int64], cols: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(len(rows), len(cols)) how many of the region's pixels each patch holds, from a table of summed areas."""
    height, width = covered.mask.shape
    sums = np.zeros((height + 1, width + 1), dtype=np.int64)
    sums[1:, 1:] = covered.mask.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    tops = rows * grid.stride_px - grid.pad_top - covered.top
    lefts = cols * grid.stride_px - grid.pad_left - covered.left
    top, bottom = np.clip(tops, 0, height), np.clip(tops + grid.patch_px, 0, height)
    left, right = np.clip(lefts, 0, width), np.clip(lefts + grid.patch_px, 0, width)
    return np.asarray(
        sums[np.ix_(bottom, right)] - sums[np.ix_(top, right)] - sums[np.ix_(bottom, left)] + sums[np.ix_(top, left)]
    )
