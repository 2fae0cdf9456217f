"""The threshold at which a model decides, chosen from files of predictions.

Owns the choice, and the proof that the model is not tested on what it was chosen from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mmgkeras.errors import InputError, counted
from mmgkeras.evaluation.operating_point import OperatingPoint, Reached, choose_threshold, measure_at
from mmgkeras.files import sha256_file
from mmgkeras.patches.split import fold_patches
from mmgkeras.patches.store import PatchStore
from mmgkeras.savedmodel.metadata import ModelMetadata, patients_digest, read_metadata, tested_fold
from mmgkeras.schema import CALCIFICATION, UNKNOWN
from mmgkeras.tables import read_predictions


@dataclass(frozen=True, slots=True)
class Chosen:
    """An operating point, what it reaches on the predictions it was chosen from, and what must be known besides."""

    operating_point: OperatingPoint
    reached: Reached
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """What it reaches, in one line."""
        metrics, rate = self.reached.metrics, self.reached.false_positives_per_image
        parts = [
            f"{name} {value:.3f}"
            for name, value in (("sensitivity", metrics.sensitivity), ("specificity", metrics.specificity))
            if value is not None
        ]
        if rate is not None:
            parts.append(f"{rate:.2f} false positives an image")
        return f"there it reaches {', '.join(parts)}; on other patients it will differ"


def choose_operating_point(
    model: Path,
    files: Sequence[Path],
    *,
    sensitivity: float | None = None,
    false_positives_per_image: float | None = None,
    store: Path | None = None,
) -> Chosen:
    """The threshold that reaches a target, sensitivity or false positives an image, on files of predictions.

    The predictions are those of the patients held out of the model's training (validation.csv), or the out-of-fold
    predictions of the other folds. Rows of the model's own test subset are left out and said, and if nothing remains
    refused. They are told patient by patient with the store. Without it the model's digests tell them: a file's rows of
    the model's own fold must be those of all its test patients or of all its held-out patients. Anything else is
    refused, such as the test subset without the patients of whom no patch has a known label.

    Args:
        model: a SavedModel's folder.
        files: with the columns of predictions.csv, at least one.
        sensitivity: of patches, above 0, at most 1.
        false_positives_per_image: 0 or more.
        store: the patch store that the model was trained on, or another one that all predictions are of.

    Raises:
        InputError: if a file or the store cannot be used, only test patients or one among other folds are given, rows
            of the model's own fold may be of test patients and there is no store to tell, a patient is in several
            folds, or no threshold reaches the target.
        ValueError: if not one of the targets is given, or it is out of range.
    """
    metadata = read_metadata(model)
    frames = [read_predictions(path) for path in files]
    predictions = pd.concat(frames, ignore_index=True)
    names = ", ".join(str(path) for path in files)
    tested = _test_patients(dict(zip(files, frames, strict=True)), metadata, store=store, model=model)
    is_own_test = (predictions["fold"] == metadata.fold) & predictions["patient_id"].isin(tested)
    usable = predictions[~is_own_test]
    if usable.empty and len(predictions):
        raise InputError(
            f"{names}: holds only the test subset of fold {metadata.fold}, on which {model} is measured and nothing "
            "may be chosen; give that fold's validation.csv or the predictions of other folds"
        )
    _check_patients(usable, tested=tested, names=names, model=model)
    threshold = choose_threshold(usable, sensitivity=sensitivity, false_positives_per_image=false_positives_per_image)
    fitted_on = _described(usable, files, metadata=metadata)
    point = (
        OperatingPoint(threshold, "sensitivity", sensitivity, fitted_on)
        if sensitivity is not None
        else OperatingPoint(threshold, "false_positives_per_image", false_positives_per_image, fitted_on)
    )
    notes = [f"the model's own test subset, of fold {metadata.fold}, was left out"] if is_own_test.any() else []
    if not tested and store is not None:
        notes.append(
            f"{store} is not the store that the model was trained on: whether it holds patients on whom the "
            "model is tested cannot be told"
        )
    elif not tested and (usable["fold"] != metadata.fold).any():
        notes.append("the test subset is known by its digest alone; with --store each patient is checked against it")
    return Chosen(point, measure_at(usable, threshold=threshold), tuple(notes))


def _test_patients(
    given: Mapping[Path, pd.DataFrame], metadata: ModelMetadata, *, store: Path | None, model: Path
) -> frozenset[str]:
    """The patients of the model's test subset; empty where no row of its own fold is known to be of one."""
    opened = None if store is None else PatchStore.open(store)
    if opened is not None and (own := tested_fold(model, metadata, opened)) is not None:
        return frozenset(opened.patches["patient_id"].to_numpy()[fold_patches(opened, own).test])
    # File by file: beside the held-out patients of the same fold, the test subset would have another digest.
    parts = [
        (path, fold, frozenset(part["patient_id"]))
        for path, frame in given.items()
        for fold, part in frame.groupby("fold")
    ]
    digests = [patients_digest(patients) for _, _, patients in parts]
    if metadata.test_patients_sha256 in digests:
        return parts[digests.index(metadata.test_patients_sha256)][2]
    for (path, fold, patients), digest in zip(parts, digests, strict=True):
        if opened is not None and (strangers := sorted(patients - set(opened.patches["patient_id"]))):
            raise InputError(
                f"{store}: must be the store that {model} was trained on, or that of all predictions. Received: "
                f"patient {strangers[0]!r} in {path}"
            )
        if opened is None and fold == metadata.fold and digest != metadata.held_out_patients_sha256:
            raise InputError(
                f"{path}: its rows of fold {metadata.fold} may be of patients on whom {model} is tested; give --store, "
                "the patch store that it was trained on, or the one that all predictions are of"
            )
    return frozenset()


def _check_patients(usable: pd.DataFrame, *, tested: frozenset[str], names: str, model: Path) -> None:
    """Refuses test patients under another fold's name, such as in its validation.csv, and patients of two folds."""
    shared = sorted(set(usable["patient_id"]) & tested)
    if shared:
        raise InputError(
            f"{names}: nothing may be chosen on a patient on whom {model} is tested. Received: {shared[0]!r}"
        )
    folds = usable.groupby("patient_id")["fold"].nunique()
    if (folds > 1).any():
        first = sorted(folds.index[folds > 1])[0]
        raise InputError(f"{names}: a patient must be in one fold. Received: {first!r} in {folds[first]}")
    if usable.duplicated(["image_id", "row", "col"]).any():
        raise InputError(f"{names}: a patch must be given once. Received: one in two files")


def _described(usable: pd.DataFrame, files: Sequence[Path], *, metadata: ModelMetadata) -> str:
    """What was fitted on, in one line, without the place of the files; whose predictions they are, no file says."""
    folds = sorted(int(fold) for fold in usable["fold"].unique())
    whose = (
        "predictions of patients outside this model's test subset"
        if folds == [metadata.fold]
        else f"predictions of fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, folds))}"
    )
    known = usable[usable["label"] != UNKNOWN]
    sources = ", ".join(f"{path.name} (sha256 {sha256_file(path)[:12]})" for path in files)
    return (
        f"{whose}: {(known['label'] == CALCIFICATION).sum():,} positive of {counted(len(known), 'patch')} of "
        f"{counted(known['patient_id'].nunique(), 'patient')}, from {sources}"
    )
