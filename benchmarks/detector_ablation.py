"""Shows what the detector's recipe is made of: one change at a time, judged on phantoms of other seeds.

    python benchmarks/detector_ablation.py --out ablation
    python benchmarks/detector_ablation.py --out ablation --only recipe "paper's balance" "half of the patients"
    KERAS_BACKEND=jax python benchmarks/detector_ablation.py --out ablation

Makes phantoms, patch stores and trainings in a folder, each once: given again, it goes on where it stopped. Every
training takes about as many steps as the recipe, but for the two rows whose names say more. Prints one table in
Markdown for docs/results.md: the AUC and the sensitivity at 98 % specificity on tissue patches of 20 randomised and of
20 plain patients that no training has seen, at the detector's pixel size and at half of it, resampled; where one mark
makes a patch positive, and where it takes as many as in the recipe. `--store` adds a store that is only looked at. On
two idle cores a training of full size takes 20 to 40 minutes by the processor time of its steps. On Keras' JAX backend,
which needs no TensorFlow, `jax_training.py` trains, and the weights are kept as safetensors.
"""

import argparse
import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from transfer import POOLINGS, SPECIFICITY, Patches, Scores, choose_patches, insert_marks, model_scores, network_scores

from mmgkeras.config import Config, read_config
from mmgkeras.evaluation.metrics import auc
from mmgkeras.models.network import backbone_of, build_network
from mmgkeras.models.weights import load_tensors, save_tensors
from mmgkeras.patches.store import PatchStore
from mmgkeras.schema import CALCIFICATION

CONFIG = Path("configs/detector.toml")
UNSEEN_SEED = 900
UNSEEN_PATIENTS = 20
TRAINING_SEED = 101
RECIPE = read_config(CONFIG)


@dataclass(frozen=True)
class Change:
    """What one training does otherwise than the recipe.

    Attributes:
        part: of its patients, each shown that many times more often.
        length: times its epochs. An epoch has other steps where the positives or their operations are others; this
            makes up for it, but where more training is the change.
        looks: of the phantoms.
        min_marks: as of `PatchesConfig`.
        finer: the phantoms are made at so many times the resolution, in turn, and resampled, as digital mammograms are;
            None for what `--finer` says.
        overrides: of the configuration.
    """

    part: float = 1.0
    length: float = 1.0
    looks: str = "randomised"
    min_marks: int = RECIPE.patches.min_marks
    finer: tuple[int, ...] | None = None
    overrides: tuple[str, ...] = ()


