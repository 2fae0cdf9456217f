"""Free-response ROC: which part of the targets is found at how many false positives an image.

Owns when a target is hit and what a false positive is. Takes predictions and their targets; knows no files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.evaluation.bootstrap import deviations, draw_resamples, standard_error
from mmgkeras.evaluation.interval import Interval, effective_number, unit_interval
from mmgkeras.evaluation.metrics import mean
from mmgkeras.evaluation.targets import Targets
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION

RATES: Final = (0.5, 1.0, 2.0, 4.0)
"""False positives an image at which the sensitivity is told."""
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Froc:
    """The free-response curve.

    Attributes:
        points: (false positives an image, sensitivity) of all folds together at one threshold, where the sensitivity
            rises, from (0, 0) to sensitivity 1; between two points it is that of the left one.
        at: the highest sensitivity with at most so many false positives an image, all folds at one threshold; None
            without targets or images.
        fold_mean: the same with a threshold for each fold, mean over folds; None if a fold has no target or no image.
        num_targets: that can be hit.
        num_images: with at least one patch labelled 0, for on no other a false positive could be seen.
    """

    points: tuple[tuple[float, float], ...]
    at: Mapping[float, float | None]
    fold_mean: Mapping[float, float | None]
    num_targets: int
    num_images: int


@dataclass(frozen=True, slots=True)
class FrocIntervals:
    """Intervals of `Froc.fold_mean` and `Froc.at`, by the false positives an image; None where these are None."""

    fold_mean: Mapping[float, Interval | None]
    pooled: Mapping[float, Interval | None]


def froc(predictions: pd.DataFrame, targets: Targets, *, rates: Sequence[float] = RATES) -> Froc:
    """The free-response curve of predictions.

    A target is hit when any of its patches scores at or above the threshold; each patch labelled 0 at or above it is
    a false positive. Patches of unknown label, and positive ones of no target, count nowhere.

    Args:
        predictions: with the columns of predictions.csv.
        targets: made of the same predictions.
        rates: false positives an image at which the sensitivity is told.
    """
    counts, of_folds = _counts(predictions, targets), _counts_of_folds(predictions, targets)
    pooled = _sensitivities(counts, counts.each_once, rates=rates)
    by_fold = [_sensitivities(one, one.each_once, rates=rates) for one in of_folds]
    return Froc(
        points=_points(counts),
        at={rate: _number(pooled[0, index]) for index, rate in enumerate(rates)},
        fold_mean={rate: mean([_number(fold[0, index]) for fold in by_fold]) for index, rate in enumerate(rates)},
        num_targets=len(targets.items),
        num_images=int(counts.images.sum()),
    )


def froc_intervals(
    predictions: pd.DataFrame,
    targets: Targets,
    *,
    num_resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
    rates: Sequence[float] = RATES,
) -> FrocIntervals:
    """Intervals of the sensitivities of `froc`, of patients drawn within each fold, made as in `bootstrap`.

    A draw of a fold that has targets but none in the draw, or images but none, is made again.

    Args:
        predictions: with the columns of predictions.csv.
        targets: made of the same predictions.
        num_resamples: number of draws.
        seed: of the draws.
        confidence: of the intervals.
        rates: false positives an image at which the sensitivity is told.
    """
    counts, of_folds = _counts(predictions, targets), _counts_of_folds(predictions, targets)
    num_targets = np.bincount(counts.owners, minlength=counts.images.size).astype(np.float64)
    resamples = draw_resamples(
        counts.folds, counts.patients, needed=(num_targets, counts.images), num_resamples=num_resamples, seed=seed
    )
    # The patients of `counts` are ordered by fold, so that those of the folds lie side by side.
    ends = np.cumsum([one.images.size for one in of_folds])[:-1]
    weights, shares = np.split(resamples.weights, ends, axis=1), np.split(num_targets, ends)
    moved = [
        deviations(_sensitivities(one, drawn, rates=rates), share)
        for one, drawn, share in zip(of_folds, weights, shares, strict=True)
    ]
    pooled = _sensitivities(counts, resamples.weights, rates=rates)
    moved_pooled = deviations(pooled, num_targets, num_folds=len(shares))
    degrees = sum(effective_number(share) - 1 for share in shares)
    estimates = froc(predictions, targets, rates=rates)

    def intervals(of_rates: Mapping[float, float | None], moved: _Floats) -> dict[float, Interval | None]:
        return {
            rate: None
            if estimate is None
            else unit_interval(estimate, se=standard_error(one), degrees=degrees, confidence=confidence)
            for (rate, estimate), one in zip(of_rates.items(), moved.T, strict=True)
        }

    return FrocIntervals(
        fold_mean=intervals(estimates.fold_mean, np.mean(moved, axis=0)),
        pooled=intervals(estimates.at, moved_pooled),
    )


def num_negative_images(predictions: pd.DataFrame) -> int:
    """The images, of each fold, with a patch labelled 0: those on which a false positive can be seen."""
    negatives = predictions[predictions["label"] == NO_CALCIFICATION]
    return len(negatives[["fold", "image_id"]].drop_duplicates())


@dataclass(frozen=True, slots=True, eq=False)
class _Counts:
    """What the curve is made of, P patients of T targets.

    Attributes:
        folds, patients: (P,) int64, patients numbered from 0, ordered by fold; one who is in several folds counts in
            each.
        images: (P,) float64 each patient's images with a patch labelled 0.
        false_positives: (P, T) float64 each patient's patches labelled 0 that score at or above the target does.
        owners: (T,) the place of the target's patient among the P.
    """

    folds: NDArray[np.int64]
    patients: NDArray[np.int64]
    images: _Floats
    false_positives: _Floats
    owners: NDArray[np.int64]

    @property
    def each_once(self) -> _Floats:
        """(1, P) the weights of the data themselves."""
        return np.ones((1, self.images.size))


def _counts_of_folds(predictions: pd.DataFrame, targets: Targets) -> list[_Counts]:
    return [
        _counts(part, Targets(targets.kind, tuple(target for target in targets.items if target.fold == fold)))
        for fold, part in predictions.groupby("fold")
    ]


def _counts(predictions: pd.DataFrame, targets: Targets) -> _Counts:
    patients = predictions[["fold", "patient_id"]].drop_duplicates().sort_values(["fold", "patient_id"])
    places = {key: place for place, key in enumerate(patients.itertuples(index=False, name=None))}
    scores, owners = _scores_of_targets(predictions, targets, places=places)
    negatives = predictions[predictions["label"] == NO_CALCIFICATION]
    keys = zip(negatives["fold"], negatives["patient_id"], strict=True)
    negative_owners = np.array([places[key] for key in keys], dtype=np.int64)
    order = np.argsort(scores)
    num_reached = np.searchsorted(scores[order], negatives["probability"].to_numpy(), side="right")
    reached = np.zeros((len(places), len(scores) + 1))
    np.add.at(reached, (negative_owners, num_reached), 1)
    false_positives = np.zeros((len(places), len(scores)))
    # A negative that scores at least as high as the k lowest targets is a false positive where any of them is hit.
    false_positives[:, order] = reached[:, :0:-1].cumsum(axis=1)[:, ::-1]
    images = np.zeros(len(places))
    owned = negatives.assign(owner=negative_owners)[["fold", "image_id", "owner"]].drop_duplicates()
    np.add.at(images, owned["owner"].to_numpy(), 1)
    return _Counts(
        folds=patients["fold"].to_numpy(np.int64),
        patients=pd.factorize(patients["patient_id"], sort=True)[0],
        images=images,
        false_positives=false_positives,
        owners=owners,
    )


def _scores_of_targets(
    predictions: pd.DataFrame, targets: Targets, *, places: Mapping[tuple[int, str], int]
) -> tuple[_Floats, NDArray[np.int64]]:
    """(T,) the highest probability among each target's patches, and (T,) the place of its patient."""
    columns = ["fold", "image_id", "row", "col", "patient_id", "probability"]
    fields = (predictions[predictions["label"] == CALCIFICATION][name].tolist() for name in columns)
    known = {
        (fold, image_id, row, col): (places[fold, patient_id], probability)
        for fold, image_id, row, col, patient_id, probability in zip(*fields, strict=True)
    }
    found = [[known[target.fold, target.image_id, *place] for place in target.patches] for target in targets.items]
    scores = np.array([max(probability for _, probability in patches) for patches in found], dtype=np.float64)
    return scores, np.array([patches[0][0] for patches in found], dtype=np.int64)


