"""A finished cross-validation as the report reads it: predictions, histories and what was measured besides.

Owns which files there must be and what must agree between them, and the reading of the reference standard: regions.csv
in the data folder, the marks in each patch, the targets to be found. Computes no metric.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.config import Config
from mmgkeras.errors import InputError, InputFaultsError, counted, shown
from mmgkeras.evaluation.subgroup_metrics import patch_marks
from mmgkeras.evaluation.targets import Targets, targets_from_labels, targets_from_regions
from mmgkeras.files import sha256_file
from mmgkeras.patches.manifest import IMAGES
from mmgkeras.patches.split import fold_patches
from mmgkeras.patches.store import FOLDS, PatchStore
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION, Region
from mmgkeras.study import layout
from mmgkeras.study.layout import CROSSVAL_JSON, DONE_JSON, Crossval, FoldJob, changed_tables, read_crossval, read_done
from mmgkeras.study.run_files import (
    ENVIRONMENT,
    HISTORY,
    POINTING,
    SHORTCUT,
    TIMING,
    Environment,
    read_environment,
    read_history,
    read_measurements,
)
from mmgkeras.tables import BASELINE_PREFIX, PREDICTION_COLUMNS, read_images, read_predictions, read_regions
from mmgkeras.tables.columns import Column

_PATCH: Final = ["fold", "image_id", "row", "col"]
REGIONS_CSV: Final = "regions.csv"


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
    environments: Mapping[int, Environment]


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
        data_path: of the data folder with the images and tables; None if not known.
        store: the same store, open; None where it is not there any more.
        crossval: what crossval.json says.
    """

    folder: Path
    networks: tuple[NetworkStudy, ...]
    folds: tuple[int, ...]
    data_path: Path | None
    store: PatchStore | None
    crossval: Crossval

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
        InputError: if crossval.json is not there or damaged, the store is another one or divided otherwise now, the
            data folder is another one, or the patches are not those of the store.
        InputFaultsError: every fold that a network lacks, every fault of the files, every fold without positive or
            negative patches, and every network whose patches differ from the first one's.
    """
    crossval = read_crossval(folder)
    if crossval is None:
        raise InputError(f"{folder}: is not the folder of a cross-validation: it has no {CROSSVAL_JSON}")
    folds = tuple(sorted(crossval.folds))
    faults: list[str] = []
    networks = []
    for network in sorted(crossval.networks, key=lambda network: natural_key(network.name)):
        seeds = {}
        for seed in sorted(crossval.seeds):
            try:
                seeds[seed] = _read_seed(folder, [FoldJob(network.name, seed, fold) for fold in folds])
            except InputError as error:
                faults.extend(str(error).splitlines())
        config = Config.model_validate(network.config)
        networks.append(NetworkStudy(name=network.name, config=config, seeds=seeds))
    if not faults:
        faults.extend(_differences(folder, networks))
    if faults:
        raise InputFaultsError(faults)
    data_path = data or (crossval.data if crossval.data is not None and crossval.data.is_dir() else None)
    if data is not None and not (data / IMAGES).is_file():
        raise InputError(
            f"{data}: is no data folder, it has no {IMAGES}; --data takes the one that the store was prepared from"
        )
    if data_path is not None and (data_path / IMAGES).is_file():
        _check_patients(data_path / IMAGES, networks[0].first.predictions)
    opened = _open_store(store or crossval.store.path, crossval=crossval, folder=folder, is_named=store is not None)
    if opened is not None and (opened.path / FOLDS).is_file():
        first = networks[0]  # the others hold the same patches
        scored = first.first.predictions
        for fold in folds:
            job, predictions = FoldJob(first.name, first.first.seed, fold), scored[scored["fold"] == fold]
            tested = fold_patches(opened, fold).test
            check_tested(predictions, path=job.folder(folder) / layout.PREDICTIONS_CSV, store=opened, tested=tested)
    return Study(
        folder=folder,
        networks=tuple(networks),
        folds=folds,
        data_path=data_path,
        store=opened,
        crossval=crossval,
    )


def check_tested(predictions: pd.DataFrame, *, path: Path, store: PatchStore, tested: NDArray[np.integer]) -> None:
    """Refuses predictions of a fold that are not of all patches that it tests, with the store's patients and labels.

    Args:
        predictions: of one fold, with the columns of predictions.csv.
        path: of their file.
        store: that they are of.
        tested: (n,) rows of its patches, `Fold.test`.

    Raises:
        InputError: if so; the file was cut or changed.
    """
    scored, expected = (_patches(frame.assign(fold=0)) for frame in (predictions, store.patches.iloc[tested]))
    if not scored.equals(expected):
        raise InputError(
            f"{path}: must hold the {counted(len(expected), 'patch')} of {store.path} that its fold tests, with their "
            f"labels. Received: {counted(len(scored), 'patch')}; remove it, and crossval scores the fold again"
        )


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Orders resnet18 before resnet101: digits compare as numbers."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)


def _read_seed(folder: Path, jobs: Sequence[FoldJob]) -> SeedStudy:
    """All folds of one network and seed, with every fault of their predictions or of what was measured besides."""
    faults = list(_faults_of_folds(folder, jobs))
    parts = {} if faults else {job.fold: job.folder(folder) for job in jobs}
    frames = []
    for fold, part in parts.items():
        path = part / layout.PREDICTIONS_CSV
        try:
            frame = _read_scores(path)
        except InputError as error:
            faults.extend(str(error).splitlines())
            continue
        faults.extend(_faults_of_predictions(path, frame, fold=fold))
        frames.append(frame)
    if faults:
        raise InputFaultsError(faults)
    validation = {fold: part / layout.VALIDATION_CSV for fold, part in parts.items()}
    runs = {fold: part / layout.RUN for fold, part in parts.items()}

    def measured(name: str, columns: Mapping[str, Column]) -> pd.DataFrame | None:
        return _joined({fold: read_measurements(part / name, columns) for fold, part in parts.items()})

    environments = {fold: read_environment(run) for fold, run in runs.items() if (run / ENVIRONMENT).exists()}
    return SeedStudy(
        seed=jobs[0].seed,
        predictions=pd.concat(frames, ignore_index=True),
        validation=_joined({fold: _read_scores(path) for fold, path in validation.items() if path.exists()}),
        timing=measured(layout.TIMING_CSV, TIMING),
        shortcut=measured(layout.SHORTCUT_CSV, SHORTCUT),
        pointing=measured(layout.POINTING_CSV, POINTING),
        histories={fold: read_history(run / HISTORY) for fold, run in runs.items() if (run / HISTORY).exists()},
        environments={fold: environment for fold, environment in environments.items() if environment is not None},
    )


def _read_scores(path: Path) -> pd.DataFrame:
    """predictions.csv without the user's own columns: one may be called as what a section adds to the patches."""
    frame = read_predictions(path)
    return frame[[name for name in frame.columns if name in PREDICTION_COLUMNS or name.startswith(BASELINE_PREFIX)]]


