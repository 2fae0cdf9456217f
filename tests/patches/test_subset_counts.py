"""The paper's Tables 5 and 6 from its Table 4, number by number."""

import pandas as pd
import pytest

from mmgkeras.patches.subset_counts import (
    AugmentedCounts,
    FoldCounts,
    augmented_counts,
    demographics,
    fold_counts,
    subset_counts,
)

TABLE_4 = pd.DataFrame(
    {
        "subset": list("ABCDE"),
        "patients": [16, 16, 17, 15, 17],
        "images": [43, 42, 41, 43, 43],
        "yes": [194, 131, 238, 196, 270],
        "no": [3352, 3001, 2329, 2989, 2349],
    }
)
TABLE_5 = [
    FoldCounts(train_negatives=10668, train_positives=835, test_negatives=3352, test_positives=194),
    FoldCounts(train_negatives=11019, train_positives=898, test_negatives=3001, test_positives=131),
    FoldCounts(train_negatives=11691, train_positives=791, test_negatives=2329, test_positives=238),
    FoldCounts(train_negatives=11031, train_positives=833, test_negatives=2989, test_positives=196),
    FoldCounts(train_negatives=11671, train_positives=759, test_negatives=2349, test_positives=270),
]
TABLE_6 = [
    AugmentedCounts(negatives=21336, positives=20040),
    AugmentedCounts(negatives=22038, positives=21552),
    AugmentedCounts(negatives=23382, positives=18984),
    AugmentedCounts(negatives=22062, positives=19992),
    AugmentedCounts(negatives=23342, positives=18216),
]


def test_table_4_adds_up_to_table_3() -> None:
    assert (TABLE_4["yes"].sum(), TABLE_4["no"].sum(), TABLE_4["images"].sum()) == (1029, 14020, 212)


def test_table_5_follows_from_table_4() -> None:
    assert fold_counts(TABLE_4) == TABLE_5


def test_table_6_follows_from_table_4() -> None:
    folds = fold_counts(TABLE_4)
    assert [augmented_counts(fold.train_negatives, fold.train_positives) for fold in folds] == TABLE_6


def test_other_numbers_of_operations_count_accordingly() -> None:
    counts = augmented_counts(10, 3, num_positive_ops=8, num_negative_ops=1)
    assert counts == AugmentedCounts(negatives=10, positives=24)


def test_subsets_are_counted_by_patient_image_and_label() -> None:
    patches = pd.DataFrame(
        {
            "patient_id": ["p", "p", "p", "q", "r"],
            "image_id": ["p1", "p1", "p2", "q1", "r1"],
            "label": [1, 0, -1, 0, 1],
        }
    )
    table = subset_counts(patches, {"p": "B", "q": "A", "r": "B"})
    assert table.to_numpy().tolist() == [["A", 1, 1, 0, 1, 0], ["B", 2, 3, 2, 1, 1]]


@pytest.fixture
def images() -> pd.DataFrame:
    """Two mammograms of each of four patients; two patients tell their ages, one only on the second mammogram."""
    return pd.DataFrame(
        {
            "patient_id": [f"P{number // 2}" for number in range(8)],
            "age": [50, None, None, 60, None, None, None, None],
            "density": ["B", "B", "C", None, "C", "C", "C", "C"],
            "birads": [None] * 8,
            "pathology": [None] * 8,
            "vendor": [f"V{number}" for number in range(8)],
        }
    )


ASSIGNMENT = {"P0": "A", "P1": "A", "P2": "B", "P3": "B"}


def test_age_counts_patients_and_the_other_columns_mammograms(images: pd.DataFrame) -> None:
    rows = {row[:2]: row[2:] for row in demographics(images, ASSIGNMENT)}
    assert rows["patients", ""] == (2, 2, 4)
    assert rows["age, median (range)", ""] == ("55 (50 to 60)", None, "55 (50 to 60)")
    assert rows["age", "patients, unknown"] == (0, 2, 2)
    assert rows["density", "B"] == (2, 0, 2)
    assert rows["density", "unknown"] == (1, 0, 1)
    assert rows["BI-RADS", "unknown"] == (4, 4, 8)
    assert ("vendor", "unknown") not in rows


def test_a_column_of_many_values_is_cut_to_the_commonest(images: pd.DataFrame) -> None:
    many = pd.concat(
        [images.assign(vendor="V0"), *(images.iloc[:1].assign(vendor=f"W{number}") for number in range(12))]
    )
    rows = [row[1:] for row in demographics(many, ASSIGNMENT) if row[0] == "vendor"]
    assert len(rows) == 10
    assert rows[0] == ("V0", 4, 4, 8)
    assert rows[-1] == ("other (4 values)", 4, 0, 4)
