import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from mmgkeras.images.single import SideFrom
from mmgkeras.inference.detection import Mark
from mmgkeras.pacs.cad_report import centre, orientation, outline
from mmgkeras.pacs.dicom_results import build_results

from .readings import reading_of, write_source

CORNERS = {(0, 0): 0.9, (0, 7): 0.8, (9, 0): 0.97, (9, 7): 0.7}


def report_of(path: Path, **options: Any) -> Dataset:
    """The report, as it is read back."""
    report = build_results(reading_of(path, **options), kinds=["sr"])["sr"]
    report.save_as(path.with_name("sr.dcm"), enforce_file_format=True)
    return dcmread(path.with_name("sr.dcm"))


def named(item: Dataset, meaning: str) -> Iterator[Dataset]:
    """The items of that name below an item."""
    for child in item.get("ContentSequence", ()):
        if child.get("ConceptNameCodeSequence") and child.ConceptNameCodeSequence[0].CodeMeaning == meaning:
            yield child
        yield from named(child, meaning)


def value(item: Dataset) -> Any:
    if item.ValueType == "CODE":
        return item.ConceptCodeSequence[0].CodeMeaning
    if item.ValueType == "NUM":
        return float(item.MeasuredValueSequence[0].NumericValue)
    return item.GraphicData if item.ValueType == "SCOORD" else item.TextValue


def values(item: Dataset, meaning: str) -> list[Any]:
    return [value(found) for found in named(item, meaning)]


