"""Features of each patch of a store: number and area of the marks in it, brightness.

Owns what errors and subgroups are held against (paper, 5).
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.evaluation.metrics import THRESHOLD
from mmgkeras.evaluation.summary import TISSUE_FRACTION
from mmgkeras.patches.labelling import region_overlap
from mmgkeras.patches.region_masks import region_mask
from mmgkeras.patches.store import PatchStore
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION, Region

PLACE: Final = ["image_id", "row", "col"]
"""The columns that name a patch of a store."""
Error = Literal["missed", "false positive"]
_CHUNK: Final = 256


def patch_marks(store: PatchStore, regions: Sequence[Region]) -> pd.DataFrame:
    """What is annotated in each patch of a store, one row for each row of `store.patches`.

    Columns: image_id, row, col; num_marks, individual calcifications with a pixel in the patch; calcified_px, their
    pixels in it, of overlapping marks each counted; num_envelopes, clusters that touch it. Regions of images that the
    store does not hold are left out.

    Raises:
        InputError: if a region cannot be drawn on its image.
    """
    columns = ("num_marks", "calcified_px", "num_envelopes")
    patches = store.patches[PLACE].reset_index(drop=True)
    counts = {name: np.zeros(len(patches), dtype=np.int64) for name in columns}
    by_image: dict[str, list[Region]] = defaultdict(list)
    for region in regions:
        by_image[region.image_id].append(region)
    for image_id, rows in patches.groupby("image_id", sort=False):
        grid = store.grid(str(image_id))
        place = np.full((grid.rows, grid.cols), -1, dtype=np.int64)
        place[rows["row"], rows["col"]] = rows.index
        for region in by_image.get(str(image_id), ()):
            covered = region_mask(region, height=grid.height, width=grid.width)
            touched_rows, touched_cols, overlap_px = region_overlap(grid, covered)
            is_touched = overlap_px > 0
            at = place[np.ix_(touched_rows, touched_cols)][is_touched]
            if region.kind == "calcification":
                counts["num_marks"][at] += 1
                counts["calcified_px"][at] += overlap_px[is_touched]
            elif region.kind == "cluster":
                counts["num_envelopes"][at] += 1
    return patches.assign(**counts)


def patch_brightness(store: PatchStore) -> NDArray[np.float64]:
    """(n,) the mean grey of the breast in each patch of a store, 0 to 1 of the pixel type's range.

    It is the patch's mean over the part of it that is breast, the rest taken for black; NaN where the breast covers
    less than `TISSUE_FRACTION` of the patch.
    """
    tissue = store.patches["tissue"].to_numpy(dtype=np.float64)
    brightness = np.full(len(tissue), np.nan)
    indices = np.flatnonzero(tissue >= TISSUE_FRACTION)
    scale = float(np.iinfo(store.pixel_type).max)
    for start in range(0, len(indices), _CHUNK):
        chunk = indices[start : start + _CHUNK]
        sums = store.gather(chunk).sum(axis=(1, 2, 3), dtype=np.uint64)
        brightness[chunk] = sums / (scale * store.patch_px**2) / tissue[chunk]
    return np.asarray(np.minimum(brightness, 1.0))


def describe_patches(store: PatchStore, marks: pd.DataFrame | None) -> pd.DataFrame:
    """What may cause an error, one row for each patch of a store: its place, brightness, `marks` and the image's own.

    `index` is its row in `store.patches`.
    """
    frame = store.patches[PLACE].reset_index(drop=True).reset_index()
    frame["brightness"] = patch_brightness(store)
    if marks is not None:
        frame = frame.merge(marks, on=PLACE, how="left", validate="one_to_one")
    return frame.merge(store.images[["image_id", "density", "view", "laterality"]], on="image_id", how="left")


def worst_errors(predictions: pd.DataFrame, error: Error) -> pd.DataFrame:
    """The patches that were missed, least probable first, or called by mistake, most probable first."""
    scores, labels = predictions["probability"], predictions["label"]
    if error == "missed":
        wrong = predictions[(labels == CALCIFICATION) & (scores < THRESHOLD)]
        return wrong.sort_values(["probability", *PLACE])
    wrong = predictions[(labels == NO_CALCIFICATION) & (scores >= THRESHOLD)]
    return wrong.sort_values(["probability", *PLACE], ascending=[False, True, True, True])
