"""A finished cross-validation as the report reads it: predictions, histories and what was measured besides.

Owns which files there must be and what must agree between them. Computes no metric.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
from pydantic import ValidationError

from mmgkeras.config import Config
from mmgkeras.errors import InputError, InputFaultsError
from mmgkeras.files import sha256_file
from mmgkeras.patches.store import FOLDS, PatchStore
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION
from mmgkeras.study.layout import POINTING, SHORTCUT, TIMING, read_history, read_json, read_rows
from mmgkeras.tables import read_predictions

CROSSVAL_JSON: Final = "crossval.json"
FORMAT_VERSION: Final = 1
_KEYS: Final = ("format_version", "command", "store", "folds", "seeds", "networks")
_PATCH: Final = ["fold", "image_id", "row", "col"]


@dataclass(frozen=True, kw_only=True)
class SeedStudy:
    """All folds of one network trained from one seed.

    Attributes:
        seed: of the training.
        predictions: out-of-fold, columns of predictions.csv: each fold's test subset by that fold's model.
        validation: the same of the training patients held out by each fold; None where none are.
        timing: columns of timing.csv and fold; seconds are NaN where not measured; None where nothing was.
        shortcut: columns of shortcut.csv and fold; None where it was not measured.
        pointing: columns of pointing.csv and fold; None where the data have no regions.
        histories: of each fold, the rows of history.csv, one for each epoch.
        environments: of each fold, what environment.json says.
    """

    seed: int
    predictions: pd.DataFrame
    validation: pd.DataFrame | None
    timing: pd.DataFrame | None
    shortcut: pd.DataFrame | None
    pointing: pd.DataFrame | None
    histories: Mapping[int, pd.DataFrame]
    environments: Mapping[int, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class NetworkStudy:
    """One network of the study: its configuration and what came of each seed."""

    name: str
    config: Config
    seeds: Mapping[int, SeedStudy]

    @property
    def first(self) -> SeedStudy:
        """That of the lowest seed, the one reported in the tables."""
        return self.seeds[min(self.seeds)]


@dataclass(frozen=True, kw_only=True)
class Study:
    """A cross-validation.

    Attributes:
        folder: where it lies.
        networks: in the order of their names, shorter numbers first (resnet18, resnet50, resnet101).
        folds: 1-based numbers, ascending.
        store_path: of the patch store it was made on.
        data_path: of the data folder with the images and tables; None if not known.
        store: the same store, open; None where it is not there any more.
        crossval: what crossval.json says.
    """

    folder: Path
    networks: tuple[NetworkStudy, ...]
    folds: tuple[int, ...]
    store_path: Path
    data_path: Path | None
    store: PatchStore | None
    crossval: Mapping[str, Any]

    @property
    def labels(self) -> dict[str, str]:
        """A short name for each network's: without the leading words, up to a dash, that all of them share."""
        names = [network.name for network in self.networks]
        leading = [name.split("-")[:-1] for name in names] if len(names) > 1 else [[]]
        alike = [len(set(words)) == 1 for words in zip(*leading, strict=False)]
        shared = (*alike, False).index(False)
        return {name: "-".join(name.split("-")[shared:]) for name in names}


