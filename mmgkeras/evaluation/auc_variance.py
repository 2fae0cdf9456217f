"""Areas under ROC curves with their covariance: of independent patches (DeLong) and of patients (Obuchowski).

E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, Biometrics 44, 837-845 (1988). N. A. Obuchowski, Nonparametric
analysis of clustered ROC curve data, Biometrics 53, 567-578 (1997): a cluster is a patient, whose patches resemble each
other, so that each says less than one of a further patient would. With clusters of one patch the methods are the same;
where a patient has several patches, DeLong's variance is far too small.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.evaluation.interval import Difference, Interval, difference, effective_number, unit_interval
from mmgkeras.evaluation.metrics import placements
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION


@dataclass(frozen=True, slots=True)
class CorrelatedAucs:
    """Areas under the ROC curves of several scores of the same patches.

    Attributes:
        aucs: (K,) float64, one for each score.
        covariance: (K, K) float64, of these estimates.
    """

    aucs: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def compare(self, first: int, second: int, *, confidence: float = 0.95) -> Difference:
        """The first area less the second, by their places from 0, tested by the normal distribution."""
        pair = self.covariance[np.ix_([first, second], [first, second])]
        # Rounding can leave the variance of a score less itself a hair beside 0.
        variance = pair[0, 0] + pair[1, 1] - 2 * pair[0, 1]
        se = float(np.sqrt(variance)) if variance > 1e-12 * pair[0, 0] else 0.0
        return difference(float(self.aucs[first] - self.aucs[second]), se=se, confidence=confidence)


@dataclass(frozen=True, slots=True)
class ClusteredAuc:
    """An area under the ROC curve and the variance of its estimate.

    Attributes:
        auc: of all patches together.
        variance: of `auc`, were other patients drawn.
        num_clusters: the effective number of clusters with a positive patch, or with a negative one if fewer have any.
    """

    auc: float
    variance: float
    num_clusters: float

    def interval(self, *, confidence: float = 0.95) -> Interval:
        """The area with bounds on the logit scale, by the t distribution with `num_clusters` - 1 degrees of freedom."""
        se = float(np.sqrt(max(0.0, self.variance)))
        return unit_interval(self.auc, se=se, degrees=self.num_clusters - 1, confidence=confidence)


def delong(
    labels: NDArray[np.integer], scores_a: NDArray[np.floating], scores_b: NDArray[np.floating] | None = None
) -> CorrelatedAucs:
    """The areas of one or two scores (N,) for labels (N,) of 1 and 0, with DeLong's covariance.

    Raises:
        ValueError: unless there are two patches of each label at least.
    """
    scores = np.stack([scores_a] if scores_b is None else [scores_a, scores_b])
    of_positives, of_negatives = _structural_components(labels, scores)
    covariance = np.cov(of_positives) / of_positives.shape[1] + np.cov(of_negatives) / of_negatives.shape[1]
    return CorrelatedAucs(of_positives.mean(axis=1), np.atleast_2d(covariance))


def clustered_auc(labels: NDArray[np.integer], scores: NDArray[np.floating], clusters: NDArray[Any]) -> ClusteredAuc:
    """The area of scores (N,) for labels (N,) of 1 and 0, whose patches belong to clusters (N,) of any names.

    Raises:
        ValueError: unless two clusters at least hold each label.
    """
    areas = clustered_aucs(labels, np.asarray(scores)[np.newaxis], clusters)
    cluster, _ = pd.factorize(np.asarray(clusters))
    shares = [np.bincount(cluster[labels == label]) for label in (CALCIFICATION, NO_CALCIFICATION)]
    rarer = min(shares, key=np.count_nonzero).astype(np.float64)
    return ClusteredAuc(float(areas.aucs[0]), float(areas.covariance[0, 0]), effective_number(rarer))


def clustered_aucs(labels: NDArray[np.integer], scores: NDArray[np.floating], clusters: NDArray[Any]) -> CorrelatedAucs:
    """The areas of several scores (K, N) of the same patches, with the covariance over clusters (N,).

    Raises:
        ValueError: unless two clusters at least hold each label.
    """
    is_positive = labels == CALCIFICATION
    cluster, names = pd.factorize(np.asarray(clusters))
    num_clusters = len(names)
    num_with = [int(np.count_nonzero(np.bincount(cluster[part]))) for part in (is_positive, ~is_positive)]
    if min(num_with) < 2:
        raise ValueError(
            "The variance of an area of clustered patches needs two clusters of each label. "
            f"Received: {num_with[0]} with label 1, {num_with[1]} with label 0"
        )
    of_positives, of_negatives = _structural_components(labels, scores)
    aucs = of_positives.mean(axis=1)
    x = _excess(of_positives, aucs, cluster[is_positive], num_clusters=num_clusters)
    y = _excess(of_negatives, aucs, cluster[~is_positive], num_clusters=num_clusters)
    m, n = of_positives.shape[1], of_negatives.shape[1]
    # S10 / m + S01 / n + 2 S11 / (m n) of the paper, and the same between scores.
    covariance = (
        _bessel(num_with[0]) * (x @ x.T) / m**2
        + _bessel(num_with[1]) * (y @ y.T) / n**2
        + _bessel(num_clusters) * (x @ y.T + y @ x.T) / (m * n)
    )
    return CorrelatedAucs(aucs, covariance)


def _structural_components(
    labels: NDArray[np.integer], scores: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where each patch of one class stands in the other, for scores (K, N); V10 and V01 of DeLong et al.

    Returns:
        (K, M) of each positive the share of negatives below it, and (K, N - M) of each negative the share of positives
        above it; an equal score counts one half. Both keep the order of the patches, and their means are the areas.

    Raises:
        ValueError: unless there are two patches of each label at least.
    """
    is_positive = labels == CALCIFICATION
    num_positives, num_negatives = int(is_positive.sum()), int((~is_positive).sum())
    if min(num_positives, num_negatives) < 2:
        raise ValueError(
            "The variance of an area needs two patches of each label. "
            f"Received: {num_positives} labelled 1, {num_negatives} labelled 0"
        )
    positives, negatives = scores[:, is_positive], scores[:, ~is_positive]
    below, above = (
        np.stack([_midranks(own, others) for own, others in zip(one, other, strict=True)])
        for one, other in ((positives, negatives), (negatives, positives))
    )
    return below / num_negatives, 1 - above / num_positives


def _midranks(scores: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """(M,) how many of the others lie below each score, equal ones counting one half."""
    won, _ = placements(scores, others, groups=np.zeros(len(others), dtype=np.int64), num_groups=1)
    return won[:, 0]


def _excess(
    placed: NDArray[np.float64], aucs: NDArray[np.float64], cluster: NDArray[np.integer], *, num_clusters: int
) -> NDArray[np.float64]:
    """(K, I) sums over each cluster of the placements (K, N) less the area."""
    excess = placed - aucs[:, np.newaxis]
    return np.stack([np.bincount(cluster, weights=row, minlength=num_clusters) for row in excess])


def _bessel(count: int) -> float:
    return count / (count - 1)
