"""Every command that writes, small: the folder it is given in, and what it is compared by.

A scenario's folder has `in/` with its inputs, `out` (or `out/`) with what an earlier call left if there is any, and
`bystander.txt`, which belongs to nobody here.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from mmgkeras.cli import main
from PIL import Image

from benchmarks.campaign.trials import run_command
from mmgkeras.config import PatchesConfig, SplitConfig
from mmgkeras.files import atomic_folder
from mmgkeras.patches.prepare import prepare
from mmgkeras.patches.split import fold_patches, split_store
from mmgkeras.patches.store import PatchStore
from mmgkeras.savedmodel.metadata import ModelMetadata, patients_digest, write_metadata
from mmgkeras.schema import ImageRecord, Region
from mmgkeras.sources.phantom import write_phantom, writing
from mmgkeras.study.run_files import Environment, EpochRow, RunCounts, write_environment, write_history
from mmgkeras.tables import write_images, write_regions

OUT = "out"
THRESHOLD_COMMAND = "threshold"
_OF_DATA = ("phantom", "import", "prepare", "split")
"""Names of the commands that need no model."""
_CHANGING_KEYS = frozenset(
    {
        "created",
        "command",
        "hardware",
        "starts",
        "seconds_per_mammogram",
        "source",
        "path",
        "data",
        "export",
        "tables_sha256",
    }
)
_CHANGING_FILES = ("*tfevents*", "*.pb", "variables/*", "*/variables/*", "timing.csv", "*/timing.csv", "*summary.csv")
_CHANGING_FILES += ("*mammograms.csv", "*history.csv", "*checkpoint.npz", "*report.html", "*tables/*", "*figures/*")


@dataclass(frozen=True, slots=True)
class Scenario:
    """A command in a folder.

    Attributes:
        name: of the command and its options.
        folder: with its inputs and what was there before; copied for each trial.
        run: gives the command, in a copy.
        is_resumed: its output grows in place, and the same command goes on with it.
        may_repeat: given again after it had all but ended, it makes its output once more, beside the first.
        most: so many of its calls are tried at most, evenly spread and the last ones all.
    """

    name: str
    folder: Path
    run: Callable[[], object]
    is_resumed: bool = False
    may_repeat: bool = False
    most: int = 200


def snapshot(place: Path) -> dict[str, str]:
    """The digest of every file of a folder, or of one file, by name; what differs from run to run is left out of it."""
    if place.is_file():
        return {"": _digest(place, place.name)}
    paths = sorted(path for path in place.rglob("*") if not path.is_dir())
    names = {path.relative_to(place).as_posix(): path for path in paths}
    return {_name(name): _digest(path, name) for name, path in names.items()}


def hidden_files(folder: Path) -> list[str]:
    """The names of what an interrupted command left: temporary ones, asides and locks."""
    endings = (".partial", ".work", ".old", ".commit", ".lock")
    return sorted(str(path) for path in folder.rglob(".*") if path.name.endswith(endings))


def make_scenarios(folder: Path, *, prefixes: Sequence[str] = ()) -> Iterator[Scenario]:
    """The scenarios whose names begin with one of the prefixes, or all, made in a folder that exists.

    Each command of the setting up runs in a process of its own.

    TensorFlow must not have computed anything in this process, or it hangs in those that are forked.
    """
    data, source = make_data(folder / "data"), make_mini_mias(folder / "mini-mias")
    store, split = folder / "store", folder / "split-store"
    for place in (store, split):
        prepare(data, place, PatchesConfig(patch_px=8))
    split_store(PatchStore.open(split), SplitConfig(num_subsets=2))
    scenarios = _data_scenarios(folder, data=data, source=source, store=store, split=split)
    yield from (scenario for scenario in scenarios if _is_wanted(scenario.name, prefixes))
    if prefixes and all(prefix.startswith(_OF_DATA) for prefix in prefixes):
        return
    model = folder / "model" / "1"
    _apart(lambda: export_mean_model(model, store=split))
    scenarios = chain(
        _model_scenarios(folder, data=data, split=split, model=model),
        _training_scenarios(folder, data=data, split=split, model=model),
    )
    yield from (scenario for scenario in scenarios if _is_wanted(scenario.name, prefixes))


def _is_wanted(name: str, prefixes: Sequence[str]) -> bool:
    return not prefixes or name.startswith(tuple(prefixes))


def _data_scenarios(folder: Path, *, data: Path, source: Path, store: Path, split: Path) -> Iterator[Scenario]:
    phantom = ("phantom", "--out", OUT, "--patients", "1", "--spacing-mm", "1")
    # Each image is drawn once, here, and not again in every trial.
    writing.make_image = cache(writing.make_image)
    for seed in (0, 4):
        write_phantom(folder / f"phantom{seed}", num_patients=1, seed=seed, spacing_mm=1.0)
    old_phantom, old_import = folder / "old-phantom", folder / "old-import"
    _apart(_cli("phantom", "--out", str(old_phantom), *phantom[3:], "--seed", "4"))
    _apart(_cli("import", "mini-mias", str(source), "--out", str(old_import)))
    yield from _twice(folder, "phantom", phantom, {}, old_phantom)
    importing = ("import", "mini-mias", "in/mini-mias", "--out", OUT)
    yield from _twice(folder, "import", importing, {"in/mini-mias": source}, old_import)
    dicom = make_dicom(folder / "dicom")
    (folder / "key").mkdir()
    (folder / "key" / "secret").write_text("k" * 32)
    old_dicom = folder / "old-dicom"
    _apart(_cli("import", "dicom", str(dicom), "--out", str(old_dicom), "--key", str(folder / "secret")))
    os.cpu_count = lambda: 1  # in this process, where its calls are counted
    reading = ("import", "dicom", "in/dicom", "--out", OUT, "--key", "in/key/secret")
    yield from _twice(folder, "import dicom", reading, {"in/dicom": dicom, "in/key": folder / "key"}, old_dicom)
    preparing = ("prepare", "--data", "in/data", "--out", OUT, "--set", "patches.patch_px=16")
    yield from _twice(folder, "prepare", preparing, {"in/data": data}, split)
    splitting = ("split", "--store", OUT, "--num-subsets", "2")
    yield _made(folder, "split", _cli(*splitting), {OUT: store})
    yield _made(folder, "split --overwrite", _cli(*splitting, "--seed", "1", "--overwrite"), {OUT: split})


def make_dicom(folder: Path) -> Path:
    """Two mammograms of two patients, each a bright half at the left."""
    from tests.images.dicom_files import file_of, mammogram

    folder.mkdir()
    for number in (1, 2):
        stored = np.zeros((40, 30), np.int64)
        stored[5:35, :20] = 1000 * number
        facts = {"PatientID": f"p{number}", "ImageLaterality": "L", "SOPInstanceUID": f"1.2.840.{number}"}
        (folder / f"{number}.dcm").write_bytes(file_of(mammogram(stored, **facts)))
    return folder


def _model_scenarios(folder: Path, *, data: Path, split: Path, model: Path) -> Iterator[Scenario]:
    given, old_metrics, old_overlays = str(model), folder / "old-metrics", folder / "old-overlays"
    _apart(_cli("evaluate", "--model", given, "--store", str(split), "--out", str(old_metrics), "--threshold", "0.3"))
    _apart(_cli("overlay", "--model", given, "--data", str(data), "--out", str(old_overlays), "--truth"))
    models = {"in/model": model.parent}
    evaluating = ("evaluate", "--model", "in/model/1", "--store", "in/store", "--out", OUT)
    yield from _twice(folder, "evaluate", evaluating, {**models, "in/store": split}, old_metrics, most=14)
    again = ("evaluate", "--predictions", "in/metrics/predictions.csv", "--out", OUT)
    yield from _twice(folder, "evaluate --predictions", again, {"in/metrics": old_metrics}, None)
    overlaying = ("overlay", "--model", "in/model/1", "--data", "in/data", "--out", OUT)
    yield from _twice(folder, "overlay", overlaying, {**models, "in/data": data}, old_overlays, most=14)
    predicting = (
        "predict",
        "in/data/i1.png",
        "in/data/i2.png",
        "--laterality",
        "L",
        "--model",
        "in/model/1",
        "--out",
        OUT,
    )
    old_marks = folder / "old-marks"
    _apart(
        _cli("predict", str(data / "i1.png"), *predicting[3:6], given, "--out", str(old_marks), "--threshold", "0.3")
    )
    yield from _twice(folder, "predict", predicting, {**models, "in/data": data}, old_marks, most=14)
    threshold = _cli(THRESHOLD_COMMAND, "--model", f"{OUT}/1", "--threshold", "0.3")
    yield _made(folder, THRESHOLD_COMMAND, threshold, {OUT: model.parent}, may_repeat=True)


def _training_scenarios(folder: Path, *, data: Path, split: Path, model: Path) -> Iterator[Scenario]:
    large, training = make_data(folder / "large-data", scale=4), folder / "training-store"
    split_store(prepare(large, training, PatchesConfig(patch_px=32)), SplitConfig(num_subsets=2))
    settings = ("model.weights=none", "train.batch_size=16", "train.epochs=1", "train.checkpoint_steps=2")
    fitting = ("fit", "--store", "in/store", "--fold", "1", "--run", OUT, "--export", f"{OUT}-model")
    fit = _cli(*fitting, *(part for setting in settings for part in ("--set", setting)))
    yield _made(folder, "fit", fit, {"in/store": training}, is_resumed=True, most=6)

    (folder / "tiny.toml").write_text("[patches]\npatch_px = 8\n\n[train]\nepochs = 1\n")
    config = str(folder / "tiny.toml")
    crossval = _cli("crossval", "--store", "in/store", "--data", "in/data", "--out", OUT, "--config", config)

    def crossval_without_training() -> None:
        replace_training(model)
        crossval()

    inputs = {"in/store": split, "in/data": data}
    yield _made(folder, "crossval", crossval_without_training, inputs, is_resumed=True, most=20)
    study, old_report = folder / "study", folder / "old-report"
    make_study(folder)
    reporting = ("report", "--crossval", "in/study", "--out", OUT, "--resamples", "100")
    _apart(_cli("report", "--crossval", str(study), "--out", str(old_report), "--resamples", "101"))
    yield from _twice(folder, "report", reporting, {"in/study": study}, old_report, most=5)


def _made(folder: Path, name: str, run: Callable[[], object], inputs: Mapping[str, Path], **options: Any) -> Scenario:
    place = folder / "scenarios" / name.replace(" ", "")
    (place / "in").mkdir(parents=True)
    (place / "bystander.txt").write_text("mine")
    for target, path in inputs.items():
        shutil.copytree(path, place / target)
    return Scenario(name, place, run, **options)


def _twice(
    folder: Path, name: str, arguments: Sequence[str], inputs: Mapping[str, Path], old: Path | None, **options: Any
) -> Iterator[Scenario]:
    """A command where nothing is, and with --overwrite over what an earlier call with other options made."""
    yield _made(folder, name, _cli(*arguments), inputs, **options)
    if old is not None:
        over = _cli(*arguments, "--overwrite")
        yield _made(folder, f"{name} --overwrite", over, {**inputs, OUT: old}, **options)


def _cli(*arguments: str) -> Callable[[], object]:
    return lambda: main(list(arguments))


def _apart(command: Callable[[], object]) -> None:
    with TemporaryDirectory() as folder:
        ended = run_command(command, folder=Path(folder))
    if ended.code:
        raise RuntimeError(f"The campaign cannot be set up: {ended.output}")


def export_mean_model(path: Path, *, store: Path) -> None:
    """Exports a model of fold 1 of a store whose probability grows with the mean of the patch."""
    import keras

    from mmgkeras.savedmodel.export import export

    image = keras.Input((8, 8, 1), name="image")
    scaled = keras.layers.Rescaling(1 / 255, offset=-0.5)(image)
    head = keras.layers.Dense(2, name="head")
    logits = head(keras.layers.GlobalAveragePooling2D()(scaled))
    head.set_weights([np.array([[-1.0, 1.0]]), np.zeros(2)])
    export(keras.Model(image, logits), path, metadata_of(store, fold=1))


def metadata_of(store: Path, *, fold: int) -> ModelMetadata:
    """What a model says of itself that was trained on a fold of a store of 8 px patches."""
    opened = PatchStore.open(store)
    division = fold_patches(opened, fold)
    return ModelMetadata(
        network="mean",
        patch_px=8,
        stride_px=8,
        pixel_type="uint8",
        spacing_mm=0.2,
        fold=fold,
        test_subset=division.test_subset,
        test_patients_sha256=patients_digest(opened.patches["patient_id"].to_numpy()[division.test]),
        store_checksum=opened.checksum,
    )


def replace_training(model: Path) -> None:
    """Lets the jobs of a cross-validation run in this process and take a copy of a model for what they trained."""
    from mmgkeras.crossval import job
    from mmgkeras.training.fit import Fitted

    def fit(store: Path, *, fold: int, run: Path, export: Path, **_: object) -> Fitted:
        metadata = metadata_of(store, fold=fold)
        if not (export / "1").exists():
            with atomic_folder(export / "1") as folder:
                shutil.copytree(model, folder, dirs_exist_ok=True)
                write_metadata(metadata, folder)
        if not run.exists():
            with atomic_folder(run) as folder:
                write_environment(folder, _environment(metadata, store=store))
                write_history([EpochRow(1, 60, 0.1, 0.5, 0.5, 0.5, 0.5, 128.0)], folder / "history.csv")
        return Fitted(export / "1", was_finished=False)

    job.fit = fit  # type: ignore[attr-defined, assignment]
    sys.modules["mmgkeras.cli.crossval"].process_launcher = lambda *_, **__: None  # type: ignore[attr-defined]


def _environment(metadata: ModelMetadata, *, store: Path) -> Environment:
    return Environment(
        fold=metadata.fold,
        test_subset=metadata.test_subset,
        test_patients_sha256=metadata.test_patients_sha256,
        store_checksum=metadata.store_checksum,
        training_patches_sha256="0" * 64,
        seed=0,
        leak_guard=fold_patches(PatchStore.open(store), metadata.fold).proof,
        counts=RunCounts(**dict.fromkeys(RunCounts.model_fields, 0)),
        export=Path("model/1"),
        is_finished=True,
    )


def make_study(folder: Path) -> None:
    """A finished cross-validation in `study`, made up from scores, without its store."""
    from tests.report import conftest

    data = conftest.make_data(folder / "study-data", num_patients=12, num_images=24, height=96, width=64)
    store = conftest.make_store(data, folder / "study-store", patch_px=32, num_folds=3)
    conftest.make_crossval(folder / "study", store, data=None, networks={"sakaida2023-resnet18": "resnet18"})


def make_data(folder: Path, *, scale: int = 1) -> Path:
    """Four patients p1 to p4 with one image of 32 x 24 pixels each, times `scale`; all but the last have a mark."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    records, regions = [], []
    for number in range(1, 5):
        image_id = f"i{number}"
        pixels = generator.integers(60, 200, (32 * scale, 24 * scale), np.uint8)
        Image.fromarray(pixels).save(folder / f"{image_id}.png")
        records.append(ImageRecord(image_id, f"{image_id}.png", f"p{number}", "L", "CC", "complete", spacing_mm=0.2))
        if number < 4:
            regions.append(Region(image_id, "1", "calcification", "point", ((3.0, 3.0),)))
    write_images(folder / "images.csv", records)
    write_regions(folder / "regions.csv", regions)
    return folder


def make_mini_mias(folder: Path) -> Path:
    """A database of one patient: film 1 with a cluster, film 2 normal."""
    folder.mkdir(parents=True)
    rows, cols = np.mgrid[:1024, :1024]
    left = np.where(((rows - 512) / 500) ** 2 + (cols / 600) ** 2 <= 1, 120, 0).astype(np.uint8)
    Image.fromarray(left[:, ::-1]).save(folder / "mdb001.pgm")
    Image.fromarray(left).save(folder / "mdb002.pgm")
    (folder / "Info.txt").write_text("prose\nmdb001 G CALC B 800 500 20\nmdb002 G NORM\n")
    return folder


def _name(name: str) -> str:
    """The name without the time and machine that TensorFlow puts into it."""
    head, found, _ = name.partition("events.out.tfevents")
    return head + found


def _digest(path: Path, name: str) -> str:
    if any(fnmatchcase(name, pattern) for pattern in _CHANGING_FILES):
        return "is there"
    data = path.read_bytes()
    if name.endswith(".json"):
        data = json.dumps(_lasting(json.loads(data)), sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lasting(inner) for key, inner in value.items() if key not in _CHANGING_KEYS}
    return [_lasting(inner) for inner in value] if isinstance(value, list) else value
