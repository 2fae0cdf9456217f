"""Scores of the same patches changed, darkened or turned, against the patches as they are.

Owns the paired differences of the brightness test and their intervals over patients.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.evaluation.bootstrap import PatientResamples, resample_patients
from mmgkeras.evaluation.calibration import logit
from mmgkeras.evaluation.interval import Interval
from mmgkeras.evaluation.metrics import THRESHOLD

_PATCH = ["fold", "image_id", "row", "col"]


class ChangedScores(NamedTuple):
    """What models say of patches under one change; the differences, by patch, are None of the patches as they are."""

    num_patches: int
    called: Interval | None
    called_difference: Interval | None
    logit: Interval | None
    logit_difference: Interval | None


def changed_scores(
    scores: pd.DataFrame, *, reference: str, num_resamples: int, seed: int = 0
) -> dict[str, ChangedScores]:
    """The scores under each change of a frame with the columns of shortcut.csv and fold.

    Args:
        scores: of the patches as they are and changed.
        reference: the name of the change that changes nothing.
        num_resamples: sets of patients drawn.
        seed: of the drawing.
    """
    resamples = resample_patients(scores, num_resamples=num_resamples, seed=seed)
    by_change = {str(name): part.set_index(_PATCH) for name, part in scores.groupby("change", sort=False)}
    before = by_change[reference]["probability"]
    return {name: _compare(part, None if name == reference else before, resamples) for name, part in by_change.items()}


def _compare(changed: pd.DataFrame, before: pd.Series | None, resamples: PatientResamples) -> ChangedScores:
    places = resamples.places(changed["patient_id"])
    called, logits = _called_and_logits(changed["probability"].to_numpy())
    differences: tuple[Interval | None, Interval | None] = (None, None)
    if before is not None:
        both = changed[["patient_id", "probability"]].join(before.rename("before"), how="inner")
        (called_before, logits_before), (called_after, logits_after) = (
            _called_and_logits(both[name].to_numpy()) for name in ("before", "probability")
        )
        of_both = resamples.places(both["patient_id"])
        differences = (
            resamples.mean(called_after.astype(np.float64) - called_before, of_both),
            resamples.mean(logits_after - logits_before, of_both),
        )
    share, level = resamples.rate(called, places), resamples.mean(logits, places)
    return ChangedScores(len(changed), share, differences[0], level, differences[1])


def _called_and_logits(probabilities: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    return probabilities >= THRESHOLD, logit(probabilities)
