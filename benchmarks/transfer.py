"""Scores models on patches of people and seeds they have never seen, by each pooling, beside the fixed filters.

    make demo
    mmgkeras import mini-mias DIR --out mini-mias/data
    mmgkeras prepare --data mini-mias/data --out mini-mias/store --config configs/mini-mias.toml
    python benchmarks/transfer.py --store mini-mias/store --filters --model demo/saved_models/phantom/1
    python benchmarks/transfer.py --store mini-mias/store --froc mini-mias/data --model detector
    python benchmarks/transfer.py --store mini-mias/store --inserted --model detector
    python benchmarks/transfer.py --store mini-mias/store --predictions mini-mias/recommended/*/*/fold*/predictions.csv

Every known patch with enough tissue is scored; the network is built at the store's patch size, whatever it was trained
at. All poolings are of the same pass: of the class activations of each cell. Prints one table in Markdown for
docs/results.md: the AUC of all patches together with its 95 % interval by patient, and the sensitivity at a specificity
of 98 %. Where the patches of the store overlap, further rows have a patch's mean log odds, by the model's own pooling,
or mean of a filter, over all patches with any breast that overlap it and itself, weighted by the area that they share;
`--max-negatives` leaves them out. With `--froc`, the data folder of the store, a second table: the sensitivity by
finding at a number of false marks an image, and at how many it is 1, by the model's own pooling, over every known patch
with any breast. With `--image-labels`, a CSV of image_id and label, 1 or 0, for data sets whose truth is known by image
alone: the score of an image is that of its highest patch, and the mean of its five highest; every patch with enough
tissue counts, known or not. With `--inserted` labels are not looked at: of 9,000 tissue patches drawn from all, 4,000
get calcifications of the phantom put in, and models are asked which; by that a recipe may be chosen. `--predictions`
scores what `crossval` wrote of the store's patches, the folds together. On two cores ResNet18 takes 3 to 6 minutes for
the 79,469 tissue patches of mini-MIAS, the filters one.
"""

import argparse
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit

from mmgkeras.config import ModelConfig
from mmgkeras.evaluation.baselines import baseline_scores
from mmgkeras.evaluation.comparison import clustered_aucs
from mmgkeras.evaluation.froc import RATES, froc, reach_of
from mmgkeras.evaluation.interval import Interval
from mmgkeras.evaluation.targets import targets_from_regions
from mmgkeras.models.localisation import ACTIVATION, localising_model
from mmgkeras.models.network import build_network
from mmgkeras.models.pooling import log_mean_exp, mean_of_highest
from mmgkeras.patches.store import PatchStore
from mmgkeras.savedmodel.metadata import read_metadata
from mmgkeras.schema import CALCIFICATION, UNKNOWN, Pixels
from mmgkeras.sources.phantom.insertion import insert_group
from mmgkeras.tables import read_predictions

SPECIFICITY = 0.98
NUM_DRAWN, NUM_INSERTED, SEED = 9000, 4000, 7
BATCH_SIZE = 256
POOLINGS = {"average": "average", "log_mean_exp": "log-mean-exp", "top_k": "mean of 3 highest cells"}

Scores = dict[str, NDArray[np.floating]]


@dataclass(frozen=True)
class Patches:
    """The patches that are scored: places in the store (N,), labels (N,), patients (N,), and pixels if not its own."""

    store: PatchStore
    places: NDArray[np.int64]
    labels: NDArray[np.int8]
    patients: NDArray[np.object_]
    pixels: Pixels | None = None

    def chunks(self, size: int) -> Iterator[NDArray[np.integer]]:
        """The raw pixels (n, P, P, 1), `size` patches at a time."""
        for start in range(0, len(self.places), size):
            part = slice(start, start + size)
            yield self.store.gather(self.places[part]) if self.pixels is None else self.pixels[part]