def _faults_of_folds(folder: Path, jobs: Sequence[FoldJob]) -> Iterator[str]:
    """A line for each fold that is not there or not finished, and each done.json or table that is damaged."""
    for job in jobs:
        part = job.folder(folder)
        for needed in (DONE_JSON, layout.PREDICTIONS_CSV):
            if not (part / needed).exists():
                who = f"fold {job.fold} of {job.network}, seed {job.seed}"
                yield f"{part}: {who}, is missing: it has no {needed}; run crossval again"
                break
        else:
            try:
                done = read_done(folder, job)
            except InputError as error:
                yield str(error)
                continue
            if done is None:
                continue
            yield from changed_tables(part, done)
            for name in done.tables_sha256:
                if name != layout.RUN_HISTORY and not (part / name).exists():  # a run may be removed to save space
                    yield f"{part / name}: is missing, though the fold is done; run crossval again"


def _faults_of_predictions(path: Path, frame: pd.DataFrame, *, fold: int) -> Iterator[str]:
    others = sorted(set(frame["fold"].unique()) - {fold})
    if others:
        yield f"{path}: must hold fold {fold} alone. Received: fold {others[0]}"
    for label, name in ((CALCIFICATION, "positive"), (NO_CALCIFICATION, "negative")):
        if not (frame["label"] == label).any():
            yield (
                f"{path}: fold {fold} must have {name} patches, else no metric of it has a meaning. Received: "
                f"{counted(len(frame), 'patch')}, none {name}; split the store otherwise"
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
                    f"{place}: must hold the same {counted(len(reference), 'patch')} and labels as {origin}. "
                    f"Received: {counted(len(patches), 'patch')}; were both made on one store, split once?"
                )


