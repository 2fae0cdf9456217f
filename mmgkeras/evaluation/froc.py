"""Free-response ROC: which part of the targets is found at how many false positives an image.

Owns what a mark is, when a target is hit and what a false positive is. Takes predictions and their targets; knows no
files. Two ways of counting false positives stand beside each other. By marks, a mark is a connected set of patches at
or above the threshold, and a false positive is one with a patch labelled 0 and none labelled 1. By patches, each patch
labelled 0 at or above the threshold is one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial import KDTree

from mmgkeras.evaluation.bootstrap import NUM_RESAMPLES, deviations, draw_resamples, standard_error
from mmgkeras.evaluation.interval import Interval, effective_number, unit_interval
from mmgkeras.evaluation.patient_table import divide
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
        pooled: the highest sensitivity with at most so many false positives an image, all folds at one threshold; None
            without targets or images.
        fold_mean: the same with a threshold for each fold, mean over folds; None if a fold has no target or no image.
        num_images: with at least one patch labelled 0, for on no other a false positive could be seen.
    """

    points: tuple[tuple[float, float], ...]
    pooled: Mapping[float, Interval | None]
    fold_mean: Mapping[float, Interval | None]
    num_images: int


def on_breast(predictions: pd.DataFrame) -> pd.DataFrame:
    """The predictions of patches that show any breast: those whose `tissue` is above 0."""
    return predictions[predictions["tissue"] > 0]


