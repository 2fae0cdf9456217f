"""Operating points: thresholds for a sensitivity or a number of false positives, and what they reach on other patients.

Owns their choice, and the cross-fitting: what a threshold or a correction may be fitted on that is then judged on a
fold, never that fold's test patients. They stand beside the paper's own decision, 0.5, and do not replace it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import pandas as pd

from mmgkeras.errors import InputError, counted
from mmgkeras.evaluation.bootstrap import bootstrap_metrics
from mmgkeras.evaluation.froc import num_negative_images
from mmgkeras.evaluation.interval import Interval
from mmgkeras.evaluation.metrics import METRICS, measure
from mmgkeras.evaluation.patient_table import FALSE_POSITIVES_PER_IMAGE
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION, UNKNOWN, Metrics

Kind = Literal["sensitivity", "false_positives_per_image", "marks_per_image", "given"]
FittedOn = Literal["held-out patients", "the other folds"]
HELD_OUT: Final[FittedOn] = "held-out patients"
OTHER_FOLDS: Final[FittedOn] = "the other folds"
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The threshold at which a model decides, and why.

    Attributes:
        threshold: a probability of at least this says calcification; above 0 and at most 1.
        kind: what it was chosen for; "given" where somebody said the number.
        target: the sensitivity, or the false positives or marks an image; None where it was given.
        fitted_on: the predictions or mammograms it was chosen from, in words.
    """

    threshold: float
    kind: Kind
    target: float | None
    fitted_on: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """What a threshold reaches on one set of patches: the metrics, and false positives an image.

    `false_positives_per_image` is over the images with a patch labelled 0; None without one.
    """

    threshold: float
    metrics: Metrics
    false_positives_per_image: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FittingSets:
    """For each fold the labelled patches to fit on, none of a patient whom the fold tests.

    Attributes:
        fitted_on: which they are, the same for every fold; None where there are none.
        by_fold: a frame with the columns of predictions.csv and both labels in it, by the number of the fold.
        reason: why there are none; empty where there are.
    """

    fitted_on: FittedOn | None = None
    by_fold: Mapping[int, pd.DataFrame] = field(default_factory=dict)
    reason: str = ""


def fitting_sets(predictions: pd.DataFrame, *, validation: pd.DataFrame | None) -> FittingSets:
    """The patients held out of each fold's training where all folds have such of both labels, else the other folds.

    The held-out patients were scored by the very model that is corrected. The out-of-fold predictions of the other
    folds come from sister models, whose scores may lie a little differently.

    Args:
        predictions: of the test subsets of all folds, with the columns of predictions.csv.
        validation: of the patients held out of each fold's training, fold being that of the model; None without.

    Raises:
        InputError: if a patient whom a fold tests would be fitted on for it.
    """
    folds = sorted(int(fold) for fold in predictions["fold"].unique())
    if validation is not None:
        held_out = _known(validation)
        sets = {fold: held_out[held_out["fold"] == fold] for fold in folds}
        if sets and all(_has_both_labels(part) for part in sets.values()):
            return _proved(FittingSets(fitted_on=HELD_OUT, by_fold=sets), predictions)
    if len(folds) < 2:
        return FittingSets(reason="needs two folds at least, or patients held out of the training, of both labels")
    known = _known(predictions)
    sets = {fold: known[known["fold"] != fold] for fold in folds}
    for fold, part in sets.items():
        if not _has_both_labels(part):
            return FittingSets(reason=f"the folds other than {fold} do not hold patches of both labels")
    return _proved(FittingSets(fitted_on=OTHER_FOLDS, by_fold=sets), predictions)


def choose_threshold(
    predictions: pd.DataFrame, *, sensitivity: float | None = None, false_positives_per_image: float | None = None
) -> float:
    """The threshold that reaches the target on predictions and is the best among those that do.

    For a sensitivity, of patches, it is the highest at which at least that part of the positives is called; for false
    positives it is the lowest score observed at which there are at most so many an image, over the images with a patch
    labelled 0. Patches of unknown label count nowhere. One of the two is given.

    Args:
        predictions: with fold, image_id, label and probability, of patients the model is not tested on.
        sensitivity: above 0, at most 1.
        false_positives_per_image: 0 or more.

    Raises:
        InputError: if there are no patches of the label that matters, or no threshold reaches the target.
        ValueError: if not one of the targets is given, or it is out of range.
    """
    kind, target = _target(sensitivity=sensitivity, false_positives_per_image=false_positives_per_image)
    if kind == "sensitivity":
        return _for_sensitivity(predictions, target)
    return _for_false_positives(predictions, target)


def measure_at(predictions: pd.DataFrame, *, threshold: float) -> Reached:
    """What a threshold reaches on predictions with the columns of predictions.csv."""
    metrics, num_images = measure(predictions, threshold=threshold), num_negative_images(predictions)
    rate = metrics.fp / num_images if num_images else None
    return Reached(threshold=threshold, metrics=metrics, false_positives_per_image=rate)