def _check_patients(images: Path, predictions: pd.DataFrame) -> None:
    """Refuses the table of another data set: its images may have the same names, its regions lie elsewhere."""
    patients = {record.image_id: record.patient_id for record in read_images(images)}
    for image_id, patient_id in predictions[["image_id", "patient_id"]].drop_duplicates().itertuples(index=False):
        if patients.get(image_id) != patient_id:
            found = "no such image" if image_id not in patients else f"patient {shown(patients[image_id])}"
            rule = f"must be of the data that was scored, in which image {shown(image_id)} is of patient"
            raise InputError(f"{images}: {rule} {shown(patient_id)}. Received: {found}")


def _patches(predictions: pd.DataFrame) -> pd.DataFrame:
    columns = [*_PATCH, "patient_id", "label"]
    return predictions[columns].sort_values(_PATCH, ignore_index=True)


def _open_store(path: Path, *, crossval: Crossval, folder: Path, is_named: bool) -> PatchStore | None:
    """The store, checked to be the one that was trained on, divided as then; None if it is gone and nobody named it."""
    if not path.exists() and not is_named:
        return None
    store = PatchStore.open(path)
    expected = crossval.store.checksum
    if store.checksum != expected:
        raise InputError(
            f"{path}: is not the store of {folder}: its checksum must be {expected}. Received: {store.checksum}"
        )
    folds, split = store.path / FOLDS, crossval.store.folds_sha256
    if folds.is_file() and sha256_file(folds) != split:
        raise InputError(
            f"{folds}: is not the division into subsets that {folder} was made with: its SHA-256 must be {split}. "
            f"Received: {sha256_file(folds)}"
        )
    return store


def study_regions(study: Study) -> list[Region] | None:
    """The regions of the data folder in pixels of the study's store; None where the folder or its file is not there.

    Raises:
        InputError: as `PatchStore.read_regions`.
    """
    if study.data_path is None or not (study.data_path / REGIONS_CSV).is_file():
        return None
    path = study.data_path / REGIONS_CSV
    return read_regions(path) if study.store is None else study.store.read_regions(path)


def study_marks(study: Study) -> pd.DataFrame | None:
    """`patch_marks` of a study's store; None where the store, the data folder or its regions.csv is not there.

    Raises:
        InputError: as `PatchStore.read_regions`.
    """
    regions = study_regions(study)
    return None if study.store is None or regions is None else patch_marks(study.store, regions)


def study_targets(study: Study, predictions: pd.DataFrame) -> Targets:
    """Targets from regions where the store's labels came from them and the data folder is there, else from labels.

    Raises:
        InputError: as `PatchStore.read_regions`.
    """
    store = study.store
    if store is None or study.data_path is None or store.manifest.labels.read_from != REGIONS_CSV:
        return targets_from_labels(predictions)
    grids = {str(image_id): store.grid(str(image_id)) for image_id in predictions["image_id"].unique()}
    return targets_from_regions(
        predictions,
        store.read_regions(study.data_path / REGIONS_CSV),
        grids,
        cluster_fraction=store.manifest.labels.cluster_fraction,
    )
