import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mmgkeras.evaluation.interval import Interval
from mmgkeras.report.atlas import atlas_section, worst_errors
from mmgkeras.report.pictures import Pictures
from mmgkeras.report.table import Section, Table
from mmgkeras.schema import Region
from mmgkeras.study.read import Study
from mmgkeras.study.reference_standard import study_marks


@pytest.fixture
def section(section_study: Study) -> Section:
    return atlas_section(section_study, marks=study_marks(section_study), num_resamples=100)


def html(section: Section) -> str:
    return "".join(part for part in section.body if isinstance(part, str))


def rates(section: Section) -> dict[tuple[object, object], tuple[object, ...]]:
    (table,) = (part for part in section.body if isinstance(part, Table))
    return {row[:2]: row[2:] for row in table.rows}


def estimate(cell: object) -> float:
    assert isinstance(cell, Interval)
    return cell.estimate


def test_missed_and_false_patches_are_shown_with_probability_and_place(section: Section) -> None:
    text = html(section)
    assert text.count("<figure") == 5
    assert "net: missed calcifications" in text
    assert "<strong>0.200</strong> P0_L, row 0, col 0" in text
    assert "<strong>0.800</strong> P5_R, row 0, col 1" in text
    assert "1 mark, 9 px" in text
    assert "2 marks, 2 px" in text


def test_worst_errors_come_first(section_study: Study) -> None:
    predictions = section_study.networks[0].first.predictions.copy()
    predictions.loc[predictions.index[predictions["label"] == 1][:3], "probability"] = [0.4, 0.3, 0.1]
    predictions.loc[predictions.index[predictions["label"] == 0][:2], "probability"] = [0.6, 0.99]
    assert worst_errors(predictions, "missed")["probability"].tolist()[:2] == [0.1, 0.2]
    assert worst_errors(predictions, "false positive")["probability"].tolist() == [0.99, 0.8, 0.6]


def test_the_limit_cuts_each_gallery_and_says_so(section_study: Study) -> None:
    text = html(atlas_section(section_study, limit=2, num_resamples=10))
    assert text.count("<figure") == 3
    assert "2 of 4, the least probable first." in text
    assert "All of them." in text


def test_rates_are_those_of_each_group(section: Section) -> None:
    found = rates(section)
    positives, negatives, missed, false = found["all", ""]
    assert (positives, negatives) == (24, 47)
    assert estimate(missed) == pytest.approx(4 / 24)
    assert estimate(false) == pytest.approx(1 / 47)
    assert estimate(found["breast", "right"][3]) == pytest.approx(1 / 24)
    assert found["density", "A"][:2] == (12, 23)
    assert found["number of marks", "1"][:2] == (12, None)
    assert estimate(found["number of marks", "2"][2]) == pytest.approx(2 / 12)
    assert ("number of marks", "3 to 5") not in found


def test_areas_are_named_by_the_pixels_that_they_hold(section_study: Study) -> None:
    marks = study_marks(section_study)
    assert marks is not None
    areas = [1 + number % 12 for number in range(len(marks))]
    section = atlas_section(section_study, marks=marks.assign(num_marks=1, calcified_px=areas), num_resamples=10)
    predictions = section_study.networks[0].first.predictions.merge(
        marks.assign(area=areas), on=["image_id", "row", "col"]
    )
    found = predictions.loc[predictions["label"] == 1, "area"]
    for (what, name), row in rates(section).items():
        if what == "calcified area":
            low, *rest = (int(word) for word in re.findall(r"\d+", str(name)))
            within = found < low if "below" in str(name) else found >= low
            assert row[0] == int((within & (found <= rest[0]) if rest else within).sum())


def test_marks_in_negatives_alone_make_no_groups(section_study: Study) -> None:
    marks = study_marks(section_study)
    assert marks is not None
    labels = section_study.networks[0].first.predictions
    negatives = labels.loc[labels["label"] == 0, ["image_id", "row", "col"]].assign(num_marks=1)
    only = marks.drop(columns="num_marks").merge(negatives, how="left").fillna({"num_marks": 0})
    section = atlas_section(section_study, marks=only, num_resamples=10)
    assert not any(what in ("calcified area", "number of marks") for what, _ in rates(section))


