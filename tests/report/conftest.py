"""A cross-validation made up from files alone: no network is trained, no TensorFlow loaded."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.special import expit

from mmgkeras.config import Config, ModelConfig, PatchesConfig
from mmgkeras.files import sha256_file
from mmgkeras.patches.prepare import prepare
from mmgkeras.patches.store import PatchStore
from mmgkeras.schema import ImageRecord, Region
from mmgkeras.study.layout import Crossval, NetworkFacts, StoreFacts
from mmgkeras.study.read import NetworkStudy, SeedStudy, Study
from mmgkeras.tables import PREDICTION_COLUMNS, read_folds, write_folds, write_images, write_predictions, write_regions

NETWORKS = {"sakaida2023-resnet18": "resnet18", "sakaida2023-resnet50": "resnet50"}
DIGEST = "0" * 64
CHANGES = ("as_is", "x0.5", "x0.75", "rot90", "rot180", "rot270", "flipped")
VIEWS = (("L", "CC"), ("R", "CC"), ("L", "MLO"), ("R", "MLO"))


def make_data(folder: Path, *, num_patients: int, num_images: int, height: int, width: int, seed: int = 0) -> Path:
    """A data folder: noise on a bright half ellipse at the chest wall; two patients of three have marks."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    records, regions = [], []
    rows, cols = np.mgrid[:height, :width]
    owners = np.arange(num_images) * num_patients // num_images
    for number, owner in enumerate(owners.tolist()):
        side, view = VIEWS[int((owners[:number] == owner).sum()) % 4]
        image_id, patient = f"I{number:04d}", f"P{owner:03d}"
        across = cols if side == "L" else width - 1 - cols
        breast = ((rows - height / 2) / (0.46 * height)) ** 2 + (across / (0.75 * width)) ** 2 < 1
        brightness = random.uniform(60, 140)
        pixels = np.where(breast, random.normal(brightness, 12, (height, width)), 0)
        if owner % 3:
            regions.extend(_draw_marks(pixels, breast, image_id=image_id, random=random))
        path = folder / f"{image_id}.png"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, compress_level=1)
        records.append(
            ImageRecord(
                image_id,
                path.name,
                patient,
                side,  # type: ignore[arg-type]
                view,  # type: ignore[arg-type]
                "complete",
                spacing_mm=0.1,
                density="ABCD"[owner % 4],
                age=float(40 + owner % 40),
                vendor=("GE", "Hologic")[owner % 2],
            )
        )
    write_images(folder / "images.csv", records)
    write_regions(folder / "regions.csv", regions)
    return folder


def _draw_marks(
    pixels: "np.ndarray[Any, Any]", breast: "np.ndarray[Any, Any]", *, image_id: str, random: np.random.Generator
) -> list[Region]:
    """Some marks of one to three pixels around one place of the breast, drawn bright."""
    height, width = pixels.shape
    places = np.argwhere(breast)
    centre = places[random.integers(len(places))]
    regions = []
    for number in range(int(random.integers(2, 7))):
        row, col = (centre + random.normal(0, height / 20, 2)).astype(int).clip(2, [height - 3, width - 3])
        if not breast[row, col]:
            continue
        pixels[row - 1 : row + 2, col - 1 : col + 2] += 90
        regions.append(Region(image_id, str(number), "calcification", "circle", ((float(row), float(col)), (1.0, 1.0))))
    return regions


def make_store(data: Path, store: Path, *, patch_px: int, num_folds: int = 5) -> PatchStore:
    """The store, patients dealt out so that each subset gets some with and some without marks."""
    opened = prepare(data, store, PatchesConfig(patch_px=patch_px))
    has_mark = opened.patches.groupby("patient_id")["label"].max()
    assignment = {}
    for group in (1, 0):
        for number, patient in enumerate(has_mark.index[has_mark == group]):
            assignment[str(patient)] = "ABCDEFG"[number % num_folds]
    write_folds(store / "folds.csv", assignment)
    return opened


