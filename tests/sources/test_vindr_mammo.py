"""The VinDr-Mammo importer, on small made-up folders in the real layout."""

from pathlib import Path

import numpy as np
import pytest

from mmgkeras.errors import InputError
from mmgkeras.patches.region_masks import region_mask
from mmgkeras.schema import ImageRecord, Region
from mmgkeras.sources.data_set import ImportReport, import_data_set
from mmgkeras.sources.vindr_mammo import read_vindr_mammo
from mmgkeras.tables import read_images, read_regions
from tests.images.dicom_files import file_of, mammogram

HEADER = (
    "study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,breast_density,finding_categories,"
    "finding_birads,xmin,ymin,xmax,ymax,split\n"
)


def row(
    image_id: str, categories: str, box: str = ",,,", *, birads: str = "4", study: str = "s1", size: str = "90,60"
) -> str:
    return f'{study},x,{image_id},L,CC,{size},BI-RADS {birads},DENSITY C,"{categories}",BI-RADS 4,{box},training\n'


def imported(
    tmp_path: Path, *rows: str, images: tuple[str, ...] = ("i1",)
) -> tuple[ImportReport, dict[str, ImageRecord], list[Region]]:
    source, out = tmp_path / "source", tmp_path / "out"
    rows_of, cols = np.ogrid[:90, :60]
    stored = np.where((rows_of - 45) ** 2 + cols**2 < 38**2, 2000 + rows_of + cols, 0)
    for image_id in images:
        (source / "images" / "s1").mkdir(parents=True, exist_ok=True)
        data = file_of(mammogram(stored, ImagerPixelSpacing=[0.085, 0.085], Manufacturer="SIEMENS"))
        (source / "images" / "s1" / f"{image_id}.dicom").write_bytes(data)
    (source / "finding_annotations.csv").write_text(HEADER + "".join(rows))
    report = import_data_set("VinDr-Mammo", read_vindr_mammo, source, out)
    return report, {one.image_id: one for one in read_images(out / "images.csv")}, read_regions(out / "regions.csv")


def test_box_of_calcification_alone_is_a_cluster(tmp_path: Path) -> None:
    report, records, regions = imported(tmp_path, row("i1", "['Suspicious Calcification']", "10.5,20,30,40.25"))
    assert regions == [Region("i1", "r1", "cluster", "box", ((20, 10.5), (40.25, 30)))]
    assert records["i1"] == ImageRecord(
        image_id="i1",
        path="../source/images/s1/i1.dicom",
        patient_id="s1",
        laterality="L",
        view="CC",
        annotation="partial",
        spacing_mm=0.085,
        density="C",
        birads="4",
        vendor="SIEMENS",
    )
    assert report.skipped == []


@pytest.mark.parametrize("categories", ["['Mass']", "['Suspicious Calcification', 'Mass']"])
def test_box_of_anything_else_is_other(tmp_path: Path, categories: str) -> None:
    _, records, regions = imported(tmp_path, row("i1", categories, "10,20,30,40"))
    assert [region.kind for region in regions] == ["other"]
    assert records["i1"].annotation == "none"


def test_several_boxes_of_an_image(tmp_path: Path) -> None:
    rows = [row("i1", "['Mass']", "1,2,3,4"), row("i1", "['Suspicious Calcification']", "5,6,7,8")]
    report, records, regions = imported(tmp_path, *rows)
    assert [(region.region_id, region.kind) for region in regions] == [("r1", "other"), ("r2", "cluster")]
    assert records["i1"].annotation == "partial"
    counts = {count.what: count.here for count in report.counts}
    assert (counts["boxes"], counts["boxes of suspicious calcification"]) == ("2", "1")


@pytest.mark.parametrize(("birads", "is_normal"), [("1", True), ("2", False), ("4", False)])
def test_only_birads_1_without_a_box_is_called_normal(tmp_path: Path, birads: str, is_normal: bool) -> None:
    _, records, _ = imported(tmp_path, row("i1", "['No Finding']", birads=birads))
    assert records["i1"].is_called_normal == is_normal


