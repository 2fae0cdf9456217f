"""Areas under ROC curves of patches that come in clusters, with their covariance (Obuchowski 1997).

N. A. Obuchowski, Nonparametric analysis of clustered ROC curve data, Biometrics 53, 567-578. A cluster is a patient:
its patches resemble each other, and each says less than one of a further patient would. With clusters of one patch the
method is DeLong's.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.evaluation.delong import CorrelatedAucs, placements
from mmgkeras.evaluation.interval import Interval, effective_number, unit_interval
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION


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
    of_positives, of_negatives = placements(labels, scores)
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


def _excess(
    placed: NDArray[np.float64], aucs: NDArray[np.float64], cluster: NDArray[np.integer], *, num_clusters: int
) -> NDArray[np.float64]:
    """(K, I) sums over each cluster of the placements (K, N) less the area."""
    excess = placed - aucs[:, np.newaxis]
    return np.stack([np.bincount(cluster, weights=row, minlength=num_clusters) for row in excess])


def _bessel(count: int) -> float:
    return count / (count - 1)
