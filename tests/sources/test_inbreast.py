"""The INbreast importer, on small made-up folders in the real layout."""

import plistlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmgkeras.errors import InputError
from mmgkeras.schema import ImageRecord, Region
from mmgkeras.sources.data_set import ImportReport, import_data_set
from mmgkeras.sources.inbreast import read_inbreast
from mmgkeras.tables import read_images, read_regions
from tests.images.dicom_files import file_of, mammogram

HEADER = "Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads"
ROI = {"Area": 0.0, "Center": "(0.0, 0.0, 0.0)", "Dev": 0.0, "IndexInImage": 0, "Type": 19}


def region(name: str, *points: tuple[float, float], **changes: Any) -> dict[str, Any]:
    """A region as OsiriX writes it; points are (x, y)."""
    texts = [f"({x:f}, {y:f})" for x, y in points]
    return {**ROI, "Name": name, "NumberOfPoints": len(points), "Point_px": texts, "Point_mm": [], **changes}


def put(source: Path, name: str, *regions: dict[str, Any]) -> None:
    """An image of 90 rows and 60 columns and, if it has regions, its XML file."""
    rows, cols = np.ogrid[:90, :60]
    stored = np.where((rows - 45) ** 2 + cols**2 < 38**2, 2000 + rows + cols, 0)
    for folder in ("AllDICOMs", "AllXML"):
        (source / folder).mkdir(parents=True, exist_ok=True)
    data = file_of(mammogram(stored, ImagerPixelSpacing=[0.07, 0.07], Manufacturer="SIEMENS", PatientID="removed"))
    (source / "AllDICOMs" / f"{name}.dcm").write_bytes(data)
    if regions:
        values = {"Images": [{"ImageIndex": 0, "NumberOfROIs": len(regions), "ROIs": list(regions)}]}
        (source / "AllXML" / f"{name.partition('_')[0]}.xml").write_bytes(plistlib.dumps(values))


def table(source: Path, *rows: str) -> None:
    (source / "INbreast.csv").write_text("\n".join([HEADER, *rows]) + "\n")


def imported(source: Path, out: Path) -> tuple[ImportReport, dict[str, ImageRecord], list[Region]]:
    report = import_data_set("INbreast", read_inbreast, source, out)
    return report, {one.image_id: one for one in read_images(out / "images.csv")}, read_regions(out / "regions.csv")