def test_every_known_patch_is_in_one_third_of_brightness(section: Section) -> None:
    found = [row for (what, _), row in rates(section).items() if what == "brightness"]
    assert sum(int(str(row[0])) for row in found) == 24
    assert sum(int(str(row[1])) for row in found) == 47


def test_without_regions_area_and_number_are_said_to_be_unknown(section_study: Study) -> None:
    section = atlas_section(section_study, num_resamples=10)
    assert "no regions.csv was found" in html(section)
    assert not any(what == "number of marks" for what, _ in rates(section))


def test_envelopes_alone_tell_no_area(section_study: Study) -> None:
    marks = study_marks(section_study)
    assert marks is not None
    section = atlas_section(section_study, marks=marks.assign(num_marks=0, calcified_px=0), num_resamples=10)
    assert "holds no individual calcifications" in html(section)


def test_a_network_without_errors_has_no_gallery(section_study: Study) -> None:
    network = section_study.networks[0]
    predictions = network.first.predictions
    perfect = predictions.assign(probability=predictions["label"].clip(lower=0).astype(float))
    seed = replace(network.first, predictions=perfect)
    study = replace(section_study, networks=(replace(network, seeds={0: seed}),))
    assert "<figure" not in html(atlas_section(study, num_resamples=10))


def test_without_a_store_the_section_says_so(section_study: Study) -> None:
    assert "store is not there" in html(atlas_section(replace(section_study, store=None)))


def test_names_of_images_are_escaped(section_study: Study) -> None:
    store, network = section_study.store, section_study.networks[0]
    assert store is not None
    named = [frame.assign(image_id=frame["image_id"].replace("P0_L", "<i>")) for frame in (store.patches, store.images)]
    predictions = network.first.predictions
    seed = replace(
        network.first, predictions=predictions.assign(image_id=predictions["image_id"].replace("P0_L", "<i>"))
    )
    study = replace(
        section_study,
        store=replace(store, patches=named[0], images=named[1]),
        networks=(replace(network, seeds={0: seed}),),
    )
    text = html(atlas_section(study, num_resamples=10))
    assert "<i>" not in text
    assert "&lt;i&gt;, row 0, col 0" in text


def decoded(text: str) -> np.ndarray:
    found = re.search(r'"data:image/jpeg;base64,([^"]+)"', text)
    assert found is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))))


def test_a_patch_is_shown_with_all_its_pixels_and_grey_as_stored(section_study: Study) -> None:
    assert section_study.store is not None
    text = Pictures(section_study.store).patch(1, title="patch")
    assert decoded(text).shape == (8, 8)
    assert np.abs(decoded(text).astype(int) - 100).max() <= 2
    assert 'width="224"' in text


def test_findings_are_framed_around_and_not_over(section_study: Study) -> None:
    assert section_study.store is not None
    regions = [
        Region("P0_L", "m", "calcification", "box", ((2, 10), (3, 12))),
        Region("P0_L", "far", "calcification", "point", ((12, 20),)),
    ]
    pictures = Pictures(section_study.store, regions=regions)
    assert pictures.patch(1, title="patch").count("<rect") == 1
    assert '<rect x="-1" y="-1" width="9" height="8"' in pictures.patch(1, title="patch")
    assert "<rect" not in pictures.patch(0, title="patch")


def test_frames_that_would_cross_are_one(section_study: Study) -> None:
    assert section_study.store is not None
    marks = [Region("P0_L", str(col), "calcification", "point", ((4, col),)) for col in (9, 10, 14)]
    frames = Pictures(section_study.store, regions=marks).patch(1, title="patch")
    assert frames.count("<rect") == 1
    assert '<rect x="-2" y="1" width="12" height="7"' in frames


def test_the_place_of_a_patch_is_framed_on_its_mammogram(section_study: Study) -> None:
    assert section_study.store is not None
    text = Pictures(section_study.store).place(5)
    assert 'viewBox="0 0 24 16"' in text
    assert '<rect x="16" y="8" width="8" height="8"' in text
    picture = decoded(text)
    assert picture.shape == (16, 24)
    assert np.abs(picture[:, 2].astype(int) - 60).max() <= 6
