"""Areas under ROC curves of independent patches, with their covariance (DeLong, DeLong and Clarke-Pearson 1988).

Owns the placement values that `obuchowski` sums over patients. Where a patient has several patches, the variance here
is far too small: use `obuchowski`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmgkeras.evaluation.interval import Difference, difference
from mmgkeras.schema import CALCIFICATION


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


def delong(
    labels: NDArray[np.integer], scores_a: NDArray[np.floating], scores_b: NDArray[np.floating] | None = None
) -> CorrelatedAucs:
    """The areas of one or two scores (N,) for labels (N,) of 1 and 0, with DeLong's covariance.

    Raises:
        ValueError: unless there are two patches of each label at least.
    """
    scores = np.stack([scores_a] if scores_b is None else [scores_a, scores_b])
    of_positives, of_negatives = placements(labels, scores)
    covariance = np.cov(of_positives) / of_positives.shape[1] + np.cov(of_negatives) / of_negatives.shape[1]
    return CorrelatedAucs(of_positives.mean(axis=1), np.atleast_2d(covariance))


def placements(
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
    below = np.stack([_midranks(np.sort(others), own) for own, others in zip(positives, negatives, strict=True)])
    above = np.stack([_midranks(np.sort(others), own) for own, others in zip(negatives, positives, strict=True)])
    return below / num_negatives, 1 - above / num_positives


def _midranks(ascending: NDArray[np.floating], scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N,) how many of the ascending numbers lie below each score (N,), equal ones counting one half."""
    low, high = (np.searchsorted(ascending, scores, side=side) for side in ("left", "right"))
    return np.asarray((low + high) / 2)
