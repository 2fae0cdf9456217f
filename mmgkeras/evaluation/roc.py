"""ROC and precision-recall curves of each fold, and their means over folds.

Owns how curves are averaged: the areas under the means are the means of the areas.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from mmgkeras.schema import UNKNOWN

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""x, ascending, and y."""


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


def roc_points(labels: NDArray[np.integer], scores: NDArray[np.float64]) -> Curve:
    """False positive rate and sensitivity at every threshold, ascending."""
    false_positive_rate, sensitivity, _ = roc_curve(labels, scores)
    return np.asarray(false_positive_rate), np.asarray(sensitivity)


def mean_roc(curves: Sequence[Curve]) -> Curve:
    """The mean sensitivity at each false positive rate; at a step of any curve both its ends, so that areas agree."""
    grid = np.unique(np.concatenate([x for x, _ in curves]))
    below = np.mean([np.interp(-grid, -x[::-1], y[::-1]) for x, y in curves], axis=0)
    above = np.mean([np.interp(grid, x, y) for x, y in curves], axis=0)
    return np.repeat(grid, 2), np.column_stack([below, above]).ravel()


def precision_recall_points(labels: NDArray[np.integer], scores: NDArray[np.float64]) -> Curve:
    """Recall, ascending, and precision; between two points the precision is that of the right one."""
    precision, recall, _ = precision_recall_curve(labels, scores)
    return np.asarray(recall)[::-1], np.asarray(precision)[::-1]


def mean_precision_recall(curves: Sequence[Curve]) -> Curve:
    """The mean precision at each recall, as steps; the area under it is the mean average precision."""
    grid = np.unique(np.concatenate([x for x, _ in curves]))
    mean = np.mean([_precision_at(x, y, at=grid[1:]) for x, y in curves], axis=0)
    return np.repeat(grid, 2)[1:-1], np.repeat(mean, 2)


def _precision_at(x: NDArray[np.float64], y: NDArray[np.float64], *, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """The precision of the first point that reaches a recall."""
    return y[np.searchsorted(x, at - 1e-12)]