def choose_patches(store: PatchStore, *, min_tissue: float, max_negatives: int | None) -> Patches:
    """Every known patch with so much tissue; of the negatives at most so many, drawn with seed 0."""
    table = store.patches
    is_chosen = (table["label"] != UNKNOWN) & (table["tissue"] >= min_tissue)
    places = np.flatnonzero(is_chosen)
    labels = table["label"].to_numpy()[places]
    negatives = places[labels != CALCIFICATION]
    if max_negatives is not None and len(negatives) > max_negatives:
        drawn = np.random.default_rng(0).choice(negatives, max_negatives, replace=False)
        places = np.sort(np.concatenate([places[labels == CALCIFICATION], drawn]))
    chosen = table.iloc[places]
    return Patches(store, places, chosen["label"].to_numpy(), chosen["patient_id"].to_numpy())


def every_patch(store: PatchStore) -> Patches:
    """Every patch with any breast, of unknown label too."""
    places = np.flatnonzero(store.patches["tissue"] > 0)
    chosen = store.patches.iloc[places]
    return Patches(store, places, chosen["label"].to_numpy(), chosen["patient_id"].to_numpy())


def insert_marks(store: PatchStore, *, min_tissue: float) -> Patches:
    """Tissue patches of any label, into some of which calcifications of the phantom were put: these are the positives.

    A patch that was to get some, and in which none could be seen, is left out.
    """
    rng = np.random.default_rng(SEED)
    places = np.flatnonzero(store.patches["tissue"] >= min_tissue)
    places = rng.choice(places, min(NUM_DRAWN, len(places)), replace=False)
    pixels = store.gather(places).copy()
    num_inserted = len(places) * NUM_INSERTED // NUM_DRAWN
    has_marks = np.zeros(len(places), np.bool_)
    for index in range(num_inserted):
        truth = insert_group(pixels[index, ..., 0], spacing_mm=store.spacing_mm, seed=SEED, rng=rng)
        has_marks[index] = truth is not None
    is_kept = has_marks | (np.arange(len(places)) >= num_inserted)
    patients = store.patches["patient_id"].to_numpy()[places]
    return Patches(store, places[is_kept], has_marks[is_kept].astype(np.int8), patients[is_kept], pixels[is_kept])


def filter_scores(patches: Patches) -> Scores:
    """The scores of the fixed filters."""
    parts = [pd.DataFrame(baseline_scores(chunk[..., 0])) for chunk in patches.chunks(4096)]
    table = pd.concat(parts, ignore_index=True)
    return {str(name): table[name].to_numpy() for name in table.columns}


def model_scores(folder: Path, patches: Patches) -> Scores:
    """The log odds of an exported model by every pooling."""
    from mmgkeras.savedmodel.initial_weights import load_exported_weights  # needs TensorFlow

    config = ModelConfig(**read_metadata(folder).config["model"])
    network = build_network(config, patch_px=patches.store.patch_px, pixel_type=patches.store.pixel_type)
    load_exported_weights(network, folder)
    return network_scores(network, patches)


def predicted_scores(paths: list[Path], patches: Patches) -> NDArray[np.float64]:
    """(N,) the log odds of the patches, each of the fold that tested it, by the folds' predictions.csv."""
    place = ["image_id", "row", "col"]
    probability = pd.concat([read_predictions(path).set_index(place)["probability"] for path in paths])
    wanted = pd.MultiIndex.from_frame(patches.store.patches.iloc[patches.places][place])
    return logit(probability.loc[wanted].to_numpy().clip(1e-7, 1 - 1e-7))


def network_scores(network: keras.Model, patches: Patches) -> Scores:
    """The log odds of a network by every pooling."""
    localiser = localising_model(network)
    outputs = keras.Model(localiser.input, localiser.output[ACTIVATION])
    cells = np.concatenate([outputs.predict_on_batch(chunk) for chunk in patches.chunks(BATCH_SIZE)])
    pooled = {
        "average": cells.mean(axis=(1, 2)),
        "highest cell": cells.max(axis=(1, 2)),
        "log-mean-exp": log_mean_exp(cells, sharpness=1.0),
        "mean of 3 highest cells": mean_of_highest(cells, top_k=3),
    }
    return {name: keras.ops.convert_to_numpy(values) for name, values in pooled.items()}


def row_of(name: str, scores: NDArray[np.floating], patches: Patches) -> str:
    """One line of the table."""
    interval = clustered_aucs(patches.labels, scores[np.newaxis], patches.patients).interval(0)
    is_positive = patches.labels == CALCIFICATION
    threshold = np.quantile(scores[~is_positive], SPECIFICITY)
    sensitivity = float(np.mean(scores[is_positive] > threshold))
    return f"| {name} | {in_brackets(interval)} | {sensitivity:.2f} |"


