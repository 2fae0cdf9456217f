"""Targets: what is to be found in the images of a set of predictions, and which patches make up each.

Owns what a target is: a cluster with the marks inside it, or a mark that lies in no cluster; where only labels exist, a
connected set of positive patches. Which patches a region makes positive is the label rule's, in `patches.labelling`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd
from scipy import ndimage

from mmgkeras.errors import InputError
from mmgkeras.patches.labelling import positive_patches
from mmgkeras.patches.region_masks import region_mask
from mmgkeras.schema import CALCIFICATION, Grid, Region

INSIDE_FRACTION: Final = 0.5
"""A mark with at least this part of its pixels in a cluster region is a part of that cluster."""
_EIGHT_NEIGHBOURS: Final = np.ones((3, 3), dtype=np.int64)

Place = tuple[int, int]
"""Row and column of a patch in its image's grid."""


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to be found: hit when any of its patches, (row, col), scores at or above the threshold."""

    fold: int
    image_id: str
    patches: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Targets:
    """What is to be found in the images of a set of predictions.

    Attributes:
        kind: "region", annotated, or "component", 8-connected positive patches where only labels exist.
        items: one for each target of each fold.
        num_left_out: regions without any positive patch among the predictions, which nothing could hit.
    """

    kind: Literal["region", "component"]
    items: tuple[Target, ...]
    num_left_out: int = 0


def targets_from_labels(predictions: pd.DataFrame) -> Targets:
    """The 8-connected components of patches labelled 1 in each image of each fold.

    Args:
        predictions: with the columns of predictions.csv. A patch that was left out of them connects nothing.
    """
    items: list[Target] = []
    positives = predictions[predictions["label"] == CALCIFICATION]
    for _, patches in positives.groupby(["fold", "image_id"], sort=False):
        fold, image_id = int(patches["fold"].iloc[0]), str(patches["image_id"].iloc[0])
        rows, cols = patches["row"].to_numpy(), patches["col"].to_numpy()
        is_positive = np.zeros((rows.max() + 1, cols.max() + 1), dtype=np.bool_)
        is_positive[rows, cols] = True
        components, number = ndimage.label(is_positive, structure=_EIGHT_NEIGHBOURS)
        for component in range(1, number + 1):
            places = tuple((row, col) for row, col in np.argwhere(components == component).tolist())
            items.append(Target(fold, image_id, places))
    return Targets("component", tuple(items))


def targets_from_regions(
    predictions: pd.DataFrame,
    regions: Sequence[Region],
    grids: Mapping[str, Grid],
    *,
    cluster_fraction: float = 0.5,
) -> Targets:
    """One target for each cluster, and for each individual mark that lies in no cluster region.

    The marks of a cluster are one finding with it, see `findings`. Only patches that are labelled 1 in the predictions
    count; a region none of whose patches is, such as an envelope that lies on the corner of four patches, is left out
    and counted.

    Args:
        predictions: with the columns of predictions.csv; images without any are passed over.
        regions: of all images.
        grids: how each image was divided, by image_id.
        cluster_fraction: of the label rule, `patches.cluster_fraction` of the configuration.

    Raises:
        InputError: if an image with regions has no grid, or a region cannot be drawn on its image.
    """
    by_image = defaultdict(list)
    for region in regions:
        by_image[region.image_id].append(region)
    positives: dict[tuple[int, str], set[Place]] = defaultdict(set)
    is_positive = predictions["label"] == CALCIFICATION
    columns = (predictions.loc[is_positive, name].tolist() for name in ("fold", "image_id", "row", "col"))
    for fold, image_id, row, col in zip(*columns, strict=True):
        positives[fold, image_id].add((row, col))
    items, num_left_out = [], 0
    images = predictions[["fold", "image_id"]].drop_duplicates()
    for fold, image_id in zip(images["fold"].tolist(), images["image_id"].tolist(), strict=True):
        if image_id not in by_image:
            continue
        if image_id not in grids:
            raise InputError(f"image {image_id}: has regions and predictions, but no grid is known of it")
        for finding in patches_of_findings(by_image[image_id], grids[image_id], cluster_fraction=cluster_fraction):
            hittable = tuple(sorted(finding & positives[fold, image_id]))
            if hittable:
                items.append(Target(fold, image_id, hittable))
            else:
                num_left_out += 1
    return Targets("region", tuple(items), num_left_out)


def patches_of_findings(regions: Sequence[Region], grid: Grid, *, cluster_fraction: float) -> list[set[Place]]:
    """The positive patches of each finding of one image: clusters first, then the marks that lie in none.

    The patches of a mark are those that hold a pixel of it. Those of a cluster are the ones that its region makes
    positive and those that the marks inside it do, for its marks are one finding, found when any patch of it is. A mark
    that lies in several clusters belongs to each. Regions of kind "other" are no findings. A finding may have no patch:
    one on the corner of four patches can make all of them unknown.

    Raises:
        InputError: if a region cannot be drawn on the image.
    """
    clusters = [region for region in regions if region.kind == "cluster"]
    envelopes = np.zeros((len(clusters), grid.height, grid.width), dtype=np.bool_)
    for envelope, region in zip(envelopes, clusters, strict=True):
        covered = region_mask(region, height=grid.height, width=grid.width)
        envelope[covered.window] = covered.mask
    of_clusters = [_made_positive(region, grid, cluster_fraction=cluster_fraction) for region in clusters]
    of_marks = []
    for mark in (region for region in regions if region.kind == "calcification"):
        pixels = region_mask(mark, height=grid.height, width=grid.width)
        own = _made_positive(mark, grid, cluster_fraction=cluster_fraction)
        shared_px = (envelopes[:, *pixels.window] & pixels.mask).sum(axis=(1, 2))
        around = np.flatnonzero(shared_px >= INSIDE_FRACTION * pixels.mask.sum()).tolist()
        for index in around:
            of_clusters[index] |= own
        if not around:
            of_marks.append(own)
    return of_clusters + of_marks


def _made_positive(region: Region, grid: Grid, *, cluster_fraction: float) -> set[Place]:
    places = np.argwhere(positive_patches(grid, region, cluster_fraction=cluster_fraction))
    return {(row, col) for row, col in places.tolist()}
