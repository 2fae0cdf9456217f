"""The CDD-CESM importer, on small made-up folders and on the real annotation files."""

import csv
import io
import json
import struct
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from mmgkeras.errors import InputError
from mmgkeras.patches.region_masks import region_mask
from mmgkeras.schema import ImageRecord, Region
from mmgkeras.sources.cdd_cesm import read_cdd_cesm
from mmgkeras.sources.data_set import ImportReport, import_data_set
from mmgkeras.tables import read_images, read_regions

WORKBOOK = "Radiology manual annotations.xlsx"
OUTLINES = "Radiology_hand_drawn_segmentations_v2.csv"
BOXES = "ImageName,Source,Type,xmin,ymin,xmax,ymax,pixx,pixy,set\n"
CIRCLE = {"name": "circle", "cx": 30, "cy": 20, "r": 5}


def import_cdd_cesm(source: Path, out: Path, *, boxes: Path | None = None, overwrite: bool = False) -> ImportReport:
    return import_data_set("CDD-CESM", partial(read_cdd_cesm, boxes=boxes), source, out, overwrite=overwrite)


def listed(name: str, *, tags: str = "microcalcifications", findings: str = "", **others: str) -> dict[str, str]:
    """A row of both sheets."""
    return {
        "Image_name": name,
        "Age": "46",
        "Breast density (ACR)": "C",
        "BIRADS": "3$2",
        "Findings": findings,
        "Tags": tags,
        "Machine": "1",
        "Pathology Classification/ Follow up": "Malignant",
        **others,
    }


def normal(name: str) -> dict[str, str]:
    return listed(name, tags="normal", **{"Pathology Classification/ Follow up": "Normal", "BIRADS": "1"})


Rows = Sequence[Mapping[str, str]]
Shapes = Sequence[tuple[str, Mapping[str, Any] | str]]


def database(folder: Path, rows: Rows, *, calcified: Sequence[str] = (), shapes: Shapes = ()) -> Path:
    """The two annotation files, and an image of 40 rows and 60 columns for each low-energy row."""
    (folder / "images").mkdir(parents=True)
    with pd.ExcelWriter(folder / WORKBOOK, engine="openpyxl") as workbook:
        pd.DataFrame(list(rows)).to_excel(workbook, sheet_name="all", index=False)
        in_sheet = [row for row in rows if row["Image_name"].strip() in calcified]
        pd.DataFrame(in_sheet or [listed("P9_R_DM_CC")]).to_excel(workbook, sheet_name="calcifications", index=False)
    with (folder / OUTLINES).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["#filename", "file_size", "region_id", "region_shape_attributes"])
        for name, shape in shapes:
            writer.writerow([f"{name}.jpg", "", "0", shape if isinstance(shape, str) else json.dumps(shape)])
    for name in {row["Image_name"].strip() for row in [*rows, *([] if calcified else [listed("P9_R_DM_CC")])]}:
        if "_DM_" in name:
            Image.new("L", (60, 40), 100).save(folder / "images" / f"{name}.jpg")
    return folder


