"""AUCs of several scores of the same patches with their covariance over patients, and differences between networks.

Owns which tests stand beside each other, and the correction for asking about several pairs. All take the patients, not
the patches, as what was sampled; none holds what another training would have changed.

Pooled over folds it is Obuchowski's: N. A. Obuchowski, Nonparametric analysis of clustered ROC curve data, Biometrics
53, 567-578 (1997). A cluster is a patient: its patches resemble each other, and each says less than one of a further
patient would. With clusters of one patch it is that of DeLong, DeLong and Clarke-Pearson, Biometrics 44, 837-845
(1988).
Of the mean over folds it is the sum over patients of what each moves its fold's area.

Differences are tested by a t distribution, whose degrees of freedom follow from how evenly the patients contribute.
benchmarks/simulated_studies.py measures how often networks that are equally good are called different.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.errors import InputError
from mmgkeras.evaluation.bootstrap import PATCH
from mmgkeras.evaluation.interval import (
    Difference,
    Interval,
    difference,
    effective_number,
    satterthwaite,
    unit_interval,
)
from mmgkeras.evaluation.metrics import placements
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION, UNKNOWN

Floats = NDArray[np.float64]
KEY: Final = ["fold", *PATCH]
_SAME: Final = ["patient_id", "label"]


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

    def interval(self, place: int) -> Interval:
        """One area with bounds on the logit scale, by a t distribution."""
        se = float(np.sqrt(self.covariance[place, place]))
        return unit_interval(float(self.aucs[place]), se=se, degrees=self.effective - self.num_means)

    def compare(self, first: int, second: int) -> Difference:
        """The first area less the second, by their places from 0, tested by a t distribution."""
        pair = self.covariance[np.ix_([first, second], [first, second])]
        # Rounding can leave the variance of a score less itself a hair beside 0.
        variance = pair[0, 0] + pair[1, 1] - 2 * pair[0, 1]
        se = 0.0 if variance <= 1e-12 * pair[0, 0] else float(np.sqrt(variance))
        degrees = satterthwaite(self.contributions[first] - self.contributions[second], num_means=self.num_means)
        return difference(float(self.aucs[first] - self.aucs[second]), se=se, degrees=degrees)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The AUC of network a less that of network b; each `p_holm` is corrected over all pairs of one kind of test.

    Attributes:
        a, b: names of the networks.
        fold_mean: of the means over folds; None if a fold lacks a label.
        pooled: of the areas over all folds in one set, by Obuchowski's clustered covariance; None if several models of
            a network scored a patch, or fewer than two patients have a label.
    """

    a: str
    b: str
    fold_mean: Difference | None
    pooled: Difference | None


def compare_networks(
    predictions: Mapping[str, pd.DataFrame], *, folds: Sequence[int] | None = None
) -> tuple[Comparison, ...]:
    """Each pair of networks, in the order of the mapping; none for fewer than two.

    Args:
        predictions: by the network's name, frames with the columns of predictions.csv, of the same selection.
        folds: that there should be; None for those of the frames.

    Raises:
        InputError: if two networks did not score the same patches with the same labels and patients.
    """
    pairs = list(combinations(range(len(predictions)), 2))
    if not pairs:
        return ()
    known = _align(predictions)
    frame, names = next(iter(known.values())), list(known)
    scores = np.stack([one["probability"].to_numpy() for one in known.values()])
    tests = [
        correct([None if areas is None else areas.compare(a, b) for a, b in pairs])
        for areas in (mean_areas(frame, scores, folds=folds), _pooled_areas(frame, scores))
    ]
    return tuple(
        Comparison(a=names[a], b=names[b], fold_mean=of_fold_means, pooled=of_pooled)
        for (a, b), of_fold_means, of_pooled in zip(pairs, *tests, strict=True)
    )


def mean_areas(
    known: pd.DataFrame, scores: NDArray[np.float64], *, folds: Sequence[int] | None = None
) -> CorrelatedAucs | None:
    """The means over folds of the areas of several scores (K, N) of patches of known label; None if a fold lacks one.

    Args:
        known: with fold, patient_id and label.
        scores: in the order of the patches.
        folds: that there should be; None for those of the frame.
    """
    of_folds = known.groupby("fold")["label"].nunique()
    expected = of_folds.index if folds is None else list(folds)
    if not len(expected) or (of_folds.reindex(expected) != 2).any():
        return None
    label, patient, fold = (known[name].to_numpy() for name in ("label", "patient_id", "fold"))
    return fold_mean_aucs(label, scores, patient, folds=fold)


def correct(differences: Sequence[Difference | None]) -> list[Difference | None]:
    """The differences with their p corrected for each other by Holm's method (1979); None counts for nothing.

    The smallest of n is multiplied by n, the next by n - 1, and so on; none ends below a smaller one, nor above 1.
    """
    tested = sorted((found.p, place) for place, found in enumerate(differences) if found and found.p is not None)
    corrected = list(differences)
    highest = 0.0
    for rank, (p, place) in enumerate(tested):
        highest = max(highest, min(1.0, p * (len(tested) - rank)))
        corrected[place] = replace(found, p_holm=highest) if (found := differences[place]) else None
    return corrected


def _align(predictions: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The patches of known label of each network, in the same order."""
    known = {
        name: frame[frame["label"] != UNKNOWN].sort_values(KEY, ignore_index=True)
        for name, frame in predictions.items()
    }
    first, *others = known
    for other in others:
        merged = known[first].merge(known[other], on=[*KEY, *_SAME], how="outer", indicator="only")
        unpaired = merged[merged["only"] != "both"]
        if len(unpaired):
            patch = unpaired.iloc[0]
            raise InputError(
                f"networks {first!r} and {other!r} must have scored the same patches of the same labels and patients. "
                f"Received: row {patch['row']}, col {patch['col']} of image {patch['image_id']}, patient "
                f"{patch['patient_id']}, label {patch['label']}, fold {patch['fold']} only of "
                f"{first if patch['only'] == 'left_only' else other!r}"
            )
    return known


def _pooled_areas(known: pd.DataFrame, scores: NDArray[np.float64]) -> CorrelatedAucs | None:
    with_label = known.groupby("label")["patient_id"].nunique()
    too_few = min(with_label.get(label, 0) for label in (CALCIFICATION, NO_CALCIFICATION)) < 2
    if too_few or known.duplicated(PATCH).any():
        return None
    return clustered_aucs(known["label"].to_numpy(), scores, known["patient_id"].to_numpy())
