"""Free-response ROC: which part of the targets is found at how many false positives an image.

Owns what a mark is, when a target is hit and what a false positive is. Takes predictions and their targets; knows no
files. Two ways of counting false positives stand beside each other. By marks, a mark is a connected set of patches at
or above the threshold, and a false positive is one with a patch labelled 0 and none labelled 1. By patches, each patch
labelled 0 at or above the threshold is one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.spatial import KDTree

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


def on_breast(predictions: pd.DataFrame) -> pd.DataFrame:
    """The predictions of patches that show any breast: those whose `tissue` is above 0."""
    return predictions[predictions["tissue"] > 0]


def reach_of(*, patch_px: int, stride_px: int) -> int:
    """How many rows or columns of the grid patches may lie apart that overlap or touch, corners included; 1 or more."""
    return max(1, patch_px // stride_px)


def num_marks(predictions: pd.DataFrame, *, threshold: float, reach: int = 1) -> int:
    """The connected sets of patches at or above the threshold, in all images of all folds."""
    called = predictions[predictions["probability"] >= threshold]
    count = 0
    for _, patches in called.groupby(["fold", "image_id"], sort=False):
        one, other = _neighbours(patches, reach=reach)
        links = coo_array((np.ones(len(one)), (one, other)), shape=(len(patches), len(patches)))
        count += connected_components(links, directed=False, return_labels=False)
    return count


def froc(predictions: pd.DataFrame, targets: Targets, *, reach: int | None = 1, rates: Sequence[float] = RATES) -> Froc:
    """The free-response curve of predictions.

    A target is hit when any of its patches scores at or above the threshold. Patches of unknown label, and positive
    ones of no target, count nowhere. Where marks grow together at a lower threshold, as many count as there were:
    a lower threshold never takes a false positive away.

    Args:
        predictions: with the columns of predictions.csv.
        targets: made of the same predictions.
        reach: how many rows or columns apart patches of one mark may lie, see `reach_of`; None counts by patches.
        rates: false positives an image at which the sensitivity is told.
    """
    counts, of_folds = _counts(predictions, targets, reach=reach), _counts_of_folds(predictions, targets, reach=reach)
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
    reach: int | None = 1,
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
        reach: as of `froc`.
        num_resamples: number of draws.
        seed: of the draws.
        confidence: of the intervals.
        rates: false positives an image at which the sensitivity is told.
    """
    counts, of_folds = _counts(predictions, targets, reach=reach), _counts_of_folds(predictions, targets, reach=reach)
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
    estimates = froc(predictions, targets, reach=reach, rates=rates)

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
        false_positives: (P, T) float64 each patient's false positives at a threshold at the target's score.
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


def _counts_of_folds(predictions: pd.DataFrame, targets: Targets, *, reach: int | None) -> list[_Counts]:
    return [
        _counts(part, Targets(targets.kind, tuple(one for one in targets.items if one.fold == fold)), reach=reach)
        for fold, part in predictions.groupby("fold")
    ]


def _counts(predictions: pd.DataFrame, targets: Targets, *, reach: int | None) -> _Counts:
    patients = predictions[["fold", "patient_id"]].drop_duplicates().sort_values(["fold", "patient_id"])
    places = {key: place for place, key in enumerate(patients.itertuples(index=False, name=None))}
    scores, owners = _scores_of_targets(predictions, targets, places=places)
    negatives = predictions[predictions["label"] == NO_CALCIFICATION]
    keys = zip(negatives["fold"], negatives["patient_id"], strict=True)
    negative_owners = np.array([places[key] for key in keys], dtype=np.int64)
    if reach is None:
        false_scores, false_owners = negatives["probability"].to_numpy(), negative_owners
    else:
        false_scores, false_owners = _false_marks(predictions, places, reach=reach)
    order = np.argsort(scores)
    num_reached = np.searchsorted(scores[order], false_scores, side="right")
    reached = np.zeros((len(places), len(scores) + 1))
    np.add.at(reached, (false_owners, num_reached), 1)
    false_positives = np.zeros((len(places), len(scores)))
    # What is false at the score of the k lowest targets is so where any of them is hit.
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


def _false_marks(
    predictions: pd.DataFrame, places: Mapping[tuple[int, str], int], *, reach: int
) -> tuple[_Floats, NDArray[np.int64]]:
    """The thresholds at which the number of false marks of an image rises, once for each mark; the patients' places."""
    scores, owners = [], []
    for _, patches in predictions.groupby(["fold", "image_id"], sort=False):
        rises = _rises(patches, reach=reach)
        scores.append(rises)
        owners += [places[int(patches["fold"].iloc[0]), patches["patient_id"].iloc[0]]] * len(rises)
    return np.concatenate(scores) if scores else np.empty(0), np.array(owners, dtype=np.int64)


def _rises(patches: pd.DataFrame, *, reach: int) -> _Floats:
    """(n,) the thresholds at which one image has one false mark more than at any higher threshold."""
    births, deaths = _lives(patches, reach=reach)
    events = np.concatenate([births, deaths])
    steps = np.repeat([1, -1], [len(births), len(deaths)])
    thresholds, groups = np.unique(-events, return_inverse=True)
    alive = np.bincount(groups, weights=steps, minlength=len(thresholds)).cumsum()
    most = np.maximum.accumulate(np.maximum(alive, 0))
    return np.asarray(np.repeat(-thresholds, np.diff(most, prepend=0).astype(np.int64)))


def _lives(patches: pd.DataFrame, *, reach: int) -> tuple[_Floats, _Floats]:
    """The thresholds at which the false marks of one image appear, and those at which such are gone.

    A mark appears with its highest patch labelled 0; it is gone when it meets a patch labelled 1, or another false mark
    with a higher one. Patches join in the order of their scores, along the edges of the spanning tree that joins the
    higher ones first.
    """
    scores, labels = patches["probability"].to_numpy(np.float64), patches["label"].to_numpy()
    order = np.argsort(-scores, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    one, other = _neighbours(patches, reach=reach)
    joined = np.maximum(rank[one], rank[other]) + 1.0
    tree = minimum_spanning_tree(coo_array((joined, (one, other)), shape=(len(rank), len(rank)))).tocoo()
    parent, is_true = list(range(len(rank))), (labels == CALCIFICATION).tolist()
    # The highest patch labelled 0 of each set of patches, by its first.
    highest = [place if label == NO_CALCIFICATION else None for place, label in enumerate(labels)]
    death = np.full(len(rank), -np.inf)

    def first_of(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for edge in np.argsort(tree.data, kind="stable"):
        first, second = first_of(int(tree.row[edge])), first_of(int(tree.col[edge]))
        negatives = [place for place in (highest[first], highest[second]) if place is not None]
        negatives.sort(key=rank.__getitem__)
        is_true[first] = is_true[first] or is_true[second]
        for place in negatives if is_true[first] else negatives[1:]:
            death[place] = max(death[place], scores[order[int(tree.data[edge]) - 1]])
        highest[first] = negatives[0] if negatives else None
        parent[second] = first
    lasting = (labels == NO_CALCIFICATION) & (death < scores)
    return scores[lasting], death[lasting & np.isfinite(death)]


def _neighbours(patches: pd.DataFrame, *, reach: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of patches of one image, by their places, that overlap or touch."""
    pairs = KDTree(patches[["row", "col"]].to_numpy()).query_pairs(reach + 0.5, p=np.inf, output_type="ndarray")
    return pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64)


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