def make_crossval(
    folder: Path,
    store: PatchStore,
    *,
    data: Path | None,
    networks: dict[str, str] | None = None,
    seeds: tuple[int, ...] = (0,),
    validation: float = 0.0,
) -> Path:
    """The folder that `mmgkeras crossval` would leave, of scores that tell the labels somewhat apart."""
    networks = networks or NETWORKS
    folds = pd.Series(read_folds(store.path / "folds.csv"))
    numbers = {subset: number for number, subset in enumerate(sorted(folds.unique()), start=1)}
    of_patch = store.patches["patient_id"].map(folds).map(numbers).to_numpy()
    scores = _difficulty(store)
    folder.mkdir(parents=True)
    for place, name in enumerate(networks):
        for seed in seeds:
            random = np.random.default_rng([place, seed])
            for fold in numbers.values():
                part = folder / name / f"seed{seed}" / f"fold{fold}"
                (part / "run").mkdir(parents=True)
                test = store.patches[of_patch == fold]
                logits = scores[of_patch == fold] + random.normal(0, 0.4, len(test)) + 0.3 * fold
                _write_fold(part, test, expit(logits), fold=fold, slow=place + 1, random=random)
                _write_run(part / "run", store.patches[of_patch != fold], fold=fold, seed=seed, random=random)
                if validation:
                    rest = store.patches[of_patch == fold % len(numbers) + 1]
                    write_predictions(part / "validation.csv", _predictions(rest, expit(scores[rest.index]), fold=fold))
    crossval = {
        "format_version": 1,
        "mmgkeras_version": "0.1.0",
        "created": "2026-01-01T00:00:00+00:00",
        "command": "mmgkeras crossval --store store --out crossval",
        "store": {
            "path": str(store.path),
            "checksum": store.checksum,
            "folds_sha256": sha256_file(store.path / "folds.csv"),
        },
        "data": None if data is None else str(data),
        "folds": sorted(numbers.values()),
        "seeds": list(seeds),
        "networks": [
            {"name": name, "config": Config(model=ModelConfig(network=network, weights="none")).model_dump(mode="json")}
            for name, network in networks.items()
        ],
        "versions": {"mmgkeras": "0.1.0", "python": "3.11", "tensorflow": "2.21.0", "keras": "3.15.1"},
        "hardware": "a made-up machine",
    }
    (folder / "crossval.json").write_text(json.dumps(crossval))
    return folder


def _difficulty(store: PatchStore) -> "np.ndarray[Any, Any]":
    """(N,) logits that all networks share: some patches are hard for each of them, and some women too."""
    random = np.random.default_rng(7)
    patients = store.patches["patient_id"].astype("category").cat.codes.to_numpy()
    of_patient = random.normal(0, 0.7, patients.max() + 1)
    labels = store.patches["label"].to_numpy()
    return np.where(labels == 1, 0.6, -4.5) + of_patient[patients] + random.normal(0, 1.6, len(labels))


def _predictions(patches: pd.DataFrame, probability: "np.ndarray[Any, Any]", *, fold: int) -> pd.DataFrame:
    random = np.random.default_rng(fold)
    mean = random.normal(0.4, 0.1, len(patches)) + 0.08 * patches["label"]
    return patches.assign(
        fold=fold,
        probability=probability,
        untrained_mean=mean,
        untrained_log_1=random.normal(0, 1, len(patches)) + 1.2 * patches["label"],
    )


def _write_fold(
    part: Path,
    test: pd.DataFrame,
    probability: "np.ndarray[Any, Any]",
    *,
    fold: int,
    slow: int,
    random: np.random.Generator,
) -> None:
    write_predictions(part / "predictions.csv", _predictions(test, probability, fold=fold))
    counts = test.groupby("image_id", sort=False).size()
    rows = [
        (image_id, count, 0, 0.06, 0.004, 0.05 * slow * random.uniform(0.9, 1.3), 0.03)
        for image_id, count in counts.items()
    ]
    rows.insert(0, (counts.index[0], counts.iloc[0], 1, np.nan, np.nan, 1.4 * slow, np.nan))
    columns = ["image_id", "num_patches", "is_cold", "read_s", "divide_s", "infer_s", "draw_s"]
    pd.DataFrame(rows, columns=columns).to_csv(part / "timing.csv", index=False)
    keys = ["image_id", "patient_id", "row", "col", "label"]
    negatives = test[(test["label"] == 0) & (test["tissue"] >= 0.5)].head(40)[keys]
    base = random.normal(-2, 1, len(negatives))
    changed = [
        negatives.assign(change=change, probability=expit(base + (0.5 if change.startswith("x") else 0.05)))
        for change in CHANGES
    ]
    pd.concat(changed).to_csv(part / "shortcut.csv", index=False)
    positives = test[test["label"] == 1].drop(columns=["label", "tissue"])
    hits = (random.random(len(positives)) < 0.6).astype(int)
    places = positives.assign(peak_row=10.0, peak_col=12.0, is_hit=hits, chance=0.05)
    places.to_csv(part / "pointing.csv", index=False)
    digests = ("store_checksum", "folds_sha256", "config_sha256", "model_sha256")
    (part / "done.json").write_text(json.dumps(dict.fromkeys(digests, DIGEST)))