def test_box_on_a_breast_of_birads_1_is_not_normal(tmp_path: Path) -> None:
    _, records, _ = imported(tmp_path, row("i1", "['Skin Thickening']", "1,2,3,4", birads="1"))
    assert not records["i1"].is_called_normal


def test_box_at_fault_on_a_breast_of_birads_1_is_not_normal(tmp_path: Path) -> None:
    report, records, _ = imported(tmp_path, row("i1", "['Skin Thickening']", "x,2,3,4", birads="1"))
    assert len(report.skipped) == 1
    assert not records["i1"].is_called_normal


def test_box_beyond_the_image_is_cut_at_its_edge_with_a_remark(tmp_path: Path) -> None:
    report, _, (region,) = imported(tmp_path, row("i1", "['Suspicious Calcification']", "-26.84,50,20,131"))
    covered = region_mask(region, height=90, width=60)
    assert covered.mask.shape == (40, 21)
    assert report.skipped == []
    (note,) = (note for note in report.notes if "reaches beyond" in note)
    assert "finding_annotations.csv:2: image i1, region r1" in note


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (row("i1", "['Mass']", "70,20,80,30"), "must overlap the image of 90 rows and 60 columns"),
        (row("i1", "['Mass']", "x,20,80,30"), "xmin must be a number. Received: 'x'"),
        (row("i1", "['Mass']"), "xmin must be a number. Received: ''"),
        (row("i1", "['Mass']", "1,2,3,4", size="900,600"), "the image must have 900 rows and 600 columns"),
        (row("i1", "Mass", "1,2,3,4"), "finding_categories must be a list such as ['Mass']. Received: 'Mass'"),
        (row("i1", "[1]", "1,2,3,4"), "finding_categories must be a list"),
        (row("i1", "[]", "1,2,3,4"), "finding_categories must be a list"),
        ("too,short\n", "a row must have 16 fields"),
    ],
)
def test_row_at_fault_is_listed_with_its_line(tmp_path: Path, wrong: str, expected: str) -> None:
    report, _, regions = imported(tmp_path, row("i1", "['Mass']", "1,2,3,4"), wrong)
    (line,) = report.skipped
    assert "finding_annotations.csv:3: " in line
    assert expected in line
    assert len(regions) == 1


def test_regions_of_an_image_at_fault_are_left_out_with_it(tmp_path: Path) -> None:
    wrong = row("i2", "['Mass']", "1,2,3,4").replace(",L,", ",both,")
    report, records, regions = imported(tmp_path, row("i1", "['Mass']", "1,2,3,4"), wrong, images=("i1", "i2"))
    assert [line.rpartition("/")[2] for line in report.skipped] == [
        "finding_annotations.csv:3: laterality must be one of L, R. Received: 'both'"
    ]
    assert list(records) == [region.image_id for region in regions] == ["i1"]


def test_rows_and_images_without_each_other_are_listed(tmp_path: Path) -> None:
    report, records, _ = imported(
        tmp_path, row("i1", "['No Finding']"), row("i7", "['No Finding']"), images=("i1", "i9")
    )
    assert list(records) == ["i1"]
    assert [line.rpartition("/")[2] for line in report.skipped] == [
        "finding_annotations.csv:3: there is no image i7",
        "i9.dicom: has no row in finding_annotations.csv",
    ]


def test_table_without_a_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "finding_annotations.csv").write_text("image_id,laterality\n")
    with pytest.raises(InputError, match=r"finding_annotations\.csv: must have the columns study_id, view_position"):
        import_data_set("VinDr-Mammo", read_vindr_mammo, tmp_path / "source", tmp_path / "out")


def test_layout_of_the_real_table(shared_data: Path, tmp_path: Path) -> None:
    """A made-up table in the real layout: every row is taken or listed."""
    text = (shared_data / "schema-examples" / "vindr_like_finding_annotations.csv").read_text()
    lines = text.splitlines(keepends=True)
    names = tuple(line.split(",")[2] for line in lines[1:])
    report, records, regions = imported(tmp_path, "".join(lines[1:]), images=names)
    assert len(records) == 4
    assert len(report.skipped) + len(regions) == 3
    assert all("the image must have" in line for line in report.skipped)