def in_brackets(interval: Interval) -> str:
    """An estimate and its bounds; one that is perfect or nearly so has none."""
    bounds = "" if interval.low is None else f" ({interval.low:.3f} to {interval.high:.3f})"
    return f"{interval.estimate:.3f}{bounds}"


def blended(log_odds: NDArray[np.floating], patches: Patches) -> NDArray[np.float64]:
    """(N,) each patch's mean over the patches that overlap it and itself, weighted by the area that they share."""
    store = patches.store
    table = store.patches.iloc[patches.places]
    means = np.empty(len(table), np.float64)
    for image_id, here in table.groupby("image_id").indices.items():
        grid = store.grid(str(image_id))
        place = table["row"].to_numpy()[here], table["col"].to_numpy()[here]
        values, is_told = np.zeros((2, grid.rows, grid.cols))
        values[place], is_told[place] = log_odds[here], 1
        down, across = (
            np.clip(1 - np.abs(np.subtract.outer(steps, steps)) * (grid.stride_px / grid.patch_px), 0, None)
            for steps in (np.arange(grid.rows), np.arange(grid.cols))
        )
        means[here] = (down @ values @ across)[place] / (down @ is_told @ across)[place]
    return means


def froc_line(name: str, log_odds: NDArray[np.floating], patches: Patches, data: Path) -> str:
    """One line: the sensitivity by finding at so many false marks an image, and how many bring it to 1.

    Args:
        name: of the model.
        log_odds: (N,) of the patches.
        patches: every one with any breast; those of unknown label are left out.
        data: the data folder of the store.
    """
    store, is_known = patches.store, patches.labels != UNKNOWN
    probability = expit(log_odds[is_known].astype(np.float64))
    predictions = store.patches.iloc[patches.places[is_known]].assign(fold=1, probability=probability)
    grids = {str(image_id): store.grid(str(image_id)) for image_id in predictions["image_id"].unique()}
    fraction = store.manifest.labels.cluster_fraction
    regions = store.read_regions(data / "regions.csv")
    targets = targets_from_regions(predictions, regions, grids, cluster_fraction=fraction)
    reach = reach_of(patch_px=store.patch_px, stride_px=store.stride_px)
    curve = froc(predictions, targets, reach=reach)
    cells = ["n/a" if found is None else in_brackets(found) for found in (curve.pooled[rate] for rate in RATES)]
    cells.append(f"{curve.points[-1][0]:.2f}")
    return f"| {name}: {len(targets.items)} findings | " + " | ".join(cells) + " |"


def image_patches(store: PatchStore, labels: Path, *, min_tissue: float) -> Patches:
    """The patches with so much tissue of every image that is labelled there, each with the label of its image."""
    wanted = pd.read_csv(labels, dtype={"image_id": str}).set_index("image_id")["label"]
    if not wanted.index.is_unique or not wanted.isin([0, 1]).all():
        raise SystemExit(f"{labels}: each image_id must be there once, with a label of 0 or 1")
    table = store.patches
    places = np.flatnonzero(table["image_id"].isin(wanted.index) & (table["tissue"] >= min_tissue))
    chosen = table.iloc[places]
    num_missing = len(wanted) - chosen["image_id"].nunique()
    if num_missing:
        print(f"{num_missing} images of {labels} have no patch with so much tissue in the store\n")
    of_images = wanted.loc[chosen["image_id"]].to_numpy(np.int8)
    return Patches(store, places, of_images, chosen["patient_id"].to_numpy())


def by_image(scores: NDArray[np.floating], patches: Patches) -> tuple[Scores, Patches]:
    """The scores of whole images, and for each image one of its patches, which has its label and patient."""
    images = patches.store.patches["image_id"].to_numpy()[patches.places]
    groups = pd.Series(scores).groupby(images)
    first = groups.head(1).index.to_numpy()
    ordered = images[first]
    pooled = {
        "highest patch": groups.max().loc[ordered].to_numpy(),
        "mean of 5 highest": groups.apply(lambda part: part.nlargest(5).mean()).loc[ordered].to_numpy(),
    }
    return pooled, Patches(patches.store, patches.places[first], patches.labels[first], patches.patients[first])