def read_study(folder: Path, *, store: Path | None = None, data: Path | None = None) -> Study:
    """The study in a folder that `mmgkeras crossval` has finished.

    Args:
        folder: of the cross-validation, with crossval.json.
        store: where its patch store is now; by default where crossval.json says.
        data: where its data folder is now; by default where crossval.json says.

    Raises:
        InputError: if crossval.json is not there or damaged, or the store is another one or divided otherwise now.
        InputFaultsError: every fold that a network lacks, every fault of the files, every fold without positive or
            negative patches, and every network whose patches differ from the first one's.
    """
    crossval = _read_crossval(folder)
    folds = tuple(sorted(int(fold) for fold in crossval["folds"]))
    faults: list[str] = []
    networks = []
    for entry in sorted(crossval["networks"], key=lambda entry: natural_key(str(entry["name"]))):
        seeds = {}
        for seed in sorted(int(seed) for seed in crossval["seeds"]):
            place = folder / str(entry["name"]) / f"seed{seed}"
            found = list(_faults_of_folds(place, name=str(entry["name"]), seed=seed, folds=folds))
            faults.extend(found)
            if not found:
                try:
                    seeds[seed] = _read_seed(place, seed=seed, folds=folds)
                except InputError as error:
                    faults.extend(str(error).splitlines())
        config = _config(folder, entry)
        networks.append(NetworkStudy(name=str(entry["name"]), config=config, seeds=seeds))
    if not faults:
        faults.extend(_differences(folder, networks))
    if faults:
        raise InputFaultsError(faults)
    store_path = store or Path(crossval["store"]["path"])
    named_data = None if crossval.get("data") is None else Path(crossval["data"])
    data_path = data or (named_data if named_data is not None and named_data.is_dir() else None)
    if data is not None and not data.is_dir():
        raise InputError(f"{data}: is not a folder; --data takes the data folder that the store was prepared from")
    return Study(
        folder=folder,
        networks=tuple(networks),
        folds=folds,
        store_path=store_path,
        data_path=data_path,
        store=_open_store(store_path, crossval=crossval, folder=folder, is_named=store is not None),
        crossval=crossval,
    )


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Orders resnet18 before resnet101: digits compare as numbers."""
    parts: list[str] = []
    for letter in name:
        if parts and parts[-1][-1].isdigit() == letter.isdigit():
            parts[-1] += letter
        else:
            parts.append(letter)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)


def _read_crossval(folder: Path) -> dict[str, Any]:
    path = folder / CROSSVAL_JSON
    if not path.is_file():
        raise InputError(f"{folder}: is not the folder of a cross-validation: it has no {CROSSVAL_JSON}")
    crossval = read_json(path, keys=_KEYS)
    if crossval["format_version"] != FORMAT_VERSION:
        raise InputError(f"{path}: format_version must be {FORMAT_VERSION}. Received: {crossval['format_version']!r}")
    for key in ("folds", "seeds", "networks"):
        if not isinstance(crossval[key], list) or not crossval[key]:
            raise InputError(f"{path}: {key} must be a list of at least one. Received: {crossval[key]!r}")
    return crossval


def _config(folder: Path, entry: Mapping[str, Any]) -> Config:
    try:
        return Config.model_validate(entry["config"])
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise InputError(
            f"{folder / CROSSVAL_JSON}: config of {entry['name']}: {key}: {fault['msg']}. Received: {fault['input']!r}"
        ) from error


def _faults_of_folds(place: Path, *, name: str, seed: int, folds: Sequence[int]) -> Iterator[str]:
    """A line for each fold that is not there or not finished."""
    for fold in folds:
        part = place / f"fold{fold}"
        for needed in ("done.json", "predictions.csv"):
            if not (part / needed).is_file():
                yield f"{part}: fold {fold} of {name}, seed {seed}, is missing: it has no {needed}; run crossval again"
                break


def _read_seed(place: Path, *, seed: int, folds: Sequence[int]) -> SeedStudy:
    parts = {fold: place / f"fold{fold}" for fold in folds}
    faults: list[str] = []
    frames = []
    for fold, part in parts.items():
        try:
            frame = read_predictions(part / "predictions.csv")
        except InputError as error:
            faults.extend(str(error).splitlines())
            continue
        faults.extend(_faults_of_predictions(part / "predictions.csv", frame, fold=fold))
        frames.append(frame)
    if faults:
        raise InputFaultsError(faults)
    validation = {fold: part / "validation.csv" for fold, part in parts.items() if (part / "validation.csv").is_file()}
    histories = {fold: read_history(part / "run" / "history.csv") for fold, part in parts.items()}
    environments = {fold: part / "run" / "environment.json" for fold, part in parts.items()}
    return SeedStudy(
        seed=seed,
        predictions=pd.concat(frames, ignore_index=True),
        validation=_joined({fold: read_predictions(path) for fold, path in validation.items()}),
        timing=_joined({fold: read_rows(part / "timing.csv", TIMING) for fold, part in parts.items()}),
        shortcut=_joined({fold: read_rows(part / "shortcut.csv", SHORTCUT) for fold, part in parts.items()}),
        pointing=_joined({fold: read_rows(part / "pointing.csv", POINTING) for fold, part in parts.items()}),
        histories={fold: frame for fold, frame in histories.items() if frame is not None},
        environments={fold: read_json(path, keys=()) for fold, path in environments.items() if path.is_file()},
    )


def _faults_of_predictions(path: Path, frame: pd.DataFrame, *, fold: int) -> Iterator[str]:
    others = sorted(set(frame["fold"].unique()) - {fold})
    if others:
        yield f"{path}: must hold fold {fold} alone. Received: fold {others[0]}"
    for label, name in ((CALCIFICATION, "positive"), (NO_CALCIFICATION, "negative")):
        if not (frame["label"] == label).any():
            yield (
                f"{path}: fold {fold} must have {name} patches, else no metric of it has a meaning. Received: "
                f"{len(frame)} patches, none {name}; split the store otherwise"
            )


def _joined(frames: Mapping[int, pd.DataFrame | None]) -> pd.DataFrame | None:
    """The frames of the folds below each other, with the column fold; None where no fold has one."""
    known = [frame.assign(fold=fold) for fold, frame in frames.items() if frame is not None]
    return pd.concat(known, ignore_index=True) if known else None


def _differences(folder: Path, networks: Sequence[NetworkStudy]) -> Iterator[str]:
    """A line for each network and seed whose patches or labels are not those of the first."""
    first = networks[0]
    origin = folder / first.name / f"seed{first.first.seed}"
    reference = _patches(first.first.predictions)
    for network in networks:
        for seed, study in network.seeds.items():
            patches = _patches(study.predictions)
            if not patches.equals(reference):
                place = folder / network.name / f"seed{seed}"
                yield (
                    f"{place}: must hold the same {len(reference)} patches and labels as {origin}. "
                    f"Received: {len(patches)} patches; were both made on one store, split once?"
                )


def _patches(predictions: pd.DataFrame) -> pd.DataFrame:
    columns = [*_PATCH, "patient_id", "label"]
    return predictions[columns].sort_values(_PATCH, ignore_index=True)


def _open_store(path: Path, *, crossval: Mapping[str, Any], folder: Path, is_named: bool) -> PatchStore | None:
    """The store, checked to be the one that was trained on, divided as then; None if it is gone and nobody named it."""
    if not path.exists() and not is_named:
        return None
    store = PatchStore.open(path)
    expected = crossval["store"].get("checksum")
    if store.checksum != expected:
        raise InputError(
            f"{path}: is not the store of {folder}: its checksum must be {expected}. Received: {store.checksum}"
        )
    folds, split = store.path / FOLDS, crossval["store"].get("folds_sha256")
    if split is not None and folds.is_file() and sha256_file(folds) != split:
        raise InputError(
            f"{folds}: is not the division into subsets that {folder} was made with: its SHA-256 must be {split}. "
            f"Received: {sha256_file(folds)}"
        )
    return store