def reach_of(*, patch_px: int, stride_px: int) -> int:
    """How many rows or columns of the grid patches may lie apart that overlap or touch, corners included; 1 or more."""
    return max(1, patch_px // stride_px)


def froc(
    predictions: pd.DataFrame, targets: Targets, *, reach: int | None = 1, num_resamples: int = NUM_RESAMPLES
) -> Froc:
    """The free-response curve of predictions, with intervals of patients drawn within each fold as in `bootstrap`.

    A target is hit when any of its patches scores at or above the threshold. Patches of unknown label, and positive
    ones of no target, count nowhere. Where marks grow together at a lower threshold, as many count as there were:
    a lower threshold never takes a false positive away. A draw of a fold that has targets but none in the draw, or
    images but none, is made again.

    Args:
        predictions: with the columns of predictions.csv.
        targets: made of the same predictions.
        reach: how many rows or columns apart patches of one mark may lie, see `reach_of`; None counts by patches.
        num_resamples: number of draws.
    """
    counts = _counts(predictions, targets, reach=reach)
    num_targets = np.bincount(counts.owners, minlength=counts.images.size).astype(np.float64)
    weights = draw_resamples(
        counts.folds, counts.patients, needed=(num_targets, counts.images), num_resamples=num_resamples
    )
    once = np.ones((1, counts.images.size))
    # Patients of other folds count 0 times in a fold.
    folds = [counts.folds == fold for fold in np.unique(counts.folds)]
    degrees = sum(effective_number(num_targets * fold) - 1 for fold in folds)
    means = np.mean([_sensitivities(counts, once * fold) for fold in folds], axis=0)
    moved = [deviations(_sensitivities(counts, weights * fold), num_targets * fold) for fold in folds]
    moved_pooled = deviations(_sensitivities(counts, weights), num_targets, num_folds=len(folds))

    def intervals(estimates: _Floats, moved: _Floats) -> dict[float, Interval | None]:
        return {
            rate: None if np.isnan(value) else unit_interval(float(value), se=standard_error(one), degrees=degrees)
            for rate, value, one in zip(RATES, estimates[0], moved.T, strict=True)
        }

    return Froc(
        points=_points(counts),
        pooled=intervals(_sensitivities(counts, once), moved_pooled),
        fold_mean=intervals(means, np.mean(moved, axis=0)),
        num_images=int(counts.images.sum()),
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


def _counts(predictions: pd.DataFrame, targets: Targets, *, reach: int | None) -> _Counts:
    owned = predictions.assign(owner=predictions.groupby(["fold", "patient_id"]).ngroup())
    patients = owned[["owner", "fold", "patient_id"]].drop_duplicates().sort_values("owner")
    scores, owners = _scores_of_targets(owned, targets)
    negatives = owned[owned["label"] == NO_CALCIFICATION]
    if reach is None:
        false_scores, false_owners = negatives["probability"].to_numpy(), negatives["owner"].to_numpy()
    else:
        false_scores, false_owners = _false_marks(owned, reach=reach)
    order = np.argsort(scores)
    num_reached = np.searchsorted(scores[order], false_scores, side="right")
    reached = np.zeros((len(patients), len(scores) + 1))
    np.add.at(reached, (false_owners, num_reached), 1)
    false_positives = np.zeros((len(patients), len(scores)))
    # What is false at the score of the k lowest targets is so where any of them is hit.
    false_positives[:, order] = reached[:, :0:-1].cumsum(axis=1)[:, ::-1]
    owners_of_images = negatives.drop_duplicates(["owner", "image_id"])["owner"]
    return _Counts(
        folds=patients["fold"].to_numpy(np.int64),
        patients=pd.factorize(patients["patient_id"], sort=True)[0],
        images=np.bincount(owners_of_images, minlength=len(patients)).astype(np.float64),
        false_positives=false_positives,
        owners=owners,
    )


def _false_marks(owned: pd.DataFrame, *, reach: int) -> tuple[_Floats, NDArray[np.int64]]:
    """The thresholds at which the number of false marks of an image rises, once for each mark; the patients' places."""
    rises = {key: _rises(patches, reach=reach) for key, patches in owned.groupby(["owner", "image_id"], sort=False)}
    owners = np.array([owner for owner, _ in rises], dtype=np.int64)
    return np.concatenate([np.empty(0), *rises.values()]), np.repeat(owners, [len(one) for one in rises.values()])


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
    # Pairs of patches that overlap or touch.
    places = KDTree(patches[["row", "col"]].to_numpy())
    one, other = places.query_pairs(reach + 0.5, p=np.inf, output_type="ndarray").T
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


def _scores_of_targets(owned: pd.DataFrame, targets: Targets) -> tuple[_Floats, NDArray[np.int64]]:
    """(T,) the highest probability among each target's patches, and (T,) the place of its patient."""
    positives = owned.loc[owned["label"] == CALCIFICATION, ["fold", "image_id", "row", "col", "probability", "owner"]]
    known = {tuple(key): (score, owner) for *key, score, owner in positives.itertuples(index=False, name=None)}
    highest = [max(known[target.fold, target.image_id, *place] for place in target.patches) for target in targets.items]
    scores, owners = np.array(highest, dtype=np.float64).reshape(-1, 2).T
    return scores, owners.astype(np.int64)


def _sensitivities(counts: _Counts, weights: _Floats) -> _Floats:
    """(R, RATES) the highest sensitivity with at most so many false positives an image; NaN without targets or images.

    A target counts when a threshold at its own score does not admit more. `weights` (R, P) says how often each patient
    counts.
    """
    weights_of_targets = weights[:, counts.owners]
    num_targets, num_images = weights_of_targets.sum(axis=1, keepdims=True), (weights @ counts.images)[:, None]
    false_positives = weights @ counts.false_positives
    found = [np.einsum("rt,rt->r", weights_of_targets, false_positives <= rate * num_images) for rate in RATES]
    return divide(np.stack(found, axis=1), np.where(num_images > 0, num_targets, 0))


def _points(counts: _Counts) -> tuple[tuple[float, float], ...]:
    num_images, num_targets = counts.images.sum(), counts.owners.size
    if not num_images or not num_targets:
        return ()
    rates, numbers = np.unique(counts.false_positives.sum(axis=0) / num_images, return_counts=True)
    points = zip(rates.tolist(), (numbers.cumsum() / num_targets).tolist(), strict=True)
    return ((0.0, 0.0), *points)
