"""Metrics as functions of how often each patient counts.

Owns the sums by patient from which a metric follows for any weights of the patients without going back to the patches:
2,000 resamples then cost a few matrix products. Knows nothing of how weights are drawn.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.evaluation.metrics import (
    METRICS,
    ROUNDING,
    SENSITIVITY_AT_SPECIFICITY,
    SPECIFICITY,
    THRESHOLD,
    WITHIN_IMAGE_AUC,
    outcomes,
    placements,
    within_image_pairs,
)
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION, UNKNOWN

MAMMOGRAM_ACCURACY: Final = "mammogram_accuracy"
FALSE_POSITIVES_PER_IMAGE: Final = "false_positives_per_image"
BOOTSTRAPPED: Final = (*METRICS, MAMMOGRAM_ACCURACY, WITHIN_IMAGE_AUC, SENSITIVITY_AT_SPECIFICITY)
"""Every metric from 0 to 1 that follows from a `PatientTable`; beside them it has FALSE_POSITIVES_PER_IMAGE."""
RANKED: Final = ("auc", "average_precision", SENSITIVITY_AT_SPECIFICITY)
"""The metrics that need the scores themselves; each of the others is a quotient of sums."""
_CHUNK: Final = 2_000_000
"""Numbers that an intermediate array of the average precision may hold."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientTable:
    """Sums over the patches of each unit, a unit being one patient in one fold; U units in all, sorted by fold.

    Attributes:
        folds: (U,) the fold of each unit, ascending.
        patients: (U,) the patient of each unit, numbered from 0.
        quotients: by the name of a metric of decisions, the sums (U,) above and below its line.
        positives, negatives: (U,) numbers of patches.
        wins: (U, U), over the pairs of a positive of the row's unit and a negative of the column's, how often the
            positive scores higher; an equal score counts one half.
        owners: (M,) the unit of each positive, ascending.
        positives_reached, negatives_reached: (M, U), of each positive the patches of the unit that score at least as
            high; empty where the average precision was not asked for.
    """

    folds: Ints
    patients: Ints
    quotients: Mapping[str, tuple[Floats, Floats]]
    positives: Floats
    negatives: Floats
    wins: Floats
    owners: Ints
    positives_reached: Floats
    negatives_reached: Floats

    def units(self, fold: int | None) -> slice:
        """The units of one fold, or all for None."""
        if fold is None:
            return slice(0, len(self.folds))
        return _span(self.folds, fold, fold + 1)

    def metric(self, name: str, weights: Floats, *, fold: int | None = None) -> Floats:
        """(R,) the metric of one fold, or of all in one set for None, when unit u counts weights[r, u] times.

        Args:
            name: one of BOOTSTRAPPED that the table was made for.
            weights: (R, U) of the units of all folds.
            fold: whose units are taken.

        Returns:
            NaN where the metric has no meaning.
        """
        part = self.units(fold)
        of_part = weights[:, part]
        if name == "auc":
            pairs = (of_part @ self.positives[part]) * (of_part @ self.negatives[part])
            return divide(((of_part @ self.wins[part, part]) * of_part).sum(axis=1), pairs)
        if name == "average_precision":
            return self._average_precision(of_part, part)
        if name == SENSITIVITY_AT_SPECIFICITY:
            return self._sensitivity(of_part, part)
        above, below = self.quotients[name]
        return divide(of_part @ above[part], of_part @ below[part])

    def shares(self, name: str, *, fold: int | None = None) -> Floats:
        """What each unit has below the line of the metric, which stands on the units above 0.

        For the AUC and the average precision that is the positives, or the negatives if fewer units have any.
        """
        part = self.units(fold)
        if name in self.quotients:
            return self.quotients[name][1][part]
        positives, negatives = self.positives[part], self.negatives[part]
        return positives if np.count_nonzero(positives) <= np.count_nonzero(negatives) else negatives

    def within_folds_auc(self, weights: Floats) -> Floats:
        """(R,) the part of pairs of one fold in which the positive scores higher, the pairs of all folds together."""
        wins, pairs = self.wins * self._same_fold, self.pairs
        return divide(((weights @ wins) * weights).sum(axis=1), ((weights @ pairs) * weights).sum(axis=1))

    @property
    def pairs(self) -> Floats:
        """(U, U) the pairs of a positive of the row's unit and a negative of the column's in the same fold."""
        return np.outer(self.positives, self.negatives) * self._same_fold

    @property
    def _same_fold(self) -> NDArray[np.bool_]:
        return np.asarray(self.folds[:, np.newaxis] == self.folds)

    def _average_precision(self, weights: Floats, part: slice) -> Floats:
        rows = _span(self.owners, part.start, part.stop)
        owners = self.owners[rows] - part.start
        right = self.positives_reached[rows, part].T
        called = right + self.negatives_reached[rows, part].T
        total = np.zeros(len(weights))
        step = max(1, _CHUNK // max(1, len(owners)))
        for start in range(0, len(weights), step):
            chunk = weights[start : start + step]
            precision = divide(chunk @ right, chunk @ called, without=0.0)
            total[start : start + step] = np.einsum("rm,rm->r", chunk[:, owners], precision)
        return divide(total, weights @ self.positives[part])

    def _sensitivity(self, weights: Floats, part: slice) -> Floats:
        """At SPECIFICITY: a positive is found where few enough negatives reach its score."""
        rows = _span(self.owners, part.start, part.stop)
        owners, reached = self.owners[rows] - part.start, self.negatives_reached[rows, part].T
        bearable = (1 - SPECIFICITY) * (weights @ self.negatives[part]) + ROUNDING
        total = np.full(len(weights), np.nan)
        step = max(1, _CHUNK // max(1, len(owners)))
        for start in range(0, len(weights), step):
            chunk = slice(start, start + step)
            is_found = weights[chunk] @ reached <= bearable[chunk, np.newaxis]
            total[chunk] = (weights[chunk][:, owners] * is_found).sum(axis=1)
        total[weights @ self.negatives[part] == 0] = np.nan
        return divide(total, weights @ self.positives[part])


def tabulate_patients(predictions: pd.DataFrame, *, metrics: Collection[str] = BOOTSTRAPPED) -> PatientTable:
    """The table of a frame with the columns of predictions.csv; patches of unknown label are left out.

    Args:
        predictions: of any selection of patches and any number of folds.
        metrics: the names that will be asked for; what only the others need is not computed.
    """
    known = predictions[predictions["label"] != UNKNOWN]
    folds, patients, units = _number_units(known)
    is_positive = known["label"].to_numpy() == CALCIFICATION
    scores = known["probability"].to_numpy(np.float64)
    order = np.argsort(units[is_positive], kind="stable")
    owners, positive_scores = units[is_positive][order], scores[is_positive][order]
    others = units[~is_positive]
    won, negatives_reached = placements(positive_scores, scores[~is_positive], groups=others, num_groups=len(folds))
    positives_reached = np.empty((0, len(folds)))
    if "average_precision" in metrics:
        _, positives_reached = placements(positive_scores, positive_scores, groups=owners, num_groups=len(folds))
    needs_quotients = any(name not in RANKED for name in metrics)
    quotients = _quotients(known, units, num_units=len(folds)) if needs_quotients else {}
    if WITHIN_IMAGE_AUC in metrics:
        quotients[WITHIN_IMAGE_AUC] = _within_images(known, units, num_units=len(folds))
    return PatientTable(
        folds=folds,
        patients=patients,
        quotients=quotients,
        positives=_add_up(owners, None, len(folds)),
        negatives=_add_up(others, None, len(folds)),
        wins=_add_rows(won, owners),
        owners=owners,
        positives_reached=positives_reached,
        negatives_reached=negatives_reached,
    )


def _number_units(known: pd.DataFrame) -> tuple[Ints, Ints, Ints]:
    """(U,) the fold and (U,) the patient of each unit, and (N,) the unit of each patch."""
    patient, names = pd.factorize(known["patient_id"], sort=True)
    size = max(1, len(names))
    units, keys = pd.factorize(known["fold"].to_numpy(np.int64) * size + patient, sort=True)
    return keys // size, keys % size, units


def _quotients(known: pd.DataFrame, units: Ints, *, num_units: int) -> dict[str, tuple[Floats, Floats]]:
    """The sums above and below the line of each metric (paper, 3.4.1 and 3.4.3)."""
    found = outcomes(known["label"].to_numpy(), known["probability"].to_numpy(), threshold=THRESHOLD)
    tp, fp, tn, fn = (_add_up(units, part, num_units) for part in found.values())
    images, image_names = pd.factorize(known["image_id"])
    keys, mammograms = np.unique(units * len(image_names) + images, return_inverse=True)
    owners = keys // max(1, len(image_names))
    negatives = known.assign(unit=units)[known["label"] == NO_CALCIFICATION].drop_duplicates(["unit", "image_id"])
    accuracies = np.bincount(mammograms, weights=found["tp"] | found["tn"]) / np.maximum(1, np.bincount(mammograms))
    return {
        "sensitivity": (tp, tp + fn),
        "specificity": (tn, tn + fp),
        "f1": (tp, tp + (fp + fn) / 2),
        "ppv": (tp, tp + fp),
        "npv": (tn, tn + fn),
        "accuracy": (tp + tn, tp + fp + tn + fn),
        FALSE_POSITIVES_PER_IMAGE: (fp, _add_up(negatives["unit"].to_numpy(), None, num_units)),
        MAMMOGRAM_ACCURACY: (_add_up(owners, accuracies, num_units), _add_up(owners, None, num_units)),
    }


def _within_images(known: pd.DataFrame, units: Ints, *, num_units: int) -> tuple[Floats, Floats]:
    pairs = within_image_pairs(known)
    keys = zip(known["fold"], known["patient_id"], strict=True)
    unit_of = dict(zip(keys, units.tolist(), strict=True))
    owned = np.array([unit_of[key] for key in zip(pairs["fold"], pairs["patient_id"], strict=True)], dtype=np.int64)
    wins, counts = (_add_up(owned, pairs[name].to_numpy(np.float64), num_units) for name in ("wins", "pairs"))
    return wins, counts


def _add_up(places: Ints, values: NDArray[np.generic] | None, size: int) -> Floats:
    """(size,) the sums of the values, or the numbers of them for None, that belong to each place."""
    return np.bincount(places, weights=values, minlength=size).astype(np.float64)


def _add_rows(rows: Floats, units: Ints) -> Floats:
    """(U, U) the rows (M, U) of each unit added up; `units` (M,) ascend."""
    added = np.zeros((rows.shape[1], rows.shape[1]))
    present, starts = np.unique(units, return_index=True)
    if len(present):
        added[present] = np.add.reduceat(rows, starts, axis=0)
    return added


def _span(ascending: Ints, low: int, high: int) -> slice:
    """Where values from low to below high lie."""
    first, last = np.searchsorted(ascending, [low, high])
    return slice(int(first), int(last))


def divide(above: Floats, below: Floats, *, without: float = np.nan) -> Floats:
    """The quotients, and `without` where the lower number is 0."""
    return np.divide(above, below, out=np.full_like(above, without), where=below > 0)
