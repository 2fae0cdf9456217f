"""Measures how hard the phantom is: AUC of scores that nothing was trained for, and how visible its positives are.

    python benchmarks/phantom_difficulty.py --spacing-mm 0.2 --patch-px 64 --patients 20 --seeds 1 2 3
    python benchmarks/phantom_difficulty.py --spacing-mm 0.1 --patch-px 224 --patients 20 --seeds 1 2 3

Prints one table in Markdown for docs/phantom.md. On two idle cores a seed takes one to two minutes at 0.1 mm, half a
minute at 0.2 mm.
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from mmgkeras.config import PatchesConfig
from mmgkeras.evaluation.baselines import BASELINE_SCORES, baseline_scores
from mmgkeras.images.tissue import tissue_mask
from mmgkeras.patches.labelling import label_patches
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION, Grid, Pixels
from mmgkeras.sources.phantom.cases import Exposure, plan_exposures
from mmgkeras.sources.phantom.exposure import PhantomImage, make_image
from mmgkeras.sources.phantom.writing import image_record, quantized

MIN_TISSUE = 0.5
CLEARLY_VISIBLE_SNR = 6.0
NEGATIVES_PER_IMAGE = 60


@dataclass(frozen=True)
class Patches:
    """The patches of one image (N, P, P), their twins, labels (N,), tissue (N,) and best signal to noise (N,)."""

    pixels: Pixels
    twins: Pixels
    labels: NDArray[np.int8]
    tissue: NDArray[np.float64]
    best_snr: NDArray[np.float64]


def cut_image(exposure: Exposure, *, spacing_mm: float, patch_px: int) -> Patches:
    """Every patch of one phantom image, labelled as the store labels them."""
    image = make_image(exposure, spacing_mm=spacing_mm)
    record = image_record(exposure, spacing_mm=spacing_mm)
    pixels, twin = (quantized(grey, bits=8) for grey in (image.pixels, image.twin))
    grid = Grid(*pixels.shape, patch_px=patch_px, stride_px=patch_px, chest_wall=record.chest_wall_side)
    labels = label_patches(grid, image.regions, record=record, config=PatchesConfig())
    return Patches(
        pixels=grid.cut(pixels).reshape(-1, patch_px, patch_px),
        twins=grid.cut(twin).reshape(-1, patch_px, patch_px),
        labels=labels.ravel(),
        tissue=grid.cut(tissue_mask(pixels)).mean(axis=(2, 3)).ravel(),
        best_snr=best_snr(image, grid).ravel(),
    )


def best_snr(image: PhantomImage, grid: Grid) -> NDArray[np.float64]:
    """(rows, cols) the best matched signal to quantum noise of one calcification's part within each patch."""
    best = np.zeros((grid.rows, grid.cols))
    for mark in image.marks:
        down, right = (np.arange(place.start, place.stop) for place in mark.place)
        energy = np.zeros_like(best)
        cells = (down + grid.pad_top)[:, None] // grid.patch_px, (right + grid.pad_left)[None, :] // grid.patch_px
        np.add.at(energy, cells, (mark.signal / image.noise[mark.place]) ** 2)
        best = np.maximum(best, np.sqrt(energy))
    return best


def measure(*, spacing_mm: float, patch_px: int, num_patients: int, seed: int) -> dict[str, float]:
    """The metrics of one seed, on patches of at least half tissue where nothing else is said."""
    exposures = plan_exposures(num_patients=num_patients, seed=seed)
    with ThreadPoolExecutor(2) as pool:
        images = list(pool.map(lambda e: cut_image(e, spacing_mm=spacing_mm, patch_px=patch_px), exposures))
    rng = np.random.default_rng(seed)
    positives, twins, negatives, snr = [], [], [], []
    for image in images:
        is_tissue = image.tissue >= MIN_TISSUE
        chosen = is_tissue & (image.labels == CALCIFICATION)
        positives.append(image.pixels[chosen])
        twins.append(image.twins[chosen])
        snr.append(image.best_snr[chosen])
        others = np.flatnonzero(is_tissue & (image.labels == NO_CALCIFICATION))
        negatives.append(image.pixels[rng.permutation(others)[:NEGATIVES_PER_IMAGE]])
    scores, twin_scores, negative_scores = (
        baseline_scores(np.concatenate(patches)) for patches in (positives, twins, negatives)
    )
    labels = np.concatenate([image.labels for image in images])
    visibility = np.concatenate(snr)
    metrics = {
        "images": float(len(images)),
        "positive patches, % of all": 100 * float(np.mean(labels == CALCIFICATION)),
        "unknown patches, %": 100 * float(np.mean(labels < 0)),
        "positive tissue patches": float(visibility.size),
        f"of these with SNR >= {CLEARLY_VISIBLE_SNR:g}, %": 100 * float(np.mean(visibility >= CLEARLY_VISIBLE_SNR)),
        "median SNR": float(np.median(visibility)),
    }
    for name in BASELINE_SCORES:
        metrics[name] = auc(scores[name], negative_scores[name])
    metrics["best but the mean"] = max(metrics[name] for name in BASELINE_SCORES if name != "mean")
    metrics["best against own twins"] = max(auc(scores[name], twin_scores[name]) for name in BASELINE_SCORES)
    return metrics


def auc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """Area under the ROC curve of positive against negative scores."""
    labels = np.repeat([1, 0], [positive.size, negative.size])
    return float(roc_auc_score(labels, np.concatenate([positive, negative])))


def main() -> None:
    """Prints a column of metrics for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spacing-mm", type=float, default=0.2)
    parser.add_argument("--patch-px", type=int, default=64)
    parser.add_argument("--patients", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    columns = [
        measure(spacing_mm=options.spacing_mm, patch_px=options.patch_px, num_patients=options.patients, seed=seed)
        for seed in options.seeds
    ]
    print(
        f"| {options.patch_px} px at {options.spacing_mm:g} mm | "
        + " | ".join(f"seed {s}" for s in options.seeds)
        + " |"
    )
    print("|---" * (len(columns) + 1) + "|")
    for name in columns[0]:
        digits = 3 if columns[0][name] < 1 and "%" not in name else (1 if "%" in name or "SNR" in name else 0)
        print(f"| {name} | " + " | ".join(f"{column[name]:.{digits}f}" for column in columns) + " |")


if __name__ == "__main__":
    main()