def test_coordinates_begin_at_the_corner_of_the_first_pixel() -> None:
    mark = Mark(probability=0.9, row=0.0, col=2.0, top=0, left=0, bottom=4, right=8, area_px=32)
    assert centre(mark) == (2.5, 0.5)
    assert outline(mark) == [(0, 0), (8, 0), (8, 4), (0, 4), (0, 0)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source.dcm")


def test_each_mark_is_a_finding_with_its_place_and_certainty(source: Path) -> None:
    reading = reading_of(source, patches={(4, 1): 0.97123, (6, 2): 0.8})
    report = report_of(source, patches={(4, 1): 0.97123, (6, 2): 0.8})
    assert values(report, "CAD Processing and Findings Summary") == ["All algorithms succeeded; with findings"]
    assert values(report, "Single Image Finding") == ["Calcification Cluster"] * 2
    assert values(report, "Certainty of Finding") == [97.12, 80.0]
    assert values(report, "Center") == [list(centre(mark)) for mark in reading.marks]
    flat = [[edge for point in outline(mark) for edge in point] for mark in reading.marks]
    assert values(report, "Outline") == flat
    assert flat[0] == [16, 64, 32, 64, 32, 80, 16, 80, 16, 64]


def test_coordinates_refer_to_the_image_of_the_library_by_its_place_in_the_tree(source: Path) -> None:
    report = report_of(source, patches={(4, 1): 0.97})
    (performed,) = named(report, "Detection Performed")
    places = [*named(report, "Center"), *named(report, "Outline"), performed]
    references = [
        child for item in places for child in item.ContentSequence if "ReferencedContentItemIdentifier" in child
    ]
    assert len(references) == 3
    for reference in references:
        found = report
        for number in list(reference.ReferencedContentItemIdentifier)[1:]:
            found = found.ContentSequence[number - 1]
        assert found.ValueType == "IMAGE"
        assert found.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.4"


def test_model_version_checksums_and_threshold_stand_with_every_finding_and_the_detection(source: Path) -> None:
    report = report_of(source, patches={(4, 1): 0.97, (6, 2): 0.8}, threshold=0.625)
    for item in (*named(report, "Single Image Finding"), *named(report, "Detection Performed")):
        assert values(item, "Algorithm Name") == ["mmgkeras mine"]
        assert values(item, "Algorithm Version")[0].startswith("3 ")
        told = values(item, "Algorithm Parameters")
        assert {"threshold: 0.625", f"model sha256: {'a' * 64}", f"training store sha256: {'b' * 64}"} <= set(told)
        assert any("not for diagnosis" in text for text in told)


def test_an_image_without_marks_says_that_the_detection_succeeded(source: Path) -> None:
    report = report_of(source, patches={})
    assert values(report, "CAD Processing and Findings Summary") == ["All algorithms succeeded; without findings"]
    assert values(report, "Summary of Detections") == ["Succeeded"]
    assert values(report, "Summary of Analyses") == ["Not Attempted"]
    assert values(report, "Single Image Finding") == []


@pytest.mark.parametrize("factor", [0.5, 0.35, 2.0])
@pytest.mark.parametrize("is_right", [False, True])
def test_places_are_in_pixels_of_the_source_after_resampling(tmp_path: Path, factor: float, is_right: bool) -> None:
    path = write_source(tmp_path / "source.dcm", is_right=is_right)
    grid = reading_of(path, patches={}, factor=factor).detection.score_map.grid
    row, col = grid.rows // 2, grid.cols - 1 if is_right else 0
    top, left, bottom, right = grid.boxes()[row, col] / factor
    report = report_of(path, patches={(row, col): 0.9}, factor=factor)
    ((x, y),) = values(report, "Center")
    assert x == pytest.approx((left + right) / 2, abs=1 / factor)
    assert y == pytest.approx((top + bottom) / 2, abs=1 / factor)
    (line,) = values(report, "Outline")
    assert line[:6] == pytest.approx([left, top, right, top, right, bottom], abs=1 / factor)


def test_marks_at_the_edges_end_with_the_image(tmp_path: Path) -> None:
    path = write_source(tmp_path / "source.dcm", shape=(150, 120))
    report = report_of(path, patches=dict.fromkeys(((row, col) for row in range(10) for col in range(8)), 0.9))
    for line in values(report, "Outline"):
        assert min(line) >= 0
        assert max(line[::2]) <= 120
        assert max(line[1::2]) <= 150


class TestImageLibrary:
    def test_it_tells_side_view_orientation_and_date(self, source: Path) -> None:
        report = report_of(source, patches={})
        assert values(report, "Image Laterality") == ["Left breast"]
        assert values(report, "Image View") == ["cranio-caudal"]
        assert values(report, "Patient Orientation Row") + values(report, "Patient Orientation Column") == ["A", "R"]
        assert [item.Date for item in named(report, "Study Date")] == ["20250304"]

    @pytest.mark.parametrize(
        ("side_from", "told"),
        [("the header", 1), ("the option", 1), ("the table", 1), ("the name", 0), ("the pixels", 0)],
    )
    def test_a_side_that_was_estimated_is_not_told(self, source: Path, side_from: SideFrom, told: int) -> None:
        reading = reading_of(source, patches={})
        reading = replace(reading, single=replace(reading.single, side_from=side_from))
        report = build_results(reading, kinds=["sr"])["sr"]
        assert values(report, "Image Laterality") == ["Left breast"] * told

    def test_what_the_header_does_not_tell_is_not_there(self, tmp_path: Path) -> None:
        missing = dict.fromkeys(["ViewCodeSequence", "PatientOrientation", "ImageLaterality"])
        path = write_source(tmp_path / "source.dcm", StudyDate="2025.03.04", ViewPosition="CC", **missing)
        report = report_of(path, patches={})
        (library,) = named(report, "Image Library")
        (image,) = library.ContentSequence
        assert "ContentSequence" not in image


@pytest.mark.parametrize(
    ("told", "taken"),
    [
        (["A", "FR"], ("A", "FR")),
        (["P", "L"], ("P", "L")),
        ("CC", None),
        (["CC", "L"], None),
        (["A"], None),
        (["A", ""], None),
        (["A", "R", "F"], None),
        (None, None),
    ],
)
def test_an_orientation_is_two_directions(told: Any, taken: tuple[str, str] | None) -> None:
    header = Dataset()
    header.PatientOrientation = told
    assert orientation(header) == taken


def test_dsrdump_reads_it(source: Path, program: Callable[[str], str]) -> None:
    reader = program("dsrdump")
    report_of(source, patches=CORNERS | {(4, 1): 0.97})
    printed = subprocess.run([reader, source.with_name("sr.dcm")], capture_output=True, text=True, check=True)
    assert "Mammography CAD SR Document" in printed.stdout
    assert "(POINT," in printed.stdout
    problems = [line for line in printed.stderr.splitlines() if line and "template constraints" not in line]
    assert problems == []
