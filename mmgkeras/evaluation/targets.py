"""Which patches make up one finding: a cluster with the marks inside it, or a mark that lies in no cluster.

Owns what counts as inside. Which patches a region makes positive is the label rule's, in `patches.labels`.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from mmgkeras.patches.labelling import positive_patches
from mmgkeras.patches.region_masks import RegionMask, region_mask
from mmgkeras.schema import Grid, Region

INSIDE_FRACTION: Final = 0.5
"""A mark with at least this part of its pixels in a cluster region is a part of that cluster."""

Place = tuple[int, int]
"""Row and column of a patch in its image's grid."""


def patches_of_findings(regions: Sequence[Region], grid: Grid, *, cluster_fraction: float) -> list[set[Place]]:
    """The positive patches of each finding of one image: clusters first, then the marks that lie in none.

    The patches of a mark are those that it makes positive by the label rule. Those of a cluster are the ones that its
    envelope makes positive and those that the marks inside it do, for its marks are one finding, found when any patch
    of it is. A mark that lies in several clusters belongs to each. Regions of kind "other" are no findings. A finding
    may have no patch: an envelope on the corner of four patches can make all of them unknown.

    Raises:
        InputError: if a region cannot be drawn on the image.
    """
    clusters = [region for region in regions if region.kind == "cluster"]
    envelopes = [region_mask(region, height=grid.height, width=grid.width) for region in clusters]
    of_clusters = [_made_positive(region, grid, cluster_fraction=cluster_fraction) for region in clusters]
    of_marks = []
    for mark in (region for region in regions if region.kind == "calcification"):
        pixels = region_mask(mark, height=grid.height, width=grid.width)
        own = _made_positive(mark, grid, cluster_fraction=cluster_fraction)
        enough_px = INSIDE_FRACTION * pixels.mask.sum()
        around = [index for index, envelope in enumerate(envelopes) if _shared_px(pixels, envelope) >= enough_px]
        for index in around:
            of_clusters[index] |= own
        if not around:
            of_marks.append(own)
    return of_clusters + of_marks


def _made_positive(region: Region, grid: Grid, *, cluster_fraction: float) -> set[Place]:
    places = np.argwhere(positive_patches(grid, region, cluster_fraction=cluster_fraction))
    return {(int(row), int(col)) for row, col in places}


def _shared_px(one: RegionMask, other: RegionMask) -> int:
    """How many pixels two regions of one image share."""
    top, left = max(one.top, other.top), max(one.left, other.left)
    bottom = min(one.top + one.mask.shape[0], other.top + other.mask.shape[0])
    right = min(one.left + one.mask.shape[1], other.left + other.mask.shape[1])
    if top >= bottom or left >= right:
        return 0
    windows = [
        mask.mask[top - mask.top : bottom - mask.top, left - mask.left : right - mask.left] for mask in (one, other)
    ]
    return int((windows[0] & windows[1]).sum())
