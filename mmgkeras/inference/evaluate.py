"""SavedModels measured on a store: predictions made, metrics taken from them, files written.

Owns the order of the work and what is refused before it begins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from mmgkeras.errors import InputError
from mmgkeras.evaluation.metrics import THRESHOLD
from mmgkeras.evaluation.outputs import (
    EVALUATION,
    METRIC_FILES,
    METRICS_JSON,
    Scored,
    ScoringModel,
    is_evaluation,
    write_metrics,
)
from mmgkeras.evaluation.summary import Summary, summarise_times
from mmgkeras.files import atomic_files, check_apart
from mmgkeras.inference.detection import check_threshold
from mmgkeras.inference.scoring import StorePredictions, hardware, predict_store, twin_patches, unseen_patches
from mmgkeras.patches.store import PatchStore
from mmgkeras.progress import Track, untracked
from mmgkeras.savedmodel.classifier import SPACING_TOLERANCE, Classifier, load
from mmgkeras.savedmodel.detector import model_folder
from mmgkeras.schema import CALCIFICATION, UNKNOWN
from mmgkeras.study.layout import PREDICTIONS_CSV
from mmgkeras.tables import write_predictions

TWINS_CSV: Final = "twins.csv"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came of a call.

    Attributes:
        summary: of the metrics.
        notes: what a reader of them must know besides, one line each.
        is_external: whether the store is neither that of the training nor divided alike: a fold is then a model, and
            each scored all of the store.
    """

    summary: Summary
    notes: Sequence[str]
    is_external: bool


def evaluate(
    models: Sequence[Path],
    *,
    store: Path,
    out: Path,
    twins: Path | None = None,
    threshold: float = THRESHOLD,
    overwrite: bool = False,
    track: Track = untracked,
) -> Evaluation:
    """Measures models on the patches that they have not seen; writes the predictions and their metrics into a folder.

    Args:
        models: folders of SavedModels, each of another fold, or "detector".
        store: the patch store they were trained on, or an external one.
        out: the folder that gets predictions.csv, metrics.json, metrics.csv, mammograms.csv, and twins.csv if asked.
        twins: a store of the same images without calcification.
        threshold: a probability of at least this says calcification.
        overwrite: replace what is there.
        track: called with the images of each model.

    Raises:
        InputError: if a file is there and `overwrite` is not set, a model or the store cannot be used, two models are
            of one fold, no model is given, or the threshold is not above 0 and at most 1.
    """
    check_threshold(threshold)
    if not models:
        raise InputError("an evaluation needs at least one model")
    models = [model_folder(model) for model in models]
    inputs = [*models, store, *([] if twins is None else [twins])]
    check_apart(out / METRICS_JSON, inputs)
    names = (PREDICTIONS_CSV, TWINS_CSV, *METRIC_FILES)
    with atomic_files(out, names, label=EVALUATION, overwrite=overwrite, is_own=is_evaluation) as folder:
        opened = PatchStore.open(store, verify=True)
        opened_twins = None if twins is None else PatchStore.open(twins, verify=True)
        # All that may be refused is, before hours are spent on the first model.
        classifiers = [load(path) for path in models]
        _check_folds(classifiers)
        unseen = [unseen_patches(classifier, opened) for classifier in classifiers]
        labels = opened.patches["label"].to_numpy()
        twin_rows = [
            rows[:0]
            if opened_twins is None
            else twin_patches(opened, opened_twins, rows[labels[rows] == CALCIFICATION])
            for rows in unseen
        ]
        scored, scored_twins, notes, is_external = [], [], [], []
        told: list[ScoringModel] = []
        for classifier, rows, of_twins in zip(classifiers, unseen, twin_rows, strict=True):
            fold = classifier.metadata.fold
            score = partial(predict_store, classifier, fold=fold, track=track)
            told.append(ScoringModel(fold=fold, **classifier.metadata.identity))
            is_external.append(len(rows) == len(opened.patches))
            notes.extend(_notes(classifier, opened, is_external=is_external[-1], threshold=threshold))
            what = f"all of {store.name}" if is_external[-1] else f"fold {fold}"
            scored.append(score(opened, indices=rows, only_known=True, label=f"score {what}"))
            if opened_twins is not None and len(of_twins):
                scored_twins.append(score(opened_twins, indices=of_twins, label=f"score twins of {what}"))
        if twins is not None and not scored_twins:
            notes.append("no patch that was scored is positive, so that none is held against its twin")
        if num_unknown := int((labels[np.unique(np.concatenate(unseen))] == UNKNOWN).sum()):
            notes.append(f"patches of unknown label, not scored and not in {PREDICTIONS_CSV}: {num_unknown:,}")
        facts = Scored(models=tuple(told), is_external=any(is_external))
        summary = _write(folder, scored, scored_twins, threshold=threshold, facts=facts)
        return Evaluation(summary, notes, is_external=any(is_external))


def _check_folds(classifiers: Sequence[Classifier]) -> None:
    folds: dict[int, Path] = {}
    for classifier in classifiers:
        path, fold = classifier.path, classifier.metadata.fold
        if folds.setdefault(fold, path) is not path:
            raise InputError(f"{path}: is of fold {fold}, as is {folds[fold]}; give one model for each fold")


def _write(
    folder: Path,
    scored: Sequence[StorePredictions],
    scored_twins: Sequence[StorePredictions],
    *,
    threshold: float,
    facts: Scored,
) -> Summary:
    predictions = pd.concat([part.predictions for part in scored], ignore_index=True)
    write_predictions(folder / PREDICTIONS_CSV, predictions)
    twins = None
    if scored_twins:
        twins = pd.concat([part.predictions for part in scored_twins], ignore_index=True)
        write_predictions(folder / TWINS_CSV, twins)
    timing = pd.concat([part.timing.assign(fold=part.predictions["fold"].iloc[0]) for part in scored])
    is_cold = timing["is_cold"] == 1
    warm = timing[~is_cold]
    keys = zip(warm["fold"].tolist(), warm["image_id"].tolist(), strict=True)
    return write_metrics(
        folder,
        predictions,
        threshold=threshold,
        twins=twins,
        seconds=dict(zip(keys, warm["infer_s"].tolist(), strict=True)),
        timing=summarise_times(timing.loc[is_cold, "infer_s"].tolist(), warm["infer_s"].tolist(), hardware=hardware()),
        scored=facts,
    )


def _notes(classifier: Classifier, store: PatchStore, *, is_external: bool, threshold: float) -> list[str]:
    metadata, notes = classifier.metadata, []
    if store.checksum != metadata.store_checksum:
        what = (
            "all its patches are scored; make sure that none of its patients were trained on"
            if is_external
            else "it is divided alike, and the model's test subset alone is scored"
        )
        notes.append(f"{store.path} is not the store that {classifier.path} was trained on: {what}")
    if classifier.differs_in_spacing(store.spacing_mm):
        notes.append(
            f"{classifier.path} was trained at {metadata.spacing_mm:g} mm a pixel and {store.path} has "
            f"{store.spacing_mm:g}: over {SPACING_TOLERANCE:.0%} apart, the metrics say little"
        )
    if metadata.operating_point is not None and metadata.threshold != threshold:
        notes.append(
            f"{classifier.path} carries an operating point of {metadata.threshold:g}; the decisions counted here are "
            f"at {threshold:g}, and --threshold changes that"
        )
    return notes
