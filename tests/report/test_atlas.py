import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mmgkeras.evaluation.interval import Interval
from mmgkeras.evaluation.subgroup_metrics import worst_errors
from mmgkeras.report.atlas import atlas_section
from mmgkeras.report.content import Card, Frame, Gallery, Heading, Picture, Section, Table, Text
from mmgkeras.report.pictures import Pictures, window
from mmgkeras.schema import Region
from mmgkeras.study.read import Study, study_marks


@pytest.fixture
def section(section_study: Study) -> Section:
    return atlas_section(section_study, marks=study_marks(section_study), num_resamples=100)


def missing(section: Section) -> str:
    return " ".join(block.text for block in section.body if isinstance(block, Text) and block.kind == "missing")


def galleries(section: Section) -> list[tuple[Card, ...]]:
    return [block.cards for block in section.body if isinstance(block, Gallery)]


def rates(section: Section) -> dict[tuple[object, object], tuple[object, ...]]:
    (table,) = (part for part in section.body if isinstance(part, Table))
    return {row[:2]: row[2:] for row in table.rows}


def estimate(cell: object) -> float:
    assert isinstance(cell, Interval)
    return cell.estimate


def test_missed_and_false_patches_are_shown_with_probability_and_place(section: Section) -> None:
    missed, false = galleries(section)
    assert [card.value for card in missed] == ["0.200"] * 4
    assert missed[0].lines[0] == "P0_L, row 0, col 0"
    assert [card.lines[1].split(", density")[0].split(", ", 1)[1] for card in missed[:2]] == [
        "1 mark, 9 px",
        "2 marks, 2 px",
    ]
    assert [(card.value, card.lines[0]) for card in false] == [("0.800", "P5_R, row 0, col 1")]
    assert [block.text for block in section.body if isinstance(block, Heading)] == [
        "net: missed calcifications",
        "net: false positives",
    ]


def test_worst_errors_come_first(section_study: Study) -> None:
    predictions = section_study.networks[0].first.predictions.copy()
    predictions.loc[predictions.index[predictions["label"] == 1][:3], "probability"] = [0.4, 0.3, 0.1]
    predictions.loc[predictions.index[predictions["label"] == 0][:2], "probability"] = [0.6, 0.99]
    assert worst_errors(predictions, "missed")["probability"].tolist()[:2] == [0.1, 0.2]
    assert worst_errors(predictions, "false positive")["probability"].tolist() == [0.99, 0.8, 0.6]


def test_the_limit_cuts_each_gallery_and_says_so(section_study: Study) -> None:
    section = atlas_section(section_study, limit=2, num_resamples=10)
    assert [len(cards) for cards in galleries(section)] == [2, 1]
    notes = [block.text for block in section.body if isinstance(block, Text) and block.kind == "note"]
    assert notes[0].startswith("2 of 4")


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
    assert "no regions.csv" in missing(section)
    assert not any(what == "number of marks" for what, _ in rates(section))


def test_envelopes_alone_tell_no_area(section_study: Study) -> None:
    marks = study_marks(section_study)
    assert marks is not None
    section = atlas_section(section_study, marks=marks.assign(num_marks=0, calcified_px=0), num_resamples=10)
    assert "no individual calcifications" in missing(section)


def test_a_network_without_errors_has_no_gallery(section_study: Study) -> None:
    network = section_study.networks[0]
    predictions = network.first.predictions
    perfect = predictions.assign(probability=predictions["label"].clip(lower=0).astype(float))
    seed = replace(network.first, predictions=perfect)
    study = replace(section_study, networks=(replace(network, seeds={0: seed}),))
    assert galleries(atlas_section(study, num_resamples=10)) == []


def test_without_a_store_the_section_says_so(section_study: Study) -> None:
    assert "store" in missing(atlas_section(replace(section_study, store=None)))


def decoded(picture: Picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.uri.removeprefix("data:image/jpeg;base64,")))))


def test_a_patch_is_shown_with_all_its_pixels(section_study: Study) -> None:
    assert section_study.store is not None
    picture = Pictures(section_study.store).patch(1, title="patch")
    assert decoded(picture).shape == (picture.height, picture.width) == (8, 8)


def test_a_dark_patch_is_windowed_to_be_seen_and_its_order_of_greys_kept() -> None:
    pixels = np.linspace(4, 36, 64, dtype=np.uint8).reshape(8, 8)
    shown = window(pixels).astype(int)
    assert (shown.min(), shown.max()) == (0, 255)
    assert (np.diff(shown.ravel()) >= 0).all()


@pytest.mark.parametrize("pixel_type", [np.uint8, np.uint16])
def test_noise_alone_is_not_stretched_to_black_and_white(pixel_type: type[np.integer]) -> None:
    step = np.iinfo(pixel_type).max // 255
    pixels = (10 + np.arange(64) % 3).reshape(8, 8).astype(pixel_type) * step
    assert int(window(pixels.astype(pixel_type)).max()) <= 40


def test_findings_are_framed_around_and_not_over(section_study: Study) -> None:
    assert section_study.store is not None
    regions = [
        Region("P0_L", "m", "calcification", "box", ((2, 10), (3, 12))),
        Region("P0_L", "far", "calcification", "point", ((12, 20),)),
    ]
    pictures = Pictures(section_study.store, regions=regions)
    assert pictures.patch(1, title="patch").frames == (Frame(-1, -1, 9, 8, "calcification"),)
    assert pictures.patch(0, title="patch").frames == ()


def test_frames_that_would_cross_are_one(section_study: Study) -> None:
    assert section_study.store is not None
    marks = [Region("P0_L", str(col), "calcification", "point", ((4, col),)) for col in (9, 10, 14)]
    frames = Pictures(section_study.store, regions=marks).patch(1, title="patch").frames
    assert frames == (Frame(-2, 1, 12, 7, "calcification"),)


def test_the_place_of_a_patch_is_framed_on_its_mammogram(section_study: Study) -> None:
    assert section_study.store is not None
    picture = Pictures(section_study.store).place(5)
    assert (picture.width, picture.height) == (24, 16)
    assert picture.frames == (Frame(16, 8, 8, 8, "place"),)
    shown = decoded(picture).astype(int)
    assert shown.shape == (16, 24)
    assert shown[:, 2].mean() < shown[:, 12].mean() - 100
