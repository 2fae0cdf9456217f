from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmgkeras.errors import InputError
from mmgkeras.evaluation.interval import Interval
from mmgkeras.evaluation.subgroup_metrics import patch_brightness, patch_marks
from mmgkeras.report.content import Section, Table, Text
from mmgkeras.report.subgroups import subgroups_section
from mmgkeras.schema import Region
from mmgkeras.study.read import Study, study_marks


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


def test_marks_and_their_pixels_are_counted_in_each_patch(section_study: Study) -> None:
    marks = study_marks(section_study)
    assert marks is not None
    of_image = marks[marks["image_id"] == "P3_R"].set_index(["row", "col"])
    assert of_image.loc[(0, 0), ["num_marks", "calcified_px", "num_envelopes"]].tolist() == [1, 9, 0]
    assert of_image.loc[(1, 1), ["num_marks", "calcified_px", "num_envelopes"]].tolist() == [2, 2, 1]
    assert of_image.loc[[(0, 1), (0, 2), (1, 0), (1, 2)], "num_marks"].tolist() == [0, 0, 0, 0]


def test_a_mark_across_two_patches_counts_in_both_with_its_part(section_study: Study) -> None:
    assert section_study.store is not None
    region = Region("P0_L", "wide", "calcification", "box", ((3, 6), (3, 8)))
    marks = patch_marks(section_study.store, [region])
    assert marks.iloc[:2][["num_marks", "calcified_px"]].to_numpy().tolist() == [[1, 2], [1, 1]]


def test_regions_of_images_that_the_store_lacks_are_left_out(section_study: Study) -> None:
    assert section_study.store is not None
    marks = patch_marks(section_study.store, [Region("P9_L", "m", "calcification", "point", ((1, 1),))])
    assert not marks["num_marks"].any()


def test_without_data_folder_or_regions_there_are_no_marks(section_study: Study, tmp_path: Path) -> None:
    assert study_marks(replace(section_study, data_path=None)) is None
    assert study_marks(replace(section_study, data_path=tmp_path)) is None


def test_a_region_that_does_not_fit_names_the_file(section_study: Study, tmp_path: Path) -> None:
    (tmp_path / "regions.csv").write_text('image_id,region_id,kind,shape,points\nP0_L,m,calcification,point,"99,1"\n')
    with pytest.raises(InputError, match=r"regions\.csv:2: image P0_L, region m: the point must overlap"):
        study_marks(replace(section_study, data_path=tmp_path))


def test_brightness_is_the_mean_grey_of_the_breast(section_study: Study) -> None:
    assert section_study.store is not None
    brightness = patch_brightness(section_study.store)
    assert brightness[:6] == pytest.approx(np.array([60, 100, 100, 60, 100, 100]) / 255)


def test_brightness_of_patches_with_little_breast_is_unknown(section_study: Study) -> None:
    assert section_study.store is not None
    patches = section_study.store.patches.assign(tissue=np.float32(0.5))
    patches.loc[1, "tissue"] = 0.49
    brightness = patch_brightness(replace(section_study.store, patches=patches))
    assert brightness[0] == pytest.approx(120 / 255)
    assert np.isnan(brightness[1])
