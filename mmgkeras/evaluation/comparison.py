"""Differences of AUC between networks that scored the same patches.

Owns which tests stand beside each other, and the correction for asking about several pairs. All take the patients, not
the patches, as what was sampled; none holds what another training would have changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.errors import InputError
from mmgkeras.evaluation.auc_variance import CorrelatedAucs, clustered_aucs, fold_mean_aucs
from mmgkeras.evaluation.bootstrap import PATCH
from mmgkeras.evaluation.interval import Difference
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION, UNKNOWN

KEY: Final = ["fold", *PATCH]
_SAME: Final = ["patient_id", "label"]


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
    predictions: Mapping[str, pd.DataFrame], *, confidence: float = 0.95, folds: Sequence[int] | None = None
) -> tuple[Comparison, ...]:
    """Each pair of networks, in the order of the mapping; none for fewer than two.

    Args:
        predictions: by the network's name, frames with the columns of predictions.csv, of the same selection.
        confidence: the share of intervals that hold the truth.
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
        correct([None if areas is None else areas.compare(a, b, confidence=confidence) for a, b in pairs])
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
