"""Counts of subsets."""

import pandas as pd
import pytest

from mmgkeras.patches.subset_counts import demographics, subset_counts


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