CHANGES = {
    "recipe": Change(),
    "one mark is enough": Change(min_marks=1, length=0.5),
    "two marks": Change(min_marks=2, length=0.75),
    "four times the patients": Change(part=4.0, length=4.0),
    "half of the patients": Change(part=0.5),
    "a quarter of the patients": Change(part=0.25),
    "twice the epochs and the average": Change(length=2.0, overrides=("train.ema_momentum=0.9995",)),
    "plain looks": Change(looks="plain"),
    "none resampled": Change(finer=(1,)),
    "all of half the pixel size, resampled": Change(finer=(2,)),
    "paper's balance": Change(overrides=("augmentation.scheme=paper",)),
    "one intensity": Change(length=1.5, overrides=("augmentation.intensities=[1.0]",)),
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


def store_of(
    out: Path, *, patients: int, looks: str, seed: int, spacing_mm: float, min_marks: int, finer: tuple[int, ...]
) -> Path:
    """A patch store of phantoms, made where it is not there yet."""
    name = "-".join(map(str, [looks, patients, seed, *(f"finer{times}" for times in finer)]))
    data, store = out / "data" / name, out / "stores" / f"{name}-{min_marks}"
    if not data.exists():
        sizes = [text for times in finer for text in ("--spacing-mm", spacing_mm / times)]
        number = ("--patients", patients, "--seed", seed, *sizes)
        run("phantom", "--out", data, *number, "--looks", looks, "--config", CONFIG)
    if not store.exists():
        settings = ("--set", f"patches.min_marks={min_marks}", "--set", f"patches.spacing_mm={spacing_mm}")
        run("prepare", "--data", data, "--out", store, "--config", CONFIG, *settings)
    if not (store / "folds.csv").exists():
        run("split", "--store", store, "--config", CONFIG)
    return store


def train(
    out: Path, name: str, *, patients: int, epochs: int, spacing_mm: float, finer: tuple[int, ...], seed: int
) -> Path:
    """The model of one change, trained where it has not been yet: an exported model, on JAX a file of weights."""
    change = CHANGES[name]
    number = max(5, round(patients * change.part))
    what = {"looks": change.looks, "min_marks": change.min_marks, "spacing_mm": spacing_mm}
    store = store_of(out, patients=number, seed=TRAINING_SEED, finer=change.finer or finer, **what)
    period, repeats = RECIPE.train.learning_rate_drop_period, change.length / change.part
    times = {"epochs": round(epochs * repeats), "learning_rate_drop_period": max(1, round(period * repeats))}
    length = [f"train.{key}={value}" for key, value in times.items()]
    overrides = [*change.overrides, *length, f"train.seed={seed}"]
    settled = [*overrides, f"patches.min_marks={change.min_marks}"]
    made_by = f"{PatchStore.open(store).checksum} {read_config(CONFIG, overrides=settled).model_dump_json()}"
    digest = hashlib.sha256(made_by.encode()).hexdigest()[:8]
    folder = name.replace(" ", "-").replace("'", "").replace(",", "") + f"-{seed}-{digest}"
    if keras.backend.backend() == "jax":
        return train_on_jax(store, read_config(CONFIG, overrides=overrides), out / "models" / f"{folder}.safetensors")
    settings = [text for key in overrides for text in ("--set", key)]
    places = ("--run", out / "runs" / folder, "--export", out / "models" / folder)
    run("fit", "--store", store, "--fold", 1, "--config", CONFIG, *settings, *places)
    return out / "models" / folder / "1"


def train_on_jax(store: Path, config: Config, weights: Path) -> Path:
    """The file of weights, made where it is not there yet."""
    from jax_training import train as train_network  # needs JAX

    if not weights.exists():
        weights.parent.mkdir(parents=True, exist_ok=True)
        network = train_network(PatchStore.open(store), config)
        save_tensors(backbone_of(network), weights, head=network.layers[-1])
    return weights


def scores_of(model: Path, patches: Patches, config: Config) -> Scores:
    """What a model that `train` gave says of patches, by each pooling."""
    if model.is_dir():
        return model_scores(model, patches)
    network = build_network(config.model, patch_px=patches.store.patch_px, pixel_type=patches.store.pixel_type)
    load_tensors(backbone_of(network), model, head=network.layers[-1])
    return network_scores(network, patches)


def measure(patches: Patches, scores: Scores, *, pooling: str) -> str:
    """AUC and sensitivity."""
    found, is_positive = scores[pooling], patches.labels == CALCIFICATION
    sensitivity = np.mean(found[is_positive] > np.quantile(found[~is_positive], SPECIFICITY))
    return f"{auc(patches.labels, found):.3f}, {sensitivity:.2f}"


def main() -> None:
    """Prints the table, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--patients", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=RECIPE.train.epochs)
    parser.add_argument("--spacing-mm", type=float, default=0.2)
    parser.add_argument("--finer", type=int, nargs="+", default=[1, 2], help="as of `Change`")
    parser.add_argument("--seed", type=int, default=1, help="of the training")
    parser.add_argument("--only", nargs="+", choices=CHANGES, default=list(CHANGES), metavar="CHANGE")
    parser.add_argument("--store", type=Path, action="append", default=[], help="repeatable")
    parser.add_argument("--inserted", type=Path, help="a store whose labels are unused: marks are put in")
    options = parser.parse_args()
    size = {"spacing_mm": options.spacing_mm, "patients": UNSEEN_PATIENTS}
    kinds = [(looks, (finer,)) for finer in (1, 2) for looks in ("randomised", "plain")]
    stores = [
        store_of(options.out, looks=looks, finer=finer, min_marks=min_marks, seed=UNSEEN_SEED, **size)
        for looks, finer in kinds
        for min_marks in sorted({1, RECIPE.patches.min_marks})
    ]
    columns = {
        store.name: choose_patches(PatchStore.open(store), min_tissue=0.5, max_negatives=20_000)
        for store in [*stores, *options.store]
    }
    if options.inserted is not None:
        columns["marks put in"] = insert_marks(PatchStore.open(options.inserted), min_tissue=0.5)
    print("| change | pooling when asked | " + " | ".join(columns) + " |")
    print("|---|---" + "|---" * len(columns) + "|", flush=True)
    for name in options.only:
        size = {"patients": options.patients, "epochs": options.epochs, "spacing_mm": options.spacing_mm}
        model = train(options.out, name, finer=tuple(options.finer), seed=options.seed, **size)
        config = read_config(CONFIG, overrides=CHANGES[name].overrides)
        scores = [scores_of(model, patches, config) for patches in columns.values()]
        for asked in sorted({POOLINGS[config.model.pooling], POOLINGS["log_mean_exp"]}):
            cells = [measure(*pair, pooling=asked) for pair in zip(columns.values(), scores, strict=True)]
            print(f"| {name} | {asked} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
