"""Metrics of scores and decisions against labels (paper, 3.4), one set of patches at a time.

Owns the definitions: the outcomes of decisions, the placements of scores, and the ROC and precision-recall curves of
each fold, whose means are taken so that the areas under them are the means of the areas. Takes frames with the columns
of predictions.csv; knows nothing of files and printing.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION, UNKNOWN, Metrics

METRICS: Final = ("auc", "average_precision", "sensitivity", "specificity", "f1", "ppv", "npv", "accuracy")
"""The fields of `Metrics` that are averaged over folds."""
METRIC_NAMES: Final = {
    "auc": "AUC",
    "average_precision": "PR AUC",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "f1": "F1 score",
    "ppv": "PPV",
    "npv": "NPV",
    "accuracy": "Accuracy",
    "mammogram_accuracy": "Mammogram accuracy",
}
"""What a reader knows them as."""
WITHIN_IMAGE_AUC: Final = "within_image_auc"
SENSITIVITY_AT_SPECIFICITY: Final = "sensitivity_at_98_specificity"
SPECIFICITY: Final = 0.98
"""At which the sensitivity is told, whatever the threshold of decisions."""
ROUNDING: Final = 1e-9
"""2 of 100 negatives are 0.02 of them, though 1 - 0.98 is a little less in floating point."""
CONFUSION: Final = ("tp", "fp", "tn", "fn")
THRESHOLD: Final = 0.5
"""A probability of at least this says calcification: the larger of the paper's two outputs."""
Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""x, ascending, and y."""


def measure(predictions: pd.DataFrame, *, threshold: float = THRESHOLD) -> Metrics:
    """The metrics of patches with image_id, patient_id, label (1, 0, -1) and probability in [0, 1]."""
    known = predictions[predictions["label"] != UNKNOWN]
    labels, scores = known["label"].to_numpy(), known["probability"].to_numpy()
    counts = {name: int(part.sum()) for name, part in outcomes(labels, scores, threshold=threshold).items()}
    tp, fp, tn, fn = counts.values()
    return Metrics(
        auc=auc(labels, scores),
        average_precision=average_precision(labels, scores),
        sensitivity=_ratio(tp, tp + fn),
        specificity=_ratio(tn, tn + fp),
        f1=_ratio(tp, tp + (fp + fn) / 2),
        ppv=_ratio(tp, tp + fp),
        npv=_ratio(tn, tn + fn),
        accuracy=_ratio(tp + tn, len(known)),
        **counts,
        num_images=known["image_id"].nunique(),
        num_patients=known["patient_id"].nunique(),
        num_unknown=len(predictions) - len(known),
    )


def outcomes(
    labels: NDArray[np.integer], scores: NDArray[np.floating], *, threshold: float
) -> dict[str, NDArray[np.bool_]]:
    """(N,) which patches are tp, fp, tn, fn, where a score of at least the threshold says 1."""
    called, calcified = scores >= threshold, labels == CALCIFICATION
    parts = (called & calcified, called & ~calcified, ~called & ~calcified, ~called & calcified)
    return dict(zip(CONFUSION, parts, strict=True))


def placements(
    scores: NDArray[np.floating], others: NDArray[np.floating], *, groups: NDArray[np.int64], num_groups: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Number of the others of each group below each score, equal ones counting one half, and of those at or above it.

    Args:
        scores: (M,).
        others: (N,).
        groups: (N,) the group of each of the others, from 0.
        num_groups: G.

    Returns:
        Two of (M, G).
    """
    order = np.argsort(scores, kind="stable")
    # Sorted, a score is above each of the others whose number of scores up to it is at most the score's place.
    below, not_above = (
        np.bincount(
            np.searchsorted(scores[order], others, side=side) * num_groups + groups,
            minlength=(len(scores) + 1) * num_groups,
        )
        .reshape(len(scores) + 1, num_groups)
        .cumsum(axis=0)[:-1]
        for side in ("right", "left")
    )
    won, reached = np.empty(below.shape), np.empty(below.shape)
    won[order] = (below + not_above) / 2
    reached[order] = np.bincount(groups, minlength=num_groups) - below
    return won, reached


