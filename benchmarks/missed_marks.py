"""Says which phantom marks a model misses: its sensitivity by how well the clearest mark of a patch can be seen.

    python benchmarks/missed_marks.py --model detector --data detector/unseen-plain-0.2 \
                                      --store detector/unseen-plain-store

The contrast of a mark is its mean gray less that of a ring of 4 px around it, which begins 2 px from the mark, over the
ring's standard deviation (noise and tissue together, at least half a gray level of 8 bits), times the root of its
number of pixels, of which at most 9 count. Prints one table in Markdown for docs/results.md: tissue patches by the
clearest mark whose middle lies at least 4 px inside, the AUC of each kind against all negatives, and the sensitivity at
a specificity of 98 % of all.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from transfer import POOLINGS, SPECIFICITY, Patches, choose_patches, model_scores

from mmgkeras import images
from mmgkeras.evaluation.metrics import auc
from mmgkeras.patches.region_masks import RegionMask, region_mask
from mmgkeras.patches.store import PatchStore
from mmgkeras.savedmodel.detector import model_folder
from mmgkeras.savedmodel.metadata import read_metadata
from mmgkeras.schema import CALCIFICATION, Pixels
from mmgkeras.tables import read_images, read_regions

GAP_PX, RING_PX, MOST_PX, EDGE_PX = 2, 4, 9, 4
NOT_INSIDE = -np.inf
BINS = (NOT_INSIDE, -1e9, 4.0, 8.0, 12.0, np.inf)
NAMES = ("none that far inside", "below 4", "4 to 8", "8 to 12", "12 and more")


def contrast(pixels: Pixels, mark: RegionMask, *, is_mark: NDArray[np.bool_]) -> float:
    """How well a mark can be seen in its image (H, W); other marks, of `is_mark` (H, W), are no part of the ring."""
    reach = GAP_PX + RING_PX
    rows, cols = (slice(max(axis.start - reach, 0), axis.stop + reach) for axis in mark.window)
    around = pixels[rows, cols].astype(np.float32)
    own = np.zeros(around.shape, np.bool_)
    top, left = mark.top - rows.start, mark.left - cols.start
    own[top : top + mark.mask.shape[0], left : left + mark.mask.shape[1]] = mark.mask
    near = ndimage.binary_dilation(own, iterations=GAP_PX)
    ring = around[ndimage.binary_dilation(near, iterations=RING_PX) & ~near & ~is_mark[rows, cols]]
    if not ring.size:
        return np.inf
    deviation = max(float(ring.std()), np.iinfo(pixels.dtype).max / 510)
    return float((around[own].mean() - ring.mean()) / deviation * np.sqrt(min(int(own.sum()), MOST_PX)))


def clearest(patches: Patches, data: Path) -> NDArray[np.float64]:
    """(N,) the contrast of the clearest mark whose middle lies inside each patch; `NOT_INSIDE` where there is none."""
    regions = [region for region in read_regions(data / "regions.csv") if region.kind == "calcification"]
    table = patches.store.patches.iloc[patches.places].reset_index(drop=True)
    best = np.full(len(table), NOT_INSIDE)
    for record in read_images(data / "images.csv"):
        pixels = images.read(record, data).pixels
        own = [region for region in regions if region.image_id == record.image_id]
        masks = [region_mask(region, height=pixels.shape[0], width=pixels.shape[1]) for region in own]
        is_mark = np.zeros(pixels.shape, np.bool_)
        for mask in masks:
            is_mark[mask.window] |= mask.mask
        grid, here = patches.store.grid(record.image_id), table[table["image_id"] == record.image_id]
        tops = here["row"].to_numpy() * grid.stride_px - grid.pad_top
        lefts = here["col"].to_numpy() * grid.stride_px - grid.pad_left
        for mask in masks:
            row, col = np.argwhere(mask.mask).mean(axis=0) + np.array([mask.top, mask.left])
            down, across = row - tops, col - lefts
            is_inside = (np.minimum(down, across) >= EDGE_PX) & (np.maximum(down, across) < grid.patch_px - EDGE_PX)
            places = here.index[is_inside]
            best[places] = np.maximum(best[places], contrast(pixels, mask, is_mark=is_mark))
    return best


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the phantoms")
    parser.add_argument("--store", type=Path, required=True, help="their patches")
    parser.add_argument("--model", type=Path, required=True)
    options = parser.parse_args()
    folder = model_folder(options.model)
    patches = choose_patches(PatchStore.open(options.store), min_tissue=0.5, max_negatives=None)
    scores = model_scores(folder, patches)[POOLINGS[read_metadata(folder).config["model"]["pooling"]]]
    best, is_positive = clearest(patches, options.data), patches.labels == CALCIFICATION
    negatives = scores[~is_positive]
    threshold = np.quantile(negatives, SPECIFICITY)
    print("| clearest mark in the patch | patches | AUC | sensitivity |\n|---|---|---|---|")
    for name, low, high in zip(NAMES, BINS[:-1], BINS[1:], strict=True):
        found = scores[is_positive & (best >= low) & (best < high)]
        labels = np.repeat(np.array([1, 0], np.int8), (len(found), len(negatives)))
        area = auc(labels, np.concatenate([found, negatives]))
        print(f"| {name} | {len(found)} | {area:.3f} | {np.mean(found > threshold):.2f} |")


if __name__ == "__main__":
    main()
