"""Compares recipes for one's own data, one change at a time: every fold by patient, nothing chosen on a test patient.

    python benchmarks/recipes.py --store mini-mias/store --out recipes
    python benchmarks/recipes.py --store mini-mias/store --out recipes --folds 1 2 --only recipe "insertion 0.2"
    python benchmarks/recipes.py --store phantom/store --data phantom/data --positives 5 --out few

Trains each recipe on each fold in a folder, once: given again, it goes on where it stopped. A quarter of the training
patients is held out; by their tissue patches the share of the initial weights is chosen (nested), and the test patients
are scored by all shares. Prints one table in Markdown for docs/results.md: AUC and sensitivity at 98 % specificity of
tissue patches, means over folds with 95 % intervals by patient; first the detector as it is. Of the negatives of a fold
at most `--max-negatives` are scored, drawn with seed 0. `--positives` leaves so many positive patches to train on,
drawn with seed 0, and makes the others unknown, in a store of its own; fold 1 alone is then tested.
"""

import argparse
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.config import Config, PatchesConfig, read_config
from mmgkeras.evaluation.bootstrap import bootstrap_metrics
from mmgkeras.evaluation.interval import Interval
from mmgkeras.evaluation.metrics import SENSITIVITY_AT_SPECIFICITY, auc
from mmgkeras.evaluation.summary import TISSUE_FRACTION
from mmgkeras.patches.prepare import prepare
from mmgkeras.patches.split import fold_patches, hold_out_patients
from mmgkeras.patches.store import FOLDS, PatchStore
from mmgkeras.savedmodel.classifier import load
from mmgkeras.savedmodel.detector import model_folder
from mmgkeras.schema import CALCIFICATION, UNKNOWN
from mmgkeras.tables import read_images, write_images, write_labels
from mmgkeras.training.fit import fit

HELD_OUT = 0.25
SHARES = (0.0, 0.5)
METRICS = ("auc", SENSITIVITY_AT_SPECIFICITY)
RANDOM = (
    *("model.weights=none", "model.width=0.5", "model.normalisation=local", "model.pooling=log_mean_exp"),
    "train.learning_rate=0.2",
)
"""The detector's network without what it has learned."""
RECIPES: dict[str, tuple[str, ...]] = {
    "recipe": (),
    "insertion 0.2": ("augmentation.insertion=0.2",),
    "rate 0.005": ("train.learning_rate=0.005",),
    "rate 0.005, insertion 0.2": ("train.learning_rate=0.005", "augmentation.insertion=0.2"),
    "paper's balance": ("augmentation.scheme=paper",),
    "average pooling": ("model.pooling=average",),
    "one intensity": ("augmentation.intensities=[1.0]",),
    "random initial weights": RANDOM,
    "random initial weights, insertion 0.2": (*RANDOM, "augmentation.insertion=0.2"),
}
"""What each does otherwise than the configuration."""


@dataclass(frozen=True)
class Fold:
    """One fold: the places in the store of the patches to score, of test and of held-out patients."""

    store: PatchStore
    number: int
    test: NDArray[np.int64]
    held_out: NDArray[np.int64]


def choose_patches(store: PatchStore, places: NDArray[np.int64], *, max_negatives: int) -> NDArray[np.int64]:
    """The known tissue patches among these, of the negatives at most so many."""
    table = store.patches.iloc[places]
    known = places[((table["label"] != UNKNOWN) & (table["tissue"] >= TISSUE_FRACTION)).to_numpy()]
    is_positive = store.patches["label"].to_numpy()[known] == CALCIFICATION
    negatives = np.random.default_rng(0).permutation(known[~is_positive])[:max_negatives]
    return np.sort(np.concatenate([known[is_positive], negatives]))


def open_fold(store: PatchStore, number: int, *, seed: int, max_negatives: int) -> Fold:
    """The patches of a fold."""
    division = fold_patches(store, number)
    _, held_out = hold_out_patients(store, division.train, part=HELD_OUT, seed=seed)
    chosen = [choose_patches(store, places, max_negatives=max_negatives) for places in (division.test, held_out)]
    return Fold(store, number, *chosen)


def with_fewer_positives(data: Path, store: PatchStore, out: Path, *, number: int) -> PatchStore:
    """The store with so many positive patches in the training part of fold 1, the others being unknown."""
    if not (out.with_name(f"{out.name}-store") / FOLDS).exists():
        labels = store.patches["label"].to_numpy().copy()
        train = fold_patches(store, 1).train
        positives = np.random.default_rng(0).permutation(train[labels[train] == CALCIFICATION])
        labels[positives[number:]] = UNKNOWN
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        places = store.patches[["image_id", "row", "col"]].itertuples(index=False, name=None)
        records = read_images(data / "images.csv")
        write_images(out / "images.csv", [replace(one, path=str((data / one.path).resolve())) for one in records])
        write_labels(out / "labels.csv", [(*place, int(label)) for place, label in zip(places, labels, strict=True)])
        config = PatchesConfig(
            patch_px=store.patch_px, stride_px=store.stride_px, spacing_mm=store.manifest.grid.spacing_mm
        )
        made = prepare(out, out.with_name(f"{out.name}-store"), config)
        shutil.copy(store.path / FOLDS, made.path / FOLDS)
    return PatchStore.open(out.with_name(f"{out.name}-store"))