def auc(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> float | None:
    """The area under the ROC curve of scores (N,) for labels (N,) of 1 and 0; None unless both are there."""
    if not (np.any(labels == CALCIFICATION) and np.any(labels == NO_CALCIFICATION)):
        return None
    negatives, positives = _reached(labels, scores)
    return float(np.trapezoid(positives, negatives) / (positives[-1] * negatives[-1]))


def average_precision(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> float | None:
    """The area under the precision-recall curve of scores (N,) for labels (N,) of 1 and 0; None without a 1."""
    if not np.any(labels == CALCIFICATION):
        return None
    recall, precision = precision_recall_points(labels, scores)
    return float(np.sum(np.diff(recall) * precision[1:]))


def within_image_pairs(patches: pd.DataFrame) -> pd.DataFrame:
    """Of each image of each fold with both labels, the pairs of a positive and a negative, and those that are won.

    Columns: fold, image_id, patient_id, pairs, wins; equal scores win half.
    """
    keys = ["fold", "image_id"]
    is_positive = patches["label"] == CALCIFICATION
    ranks = patches.groupby(keys)["probability"].rank().where(is_positive, 0.0)
    counted = patches.assign(positives=is_positive, negatives=~is_positive, ranks=ranks)
    sums = counted.groupby([*keys, "patient_id"], sort=False)[["positives", "negatives", "ranks"]].sum()
    # Mann and Whitney's U: the ranks of the positives, less those that they have among themselves.
    wins = sums["ranks"] - sums["positives"] * (sums["positives"] + 1) / 2
    pairs = pd.DataFrame({"pairs": sums["positives"] * sums["negatives"], "wins": wins})
    return pairs[pairs["pairs"] > 0].reset_index()


def mean_metrics(of_folds: Sequence[Metrics]) -> dict[str, float | None]:
    """Each metric's mean over folds, every fold counting the same (paper, 3.4.1).

    A metric that one fold lacks has no mean: leaving that fold out would compare unlike things.
    """
    return {name: mean([getattr(metrics, name) for metrics in of_folds]) for name in METRICS}


def mean(values: Sequence[float | None]) -> float | None:
    """The mean; None if there are no values or one of them is None."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def known(value: float | None) -> float | None:
    """A number, or None where it is not one."""
    return None if value is None or pd.isna(value) else float(value)


def spread(values: Sequence[float | None]) -> float | None:
    """The standard deviation; None of fewer than two values or if one of them is None."""
    known = [value for value in values if value is not None]
    return float(np.std(known, ddof=1)) if len(known) == len(values) > 1 else None


def measure_mammograms(
    predictions: pd.DataFrame, *, threshold: float = THRESHOLD, seconds: Mapping[tuple[int, str], float] | None = None
) -> pd.DataFrame:
    """One row for each image of each fold, in the order of the predictions (paper, 3.4.3).

    Columns: image_id, patient_id, fold, num_patches, num_unknown, tp, fp, tn, fn, accuracy = (tp + tn) over the
    patches of known label, NaN where there is none, and seconds, of the given (fold, image_id), NaN where not given.
    """
    is_known = (predictions["label"] != UNKNOWN).to_numpy()
    found = outcomes(predictions["label"].to_numpy(), predictions["probability"].to_numpy(), threshold=threshold)
    counted = predictions[["fold", "image_id", "patient_id"]].assign(
        num_patches=1, num_unknown=~is_known, **{name: part & is_known for name, part in found.items()}
    )
    of_images = counted.groupby(["image_id", "patient_id", "fold"], sort=False).sum().reset_index()
    right = of_images["tp"] + of_images["tn"]
    keys = zip(of_images["fold"], of_images["image_id"], strict=True)
    return of_images.assign(
        accuracy=right / (of_images["num_patches"] - of_images["num_unknown"]),
        seconds=[(seconds or {}).get(key, np.nan) for key in keys],
    )


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def curves_of_folds(
    patches: pd.DataFrame, *, curve: Callable[[NDArray[np.integer], NDArray[np.float64]], Curve]
) -> list[Curve]:
    """One for each fold with both classes."""
    known = patches[patches["label"] != UNKNOWN]
    return [
        curve(part["label"].to_numpy(), part["probability"].to_numpy())
        for _, part in known.groupby("fold")
        if part["label"].nunique() == 2
    ]


def roc_points(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> Curve:
    """False positive rate and sensitivity, ascending, at every threshold at which the curve bends, and at its ends."""
    negatives, positives = _reached(labels, scores)
    bends = (np.diff(negatives, 2) != 0) | (np.diff(positives, 2) != 0)
    is_kept = np.concatenate([[True], bends, [True]])
    return negatives[is_kept] / negatives[-1], positives[is_kept] / positives[-1]


def mean_roc(curves: Sequence[Curve]) -> Curve:
    """The mean sensitivity at each false positive rate; at a step of any curve both its ends, so that areas agree."""
    grid = np.unique(np.concatenate([x for x, _ in curves]))
    below = np.mean([np.interp(-grid, -x[::-1], y[::-1]) for x, y in curves], axis=0)
    above = np.mean([np.interp(grid, x, y) for x, y in curves], axis=0)
    return np.repeat(grid, 2), np.column_stack([below, above]).ravel()


def precision_recall_points(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> Curve:
    """Recall, ascending, and precision; between two points the precision is that of the right one."""
    negatives, positives = _reached(labels, scores)
    precision = positives[1:] / (positives + negatives)[1:]
    return positives / positives[-1], np.append(1.0, precision)


def mean_precision_recall(curves: Sequence[Curve]) -> Curve:
    """The mean precision at each recall, as steps; the area under it is the mean average precision."""
    grid = np.unique(np.concatenate([x for x, _ in curves]))
    # The precision of the first point that reaches a recall.
    mean = np.mean([y[np.searchsorted(x, grid[1:] - 1e-12)] for x, y in curves], axis=0)
    return np.repeat(grid, 2)[1:-1], np.repeat(mean, 2)


def _reached(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The negatives and the positives at or above each threshold: none, then one threshold for each different score.

    scikit-learn has these curves too; its import and its checks take longer than all the rest of a small report.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    positives = np.cumsum(labels[order] == CALCIFICATION)[ends]
    return np.append(0, ends + 1 - positives), np.append(0, positives)
