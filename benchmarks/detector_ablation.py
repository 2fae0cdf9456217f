"""Shows what the detector's recipe is made of: one change at a time, judged on phantoms of other seeds.

    python benchmarks/detector_ablation.py --out ablation
    python benchmarks/detector_ablation.py --out ablation --only recipe "paper's balance" "100 patients"

Makes phantoms, patch stores and trainings in a folder, each once: given again, it goes on where it stopped. Every
training takes as many epochs as give it about as many phantoms as the recipe. Prints one table in Markdown for
docs/results.md: the AUC and the sensitivity at 98 % specificity on tissue patches of 20 randomised and of 20 plain
patients that no training has seen. `--store` adds a store that is looked at but by which nothing may be chosen. On two
idle cores a training of full size takes 20 to 40 minutes by the processor time of its steps; not run at full size yet.
"""

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transfer import POOLINGS, SPECIFICITY, choose_patches, model_scores

from mmgkeras.config import read_config
from mmgkeras.evaluation.metrics import auc
from mmgkeras.patches.store import PatchStore
from mmgkeras.schema import CALCIFICATION

CONFIG = Path("configs/detector.toml")
UNSEEN_SEED = 900
UNSEEN_PATIENTS = 20
TRAINING_SEED = 101


@dataclass(frozen=True)
class Change:
    """What one training does otherwise than the recipe; `part` is of its patients, `length` of its steps."""

    part: float = 1.0
    length: int = 1
    looks: str = "randomised"
    overrides: tuple[str, ...] = ()


CHANGES = {
    "recipe": Change(),
    "half of the patients": Change(part=0.5),
    "a quarter of the patients": Change(part=0.25),
    "twice the epochs": Change(length=2),
    "plain looks": Change(looks="plain"),
    "paper's balance": Change(overrides=("augmentation.scheme=paper",)),
    "one intensity": Change(overrides=("augmentation.intensities=[1.0]",)),
    "average in training": Change(overrides=("model.pooling=average",)),
    "three highest cells in training": Change(overrides=("model.pooling=top_k",)),
    "width 0.25": Change(overrides=("model.width=0.25",)),
    "width 1": Change(overrides=("model.width=1.0",)),
    "brightness as it is": Change(overrides=("model.normalisation=network",)),
}


def run(*arguments: object) -> None:
    """One command of mmgkeras, which must succeed."""
    program = "from mmgkeras.cli import main; main()"
    subprocess.run([sys.executable, "-c", program, *map(str, arguments)], check=True)


def store_of(out: Path, *, patients: int, looks: str, seed: int, spacing_mm: float) -> Path:
    """A patch store of phantoms, made where it is not there yet."""
    name = f"{looks}-{patients}-{seed}"
    data, store = out / "data" / name, out / "stores" / name
    settings = ("--config", CONFIG)
    if not data.exists():
        number = ("--patients", patients, "--seed", seed, "--spacing-mm", spacing_mm)
        run("phantom", "--out", data, *number, "--looks", looks, *settings)
    if not store.exists():
        run("prepare", "--data", data, "--out", store, *settings)
    if not (store / "folds.csv").exists():
        run("split", "--store", store, *settings)
    return store


def train(out: Path, name: str, change: Change, *, patients: int, epochs: int, spacing_mm: float) -> Path:
    """The model of one change, trained where it has not been yet."""
    number = max(5, round(patients * change.part))
    store = store_of(out, patients=number, looks=change.looks, seed=TRAINING_SEED, spacing_mm=spacing_mm)
    period, repeats = read_config(CONFIG).train.learning_rate_drop_period, round(change.length / change.part)
    length = (f"train.epochs={epochs * repeats}", f"train.learning_rate_drop_period={period * repeats}")
    settings = [text for key in (*change.overrides, *length) for text in ("--set", key)]
    folder = name.replace(" ", "-").replace("'", "")
    places = ("--run", out / "runs" / folder, "--export", out / "models" / folder)
    run("fit", "--store", store, "--fold", 1, "--config", CONFIG, *settings, *places)
    return out / "models" / folder / "1"


def measure(model: Path, store: Path, *, pooling: str) -> str:
    """AUC and sensitivity on the tissue patches of a store."""
    patches = choose_patches(PatchStore.open(store), min_tissue=0.5, max_negatives=20_000)
    scores = model_scores(model, patches)[pooling]
    is_positive = patches.labels == CALCIFICATION
    sensitivity = np.mean(scores[is_positive] > np.quantile(scores[~is_positive], SPECIFICITY))
    return f"{auc(patches.labels, scores):.3f}, {sensitivity:.2f}"


def main() -> None:
    """Prints the table, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--patients", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=read_config(CONFIG).train.epochs)
    parser.add_argument("--spacing-mm", type=float, default=0.2)
    parser.add_argument("--only", nargs="+", choices=CHANGES, default=list(CHANGES), metavar="CHANGE")
    parser.add_argument("--store", type=Path, action="append", default=[], help="repeatable")
    options = parser.parse_args()
    unseen = {"patients": UNSEEN_PATIENTS, "seed": UNSEEN_SEED, "spacing_mm": options.spacing_mm}
    stores = [store_of(options.out, looks=looks, **unseen) for looks in ("randomised", "plain")] + options.store
    print("| change | pooling when asked | " + " | ".join(store.name for store in stores) + " |")
    print("|---|---" + "|---" * len(stores) + "|", flush=True)
    for name in options.only:
        change = CHANGES[name]
        size = {"patients": options.patients, "epochs": options.epochs, "spacing_mm": options.spacing_mm}
        model = train(options.out, name, change, **size)
        pooling = read_config(CONFIG, overrides=change.overrides).model.pooling
        for asked in sorted({POOLINGS[pooling], POOLINGS["log_mean_exp"]}):
            cells = [measure(model, store, pooling=asked) for store in stores]
            print(f"| {name} | {asked} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
