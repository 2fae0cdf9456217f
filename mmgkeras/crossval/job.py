"""One fold of a cross-validation: trained, scored, timed and tried, each result a file that is whole or not there.

Owns what is done and in which order. A job that was cut goes on with the first file that is missing; the training goes
on as `fit` does. Changes the state of the process as `fit` does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import keras
import numpy as np
from numpy.typing import NDArray

from mmgkeras.config import Config
from mmgkeras.errors import InputError
from mmgkeras.evaluation.summary import TISSUE_FRACTION, summarise
from mmgkeras.files import sha256_file
from mmgkeras.inference.pointing_game import point
from mmgkeras.inference.scoring import predict_store, unseen_patches
from mmgkeras.inference.shortcut_test import shortcut_scores
from mmgkeras.patches.split import fold_patches, hold_out_patients
from mmgkeras.patches.store import FOLDS, PatchStore
from mmgkeras.progress import Track, silent, untracked
from mmgkeras.savedmodel.classifier import Classifier, load
from mmgkeras.savedmodel.model_card import write_model_card
from mmgkeras.schema import NO_CALCIFICATION
from mmgkeras.study.layout import (
    DONE_JSON,
    POINTING_CSV,
    PREDICTIONS_CSV,
    RUN,
    RUN_HISTORY,
    SHORTCUT_CSV,
    TIMING_CSV,
    VALIDATION_CSV,
    Crossval,
    FoldJob,
    read_crossval,
    write_done,
)
from mmgkeras.study.run_files import (
    POINTING,
    SHORTCUT,
    TIMING,
    read_environment,
    read_measurements,
    write_measurements,
)
from mmgkeras.tables import read_predictions, write_predictions
from mmgkeras.training import devices as device
from mmgkeras.training.fit import fit
from mmgkeras.training.loop import Report

REGIONS: Final = "regions.csv"


@dataclass(frozen=True, kw_only=True)
class _Place:
    """What the steps of a job share."""

    folder: Path
    store: PatchStore
    data: Path | None
    fold: int
    test: NDArray[np.int64]
    track: Track


def expected_files(config: Config, *, data: Path | None) -> list[str]:
    """The tables that a job makes."""
    has_regions = data is not None and (data / REGIONS).exists()
    return [
        PREDICTIONS_CSV,
        *([VALIDATION_CSV] if config.train.validation_patients > 0 else []),
        TIMING_CSV,
        SHORTCUT_CSV,
        *([POINTING_CSV] if has_regions else []),
        RUN_HISTORY,
    ]


def run_job(
    out: Path, job: FoldJob, *, devices: str | None = None, track: Track = untracked, report: Report = silent
) -> None:
    """Does a job of the cross-validation in a folder, or what is left of it.

    Args:
        out: the folder, with its crossval.json.
        job: which.
        devices: see `devices.choose_devices`.
        track: shows progress.
        report: called with the row of every epoch that ends.

    Raises:
        InputError: if something of it cannot be used or written, or the store was changed since the queue was started.
        ConfigError: for a network or patch size that cannot be built.
        WeightsError: if the weights to start from cannot be had.
    """
    crossval = read_crossval(out)
    if crossval is None or job not in crossval.jobs():
        raise InputError(f"{out}: is not the folder of a cross-validation with the job {job.name}")
    config = crossval.config(job)
    store = _open_store(crossval)
    device.set_arithmetic(config.train)  # also where the training is done: the same operations score and are timed
    run, model = job.folder(out) / RUN, job.model(out)
    (job.folder(out) / DONE_JSON).unlink(missing_ok=True)  # its digests are of tables that may now be made anew
    environment, history = read_environment(run), job.folder(out) / RUN_HISTORY
    if environment is None or not environment.is_finished or not model.is_dir() or not history.exists():
        keras.backend.clear_session()  # what an earlier job in this process left
        fitted = fit(
            crossval.store.path,
            fold=job.fold,
            config=config,
            run=run,
            export=model.parent,
            devices=devices,
            track=track,
            report=report,
        )
        if fitted.model != model:
            raise InputError(f"{model}: is there, but is not the run's; remove {model.parent} and start again")
    classifier = load(model)
    place = _Place(
        folder=job.folder(out),
        store=store,
        data=crossval.data,
        fold=job.fold,
        test=unseen_patches(classifier, store),
        track=track,
    )
    _score(place, classifier=classifier, config=config)
    skipped = _measure(place, classifier=classifier, files=expected_files(config, data=crossval.data))
    predictions = read_predictions(place.folder / PREDICTIONS_CSV)
    write_model_card(model, metrics=summarise(predictions))
    write_done(out, job, crossval=crossval, skipped=skipped)


def _open_store(crossval: Crossval) -> PatchStore:
    """The store; jobs begin hours after the queue was started, and done.json says that it is the same as then."""
    store = PatchStore.open(crossval.store.path)
    folds = store.path / FOLDS
    is_split_as_then = folds.is_file() and sha256_file(folds) == crossval.store.folds_sha256
    if store.checksum != crossval.store.checksum or not is_split_as_then:
        raise InputError(f"{store.path}: the store or its {FOLDS} was changed since the cross-validation was started")
    return store


def _score(place: _Place, *, classifier: Classifier, config: Config) -> None:
    """Writes predictions.csv and timing.csv in one pass, and validation.csv where patients were held out."""
    if not ((place.folder / PREDICTIONS_CSV).exists() and _is_timed(place)):
        scored = predict_store(
            classifier, place.store, indices=place.test, fold=place.fold, data=place.data, track=place.track
        )
        write_measurements(place.folder / TIMING_CSV, scored.timing, TIMING)
        write_predictions(place.folder / PREDICTIONS_CSV, scored.predictions, overwrite=True)
    if config.train.validation_patients > 0 and not (place.folder / VALIDATION_CSV).exists():
        train = fold_patches(place.store, place.fold).train
        part, seed = config.train.validation_patients, config.train.seed
        _, held_out = hold_out_patients(place.store, train, part=part, seed=seed)
        label = f"score held-out patients of fold {place.fold}"
        scored = predict_store(
            classifier, place.store, indices=held_out, fold=place.fold, track=place.track, label=label
        )
        write_predictions(place.folder / VALIDATION_CSV, scored.predictions)


def _is_timed(place: _Place) -> bool:
    """Whether timing.csv is there, and not of inference alone where more can be measured by now."""
    timing = read_measurements(place.folder / TIMING_CSV, TIMING)
    return timing is not None and (place.data is None or bool(timing["read_s"].notna().all()))


def _measure(place: _Place, *, classifier: Classifier, files: Sequence[str]) -> dict[str, str]:
    """Writes shortcut.csv and pointing.csv; what was left out, and why."""
    skipped: dict[str, str] = {}
    if not (place.folder / SHORTCUT_CSV).exists():
        test = place.store.patches.iloc[place.test]
        if ((test["label"] == NO_CALCIFICATION) & (test["tissue"] >= TISSUE_FRACTION)).any():
            scores = shortcut_scores(classifier, place.store, place.test, track=place.track)
            write_measurements(place.folder / SHORTCUT_CSV, scores, SHORTCUT)
        else:
            skipped[SHORTCUT_CSV] = "no tissue patch of the test subset is free of calcification"
    if POINTING_CSV in files and place.data is not None and not (place.folder / POINTING_CSV).exists():
        if not classifier.can_localise:
            skipped[POINTING_CSV] = "the network does not end in global average pooling"
        elif len(classifier.cell_centres_px) == 1:
            skipped[POINTING_CSV] = "the class activation has one cell for a whole patch, which points nowhere"
        else:
            hits = point(classifier, place.store, data=place.data, indices=place.test, track=place.track)
            write_measurements(place.folder / POINTING_CSV, hits, POINTING)
    return skipped
