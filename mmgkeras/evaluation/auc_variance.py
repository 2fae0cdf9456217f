"""Areas under ROC curves of several scores of the same patches, with their covariance over patients.

Pooled over folds it is Obuchowski's: N. A. Obuchowski, Nonparametric analysis of clustered ROC curve data, Biometrics
53, 567-578 (1997). A cluster is a patient: its patches resemble each other, and each says less than one of a further
patient would. With clusters of one patch it is that of DeLong, DeLong and Clarke-Pearson, Biometrics 44, 837-845
(1988).
Of the mean over folds it is the sum over patients of what each moves its fold's area.

Differences are tested by a t distribution, whose degrees of freedom follow from how evenly the patients contribute.
benchmarks/simulated_studies.py measures how often networks that are equally good are called different.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.evaluation.interval import (
    Difference,
    Interval,
    difference,
    effective_number,
    satterthwaite,
    unit_interval,
)
from mmgkeras.evaluation.metrics import placements
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class CorrelatedAucs:
    """Areas under the ROC curves of several scores of the same patches.

    Attributes:
        aucs: (K,) float64, one for each score; of several folds the mean over them.
        covariance: (K, K) float64, of these estimates; NaN where a fold has one patient with a label only.
        contributions: (K, I) float64, how far each patient moves each area from its mean.
        num_means: how many means these were taken from: 1, or the number of folds.
        effective: the effective number of patients with the rarer label, added up over the folds.
    """

    aucs: Floats
    covariance: Floats
    contributions: Floats
    num_means: int
    effective: float

    def interval(self, place: int, *, confidence: float = 0.95) -> Interval:
        """One area with bounds on the logit scale, by a t distribution."""
        se = float(np.sqrt(self.covariance[place, place]))
        degrees = self.effective - self.num_means
        return unit_interval(float(self.aucs[place]), se=se, degrees=degrees, confidence=confidence)

    def compare(self, first: int, second: int, *, confidence: float = 0.95) -> Difference:
        """The first area less the second, by their places from 0, tested by a t distribution."""
        pair = self.covariance[np.ix_([first, second], [first, second])]
        # Rounding can leave the variance of a score less itself a hair beside 0.
        variance = pair[0, 0] + pair[1, 1] - 2 * pair[0, 1]
        se = 0.0 if variance <= 1e-12 * pair[0, 0] else float(np.sqrt(variance))
        degrees = satterthwaite(self.contributions[first] - self.contributions[second], num_means=self.num_means)
        estimate = float(self.aucs[first] - self.aucs[second])
        return difference(estimate, se=se, degrees=degrees, confidence=confidence)


def clustered_aucs(labels: NDArray[np.integer], scores: Floats, clusters: NDArray[Any]) -> CorrelatedAucs:
    """The areas of several scores (K, N) of the same patches, with Obuchowski's covariance over clusters (N,).

    Args:
        labels: (N,) of 1 and 0.
        scores: (K, N).
        clusters: (N,) of any names; each patch its own gives DeLong's covariance.

    Raises:
        ValueError: unless two clusters at least hold each label.
    """
    cluster, names = pd.factorize(np.asarray(clusters))
    shares = _shares(labels, cluster, num_clusters=len(names))
    num_with = [int(np.count_nonzero(share)) for share in shares]
    if min(num_with) < 2:
        raise ValueError(
            "The variance of an area of clustered patches needs two clusters of each label. "
            f"Received: {num_with[0]} with label 1, {num_with[1]} with label 0"
        )
    aucs, x, y = _contributions(labels, scores, cluster, num_clusters=len(names))
    # S10 / m + S01 / n + 2 S11 / (m n) of the paper, and the same between scores.
    covariance = (
        _bessel(num_with[0]) * (x @ x.T) + _bessel(num_with[1]) * (y @ y.T) + _bessel(len(names)) * (x @ y.T + y @ x.T)
    )
    rarer = min(shares, key=np.count_nonzero)
    return CorrelatedAucs(aucs, covariance, x + y, num_means=1, effective=effective_number(rarer))


def fold_mean_aucs(
    labels: NDArray[np.integer], scores: Floats, clusters: NDArray[Any], *, folds: NDArray[np.integer]
) -> CorrelatedAucs:
    """The means over folds of the areas of several scores (K, N), with their covariance over clusters (N,).

    Each fold (N,) has an area of its own, from whose mean its patients' contributions are taken. That loses one part in
    n of the variance, n being the effective number of patients with the rarer label. A patient in several folds, scored
    by several models, contributes the sum.

    Raises:
        ValueError: unless each fold holds both labels.
    """
    cluster, names = pd.factorize(np.asarray(clusters))
    numbers = np.unique(folds)
    aucs, moved, effective = np.zeros(len(scores)), np.zeros((len(scores), len(names))), 0.0
    for fold in numbers:
        part = folds == fold
        of_fold, of_labels = cluster[part], labels[part]
        shares = _shares(of_labels, of_fold, num_clusters=len(names))
        if not all(share.any() for share in shares):
            raise ValueError(f"Each fold must hold both labels. Received: one alone in fold {fold}")
        area, x, y = _contributions(of_labels, scores[:, part], of_fold, num_clusters=len(names))
        number = effective_number(min(shares, key=np.count_nonzero))
        kept, effective = 1 - 1 / number, effective + number
        aucs += area / len(numbers)
        moved += (x + y) / len(numbers) / (np.sqrt(kept) if kept > 0 else np.nan)
    return CorrelatedAucs(aucs, moved @ moved.T, moved, num_means=len(numbers), effective=effective)


def _shares(labels: NDArray[np.integer], cluster: NDArray[np.integer], *, num_clusters: int) -> list[Floats]:
    """(I,) the positives and (I,) the negatives of each cluster."""
    return [
        np.bincount(cluster[labels == label], minlength=num_clusters).astype(np.float64)
        for label in (CALCIFICATION, NO_CALCIFICATION)
    ]


def _contributions(
    labels: NDArray[np.integer], scores: Floats, cluster: NDArray[np.integer], *, num_clusters: int
) -> tuple[Floats, Floats, Floats]:
    """(K,) the areas, and (K, I) how far the positives and how far the negatives of each cluster move them.

    They are sums over the cluster of the structural components V10 and V01 of DeLong et al. less the area, over the
    numbers of positives and of negatives.
    """
    is_positive = labels == CALCIFICATION
    positives, negatives = scores[:, is_positive], scores[:, ~is_positive]
    below, above = (
        np.stack([_midranks(own, others) for own, others in zip(one, other, strict=True)])
        for one, other in ((positives, negatives), (negatives, positives))
    )
    of_positives, of_negatives = below / negatives.shape[1], 1 - above / positives.shape[1]
    aucs = of_positives.mean(axis=1)
    x, y = (
        np.stack([np.bincount(owners, weights=row, minlength=num_clusters) for row in placed - aucs[:, np.newaxis]])
        / placed.shape[1]
        for placed, owners in ((of_positives, cluster[is_positive]), (of_negatives, cluster[~is_positive]))
    )
    return aucs, x, y


def _midranks(scores: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """(M,) how many of the others lie below each score, equal ones counting one half."""
    won, _ = placements(scores, others, groups=np.zeros(len(others), dtype=np.int64), num_groups=1)
    return won[:, 0]


def _bessel(count: int) -> float:
    return count / (count - 1)