def cross_fitted_thresholds(
    sets: FittingSets, *, sensitivity: float | None = None, false_positives_per_image: float | None = None
) -> dict[int, float]:
    """For each fold, the threshold chosen on other patients; arguments as for `choose_threshold`.

    Raises:
        InputError: if one cannot be chosen; it names the fold.
        ValueError: if not one of the targets is given, or it is out of range.
    """
    thresholds = {}
    for fold, part in sets.by_fold.items():
        try:
            thresholds[fold] = choose_threshold(
                part, sensitivity=sensitivity, false_positives_per_image=false_positives_per_image
            )
        except InputError as error:
            raise InputError(f"fold {fold}: {error}") from error
    return thresholds


def reached_intervals(
    predictions: pd.DataFrame, thresholds: Mapping[int, float], *, num_resamples: int
) -> Mapping[str, Interval | None]:
    """Means over folds of what the thresholds reach, held fixed in each fold, with intervals over patients."""
    called = predictions["probability"] >= predictions["fold"].map(dict(thresholds))
    decided = predictions.assign(probability=called.astype(np.float64))
    names = (*METRICS[2:], FALSE_POSITIVES_PER_IMAGE)
    return bootstrap_metrics(decided, num_resamples=num_resamples, folds=list(thresholds), metrics=names).fold_mean


def _target(*, sensitivity: float | None, false_positives_per_image: float | None) -> tuple[Kind, float]:
    if sensitivity is not None and false_positives_per_image is None:
        if not 0 < sensitivity <= 1:
            raise ValueError(f"sensitivity must be above 0 and at most 1. Received: {sensitivity}")
        return "sensitivity", sensitivity
    if false_positives_per_image is not None and sensitivity is None:
        if not 0 <= false_positives_per_image < math.inf:
            raise ValueError(f"false_positives_per_image must be 0 or more. Received: {false_positives_per_image}")
        return "false_positives_per_image", false_positives_per_image
    raise ValueError("Give sensitivity or false_positives_per_image, and not both")


def _for_sensitivity(predictions: pd.DataFrame, target: float) -> float:
    scores = predictions.loc[predictions["label"] == CALCIFICATION, "probability"].to_numpy()
    if not scores.size:
        raise InputError("predictions: a sensitivity needs patches labelled 1. Received: none")
    # 0.07 * 100 is a little more than 7 in floating point, and 7 of 100 are 0.07 all the same.
    num_wanted = max(1, math.ceil(target * scores.size - _ROUNDING))
    threshold = float(np.sort(scores)[::-1][num_wanted - 1])
    if threshold <= 0:
        raise InputError(
            f"predictions: no threshold reaches a sensitivity of {target:g}: "
            f"{(scores <= 0).sum():,} of {counted(scores.size, 'positive')} have probability 0"
        )
    return threshold


def _for_false_positives(predictions: pd.DataFrame, target: float) -> float:
    known = predictions[predictions["label"].isin([CALCIFICATION, NO_CALCIFICATION])]
    negatives = np.sort(known.loc[known["label"] == NO_CALCIFICATION, "probability"].to_numpy())[::-1]
    if not negatives.size:
        raise InputError("predictions: false positives an image need patches labelled 0. Received: none")
    num_allowed = math.floor(target * num_negative_images(known) + _ROUNDING)
    # The score of the first negative that must not be called; those that are equal to it go with it.
    excluded = negatives[num_allowed] if num_allowed < negatives.size else 0.0
    scores = known["probability"].to_numpy()
    above = scores[scores > excluded]
    if above.size:
        return float(above.min())
    if excluded < 1:
        return 1.0
    raise InputError(
        f"predictions: no threshold gives at most {target:g} false positives an image: "
        f"{counted((negatives >= 1).sum(), 'patch')} labelled 0 with probability 1"
    )


def _known(predictions: pd.DataFrame) -> pd.DataFrame:
    return predictions[predictions["label"] != UNKNOWN]


def _has_both_labels(patches: pd.DataFrame) -> bool:
    return {CALCIFICATION, NO_CALCIFICATION} <= set(patches["label"].unique())


def _proved(sets: FittingSets, predictions: pd.DataFrame) -> FittingSets:
    for fold, part in sets.by_fold.items():
        tested = predictions.loc[predictions["fold"] == fold, "patient_id"]
        shared = sorted(set(part["patient_id"].unique()) & set(tested.unique()))
        if shared:
            raise InputError(
                f"predictions: nothing may be fitted for fold {fold} on a patient whom it tests. "
                f"Received: {shared[0]!r} among {sets.fitted_on}"
            )
    return sets
