"""The annotations of a data folder (labels.csv, regions.csv or nothing) and the label of each patch by them.

Owns the rule; regions become pixels in `region_masks`, the division into patches is `schema.Grid`'s.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras import tables
from mmgkeras.config import PatchesConfig
from mmgkeras.errors import InputError
from mmgkeras.patches.region_masks import (
    BEYOND,
    RegionMask,
    check_region,
    reaches_beyond,
    region_mask,
    scaled_region,
)
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION, UNKNOWN, Grid, ImageRecord, Region


def label_patches(
    grid: Grid, regions: Sequence[Region], *, record: ImageRecord, config: PatchesConfig
) -> NDArray[np.int8]:
    """(rows, cols) 1 for calcification, 0 for none, -1 for unknown: one label a patch.

    A patch is 1 if it holds any pixel of at least `min_marks` individual marks (kind "calcification"), or at least
    `cluster_fraction` of a cluster region's pixels (kind "cluster"), or if one covers at least `cluster_fraction` of
    the patch, padding counted. Fewer marks, any other overlap with a cluster region, and any with a region of kind
    "other" make it -1.

    A patch that no region touches is 0 if the image's annotation is "complete". With `label_source` "assumed" it is
    also 0 if the reader called the whole image normal (`record.is_called_normal`), which nobody confirmed by marks.
    Otherwise it is -1: on an image with some calcification marked or known, others may be unmarked.

    Raises:
        InputError: if a region cannot be drawn on the image.
    """
    is_assumed = config.label_source == "assumed" and record.is_called_normal
    is_clear = record.annotation == "complete" or is_assumed
    labels = np.full((grid.rows, grid.cols), NO_CALCIFICATION if is_clear else UNKNOWN, dtype=np.int8)
    is_positive = np.zeros(labels.shape, dtype=np.bool_)
    num_marks = np.zeros(labels.shape, dtype=np.int64)
    for region in regions:
        place, overlap_px, made_positive = _touched(grid, region, cluster_fraction=config.cluster_fraction)
        labels[place] = np.where(overlap_px > 0, UNKNOWN, labels[place])
        if region.kind == "calcification":
            num_marks[place] += made_positive
        else:
            is_positive[place] |= made_positive
    labels[is_positive | (num_marks >= config.min_marks)] = CALCIFICATION
    return labels


def region_overlap(grid: Grid, covered: RegionMask) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The rows (r,) and columns (c,) of patches that a region's window touches, and (r, c) its pixels in each."""
    height, width = covered.mask.shape
    rows = _steps(grid, covered.top + grid.pad_top, length_px=height, num_steps=grid.rows)
    cols = _steps(grid, covered.left + grid.pad_left, length_px=width, num_steps=grid.cols)
    sums = np.zeros((height + 1, width + 1), dtype=np.int64)
    sums[1:, 1:] = covered.mask.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    tops = rows * grid.stride_px - grid.pad_top - covered.top
    lefts = cols * grid.stride_px - grid.pad_left - covered.left
    top, bottom = np.clip(tops, 0, height), np.clip(tops + grid.patch_px, 0, height)
    left, right = np.clip(lefts, 0, width), np.clip(lefts + grid.patch_px, 0, width)
    overlap_px = sums[np.ix_(bottom, right)] - sums[np.ix_(top, right)] - sums[np.ix_(bottom, left)]
    return rows, cols, np.asarray(overlap_px + sums[np.ix_(top, left)])