def scores_of(model: Path, fold: Fold) -> dict[str, list[float]]:
    """The probabilities of the patches of test and of held-out patients."""
    classifier = load(model)
    return {
        part: classifier.classify(fold.store.gather(places)).tolist()
        for part, places in (("test", fold.test), ("held_out", fold.held_out))
    }


def train(config: Config, fold: Fold, out: Path) -> dict[str, dict[str, list[float]]]:
    """The scores by each share of the initial weights, of a training that is done once."""
    done = out / "scores.json"
    if not done.exists():
        shares = SHARES if config.model.weights != "none" else SHARES[:1]
        scores = {}
        for share in shares:
            keras.backend.clear_session()
            changed = config.model_copy(update={"train": config.train.model_copy(update={"initial_share": share})})
            export = out / f"share{share:g}"
            fitted = fit(fold.store.path, fold=fold.number, config=changed, run=out / "run", export=export)
            scores[f"{share:g}"] = scores_of(fitted.model, fold)
        done.write_text(json.dumps(scores), encoding="utf-8")
    return json.loads(done.read_text(encoding="utf-8"))


def measured(fold: Fold, scores: list[float], part: str) -> float:
    """The AUC of the patches of one part; 0 where it has none."""
    places = fold.test if part == "test" else fold.held_out
    return auc(fold.store.patches["label"].to_numpy()[places], np.array(scores)) or 0.0


def row_of(name: str, folds: list[Fold], scores: list[list[float]]) -> str:
    """One line of the table, of the test patches of all folds."""
    frames = [
        fold.store.patches.iloc[fold.test].assign(fold=fold.number, probability=values)
        for fold, values in zip(folds, scores, strict=True)
    ]
    found = bootstrap_metrics(pd.concat(frames, ignore_index=True), metrics=METRICS).fold_mean
    by_fold = ", ".join(f"{measured(fold, values, 'test'):.3f}" for fold, values in zip(folds, scores, strict=True))
    return f"| {name} | " + " | ".join(cell(found[metric]) for metric in METRICS) + f" | {by_fold} |"


def cell(interval: Interval | None) -> str:
    """A metric with its bounds."""
    if interval is None:
        return "n/a"
    if interval.low is None or interval.high is None:
        return f"{interval.estimate:.3f}"
    return f"{interval.estimate:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def rows_of(name: str, folds: list[Fold], of_folds: list[dict[str, dict[str, list[float]]]]) -> list[str]:
    """Lines of one recipe: by each share, and by the share that the held-out patients of each fold choose."""
    lines = []
    shares = list(of_folds[0])
    for share in shares:
        what = name if len(shares) == 1 else f"{name}; share {share} of the initial weights"
        lines.append(row_of(what, folds, [scores[share]["test"] for scores in of_folds]))
    if len(shares) > 1:
        chosen = [
            max(shares, key=lambda share: measured(fold, scores[share]["held_out"], "held_out"))
            for fold, scores in zip(folds, of_folds, strict=True)
        ]
        best = [scores[share]["test"] for share, scores in zip(chosen, of_folds, strict=True)]
        lines.append(row_of(f"{name}; share chosen on held-out patients ({', '.join(chosen)})", folds, best))
    return lines


def main() -> None:
    """Prints the table, the lines of a recipe as soon as its folds are done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=Path("configs/recommended.toml"))
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--only", nargs="+", choices=RECIPES, default=list(RECIPES), metavar="RECIPE")
    parser.add_argument("--max-negatives", type=int, default=2000)
    parser.add_argument("--positives", type=int, help="to train on, in fold 1; needs --data")
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    store, numbers = PatchStore.open(options.store), options.folds
    if options.positives is not None:
        store = with_fewer_positives(options.data, store, options.out / "data", number=options.positives)
        numbers = [1]
    common = [f"train.validation_patients={HELD_OUT}", "augmentation.insertion=0.0", *options.overrides]
    seed = read_config(options.config).train.seed
    folds = [open_fold(store, number, seed=seed, max_negatives=options.max_negatives) for number in numbers]
    print("| recipe | AUC | sensitivity at 98 % specificity | AUC of each fold |\n|---|---|---|---|")
    untrained = [scores_of(model_folder(Path("detector")), fold)["test"] for fold in folds]
    print(row_of("the detector as it is", folds, untrained), flush=True)
    for name in options.only:
        config = read_config(options.config, overrides=[*common, *RECIPES[name]])
        folder = options.out / name.replace(" ", "-").replace("'", "").replace(",", "")
        of_folds = [train(config, fold, folder / f"fold{fold.number}") for fold in folds]
        print("\n".join(rows_of(name, folds, of_folds)), flush=True)


if __name__ == "__main__":
    main()