class TestMadeUp:
    def imported(
        self,
        tmp_path: Path,
        rows: Rows,
        *,
        calcified: Sequence[str] = (),
        shapes: Shapes = (),
        boxes: str | None = None,
    ) -> tuple[ImportReport, dict[str, ImageRecord], list[Region]]:
        source = database(tmp_path / "source", rows, calcified=calcified, shapes=shapes)
        file = None
        if boxes is not None:
            file = tmp_path / "boxes.csv"
            file.write_text(BOXES + boxes)
        report = import_cdd_cesm(source, tmp_path / "out", boxes=file)
        records = {record.image_id: record for record in read_images(tmp_path / "out" / "images.csv")}
        return report, records, read_regions(tmp_path / "out" / "regions.csv")

    def test_record_is_of_the_name_and_the_row(self, tmp_path: Path) -> None:
        _, records, _ = self.imported(tmp_path, [listed("P4_L_DM_MLO ")], calcified=["P4_L_DM_MLO"])
        assert records["P4_L_DM_MLO"] == ImageRecord(
            image_id="P4_L_DM_MLO",
            path="../source/images/P4_L_DM_MLO.jpg",
            patient_id="P4",
            laterality="L",
            view="MLO",
            annotation="none",
            spacing_mm=0.1,
            density="C",
            birads="3$2",
            age=46.0,
            pathology="Malignant",
        )

    @pytest.mark.parametrize(
        ("shape", "expected", "points"),
        [
            (CIRCLE, "circle", ((20.0, 30.0), (5.0, 5.0))),
            ({"name": "ellipse", "cx": 30, "cy": 20, "rx": 6, "ry": 4}, "ellipse", ((20.0, 30.0), (4.0, 6.0))),
            ({"name": "point", "cx": 3, "cy": 7}, "point", ((7.0, 3.0),)),
            ({"name": "rect", "x": 3, "y": 7, "width": 10, "height": 5}, "box", ((7.0, 3.0), (12.0, 13.0))),
            *(
                (
                    {"name": name, "all_points_x": [1, 5, 5], "all_points_y": [2, 2, 9]},
                    "polygon",
                    ((2, 1), (2, 5), (9, 5)),
                )
                for name in ("polygon", "polyline")
            ),
        ],
    )
    def test_outline_becomes_a_cluster_in_rows_and_columns(
        self, tmp_path: Path, shape: dict[str, Any], expected: Any, points: Any
    ) -> None:
        name = "P1_L_DM_CC"
        report, records, regions = self.imported(tmp_path, [listed(name)], calcified=[name], shapes=[(name, shape)])
        assert regions == [Region(name, "r1", "cluster", expected, points)]
        assert records[name].annotation == "partial"
        assert report.skipped == []

    @pytest.mark.parametrize(
        "row",
        [
            listed("P1_L_DM_CC", tags="mass, microcalcifications"),
            listed("P1_L_DM_CC", findings="Benign mas$Macrocalcification"),
            listed("P1_L_DM_CC", findings="Two nodules"),
            listed("P1_L_DM_CC", findings="Architectural distortion"),
            listed("P1_L_DM_CC", tags="Edema, clusters, microcalcifications"),
            listed("P1_L_DM_CC", tags="postoperative", findings="Scar$Benign macrocalcifications"),
        ],
    )
    def test_outline_that_may_be_something_else_is_other(self, tmp_path: Path, row: dict[str, str]) -> None:
        name = row["Image_name"]
        _, records, regions = self.imported(tmp_path, [row], calcified=[name], shapes=[(name, CIRCLE)])
        assert [region.kind for region in regions] == ["other"]
        assert records[name].annotation == "none"

    def test_outline_on_an_image_outside_the_sheet_is_other(self, tmp_path: Path) -> None:
        _, _, regions = self.imported(tmp_path, [listed("P1_L_DM_CC")], shapes=[("P1_L_DM_CC", CIRCLE)])
        assert [region.kind for region in regions] == ["other"]

    def test_only_images_without_outline_and_row_in_the_sheet_are_called_normal(self, tmp_path: Path) -> None:
        names = ["P1_L_DM_CC", "P2_L_DM_CC", "P3_L_DM_CC"]
        rows = [*map(normal, names), {**normal("P4_L_DM_CC"), "Tags": "postoperative"}]
        shapes = [(names[1], CIRCLE)]
        _, records, _ = self.imported(tmp_path, rows, calcified=names[2:], shapes=shapes)
        assert [record.is_called_normal for record in records.values()] == [True, False, False, False]
        assert records["P4_L_DM_CC"].pathology == "Normal, but marked or tagged: postoperative"

    def test_subtracted_images_and_their_outlines_are_passed_over_and_counted(self, tmp_path: Path) -> None:
        rows, shapes = [normal("P1_L_DM_CC"), normal("P1_L_CM_CC")], [("P1_L_CM_CC", CIRCLE)]
        report, records, regions = self.imported(tmp_path, rows, calcified=["P1_L_DM_CC"], shapes=shapes)
        assert (list(records), regions, report.skipped) == (["P1_L_DM_CC"], [], [])
        assert "rows of sheet 'all' of subtracted images, passed over: 1" in report.notes
        assert "1 outlines are on subtracted images and passed over" in report.notes

    @pytest.mark.parametrize(
        ("shape", "num_pixels"),
        [
            ({"name": "rect", "x": 55, "y": 35, "width": 20, "height": 20}, 25),
            ({"name": "rect", "x": -9, "y": -9, "width": 10, "height": 10}, 4),
            ({"name": "polygon", "all_points_x": [-5, 2, 2, -5], "all_points_y": [3, 3, 5, 5]}, 9),
            ({"name": "circle", "cx": -1, "cy": 10, "r": 2}, 4),
        ],
    )
    def test_outline_beyond_the_image_is_cut_at_its_edge_with_a_remark(
        self, tmp_path: Path, shape: dict[str, Any], num_pixels: int
    ) -> None:
        name = "P1_L_DM_CC"
        report, _, (region,) = self.imported(tmp_path, [listed(name)], calcified=[name], shapes=[(name, shape)])
        assert region_mask(region, height=40, width=60).mask.sum() == num_pixels
        assert report.skipped == []
        assert [note for note in report.notes if f"{OUTLINES}:2: image {name}, region r1: reaches beyond" in note]

    @pytest.mark.parametrize(
        ("shape", "expected"),
        [
            ({"name": "circle", "cx": 90, "cy": 20, "r": 5}, "must overlap the image of 40 rows and 60 columns"),
            ({"name": "circle", "cx": 30, "cy": 20, "r": 0}, "semi-axes must be above 0"),
            ({"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]}, "must have 3 or more points"),
            ({"name": "polyline", "all_points_x": [], "all_points_y": []}, "must have 3 or more points"),
            ({"name": "circle", "cx": 10**400, "cy": 20, "r": 3}, "a shape must be one of"),
            ({"name": "circle", "cx": 1e300, "cy": 20, "r": 3}, "numbers must not be beyond 1,000,000,000"),
            ({"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1, 2]}, "must have as many x as y"),
            ({"name": "ellipse", "cx": 30, "cy": 20, "rx": 6, "ry": 4, "theta": 1}, "must not be turned"),
            ({"name": "star", "cx": 30}, "a shape must be one of polygon, polyline, ellipse"),
            ({"name": "circle", "cx": 30, "cy": 20}, "a shape must be one of"),
            ({"name": "circle", "cx": float("nan"), "cy": 20, "r": 3}, "a shape must have finite numbers"),
            ("{", "a shape must be one of"),
            ("[]", "a shape must be one of"),
        ],
    )
    def test_outline_at_fault_is_listed_with_its_line(self, tmp_path: Path, shape: Any, expected: str) -> None:
        name = "P1_L_DM_CC"
        shapes = [(name, CIRCLE), (name, shape)]
        report, _, regions = self.imported(tmp_path, [listed(name)], calcified=[name], shapes=shapes)
        (line,) = report.skipped
        assert f"{OUTLINES}:3: " in line
        assert expected in line
        assert len(regions) == 1

    def test_image_with_an_outline_or_box_at_fault_is_not_called_normal(self, tmp_path: Path) -> None:
        names = ["P1_L_DM_CC", "P2_L_DM_CC", "P3_L_DM_CC"]
        boxes = f"{names[1]},CESM,Calcification,x,2,3,4,60,40,a\n"
        report, records, regions = self.imported(
            tmp_path, list(map(normal, names)), calcified=names[2:], shapes=[(names[0], "{")], boxes=boxes
        )
        assert len(report.skipped) == 2
        assert regions == []
        assert not any(record.is_called_normal for record in records.values())

    def test_boxes_replace_the_outlines(self, tmp_path: Path) -> None:
        name = "P1_L_DM_CC"
        boxes = (
            f"{name},CESM,Calcification,10.5,5,20,15,60,40,train\n{name},CESM,Mass,1,1,9,9,60,40,test\n"
            f"{name},CESM,Calcification,50,5,70,9,60,40,train\n{name},CESM,Calcification,1,1,5,5,600,400,train\n"
            f"{name},CESM,Calcification,x,5,70,9,60,40,train\n"
        )
        rows = [listed(name, tags="mass, microcalcifications")]
        report, records, regions = self.imported(tmp_path, rows, calcified=[name], shapes=[(name, CIRCLE)], boxes=boxes)
        assert regions[0] == Region(name, "r1", "cluster", "box", ((5.0, 10.5), (15.0, 20.0)))
        assert region_mask(regions[1], height=40, width=60).mask.shape == (5, 10)
        assert len(regions) == 2
        assert records[name].annotation == "partial"
        assert [line.split("boxes.csv")[1][:3] for line in report.skipped] == [":6:", ":5:"]
        assert "must be of (600, 400) columns and rows. Received: (60, 40)" in report.skipped[1]

    def test_images_and_rows_without_each_other_are_listed(self, tmp_path: Path) -> None:
        rows = [listed("P1_L_DM_CC"), listed("P2_L_DM_CC"), listed("P2_L_DM_CC"), listed("portrait")]
        source = database(tmp_path / "source", rows, calcified=["P1_L_DM_CC"], shapes=[("P7_L_DM_CC", CIRCLE)])
        (source / "images" / "P2_L_DM_CC.jpg").rename(source / "images" / "P8_L_DM_CC.jpg")
        report = import_cdd_cesm(source, tmp_path / "out")
        assert report.num_images == 1
        for expected in (
            "sheet 'all', row 4: P2_L_DM_CC must appear once",
            "sheet 'all', row 5: an image must have a name such as P1_L_DM_MLO. Received: 'portrait'",
            "P2_L_DM_CC is listed, but there is no such image",
            "P7_L_DM_CC is outlined, but not listed",
            f"P8_L_DM_CC.jpg: has no row in {WORKBOOK}",
        ):
            assert [line for line in report.skipped if expected in line], expected
        assert len(report.skipped) == 5

    def test_two_images_of_one_name_are_not_used(self, tmp_path: Path) -> None:
        names = ["P1_L_DM_CC", "P2_L_DM_CC"]
        source = database(tmp_path / "source", list(map(listed, names)), calcified=names)
        Image.new("L", (60, 40)).save(source / f"{names[0]}.jpg")
        report = import_cdd_cesm(source, tmp_path / "out")
        assert report.num_images == 1
        assert [line for line in report.skipped if "P1_L_DM_CC must be there once" in line]

    def test_damaged_image_is_listed(self, tmp_path: Path) -> None:
        names = ["P1_L_DM_CC", "P2_L_DM_CC"]
        shapes = [(name, CIRCLE) for name in names]
        source = database(tmp_path / "source", list(map(listed, names)), calcified=names, shapes=shapes)
        (source / "images" / f"{names[0]}.jpg").write_bytes(b"")
        report = import_cdd_cesm(source, tmp_path / "out")
        assert (report.num_images, report.num_regions) == (1, 1)
        assert f"{names[0]}.jpg: is empty" in report.skipped[0]

    def test_tables_are_not_overwritten_unasked(self, tmp_path: Path) -> None:
        self.imported(tmp_path, [listed("P1_L_DM_CC")])
        with pytest.raises(InputError, match=r"images\.csv: already exists"):
            import_cdd_cesm(tmp_path / "source", tmp_path / "out")
        assert import_cdd_cesm(tmp_path / "source", tmp_path / "out", overwrite=True).num_images == 2


class TestRefused:
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        return database(tmp_path / "source", [listed("P1_L_DM_CC")], calcified=["P1_L_DM_CC"])

    @pytest.mark.parametrize("name", [WORKBOOK, OUTLINES])
    def test_folder_without_an_annotation_file(self, source: Path, name: str) -> None:
        (source / name).unlink()
        with pytest.raises(InputError, match=r"must hold one file Radiology\*.*Received: none"):
            import_cdd_cesm(source, source.with_name("out"))
        assert not source.with_name("out").exists()

    def test_folder_without_images(self, source: Path) -> None:
        (source / "images" / "P1_L_DM_CC.jpg").unlink()
        with pytest.raises(InputError, match=r"must hold images such as P1_L_DM_MLO\.jpg"):
            import_cdd_cesm(source, source.with_name("out"))

    @pytest.mark.parametrize("data", [b"", b"PK\3\4 cut short", b"text"])
    def test_workbook_that_is_none(self, source: Path, data: bytes) -> None:
        (source / WORKBOOK).write_bytes(data)
        with pytest.raises(InputError, match="sheet 'all' cannot be read"):
            import_cdd_cesm(source, source.with_name("out"))

    @pytest.mark.parametrize(
        ("frames", "message"),
        [
            ({"all": [listed("P1_L_DM_CC")]}, "sheet 'calcifications' cannot be read"),
            ({"all": [{"Image_name": "P1_L_DM_CC"}]}, "sheet 'all': must have the columns Age, BIRADS"),
            ({"all": [listed("P1_L_CM_CC")]}, "sheet 'all' must list low-energy images"),
        ],
    )
    def test_workbook_without_a_sheet_a_column_or_a_row(
        self, source: Path, frames: Mapping[str, Rows], message: str
    ) -> None:
        with pd.ExcelWriter(source / WORKBOOK, engine="openpyxl") as workbook:
            for sheet, rows in frames.items():
                pd.DataFrame(list(rows)).to_excel(workbook, sheet_name=sheet, index=False)
        with pytest.raises(InputError, match=message):
            import_cdd_cesm(source, source.with_name("out"))


@pytest.fixture(scope="module")
def real_files(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real annotation files, and for each low-energy image the header of a JPEG of its size.

    The sizes of 422 are known from the boxes; the others get the largest.
    """
    folder = tmp_path_factory.mktemp("cdd-cesm")
    for path in (shared_data / "cdd-cesm").glob("Radiology*"):
        (folder / path.name).symlink_to(path)
    with (shared_data / "detector-boxes" / "boxes.csv").open() as file:
        sizes = {row["ImageName"]: (int(row["pixy"]), int(row["pixx"])) for row in csv.DictReader(file)}
    buffer = io.BytesIO()
    Image.new("L", (8, 8), 100).save(buffer, "JPEG")
    image = buffer.getvalue()
    place = image.index(b"\xff\xc0") + 5  # height and width in the frame header
    listed_images = pd.read_csv(shared_data / "cdd-cesm" / "Radiology-manual-annotations.csv")["Image_name"]
    for name in listed_images.str.strip():
        if "_DM_" in name:
            size = struct.pack(">HH", *sizes.get(name, (4036, 2522)))
            (folder / f"{name}.jpg").write_bytes(image[:place] + size + image[place + 4 :])
    return folder


class TestRealFiles:
    def test_every_row_is_taken_or_passed_over_for_a_reason(self, real_files: Path, tmp_path: Path) -> None:
        report = import_cdd_cesm(real_files, tmp_path)
        assert report.skipped == []
        assert report.num_images == 1003
        assert report.num_regions + 1174 == 2971
        assert "1,174 outlines are on subtracted images and passed over" in report.notes
        assert "rows of sheet 'all' of subtracted images, passed over: 1,003" in report.notes
        counts = {count.what: count.here for count in report.counts}
        assert counts["low-energy images"] == "1,003 images of 326 patients"
        assert counts["sheet 'calcifications'"] == "240 images of 106 patients"
        records = read_images(tmp_path / "images.csv")
        regions = read_regions(tmp_path / "regions.csv")
        partial = {record.image_id for record in records if record.annotation == "partial"}
        assert partial == {region.image_id for region in regions if region.kind == "cluster"}
        assert len(partial) == 110
        assert sum(region.kind == "cluster" for region in regions) == 334
        assert sum(record.is_called_normal for record in records) == 322
        assert sum("reaches beyond the image" in note for note in report.notes) == 26

    def test_boxes(self, real_files: Path, shared_data: Path, tmp_path: Path) -> None:
        report = import_cdd_cesm(real_files, tmp_path, boxes=shared_data / "detector-boxes" / "boxes.csv")
        assert (report.num_images, report.num_regions, report.skipped) == (1003, 496, [])
        regions = read_regions(tmp_path / "regions.csv")
        assert len({region.image_id for region in regions}) == 157
        assert {region.kind for region in regions} == {"cluster"}
