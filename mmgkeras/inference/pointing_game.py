"""Where a model looks in patches of known calcification, held against the annotated regions.

Owns which patches take part and what a patch's finding is; the rule of a hit is `evaluation.behaviour`'s.
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.evaluation.behaviour import point_at
from mmgkeras.inference.scoring import check_fits
from mmgkeras.patches.region_masks import region_mask
from mmgkeras.patches.store import PatchStore
from mmgkeras.progress import Track, untracked
from mmgkeras.savedmodel.classifier import Classifier
from mmgkeras.schema import CALCIFICATION, Grid, Kind, Region
from mmgkeras.study.run_files import POINTING

TARGETS: Final[tuple[Kind, ...]] = ("calcification", "cluster")
"""Kinds of region that are a finding, the closer one first: a cluster region also holds the tissue between marks."""


def point(
    classifier: Classifier,
    store: PatchStore,
    *,
    data: Path,
    indices: NDArray[np.int64],
    track: Track = untracked,
) -> pd.DataFrame:
    """The pointing game on every positive patch among `indices` in which a region lies, one row each.

    A patch's finding is the individual marks in it; where it holds none, the cluster regions in it. The model's class
    activation is taken whether or not its probability reaches a threshold.

    Args:
        classifier: the model.
        store: where the patches are.
        data: the folder that the store was made of; of it only regions.csv is read.
        indices: (n,) rows of the store's patches.
        track: called with the images.

    Returns:
        A frame of the columns of pointing.csv, empty if no region lies in a positive patch: row and col of the patch;
        peak_row and peak_col, where in the image the peak cell looks, in pixels; is_hit 0 or 1; chance as in
        `Pointing`.

    Raises:
        InputError: if the model cannot localise or cannot take the store's patches, or as `PatchStore.read_regions`.
    """
    classifier.check_can_localise()
    check_fits(classifier, store)
    regions: dict[str, list[Region]] = defaultdict(list)
    for region in store.read_regions(data / "regions.csv"):
        if region.kind in TARGETS:
            regions[region.image_id].append(region)
    chosen = store.patches.iloc[indices].assign(index=indices)
    chosen = chosen[(chosen["label"] == CALCIFICATION) & chosen["image_id"].isin(regions.keys())]
    rows: list[dict[Hashable, Any]] = []
    for image_id, patches in track(list(chosen.groupby("image_id", sort=False)), "point at regions"):
        findings = _findings(patches, regions[str(image_id)], grid=store.grid(str(image_id)))
        rows.extend(_pointed(classifier, store, patches=patches, findings=findings))
    return pd.DataFrame(rows, columns=list(POINTING))


def _findings(patches: pd.DataFrame, regions: Sequence[Region], *, grid: Grid) -> dict[int, NDArray[np.bool_]]:
    """For the patches of one image that hold a finding, by their index: its pixels (patch_px, patch_px)."""
    cut = []
    for kind in TARGETS:
        covered = np.zeros((grid.height, grid.width), dtype=np.bool_)
        for region in regions:
            if region.kind == kind:
                part = region_mask(region, height=grid.height, width=grid.width)
                tall, wide = part.mask.shape
                covered[part.top : part.top + tall, part.left : part.left + wide] |= part.mask
        cut.append(grid.cut(covered))
    found = {}
    for index, row, col in zip(patches["index"], patches["row"], patches["col"], strict=True):
        finding = next((kind[row, col] for kind in cut if kind[row, col].any()), None)
        if finding is not None:
            found[int(index)] = finding
    return found


def _pointed(
    classifier: Classifier, store: PatchStore, *, patches: pd.DataFrame, findings: Mapping[int, NDArray[np.bool_]]
) -> list[dict[Hashable, Any]]:
    """The rows of the patches of one image that hold a finding."""
    held = patches[patches["index"].isin(findings.keys())]
    if held.empty:
        return []
    image_id = str(held["image_id"].iloc[0])
    grid = store.grid(image_id)
    boxes, (height, width) = grid.boxes(), store.native_shape(image_id)
    down, across = height / grid.height, width / grid.width
    _, activations = classifier.localise(store.gather(held["index"].to_numpy()))
    centres_px = classifier.cell_centres_px
    rows: list[dict[Hashable, Any]] = []
    for patch, activation in zip(held.to_dict("records"), activations, strict=True):
        pointing = point_at(activation, findings[patch["index"]], centres_px=centres_px)
        top, left = boxes[patch["row"], patch["col"], :2]
        row, col = pointing.peak
        peak_row = float((top + centres_px[row] + 0.5) * down - 0.5)
        peak_col = float((left + centres_px[col] + 0.5) * across - 0.5)
        is_hit, chance = int(pointing.is_hit), pointing.chance
        rows.append({**patch, "peak_row": peak_row, "peak_col": peak_col, "is_hit": is_hit, "chance": chance})
    return rows
