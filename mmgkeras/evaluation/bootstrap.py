"""The patient bootstrap: intervals of metrics by resampling patients.

Owns the drawing of patients and how resamples become standard errors, for every interval of the project. A patient's
patches resemble each other, so patients are drawn, not patches: the interval says what other patients, as many and in
the same subsets, would have given the same trained models. It does not hold what another training would have changed;
that is the spread over seeds.

Method: bounds on the logit scale, by the standard error of the resamples and a t distribution. Percentiles of the
resamples held the truth in 81 to 85 % of simulated studies of the paper's shape whose patients differed clearly. Three
things are wrong with them, and each is met. Resamples of few patients, of whom some have most of the calcification,
spread too little: the deviations are stretched, and degrees of freedom counted, by the effective number of patients.
The standard error is itself uncertain: hence t. Near 1 the metrics are skewed: hence the logit scale.
tests/evaluation/test_coverage.py measures how often the intervals hold the truth.

The headline draws patients within folds. Parts of the patches (a density, a view) draw them from all folds together:
within folds, a part with one patient in a fold would seem certain there.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mmgkeras.evaluation.interval import (
    Interval,
    effective_number,
    positive_interval,
    stretch,
    symmetric_interval,
    unit_interval,
)
from mmgkeras.evaluation.metrics import mean, spread
from mmgkeras.evaluation.patient_table import (
    BOOTSTRAPPED,
    FALSE_POSITIVES_PER_IMAGE,
    PatientTable,
    divide,
    tabulate_patients,
)

NUM_RESAMPLES: Final = 2_000
MAX_MEANINGLESS: Final = 0.05
"""Where more than this part of the resamples leaves a metric without meaning, it has no bounds."""
MIN_PATIENTS: Final = 5
"""A metric of a part with fewer patients has no interval: resampling them says nothing of others."""
PATCH: Final = ["image_id", "row", "col"]
"""Columns that name a patch, whoever scored it."""

Floats = NDArray[np.float64]
_Bounds = Callable[..., Interval]


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapMetrics:
    """The metrics of a set of predictions with their intervals; None where a metric has no meaning.

    Attributes:
        fold_mean: mean over folds, every fold counting the same (paper, 3.4.1). Of mammogram_accuracy, the mean over
            folds of each fold's mean over mammograms.
        pooled: of all folds' patches in one set: it ranks scores of different models. Of mammogram_accuracy, the mean
            over all mammograms (paper, Table 10). All None where a patch was scored by several models.
        fold_spread: standard deviation over folds, None with a single one.
    """

    fold_mean: Mapping[str, Interval | None]
    pooled: Mapping[str, Interval | None]
    fold_spread: Mapping[str, float | None]


def bootstrap_metrics(
    predictions: pd.DataFrame,
    *,
    num_resamples: int = NUM_RESAMPLES,
    folds: Sequence[int] | None = None,
    metrics: Collection[str] = BOOTSTRAPPED,
) -> BootstrapMetrics:
    """The metrics of a frame with the columns of predictions.csv, each with its interval.

    Args:
        predictions: the selection of patches that is asked about: all, or those on tissue.
        num_resamples: sets of patients to draw; the same patients give the same sets.
        folds: that there should be; None for those of the frame. A fold without a patch leaves no fold means.
        metrics: some of BOOTSTRAPPED and FALSE_POSITIVES_PER_IMAGE.
    """
    expected = sorted({int(fold) for fold in predictions["fold"].unique()} if folds is None else set(folds))
    table = tabulate_patients(predictions, metrics=metrics)
    weights = resample_table(table, num_resamples=num_resamples)
    shares_patients = len(np.unique(table.patients)) < len(table.patients)
    pools = not (shares_patients and predictions.duplicated(PATCH).any())
    bound = partial(_bound, table, weights=weights)
    return BootstrapMetrics(
        fold_mean={name: bound(name, parts=expected) for name in metrics},
        pooled={name: bound(name, parts=[None]) if pools else None for name in metrics},
        fold_spread={name: spread(estimates(table, name, expected)) for name in metrics},
    )


def resample_table(table: PatientTable, *, num_resamples: int) -> Floats:
    """Weights (R, U) of the units of a table that leave no fold without patches of a label that it has."""
    needed = (table.positives, table.negatives)
    return draw_resamples(table.folds, table.patients, needed=needed, num_resamples=num_resamples)


def draw_resamples(
    folds: NDArray[np.integer],
    patients: NDArray[np.integer],
    *,
    needed: Sequence[Floats] = (),
    num_resamples: int,
) -> Floats:
    """How often each unit, a patient in a fold, is in each resample: weights (R, U), read-only, the same at every call.

    As many patients are drawn as there are, with replacement, in each set of folds that share patients.

    Folds of a cross-validation share none, and each is drawn by itself. Where several models scored the same patients,
    a patient is drawn once for all of them.

    Args:
        folds: (U,) of the units; all alike to draw the patients of all folds together.
        patients: (U,) of the units, numbered from 0.
        needed: each (U,), counts: a set that leaves a fold without any, where it has some, is drawn again.
        num_resamples: sets of patients to draw.
    """
    has = tuple(tuple((counts > 0).tolist()) for counts in needed)
    return _draw(tuple(folds.tolist()), tuple(patients.tolist()), has, num_resamples)


@lru_cache(maxsize=16)
def _draw(
    of_folds: tuple[int, ...], of_patients: tuple[int, ...], needed: tuple[tuple[bool, ...], ...], num_resamples: int
) -> Floats:
    """Kept, for every metric of a page asks for the same patients."""
    random = np.random.default_rng(0)
    folds, patients = np.array(of_folds, dtype=np.int64), np.array(of_patients, dtype=np.int64)
    needed_of = [np.array(has, dtype=np.bool_) for has in needed]
    weights = np.empty((num_resamples, len(folds)))
    for stratum in _strata(folds, patients):
        drawn_from, places = np.unique(patients[stratum], return_inverse=True)
        parts = [stratum[folds[stratum] == fold] for fold in np.unique(folds[stratum])]
        missing = np.arange(num_resamples)
        while len(missing):
            equal = np.full(len(drawn_from), 1 / len(drawn_from))
            drawn = random.multinomial(len(drawn_from), equal, size=len(missing))
            weights[np.ix_(missing, stratum)] = drawn[:, places]
            lacks = np.zeros(len(missing), np.bool_)
            for part in parts:
                of_part = weights[np.ix_(missing, part)]
                for has in needed_of:
                    lacks |= (of_part @ has[part] == 0) & has[part].any()
            missing = missing[lacks]
    weights.setflags(write=False)
    return weights


def _strata(folds: NDArray[np.integer], patients: NDArray[np.integer]) -> list[NDArray[np.int64]]:
    """The units of each set of folds that share patients, directly or through others."""
    _, number = np.unique(folds, return_inverse=True)
    nodes = patients.max(initial=-1) + 1 + number
    size = int(nodes.max(initial=-1)) + 1
    links = coo_array((np.ones(len(nodes)), (patients, nodes)), shape=(size, size))
    _, group = connected_components(links, directed=False)
    return [np.flatnonzero(group[nodes] == number) for number in np.unique(group[nodes])]


def estimates(table: PatientTable, name: str, parts: Sequence[int | None]) -> list[float | None]:
    """The metric of each fold as it is, of all folds in one set for None; None where it has no meaning."""
    once = np.ones((1, len(table.folds)))
    values = [float(table.metric(name, once, fold=fold)[0]) for fold in parts]
    return [None if np.isnan(value) else value for value in values]


def deviations(drawn: Floats, shares: Floats, *, num_folds: int = 1) -> Floats:
    """(R, ...) how far each resample lies from the mean of those with meaning, stretched by what resampling loses.

    Args:
        drawn: (R, ...) the metric of each resample, NaN where it has no meaning.
        shares: (U,) what each patient has of that on which the metric stands; NaN everywhere if fewer than two have.
        num_folds: in which the patients were drawn.
    """
    is_known = ~np.isnan(drawn)
    centre = np.where(is_known, drawn, 0).sum(axis=0) / np.maximum(1, is_known.sum(axis=0))
    return np.asarray((drawn - centre) * stretch(shares, num_folds=num_folds))


def metric_deviations(table: PatientTable, name: str, weights: Floats, *, parts: Sequence[int | None]) -> Floats:
    """(R,) the deviations of the mean of a metric over the parts: folds, or None for all in one set."""
    num_folds = len(np.unique(table.folds))
    moved = [
        deviations(
            table.metric(name, weights, fold=fold),
            table.shares(name, fold=fold),
            num_folds=num_folds if fold is None else 1,
        )
        for fold in parts
    ]
    return np.asarray(sum(moved, start=np.zeros(len(weights))) / len(parts))


def degrees_of_freedom(table: PatientTable, name: str, *, parts: Sequence[int | None]) -> float:
    """Of the standard error: the effective number of patients less one, added up over the parts.

    A patient in several folds, scored by several models, is no more evidence than in one.
    """
    alone = len(np.unique(table.patients)) / max(1, len(table.patients))
    return alone * sum(effective_number(table.shares(name, fold=fold)) - 1 for fold in parts)


def standard_error(deviated: Floats) -> float:
    """The root of the mean square of deviations (R,); infinite if more of them than MAX_MEANINGLESS are NaN."""
    known = deviated[~np.isnan(deviated)]
    if len(known) < max(1, (1 - MAX_MEANINGLESS) * len(deviated)):
        return np.inf
    return float(np.sqrt(np.mean(known**2)))


def _bound(table: PatientTable, name: str, *, weights: Floats, parts: Sequence[int | None]) -> Interval | None:
    estimate = mean(estimates(table, name, parts))
    if estimate is None:
        return None
    bounds = positive_interval if name == FALSE_POSITIVES_PER_IMAGE else unit_interval
    return bounds(
        estimate,
        se=standard_error(metric_deviations(table, name, weights, parts=parts)),
        degrees=degrees_of_freedom(table, name, parts=parts),
    )


@dataclass(frozen=True)
class PatientResamples:
    """How often each patient is in each resample, drawn from all folds together.

    Attributes:
        patients: (p,) their ids.
        weights: (R, p) float64 whole numbers that sum to p.
    """

    patients: NDArray[np.object_]
    weights: Floats

    @cached_property
    def _places(self) -> dict[str, int]:
        return {str(patient): place for place, patient in enumerate(self.patients)}

    def places(self, patient_ids: Sequence[str] | pd.Series) -> NDArray[np.int64]:
        """(n,) the place of each patient in `patients`.

        Raises:
            KeyError: for a patient that was not among those drawn from.
        """
        codes, names = pd.factorize(np.asarray(patient_ids, dtype=object))
        return np.array([self._places[str(name)] for name in names], dtype=np.int64)[codes]

    def rate(self, hits: ArrayLike, places: NDArray[np.int64]) -> Interval | None:
        """The part that is True of `hits` (n,), patches of the patients at `places` (n,), each patch counting once.

        None if there are none; without bounds if they are of fewer than `MIN_PATIENTS` patients or all alike.
        """
        return self._mean(hits, places, bounds=unit_interval)

    def mean(self, values: ArrayLike, places: NDArray[np.int64]) -> Interval | None:
        """The same of values (n,) of any size."""
        return self._mean(values, places, bounds=symmetric_interval)

    def auc(self, patches: pd.DataFrame) -> Interval | None:
        """The part of pairs of a positive and a negative patch of one fold in which the positive scores higher.

        Ties count half. Pairs across folds would compare scores of different models and are left out; the pairs of
        all folds count alike. None without any pair; without bounds if the positives, or the negatives, are of fewer
        than `MIN_PATIENTS` patients.
        """
        table = tabulate_patients(patches, metrics=("auc",))
        if not table.pairs.any():
            return None
        places = self.places(sorted(patches["patient_id"].unique()))[table.patients]
        estimate = float(table.within_folds_auc(np.ones((1, len(places))))[0])
        contributing = [len(np.unique(places[table.pairs.any(axis=axis)])) for axis in (1, 0)]
        drawn = table.within_folds_auc(self.weights[:, places])
        return _part_interval(estimate, drawn, num_patients=min(contributing), bounds=unit_interval)

    def _mean(self, values: ArrayLike, places: NDArray[np.int64], *, bounds: _Bounds) -> Interval | None:
        numbers = np.asarray(values, dtype=np.float64)
        if not numbers.size:
            return None
        sums = np.bincount(places, weights=numbers, minlength=len(self.patients))
        counts = np.bincount(places, minlength=len(self.patients)).astype(np.float64)
        drawn = divide(self.weights @ sums, self.weights @ counts)
        return _part_interval(float(numbers.mean()), drawn, num_patients=int((counts > 0).sum()), bounds=bounds)


def resample_patients(predictions: pd.DataFrame, *, num_resamples: int) -> PatientResamples:
    """Resamples of all patients of a frame with patient_id, of all folds together."""
    patients = np.array(sorted(predictions["patient_id"].unique()), dtype=object)
    count = len(patients)
    weights = draw_resamples(np.zeros(count, np.int64), np.arange(count), num_resamples=num_resamples)
    return PatientResamples(patients, weights)


def _part_interval(estimate: float, drawn: Floats, *, num_patients: int, bounds: _Bounds) -> Interval:
    """Each of the patients behind the metric counts alike: of n, resampling loses one part in n of the variance."""
    if num_patients < MIN_PATIENTS:
        return Interval(estimate)
    se = standard_error(deviations(drawn, np.ones(num_patients)))
    return bounds(estimate, se=se, degrees=num_patients - 1)