NAME = "20586908_6c613a14b80a8591_MG_R_ML_ANON"
ROW = "removed;removed;R;MLO;201001;20586908;3;4a"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An image with a mark, an outlined mark, a cluster and a mass, and one without any finding."""
    source = tmp_path / "source"
    put(
        source,
        NAME,
        region("Calcification", (10.5, 20.25)),
        region("Calcification", (10, 30), (13, 30), (12, 33), (10, 33)),
        region("Cluster", (20, 40), (30, 40), (30, 50)),
        region("Spiculated Region", (5, 60), (15, 60), (15, 70)),
    )
    put(source, "20586934_6c613a14b80a8591_MG_L_CC_ANON")
    table(source, ROW, "removed;removed;L;CC;201001;20586934;3;1")
    return source


def test_regions_are_in_rows_and_columns_and_of_their_kind(source: Path, tmp_path: Path) -> None:
    report, _, regions = imported(source, tmp_path / "out")
    assert regions == [
        Region("20586908", "r1", "calcification", "point", ((20.25, 10.5),)),
        Region("20586908", "r2", "calcification", "polygon", ((30, 10), (30, 13), (33, 12), (33, 10))),
        Region("20586908", "r3", "cluster", "polygon", ((40, 20), (40, 30), (50, 30))),
        Region("20586908", "r4", "other", "polygon", ((60, 5), (60, 15), (70, 15))),
    ]
    assert report.skipped == []


def test_record_is_of_the_name_the_table_and_the_header(source: Path, tmp_path: Path) -> None:
    _, records, _ = imported(source, tmp_path / "out")
    assert records["20586908"] == ImageRecord(
        image_id="20586908",
        path=f"../source/AllDICOMs/{NAME}.dcm",
        patient_id="6c613a14b80a8591",
        laterality="R",
        view="MLO",
        annotation="complete",
        spacing_mm=0.07,
        density="C",
        birads="4a",
        vendor="SIEMENS",
    )
    assert records["20586934"].is_called_normal
    assert records["20586934"].annotation == "complete"


def test_the_one_image_of_another_view_is_taken(source: Path, tmp_path: Path) -> None:
    put(source, "50994300_cc9e66c5b31baab8_MG_R_FB_ANON")
    with (source / "INbreast.csv").open("a") as file:
        file.write("removed;removed;R;FB;200901;50994300;3;1\n")
    report, records, _ = imported(source, tmp_path / "out")
    assert report.skipped == []
    assert (records["50994300"].view, records["50994300"].patient_id) == ("other", "cc9e66c5b31baab8")


def test_only_birads_1_without_a_region_is_called_normal(source: Path, tmp_path: Path) -> None:
    table(source, ROW.replace("4a", "1"), "removed;removed;L;CC;201001;20586934;3;2")
    _, records, _ = imported(source, tmp_path / "out")
    assert not any(record.is_called_normal for record in records.values())


def test_folder_without_xml_files_is_refused(source: Path, tmp_path: Path) -> None:
    (source / "AllXML" / "20586908.xml").rename(source / "AllXML" / "20586908_muscle.xml")
    with pytest.raises(InputError, match=r"must hold the XML files of the regions, such as AllXML/.*Received: none"):
        imported(source, tmp_path / "out")


def test_outlines_of_muscles_are_passed_over_with_a_note(source: Path, tmp_path: Path) -> None:
    folder = source / "PectoralMuscle" / "Pectoral Muscle XML"
    folder.mkdir(parents=True)
    (folder / "20586908_muscle.xml").write_bytes(plistlib.dumps({"ROIPoints": ["{20, 0}", "{0, 20}"]}))
    report, records, regions = imported(source, tmp_path / "out")
    assert (report.skipped, records["20586908"].annotation, len(regions)) == ([], "complete", 4)
    assert "outlines of pectoral muscles, *_muscle.xml, passed over: 1" in report.notes


def test_image_of_another_birads_than_1_without_its_xml_file_is_not_annotated(source: Path, tmp_path: Path) -> None:
    table(source, ROW, "removed;removed;L;CC;201001;20586934;3;2")
    report, records, _ = imported(source, tmp_path / "out")
    (line,) = report.skipped
    assert line.endswith("_ANON.dcm: must have its regions in 20586934.xml, or BI-RADS 1. Received: BI-RADS '2'")
    assert [record.annotation for record in records.values()] == ["complete", "none"]


def test_two_xml_files_of_one_image_are_not_used(source: Path, tmp_path: Path) -> None:
    (source / "old").mkdir()
    shutil.copy(source / "AllXML" / "20586908.xml", source / "old")
    report, records, regions = imported(source, tmp_path / "out")
    (line,) = report.skipped
    assert f"old/20586908.xml: 20586908.xml must be there once. Received: {source / 'AllXML'}" in line
    assert (records["20586908"].annotation, regions) == ("partial", [])


def test_two_points_are_a_box_and_a_region_beyond_the_image_is_cut(source: Path, tmp_path: Path) -> None:
    put(source, NAME, region("Calcification", (3, 5), (4, 7)), region("Cluster", (50, 80), (70, 80), (70, 95)))
    report, _, regions = imported(source, tmp_path / "out")
    assert regions[0] == Region("20586908", "r1", "calcification", "box", ((5, 3), (7, 4)))
    (note,) = (note for note in report.notes if "reaches beyond" in note)
    assert "20586908.xml: ROI 2: image 20586908, region r2: reaches beyond the image" in note


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (region("Mass", (100, 20), (120, 20), (110, 30)), "must overlap the image of 90 rows and 60 columns"),
        (region("Mass", (1, 2), NumberOfPoints=2), "must have as many points (x, y) as NumberOfPoints says"),
        (region("Mass"), "must have as many points (x, y) as NumberOfPoints says"),
        ({**region("Mass", (1, 2)), "Point_px": ["1 2"]}, "must have as many points (x, y) as NumberOfPoints says"),
        ({"Name": "Mass"}, "must have Name, NumberOfPoints and Point_px"),
        ("Mass", "must have Name, NumberOfPoints and Point_px"),
    ],
)
def test_region_at_fault_is_listed_and_annotation_is_not_complete(
    source: Path, tmp_path: Path, wrong: dict[str, Any], expected: str
) -> None:
    put(source, NAME, region("Calcification", (10, 20)), wrong)
    report, records, regions = imported(source, tmp_path / "out")
    (line,) = report.skipped
    assert f"20586908.xml: ROI 2: {expected}" in line or (
        "20586908.xml: ROI 2: image 20586908" in line and expected in line
    )
    assert len(regions) == 1
    assert records["20586908"].annotation == "partial"


@pytest.mark.parametrize("data", [b"", b"<plist>", b"<?xml version='1.0'?><plist><dict/></plist>", b"<!DOCTYPE x>"])
def test_xml_file_that_is_none_is_listed(source: Path, tmp_path: Path, data: bytes) -> None:
    (source / "AllXML" / "20586908.xml").write_bytes(data)
    report, records, _ = imported(source, tmp_path / "out")
    assert "20586908.xml: is no property list with Images and ROIs" in report.skipped[0]
    assert records["20586908"].annotation == "partial"


def test_what_does_not_belong_together_is_listed_and_remarks_are_passed_over(source: Path, tmp_path: Path) -> None:
    table(source, ROW, ROW, "removed;removed;L;CC;201001;777;3;1", ";;;;;;;", "a remark at the end;;;;;;;", "too;short")
    shutil.copy(source / "AllXML" / "20586908.xml", source / "AllXML" / "55.xml")
    report, records, _ = imported(source, tmp_path / "out")
    assert list(records) == ["20586908"]
    expected = [
        "INbreast.csv:7: a row must have 8 fields, as the header has. Received: 2",
        "INbreast.csv:3: 20586908 must appear once",
        "AllXML/55.xml: belongs to no image",
        "INbreast.csv:4: there is no image 777",
        "AllDICOMs/20586934_6c613a14b80a8591_MG_L_CC_ANON.dcm: has no row in INbreast.csv",
    ]
    assert [line.removeprefix(f"{source}/") for line in report.skipped] == expected
    assert [note for note in report.notes if "1 lines of remarks" in note]


def test_excel_table_of_1997_is_read(source: Path, tmp_path: Path) -> None:
    (source / "INbreast.csv").unlink()
    shutil.copy(Path(__file__).parents[1] / "data" / "inbreast.xls", source / "INbreast.xls")
    report, records, _ = imported(source, tmp_path / "out")
    assert [(record.birads, record.density) for record in records.values()] == [("4a", "C"), ("1", "C")]
    assert report.skipped == []


@pytest.mark.parametrize("data", [b"", b"text", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 cut short"])
def test_excel_table_that_is_none_is_one_line(source: Path, tmp_path: Path, data: bytes) -> None:
    (source / "INbreast.csv").unlink()
    (source / "INbreast.xls").write_bytes(data)
    with pytest.raises(InputError, match=r"INbreast\.xls: sheet 0 cannot be read"):
        imported(source, tmp_path / "out")


def test_folder_without_a_table_is_refused(source: Path, tmp_path: Path) -> None:
    (source / "INbreast.csv").unlink()
    with pytest.raises(InputError, match=r"must hold one file INbreast\.csv or INbreast\.xls .*Received: none"):
        imported(source, tmp_path / "out")


def test_layout_of_the_real_files(shared_data: Path, source: Path, tmp_path: Path) -> None:
    """A made-up file in the real layout, byte for byte as OsiriX writes it."""
    shutil.copy(shared_data / "schema-examples" / "inbreast_like.xml", source / "AllXML" / "20586934.xml")
    report, _, regions = imported(source, tmp_path / "out")
    kinds: Sequence[str] = [one.kind for one in regions if one.image_id == "20586934"]
    assert len(kinds) + len(report.skipped) == 3