def _steps(grid: Grid, start_px: int, *, length_px: int, num_steps: int) -> NDArray[np.int64]:
    """Which patches along one axis meet the pixels from `start_px`, counted from the padded edge."""
    first = max(0, (start_px - grid.patch_px) // grid.stride_px + 1)
    last = min(num_steps - 1, (start_px + length_px - 1) // grid.stride_px)
    return np.arange(first, last + 1)


def positive_patches(grid: Grid, region: Region, *, cluster_fraction: float) -> NDArray[np.bool_]:
    """(rows, cols) which patches one region makes 1 by the rule of `label_patches`, if one mark is enough.

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


ReadFrom = Literal["labels.csv", "regions.csv", "nothing"]


@dataclass(frozen=True, slots=True)
class Annotations:
    """The annotations of a data set by image_id.

    Attributes:
        data: the folder they were read from.
        config: the label rule's settings.
        read_from: the file that counts.
        notes: what should be known of that choice.
        regions: of each image that has any.
        region_lines: the line of each of these regions, by its id.
        patch_labels: rows of labels.csv of each image that has any; the index is the line.
    """

    data: Path
    config: PatchesConfig
    read_from: ReadFrom
    notes: tuple[str, ...] = ()
    regions: Mapping[str, Sequence[Region]] = field(default_factory=dict)
    region_lines: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    patch_labels: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def only(self, image_id: str) -> "Annotations":
        """The same of one image alone."""
        regions, labels = self.regions.get(image_id), self.patch_labels.get(image_id)
        return replace(
            self,
            regions={} if regions is None else {image_id: regions},
            region_lines={} if regions is None else {image_id: self.region_lines[image_id]},
            patch_labels={} if labels is None else {image_id: labels},
        )

    def place_of(self, region: Region) -> str:
        """The file and line of a region."""
        return f"{self.data / self.read_from}:{self.region_lines[region.image_id][region.region_id]}"

    def faults_of_unknown_images(self, image_ids: Collection[str]) -> list[str]:
        """One line for each image that is annotated and not among `image_ids`."""
        rule = "an annotation must belong to an image of images.csv. Received"
        faults = [
            f"{self.place_of(regions[0])}: {rule}: image_id {image_id!r} of region {regions[0].region_id!r}"
            for image_id, regions in self.regions.items()
            if image_id not in image_ids
        ]
        faults.extend(
            f"{self.data / self.read_from}:{labels.index[0]}: {rule}: image_id {image_id!r}"
            for image_id, labels in self.patch_labels.items()
            if image_id not in image_ids
        )
        return faults

    def faults(self, image_id: str, grid: Grid, *, shape: tuple[int, int]) -> list[str]:
        """One line for each region or label that does not fit into its image.

        Args:
            image_id: of the image.
            grid: how it was divided, as it is or resampled.
            shape: (height, width) of the image as it is, which regions are drawn on.
        """
        faults = []
        for region in self.regions.get(image_id, ()):
            try:
                check_region(region, height=shape[0], width=shape[1])
            except InputError as error:
                faults.append(f"{self.place_of(region)}: {error}")
        labels = self.patch_labels.get(image_id)
        if labels is not None:
            outside = labels[(labels["row"] >= grid.rows) | (labels["col"] >= grid.cols)]
            for line, row, col in zip(outside.index, outside["row"], outside["col"], strict=True):
                rule = f"image {image_id} has {grid.rows} x {grid.cols} patches of {grid.patch_px} px"
                faults.append(f"{self.data / self.read_from}:{line}: {rule}. Received: row {row}, col {col}")
        return faults

    def fitting(self, image_id: str, *, shape: tuple[int, int]) -> "Annotations":
        """The same without the regions of an image, (height, width) as it is, that do not fit into it."""

        def fits(region: Region) -> bool:
            try:
                check_region(region, height=shape[0], width=shape[1])
            except InputError:
                return False
            return True

        return replace(self, regions={image_id: [one for one in self.regions.get(image_id, ()) if fits(one)]})

    def remarks(self, image_id: str, *, shape: tuple[int, int]) -> list[str]:
        """One line for each region that is cut at the edge of its image (H, W) as stored."""
        return [
            f"{self.place_of(region)}: image {image_id}, region {region.region_id}: {BEYOND}"
            for region in self.regions.get(image_id, ())
            if reaches_beyond(region, height=shape[0], width=shape[1])
        ]

    def regions_on(self, image_id: str, grid: Grid, *, shape: tuple[int, int]) -> list[Region]:
        """The regions of an image in the pixels of its grid; arguments as of `faults`."""
        regions = self.regions.get(image_id, ())
        return [scaled_region(region, shape=shape, to=(grid.height, grid.width)) for region in regions]

    def labels(self, record: ImageRecord, grid: Grid, *, shape: tuple[int, int]) -> NDArray[np.int8]:
        """(rows, cols) the label of each patch: by regions, or as listed in labels.csv.

        A patch that labels.csv does not list is what an unmarked one is by the image's annotation. Arguments as of
        `faults`.
        """
        regions = self.regions_on(record.image_id, grid, shape=shape)
        labels = label_patches(grid, regions, record=record, config=self.config)
        listed = self.patch_labels.get(record.image_id)
        if listed is not None:
            labels[listed["row"].to_numpy(), listed["col"].to_numpy()] = listed["label"].to_numpy()
        return labels


def read_annotations(data: Path, config: PatchesConfig, *, faults: list[str] | None = None) -> Annotations:
    """What labels.csv says, or where there is none regions.csv, or nothing where there is neither.

    Where the list is given, the faults of single rows are put there, and the others count.

    Raises:
        InputError: if the file cannot be read.
        InputFaultsError: every fault in it.
    """
    labels, regions = data / "labels.csv", data / "regions.csv"
    if labels.exists():
        notes = ("labels.csv and regions.csv are both there; labels.csv was used",) if regions.exists() else ()
        by_image = {
            str(image_id): rows
            for image_id, rows in tables.read_labels(labels, faults=faults).groupby("image_id", sort=False)
        }
        return Annotations(data, config, "labels.csv", notes, patch_labels=by_image)
    if regions.exists():
        by_id: dict[str, list[Region]] = defaultdict(list)
        lines: dict[tuple[str, str], int] = {}
        lines_by_id: dict[str, dict[str, int]] = defaultdict(dict)
        for region in tables.read_regions(regions, faults=faults, lines=lines):
            by_id[region.image_id].append(region)
            lines_by_id[region.image_id][region.region_id] = lines[region.image_id, region.region_id]
        return Annotations(data, config, "regions.csv", regions=dict(by_id), region_lines=dict(lines_by_id))
    notes = ("neither labels.csv nor regions.csv is there; no patch is positive",)
    return Annotations(data, config, "nothing", notes)
