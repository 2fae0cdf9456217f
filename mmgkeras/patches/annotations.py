"""What a data folder says of where calcification is: labels.csv, regions.csv or nothing, image by image.

Owns which of the files counts and what must fit the images; the rule from regions to labels is in `labels`.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras import tables
from mmgkeras.config import PatchesConfig
from mmgkeras.errors import InputError
from mmgkeras.patches.labelling import label_patches
from mmgkeras.patches.region_masks import check_region
from mmgkeras.schema import Grid, ImageRecord, Region

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
        patch_labels: rows of labels.csv of each image that has any; the index is the line.
    """

    data: Path
    config: PatchesConfig
    read_from: ReadFrom
    notes: tuple[str, ...] = ()
    regions: Mapping[str, Sequence[Region]] = field(default_factory=dict)
    patch_labels: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def faults_of_unknown_images(self, image_ids: Collection[str]) -> list[str]:
        """One line for each image that is annotated and not among `image_ids`."""
        path = self.data / self.read_from
        rule = "an annotation must belong to an image of images.csv. Received"
        faults = [
            f"{path}: {rule}: image_id {image_id!r} of region {regions[0].region_id!r}"
            for image_id, regions in self.regions.items()
            if image_id not in image_ids
        ]
        faults.extend(
            f"{path}:{labels.index[0]}: {rule}: image_id {image_id!r}"
            for image_id, labels in self.patch_labels.items()
            if image_id not in image_ids
        )
        return faults

    def faults(self, image_id: str, grid: Grid) -> list[str]:
        """One line for each region or label that does not fit into its image."""
        faults = []
        for region in self.regions.get(image_id, ()):
            try:
                check_region(region, height=grid.height, width=grid.width)
            except InputError as error:
                faults.append(f"{self.data / self.read_from}: {error}")
        labels = self.patch_labels.get(image_id)
        if labels is not None:
            outside = labels[(labels["row"] >= grid.rows) | (labels["col"] >= grid.cols)]
            for line, row, col in zip(outside.index, outside["row"], outside["col"], strict=True):
                rule = f"image {image_id} has {grid.rows} x {grid.cols} patches of {grid.patch_px} px"
                faults.append(f"{self.data / self.read_from}:{line}: {rule}. Received: row {row}, col {col}")
        return faults

    def labels(self, record: ImageRecord, grid: Grid) -> NDArray[np.int8]:
        """(rows, cols) the label of each patch: by regions, or as listed in labels.csv.

        A patch that labels.csv does not list is what an unmarked one is by the image's annotation.
        """
        labels = label_patches(
            grid,
            self.regions.get(record.image_id, ()),
            record=record,
            cluster_fraction=self.config.cluster_fraction,
            label_source=self.config.label_source,
        )
        listed = self.patch_labels.get(record.image_id)
        if listed is not None:
            labels[listed["row"].to_numpy(), listed["col"].to_numpy()] = listed["label"].to_numpy()
        return labels


def read_annotations(data: Path, config: PatchesConfig) -> Annotations:
    """What labels.csv says, or where there is none regions.csv, or nothing where there is neither.

    Raises:
        InputError: if the file cannot be read.
        InputFaultsError: every fault in it.
    """
    labels, regions = data / "labels.csv", data / "regions.csv"
    if labels.exists():
        notes = ("labels.csv and regions.csv are both there; labels.csv was used",) if regions.exists() else ()
        by_image = {
            str(image_id): rows for image_id, rows in tables.read_labels(labels).groupby("image_id", sort=False)
        }
        return Annotations(data, config, "labels.csv", notes, patch_labels=by_image)
    if regions.exists():
        by_id: dict[str, list[Region]] = defaultdict(list)
        for region in tables.read_regions(regions):
            by_id[region.image_id].append(region)
        return Annotations(data, config, "regions.csv", regions=dict(by_id))
    notes = ("neither labels.csv nor regions.csv is there; no patch is positive",)
    return Annotations(data, config, "nothing", notes)
