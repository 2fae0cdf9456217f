from dataclasses import replace

import pytest

from mmgkeras.evaluation.interval import Interval
from mmgkeras.report.content import Section, Table, Text
from mmgkeras.report.subgroups import subgroups_section
from mmgkeras.study.read import Study
from mmgkeras.study.reference_standard import study_marks


@pytest.fixture
def section(section_study: Study) -> Section:
    return subgroups_section(section_study, marks=study_marks(section_study), num_resamples=200)


def table(section: Section, name: str) -> Table:
    return next(part for part in section.body if isinstance(part, Table) and part.name == name)


def missing(section: Section) -> str:
    return " ".join(block.text for block in section.body if isinstance(block, Text) and block.kind == "missing")


def test_counts_of_a_part_stand_beside_its_figures(section: Section) -> None:
    left, right = table(section, "subgroups_laterality").rows
    assert left[:6] == ("left", 6, 6, 12, 23, "net")
    assert right[:6] == ("right", 6, 6, 12, 24, "net")
    assert isinstance(left[6], Interval)
    assert left[6].estimate == pytest.approx(10 / 12)
    assert isinstance(right[7], Interval)
    assert right[7].estimate == pytest.approx(23 / 24)


def test_auc_compares_patches_of_one_fold_alone(section: Section) -> None:
    _, right = table(section, "subgroups_laterality").rows
    # Fold 1: 6 x 12 pairs, all won. Fold 2: 6 x 12 pairs, all won, for the false positive has 0.8 and positives 0.9.
    assert isinstance(right[8], Interval)
    assert right[8].estimate == 1.0


def test_a_part_of_few_patients_has_counts_and_no_figure(section: Section) -> None:
    first, second = table(section, "subgroups_density").rows
    assert first == ("A", 6, 3, 12, 23, "too few", None, None, None)
    assert second[:2] == ("B", 6)


def test_a_column_that_the_data_leave_empty_is_said_to_be_unknown(section: Section) -> None:
    assert "vendor" in missing(section)


def test_positives_are_told_apart_by_what_is_annotated(section: Section) -> None:
    grouped, scattered = table(section, "subgroups_finding").rows
    assert grouped[:5] == ("marks inside a cluster", 12, 6, 12, 47)
    assert scattered[:5] == ("scattered marks", 12, 6, 12, 47)


def test_without_regions_types_are_said_to_be_unknown(section_study: Study) -> None:
    section = subgroups_section(section_study, num_resamples=10)
    assert "regions.csv" in missing(section)


def test_without_a_store_the_section_says_so(section_study: Study) -> None:
    assert "store" in missing(subgroups_section(replace(section_study, store=None)))
