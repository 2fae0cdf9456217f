"""Rates, means and AUCs of parts of the test patches, with intervals from resampled patients.

Owns the resampling of parts: patients are drawn from all folds together, and a part (a density, a view) takes those of
its patients that were drawn. Within folds, as `evaluation.bootstrap` draws for the headline, a part with one patient in
a fold would seem certain there. As there, bounds come from the resamples' standard error and a t distribution, here of
the patients in the part less one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mmgkeras.evaluation.interval import Interval, symmetric_interval, unit_interval
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION

MIN_PATIENTS: Final = 5
"""A figure of fewer patients has no interval: resampling them says nothing of others."""
_FEWEST_DRAWN: Final = 0.9
"""The part of the resamples in which a figure must have a meaning for its interval to be given."""

_Bounds = Callable[..., Interval]


@dataclass(frozen=True)
class PatientResamples:
    """How often each patient is in each resample.

    Attributes:
        patients: (p,) their ids.
        weights: (num_resamples, p) float64 whole numbers that sum to p.
    """

    patients: NDArray[np.object_]
    weights: NDArray[np.float64]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {str(patient): place for place, patient in enumerate(self.patients)}

    def places(self, patient_ids: Sequence[str] | pd.Series) -> NDArray[np.int64]:
        """(n,) the place of each patient in `patients`.

        Raises:
            KeyError: for a patient that was not among those drawn from.
        """
        return np.array([self._places[str(patient)] for patient in patient_ids], dtype=np.int64)

    def rate(self, hits: ArrayLike, places: NDArray[np.int64]) -> Interval | None:
        """The part that is True of `hits` (n,), patches of the patients at `places` (n,), each patch counting once.

        None if there are none; without bounds if they are of fewer than `MIN_PATIENTS` patients or all alike.
        """
        return self._mean(hits, places, bounds=unit_interval)

    def mean(self, values: ArrayLike, places: NDArray[np.int64]) -> Interval | None:
        """The same of values (n,) of any size."""
        return self._mean(values, places, bounds=symmetric_interval)

    def _mean(self, values: ArrayLike, places: NDArray[np.int64], *, bounds: _Bounds) -> Interval | None:
        numbers = np.asarray(values, dtype=np.float64)
        if not numbers.size:
            return None
        sums = np.bincount(places, weights=numbers, minlength=len(self.patients))
        counts = np.bincount(places, minlength=len(self.patients)).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = (self.weights @ sums) / (self.weights @ counts)
        return _interval(float(numbers.mean()), drawn, num_patients=int((counts > 0).sum()), bounds=bounds)

    def auc(
        self,
        labels: NDArray[np.integer],
        scores: NDArray[np.floating],
        *,
        places: NDArray[np.int64],
        folds: NDArray[np.integer],
    ) -> Interval | None:
        """The part of pairs of a positive and a negative patch of one fold in which the positive scores higher.

        Ties count half. Pairs across folds would compare scores of different models and are left out; the pairs of
        all folds count alike. None without any pair; without bounds if the positives, or the negatives, are of fewer
        than `MIN_PATIENTS` patients.
        """
        num_patients = len(self.patients)
        wins, pairs = np.zeros((num_patients, num_patients)), np.zeros((num_patients, num_patients))
        for fold in np.unique(folds):
            positive, negative = ((folds == fold) & (labels == label) for label in (CALCIFICATION, NO_CALCIFICATION))
            _add_wins(wins, pairs, scores=scores, places=places, positive=positive, negative=negative)
        if not pairs.any():
            return None
        num_pairs = ((self.weights @ pairs) * self.weights).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = ((self.weights @ wins) * self.weights).sum(axis=1) / num_pairs
        contributing = min(int(pairs.any(axis=1).sum()), int(pairs.any(axis=0).sum()))
        return _interval(float(wins.sum() / pairs.sum()), drawn, num_patients=contributing, bounds=unit_interval)


def resample_patients(predictions: pd.DataFrame, *, num_resamples: int, seed: int = 0) -> PatientResamples:
    """Resamples of all patients of a frame with patient_id, drawn with replacement."""
    patients = np.array(sorted(set(predictions["patient_id"])), dtype=object)
    count = len(patients)
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=num_resamples)
    return PatientResamples(patients=patients, weights=weights.astype(np.float64))


def _interval(estimate: float, drawn: NDArray[np.float64], *, num_patients: int, bounds: _Bounds) -> Interval:
    known = drawn[np.isfinite(drawn)]
    if num_patients < MIN_PATIENTS or len(known) < _FEWEST_DRAWN * len(drawn):
        return Interval(estimate)
    # Resampling n patients loses one part in n of the variance.
    se = float(known.std()) * float(np.sqrt(num_patients / (num_patients - 1)))
    return bounds(estimate, se=se, degrees=num_patients - 1)


def _add_wins(
    wins: NDArray[np.float64],
    pairs: NDArray[np.float64],
    *,
    scores: NDArray[np.floating],
    places: NDArray[np.int64],
    positive: NDArray[np.bool_],
    negative: NDArray[np.bool_],
) -> None:
    """Adds to [i, j] the pairs of a positive of patient i and a negative of patient j, and those that are won."""
    owners = places[positive]
    for rival in np.unique(places[negative]):
        beaten = np.sort(scores[negative & (places == rival)])
        won = np.searchsorted(beaten, scores[positive], "left") + np.searchsorted(beaten, scores[positive], "right")
        np.add.at(wins[:, rival], owners, won / 2)
        np.add.at(pairs[:, rival], owners, len(beaten))
