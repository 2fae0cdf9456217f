"""Differences of AUC between networks that scored the same patches.

Owns which tests stand beside each other, and the correction for asking about several pairs. All but DeLong's take the
patients, not the patches, as what was sampled; none holds what another training would have changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

import numpy as np
import pandas as pd

from mmgkeras.errors import InputError
from mmgkeras.evaluation.auc_variance import clustered_aucs, delong
from mmgkeras.evaluation.bootstrap import (
    NUM_RESAMPLES,
    PATCH,
    degrees_of_freedom,
    estimates,
    metric_deviations,
    resample_table,
    standard_error,
)
from mmgkeras.evaluation.interval import Difference, difference
from mmgkeras.evaluation.metrics import mean
from mmgkeras.evaluation.patient_table import tabulate_patients
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION, UNKNOWN

KEY: Final = ["fold", *PATCH]
_SAME: Final = ["patient_id", "label"]
_Pairs = Sequence[tuple[str, str]]
_Differences = list[Difference | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The AUC of network a less that of network b; each `p_holm` is corrected over all pairs of one kind of test.

    Attributes:
        a, b: names of the networks.
        fold_mean: of the means over folds, by the bootstrap that draws the same patients for both; None if a fold
            lacks a label. At the paper's size it is cautious: of simulated networks that are equally good it calls
            about 2 % different at 0.05, and the pooled test 5 %.
        pooled: of the areas over all folds in one set, by Obuchowski's clustered covariance; None if several models of
            a network scored a patch, or fewer than two patients have a label.
        delong: of the same areas by DeLong's covariance; None unless each patient has one scored patch only.
    """

    a: str
    b: str
    fold_mean: Difference | None
    pooled: Difference | None
    delong: Difference | None


def compare_networks(
    predictions: Mapping[str, pd.DataFrame],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
    folds: Sequence[int] | None = None,
) -> tuple[Comparison, ...]:
    """Each pair of networks, in the order of the mapping; none for fewer than two.

    Args:
        predictions: by the network's name, frames with the columns of predictions.csv, of the same selection.
        num_resamples: sets of patients to draw.
        seed: of the drawing.
        confidence: the share of intervals that hold the truth.
        folds: that there should be; None for those of the frames.

    Raises:
        InputError: if two networks did not score the same patches with the same labels and patients.
    """
    pairs = list(combinations(predictions, 2))
    if not pairs:
        return ()
    known = _align(predictions)
    fold_means = _compare_fold_means(
        known, pairs, num_resamples=num_resamples, seed=seed, confidence=confidence, folds=folds
    )
    pooled = _compare_pooled(known, pairs, confidence=confidence)
    independent = _compare_independent(known, pairs, confidence=confidence)
    tests = (correct(fold_means), correct(pooled), correct(independent))
    return tuple(
        Comparison(a=a, b=b, fold_mean=of_fold_means, pooled=of_pooled, delong=of_independent)
        for (a, b), of_fold_means, of_pooled, of_independent in zip(pairs, *tests, strict=True)
    )


def correct(differences: Sequence[Difference | None]) -> _Differences:
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


def _compare_fold_means(
    known: Mapping[str, pd.DataFrame],
    pairs: _Pairs,
    *,
    num_resamples: int,
    seed: int,
    confidence: float,
    folds: Sequence[int] | None,
) -> _Differences:
    tables = {name: tabulate_patients(frame, metrics=("auc",)) for name, frame in known.items()}
    one = next(iter(tables.values()))
    parts = sorted({int(fold) for fold in one.folds} if folds is None else set(folds))
    # The units of all tables are the same, so the same weights draw the same patients for each network.
    resamples = resample_table(one, num_resamples=num_resamples, seed=seed)
    areas = {name: mean(estimates(table, "auc", parts)) for name, table in tables.items()}
    moved = {name: metric_deviations(table, "auc", resamples, parts=parts) for name, table in tables.items()}
    degrees = degrees_of_freedom(one, "auc", parts=parts)
    return [
        None
        if (area_a := areas[a]) is None or (area_b := areas[b]) is None
        else difference(area_a - area_b, se=standard_error(moved[a] - moved[b]), degrees=degrees, confidence=confidence)
        for a, b in pairs
    ]


def _compare_pooled(known: Mapping[str, pd.DataFrame], pairs: _Pairs, *, confidence: float) -> _Differences:
    frame = next(iter(known.values()))
    with_label = frame.groupby("label")["patient_id"].nunique()
    too_few = min(with_label.get(label, 0) for label in (CALCIFICATION, NO_CALCIFICATION)) < 2
    if too_few or frame.duplicated(PATCH).any():
        return [None] * len(pairs)
    scores = np.stack([one["probability"].to_numpy() for one in known.values()])
    areas = clustered_aucs(frame["label"].to_numpy(), scores, frame["patient_id"].to_numpy())
    place = {name: number for number, name in enumerate(known)}
    return [areas.compare(place[a], place[b], confidence=confidence) for a, b in pairs]


def _compare_independent(known: Mapping[str, pd.DataFrame], pairs: _Pairs, *, confidence: float) -> _Differences:
    frame = next(iter(known.values()))
    labels = frame["label"].to_numpy()
    too_few = min(np.sum(labels == CALCIFICATION), np.sum(labels == NO_CALCIFICATION)) < 2
    if too_few or frame["patient_id"].duplicated().any():
        return [None] * len(pairs)
    scores = {name: one["probability"].to_numpy() for name, one in known.items()}
    return [delong(labels, scores[a], scores[b]).compare(0, 1, confidence=confidence) for a, b in pairs]