def _sensitivities(counts: _Counts, weights: _Floats, *, rates: Sequence[float]) -> _Floats:
    """(R, rates) the highest sensitivity with at most so many false positives an image; NaN without targets or images.

    A target counts when a threshold at its own score does not admit more. `weights` (R, P) says how often each patient
    counts.
    """
    weights_of_targets = weights[:, counts.owners]
    num_targets, num_images = weights_of_targets.sum(axis=1), weights @ counts.images
    false_positives = weights @ counts.false_positives
    found = np.stack(
        [(weights_of_targets * (false_positives <= rate * num_images[:, None])).sum(axis=1) for rate in rates], axis=1
    )
    sensitivities = np.full(found.shape, np.nan)
    is_there = (num_targets > 0) & (num_images > 0)
    sensitivities[is_there] = found[is_there] / num_targets[is_there, None]
    return sensitivities


def _points(counts: _Counts) -> tuple[tuple[float, float], ...]:
    num_images, num_targets = counts.images.sum(), counts.owners.size
    if not num_images or not num_targets:
        return ()
    rates, numbers = np.unique(counts.false_positives.sum(axis=0) / num_images, return_counts=True)
    points = zip(rates.tolist(), (numbers.cumsum() / num_targets).tolist(), strict=True)
    return ((0.0, 0.0), *points)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
