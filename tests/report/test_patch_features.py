from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmgkeras.errors import InputError
from mmgkeras.evaluation.patch_features import patch_brightness, patch_marks
from mmgkeras.schema import Region
from mmgkeras.study.read import Study
from mmgkeras.study.reference_standard import study_marks


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
    with pytest.raises(InputError, match=r"regions\.csv: image P0_L, region m: each point of the point must lie"):
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
