"""How many patches subsets, folds and the augmented training set hold: the paper's Tables 4, 5 and 6.

Owns counting alone. Rows with unknown labels are counted apart and neither trained on nor scored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pandas as pd

from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION, UNKNOWN

SUBSET_COLUMNS: Final = ("subset", "patients", "images", "yes", "no", "unknown")


@dataclass(frozen=True, slots=True)
class FoldCounts:
    """One row of Table 5: patches of known label in the training and in the test set of a fold."""

    train_negatives: int
    train_positives: int
    test_negatives: int
    test_positives: int


@dataclass(frozen=True, slots=True)
class AugmentedCounts:
    """The augmented columns of one row of Table 6."""

    negatives: int
    positives: int


def subset_counts(patches: pd.DataFrame, assignment: Mapping[str, str]) -> pd.DataFrame:
    """Table 4: for each subset its patients, images, and patches with (yes), without (no) and of unknown label.

    Args:
        patches: of a store: patient_id, image_id, label.
        assignment: the subset of each patient.
    """
    subsets = patches["patient_id"].map(dict(assignment))
    rows = [
        (
            str(subset),
            int(group["patient_id"].nunique()),
            int(group["image_id"].nunique()),
            *(int((group["label"] == label).sum()) for label in (CALCIFICATION, NO_CALCIFICATION, UNKNOWN)),
        )
        for subset, group in patches.groupby(subsets)
    ]
    return pd.DataFrame(rows, columns=list(SUBSET_COLUMNS))


def fold_counts(subsets: pd.DataFrame) -> list[FoldCounts]:
    """Table 5 from Table 4 (columns yes and no, one row for each subset): fold k tests subset k, the rest trains."""
    total_negatives, total_positives = int(subsets["no"].sum()), int(subsets["yes"].sum())
    return [
        FoldCounts(
            train_negatives=total_negatives - negatives,
            train_positives=total_positives - positives,
            test_negatives=negatives,
            test_positives=positives,
        )
        for negatives, positives in zip(subsets["no"].tolist(), subsets["yes"].tolist(), strict=True)
    ]


def augmented_counts(
    num_negative: int, num_positive: int, *, num_positive_ops: int = 24, num_negative_ops: int = 2
) -> AugmentedCounts:
    """Table 6 from a row of Table 5: 4 rotations x 2 flips x 3 intensities of positives, 2 flips of negatives."""
    return AugmentedCounts(negatives=num_negative * num_negative_ops, positives=num_positive * num_positive_ops)
