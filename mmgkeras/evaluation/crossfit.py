"""What a correction or a threshold may be fitted on that is then judged on a fold: never that fold's test patients.

Owns the choice between held-out patients and the other folds, and the proof that no patient is on both sides.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import pandas as pd

from mmgkeras.errors import InputError
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION, UNKNOWN

FittedOn = Literal["held-out patients", "the other folds"]
HELD_OUT: Final[FittedOn] = "held-out patients"
OTHER_FOLDS: Final[FittedOn] = "the other folds"


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