def print_rows(name: str, scores: NDArray[np.floating], patches: Patches, *, is_by_image: bool) -> None:
    """The line of a score, or its lines by image."""
    if not is_by_image:
        print(row_of(name, scores, patches), flush=True)
        return
    pooled, images = by_image(scores, patches)
    for how, values in pooled.items():
        print(row_of(f"{name}, {how}", values, images), flush=True)


def print_scores(
    name: str, scores: Scores, *, own: Collection[str], asked: Patches, patches: Patches, is_by_image: bool
) -> None:
    """The rows of the patches that count; of `own` scores also the means over those that overlap, of all asked."""
    rows, store = dict(scores), patches.store
    if asked is not patches:
        if store.stride_px < store.patch_px:
            rows |= {f"{how}, mean over patches that overlap": blended(scores[how], asked) for how in own}
        rows = {how: values[np.searchsorted(asked.places, patches.places)] for how, values in rows.items()}
    for how, values in rows.items():
        print_rows(f"{name}: {how}", values, patches, is_by_image=is_by_image)


def main() -> None:
    """Prints a line for each filter and for each pooling of each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--model", type=Path, action="append", default=[], help="repeatable")
    parser.add_argument("--predictions", type=Path, nargs="+", metavar="CSV", help="those of each fold")
    parser.add_argument("--froc", type=Path, metavar="DATA", help="the data folder of the store")
    truth = parser.add_mutually_exclusive_group()
    truth.add_argument("--image-labels", type=Path, metavar="CSV", help="image_id and label: score whole images")
    truth.add_argument("--inserted", action="store_true", help="ask for marks put in, not for labels")
    parser.add_argument("--filters", action="store_true", help="score the fixed filters too")
    parser.add_argument("--min-tissue", type=float, default=0.5)
    parser.add_argument("--max-negatives", type=int, help="to be quick; all by default")
    options = parser.parse_args()
    is_whole = not options.inserted and options.max_negatives is None
    if (options.froc or options.predictions) and not is_whole:
        parser.error("--froc and --predictions need every patch: leave out --inserted and --max-negatives")
    store = PatchStore.open(options.store)
    if options.inserted:
        patches = insert_marks(store, min_tissue=options.min_tissue)
    elif options.image_labels is not None:
        patches = image_patches(store, options.image_labels, min_tissue=options.min_tissue)
    else:
        patches = choose_patches(store, min_tissue=options.min_tissue, max_negatives=options.max_negatives)
    is_by_image = options.image_labels is not None
    labels = by_image(patches.labels, patches)[1].labels if is_by_image else patches.labels
    what = "images" if is_by_image else f"patches of {store.patch_px} px"
    print(f"{(labels == CALCIFICATION).sum():,} positive of {len(labels):,} {what}\n")
    print(f"| | AUC | sensitivity at {SPECIFICITY:.0%} specificity |\n|---|---|---|")
    from mmgkeras.savedmodel.detector import model_folder  # needs TensorFlow

    asked = every_patch(store) if is_whole else patches
    if options.filters:
        scores = filter_scores(asked)
        print_scores("filter", scores, own=scores, asked=asked, patches=patches, is_by_image=is_by_image)
    lines: list[str] = []
    for folder in map(model_folder, options.model):
        name, scores = folder.parent.name, model_scores(folder, asked)
        own = POOLINGS[read_metadata(folder).config["model"].get("pooling", "average")]
        print_scores(name, scores, own=[own], asked=asked, patches=patches, is_by_image=is_by_image)
        if options.froc is not None:
            lines.append(froc_line(name, scores[own], asked, options.froc))
    if options.predictions:
        own = "as tested"
        scores = {own: predicted_scores(options.predictions, asked)}
        print_scores("predictions", scores, own=[own], asked=asked, patches=patches, is_by_image=is_by_image)
    if options.froc is not None:
        print("\n| false marks an image | " + " | ".join(f"{rate:g}" for rate in RATES) + " | for all findings |")
        print("|---" * (2 + len(RATES)) + "|")
        print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