def _write_run(run: Path, train: pd.DataFrame, *, fold: int, seed: int, random: np.random.Generator) -> None:
    epochs = np.arange(1, 11)
    loss = 0.65 * np.exp(-epochs / 4) + 0.1 + random.normal(0, 0.01, 10)
    history = pd.DataFrame(
        {
            "epoch": epochs,
            "step": epochs * 100,
            "learning_rate": 0.001 * 0.3 ** (epochs - 1.0),
            "loss": loss,
            "auc": 1 - loss / 2,
            "sensitivity": 1 - loss / 2,
            "specificity": 1 - loss / 2,
            "patches_per_second": 200.0,
        }
    )
    history.to_csv(run / "history.csv", index=False)
    positives, negatives = int((train["label"] == 1).sum()), int((train["label"] == 0).sum())
    counts = {
        "positives": positives,
        "negatives": negatives,
        "validation": 0,
        "augmented_positives": 24 * positives,
        "augmented_negatives": 2 * negatives,
        "steps_per_epoch": 100,
    }
    digests = ("test_patients_sha256", "store_checksum", "training_patches_sha256")
    sides = ("train_patients", "test_patients", "shared_patients", "train_images", "test_images")
    environment = {
        "fold": fold,
        "test_subset": "ABCDEFG"[fold - 1],
        **dict.fromkeys(digests, DIGEST),
        "seed": seed,
        "leak_guard": dict.fromkeys((*sides, "shared_pixel_digests"), 0),
        "counts": counts,
        "starts": [],
        "export": "model/1",
        "is_finished": True,
    }
    (run / "environment.json").write_text(json.dumps(environment))


def made_up_crossval(store: PatchStore, **changes: Any) -> Crossval:
    """What crossval.json would say of one network "net" in two folds."""
    values: dict[str, Any] = {
        "command": "mmgkeras crossval",
        "created": "2026-01-01T00:00:00+00:00",
        "store": StoreFacts(path=store.path, checksum=store.checksum, folds_sha256=DIGEST),
        "data": None,
        "folds": (1, 2),
        "seeds": (0,),
        "networks": (NetworkFacts(name="net", config={}),),
        "versions": {},
        "hardware": "a made-up machine",
        "mmgkeras_version": "0.1.0",
    }
    return Crossval(**(values | changes))


@pytest.fixture(scope="session")
def report_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of 20 patients with two images each, 40 x 32 pixels."""
    folder = tmp_path_factory.mktemp("report") / "data"
    return make_data(folder, num_patients=20, num_images=40, height=40, width=32)


@pytest.fixture(scope="session")
def report_store(report_data: Path) -> PatchStore:
    """Its store of 8 px patches: 20 of each image, 800 in all, in five subsets."""
    return make_store(report_data, report_data.parent / "store", patch_px=8)


@pytest.fixture(scope="session")
def crossval_folder(report_data: Path, report_store: PatchStore) -> Path:
    """A finished cross-validation of two networks; not to be changed."""
    return make_crossval(report_data.parent / "crossval", report_store, data=report_data)


@pytest.fixture
def new_crossval(tmp_path: Path, report_data: Path, report_store: PatchStore) -> Callable[..., Path]:
    """Makes another one, to be changed; arguments as of `make_crossval`."""

    def make(**changes: Any) -> Path:
        return make_crossval(tmp_path / "crossval", report_store, **({"data": report_data} | changes))

    return make


@pytest.fixture(scope="session")
def section_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study of one network "net" on six patients with two mammograms of 2 x 3 patches of 8 px, in two folds.

    P0 to P2 have density A, the others B; only P0 and P1 tell their ages, 50 and 60; the vendor is unknown. A mammogram
    of each patient is of the left breast, CC, the other of the right, MLO. Every mammogram has a mark of 3 x 3 px in
    patch (0, 0) and two marks of 1 px in (1, 1), inside an envelope; P0_L also has an "other" finding in (1, 2). An
    image that is not there was left out. Every positive but those of P0 has probability 0.9; these 0.2. Every negative
    has 0.1 but that in (0, 1) of P5_R, which has 0.8.
    """
    folder = tmp_path_factory.mktemp("sections")
    data = folder / "data"
    data.mkdir()
    records, regions = [], []
    for patient in range(6):
        for side, view in (("L", "CC"), ("R", "MLO")):
            image_id = f"P{patient}_{side}"
            pixels = np.full((16, 24), 100, np.uint8)
            pixels[:, :8] = 60
            pixels[7, 23] = 100 + len(records)  # identical images must not be in two subsets
            Image.fromarray(pixels).save(data / f"{image_id}.png")
            records.append(
                ImageRecord(
                    image_id,
                    f"{image_id}.png",
                    f"P{patient}",
                    "L" if side == "L" else "R",
                    "CC" if view == "CC" else "MLO",
                    "complete",
                    chest_wall="left",
                    density="A" if patient < 3 else "B",
                    age=50.0 + 10 * patient if patient < 2 else None,
                )
            )
            regions += [
                Region(image_id, "m1", "calcification", "box", ((2, 2), (4, 4))),
                Region(image_id, "m2", "calcification", "point", ((10, 10),)),
                Region(image_id, "m3", "calcification", "point", ((12, 12),)),
                Region(image_id, "e1", "cluster", "box", ((9, 9), (13, 13))),
            ]
    regions.append(Region("P0_L", "o1", "other", "box", ((9, 17), (12, 20))))
    records.append(ImageRecord("P9_L", "absent<b>.png", "P9", "L", "CC", "complete"))
    write_images(data / "images.csv", records)
    write_regions(data / "regions.csv", regions)
    store = prepare(data, folder / "store", PatchesConfig(patch_px=8), skip_bad=True)
    write_folds(store.path / "folds.csv", {f"P{patient}": "AB"[patient % 2] for patient in range(6)})
    predictions = store.patches.assign(fold=store.patches["patient_id"].map(lambda patient: 1 + int(patient[1]) % 2))
    is_positive, is_missed = predictions["label"] == 1, predictions["patient_id"] == "P0"
    predictions["probability"] = np.where(is_positive, np.where(is_missed, 0.2, 0.9), 0.1)
    is_false = (predictions["image_id"] == "P5_R") & (predictions["row"] == 0) & (predictions["col"] == 1)
    predictions.loc[is_false, "probability"] = 0.8
    seed = SeedStudy(
        seed=0,
        predictions=predictions[list(PREDICTION_COLUMNS)],
        validation=None,
        timing=None,
        shortcut=None,
        pointing=None,
        histories={},
        environments={},
    )
    return Study(
        folder=folder,
        networks=(NetworkStudy(name="net", config=Config(), seeds={0: seed}),),
        folds=(1, 2),
        data_path=data,
        store=store,
        crossval=made_up_crossval(store, versions={"tensorflow": "2.21.0"}),
    )


@pytest.fixture
def resampled_to_2(section_study: Study, tmp_path: Path) -> Callable[..., Study]:
    """The study with a store of images of 16 x 24 pixels of the sizes given, in mm, resampled to 0.2 mm a pixel."""

    def make(*spacings_mm: float | None) -> Study:
        data = tmp_path / "data"
        data.mkdir()
        records = []
        for number, spacing_mm in enumerate(spacings_mm):
            pixels = np.full((16, 24), 100 + number, np.uint8)
            Image.fromarray(pixels).save(data / f"{number}.png")
            record = ImageRecord(str(number), f"{number}.png", f"p{number}", "L", "CC", "complete")
            records.append(replace(record, spacing_mm=spacing_mm))
        write_images(data / "images.csv", records)
        store = prepare(data, tmp_path / "store", PatchesConfig(patch_px=8, spacing_mm=0.2))
        write_folds(store.path / "folds.csv", {f"p{number}": "AB"[number % 2] for number in range(len(records))})
        return replace(section_study, store=store)

    return make
