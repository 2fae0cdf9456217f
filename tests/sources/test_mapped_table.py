"""One's own files, by a mapping."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mmgkeras.errors import InputError
from mmgkeras.schema import ImageRecord, Region
from tests.images.dicom_files import file_of, mammogram

from .mapped import BOXES, CSV, imported, scan


@pytest.fixture
def source(tmp_path: Path) -> Path:
    scan(tmp_path / "source", "P1_left_CC.png")
    scan(tmp_path / "source", "P2_right_MLO.png")
    return tmp_path / "source"


def test_paths_and_a_csv_file_of_boxes(source: Path, tmp_path: Path) -> None:
    boxes = BOXES + "P1_left_CC,calc,10.5,5,20,15,A\nscans/P1_left_CC.png,mass,1,2,3,4,A\nP2_right_MLO.png,,,,,,B\n"
    report, records, regions = imported(tmp_path, CSV, boxes__csv=boxes)
    assert regions == [
        Region("P1_left_CC", "r1", "cluster", "box", ((5, 10.5), (15, 20))),
        Region("P1_left_CC", "r2", "other", "box", ((2, 1), (4, 3))),
    ]
    assert records["P1_left_CC"] == ImageRecord(
        image_id="P1_left_CC",
        path="../source/scans/P1_left_CC.png",
        patient_id="P1",
        laterality="L",
        view="CC",
        annotation="partial",
        spacing_mm=0.07,
    )
    assert records["P2_right_MLO"].laterality == "R"
    assert report.skipped == []


def test_a_table_of_images_says_what_paths_do_not(source: Path, tmp_path: Path) -> None:
    mapping = """
        table = "scans.csv"
        table_image = "file name"
        [image]
        image_id = "{folder}-{file}"
        patient_id = "{Patient_ID}"
        laterality = "{side}"
        view = "{projection}"
        annotation = "none"
        pathology = "{finding}"
        age = "{age}"
    """
    table = "file name;Patient ID;side;projection;finding;age\nP1_left_CC;7;L;CC;normal;51\n"
    report, records, regions = imported(tmp_path, mapping, scans__csv=table)
    record = records["scans-P1_left_CC"]
    assert (record.patient_id, record.view, record.age, record.is_called_normal) == ("7", "CC", 51.0, True)
    assert regions == []
    (line,) = report.skipped
    assert line.endswith("P2_right_MLO.png: has no row in scans.csv")


def test_a_second_row_of_an_image_that_says_otherwise_is_listed(source: Path, tmp_path: Path) -> None:
    mapping = 'table = "t.csv"\ntable_image = "name"\n' + CSV.replace('"0.07"', '"0.07"\nage = "{age}"')
    table = "name,age,finding\nP1_left_CC,51,a\nP1_left_CC,51,b\nP2_right_MLO,52,a\nP2_right_MLO.png,53,a\n"
    report, records, _ = imported(tmp_path, mapping, boxes__csv=BOXES, t__csv=table)
    assert [record.age for record in records.values()] == [51, 52]
    (line,) = report.skipped
    assert "t.csv:5: scans/P2_right_MLO.png must have one row, or rows that say the same of it" in line


def test_a_column_called_file_or_folder_is_not_file_and_folder(source: Path, tmp_path: Path) -> None:
    mapping = 'table = "t.csv"\ntable_image = "file"\n' + CSV
    mapping = mapping.replace("[image]", '[image]\nimage_id = "{folder}-{file}"')
    table = "file,folder,dicom_view\nP1_left_CC.png,x,ML\nP2_right_MLO.png,y,ML\n"
    report, records, _ = imported(tmp_path, mapping, boxes__csv=BOXES, t__csv=table)
    assert list(records) == ["scans-P1_left_CC", "scans-P2_right_MLO"]
    assert report.notes == [
        "{folder} is of the image file, not column 'folder' of t.csv: rename it to use it",
        "{file} is of the image file, not column 'file' of t.csv: rename it to use it",
    ]


@pytest.mark.parametrize(
    ("columns", "received"),
    [
        ("name,side", "column 'side' of t.csv and a group of the pattern"),
        ("name,view,my side,my-side", "column 'view' of t.csv and a group of the pattern"),
        ("name,my side,my-side", "column 'my side' of t.csv and column 'my-side' of t.csv"),
    ],
)
def test_a_name_of_two_meanings_is_refused(source: Path, tmp_path: Path, columns: str, received: str) -> None:
    mapping = 'table = "t.csv"\ntable_image = "name"\n' + CSV.replace('"partial"', '"partial"\nvendor = "{my_side}"')
    mapping = mapping if "my" in columns else mapping.replace('vendor = "{my_side}"', "")
    cells = ",L" * columns.count(",")
    table = f"{columns}\nP1_left_CC{cells}\nP2_right_MLO{cells}\n"
    with pytest.raises(InputError, match=f"must have one meaning; rename the other. Received: {received}"):
        imported(tmp_path, mapping, boxes__csv=BOXES, t__csv=table)


def test_a_used_column_that_is_there_twice_is_one_line(source: Path, tmp_path: Path) -> None:
    mapping = 'table = "t.csv"\ntable_image = "name"\n' + CSV.replace('"0.07"', '"0.07"\nage = "{my_age}"')
    table = "name,my age,my age,x,x\nP1_left_CC,51,52,1,2\nP2_right_MLO,51,52,1,2\n"
    with pytest.raises(InputError, match=r"t\.csv: must have each column once\. Received: 'my age' several times$"):
        imported(tmp_path, mapping, boxes__csv=BOXES, t__csv=table)


def test_dicom_headers_say_side_view_and_spacing(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    stored = np.linspace(0, 4095, 600).reshape(30, 20).astype(np.int64)
    data = file_of(mammogram(stored, ImageLaterality="R", ViewPosition="MLO", ImagerPixelSpacing=[0.1, 0.1]))
    (tmp_path / "source" / "x.dcm").write_bytes(data)
    mapping = '[image]\npatient_id = "{dicom_patient}"\nannotation = "none"\n'
    _, records, _ = imported(tmp_path, mapping)
    record = records["x"]
    assert (record.patient_id, record.laterality, record.view, record.spacing_mm) == ("4711", "R", "MLO", 0.1)


def test_what_dicom_headers_say_twice_and_differently_is_noted(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    sides = {"ImageLaterality": "R", "Laterality": "L", "ViewPosition": "MLO"}
    for name, magnification in (("x", 1.1), ("y", 1.2)):
        spacing = {"ImagerPixelSpacing": [0.1, 0.1], "EstimatedRadiographicMagnificationFactor": magnification}
        data = file_of(mammogram(np.arange(1200).reshape(40, 30), **sides, **spacing, PixelSpacing=[0.2, 0.2]))
        (tmp_path / "source" / f"{name}.dcm").write_bytes(data)
    report, _, _ = imported(tmp_path, '[image]\npatient_id = "{dicom_patient}"\nannotation = "none"\n')
    told = [note for note in report.notes if note.startswith(f"{tmp_path / 'source/x.dcm'}: ")]
    assert len(told) == len(report.notes) == 2
    for note, part in zip(told, ("says R, Laterality L: the first", "is 0.09091 mm, uncalibrated"), strict=True):
        assert part in note
        assert note.endswith("; alike of 1 more image")


def test_what_the_mapping_says_against_dicom_headers_is_noted(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    told = {"ImageLaterality": "R", "ViewPosition": "MLO"}
    for name, spacing_mm in (("x", 0.1), ("y", 0.1), ("z", 0.0701)):
        data = file_of(mammogram(np.arange(1200).reshape(40, 30), **told, ImagerPixelSpacing=[spacing_mm, spacing_mm]))
        (tmp_path / "source" / f"{name}.dcm").write_bytes(data)
    mapping = '[image]\npatient_id = "1"\nlaterality = "L"\nview = "MLO"\nspacing_mm = "0.07"\nannotation = "none"\n'
    report, _, _ = imported(tmp_path, mapping)
    assert report.notes == [
        f"{tmp_path}/source/x.dcm: its laterality is L, by its DICOM header R; alike of 2 more images",
        f"{tmp_path}/source/x.dcm: its spacing_mm is 0.07, by its DICOM header 0.1; alike of 1 more image",
    ]


@pytest.mark.parametrize(
    ("columns", "cells", "shape", "points"),
    [
        ('circle = ["x", "y", "r"]', "10,5,2", "circle", ((5, 10), (2, 2))),
        ('point = ["x", "y"]', "10,5,", "point", ((5, 10),)),
    ],
)
def test_circles_and_points_of_a_csv_file(
    source: Path, tmp_path: Path, columns: str, cells: str, shape: str, points: object
) -> None:
    mapping = CSV.replace('box = ["xmin", "ymin", "xmax", "ymax"]', columns).replace(
        'calc = "cluster"', '"*" = "cluster"'
    )
    mapping = mapping.replace('label = "Type"\n', "")
    _, _, (region,) = imported(tmp_path, mapping, boxes__csv=f"ImageName,x,y,r\nP1_left_CC,{cells}\n")
    assert (region.kind, region.shape, region.points) == ("cluster", shape, points)


def test_dicom_files_without_an_ending_are_images(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for name in ("IM0001", "1.2.840.1", "1.2.840.2", "DICOMDIR"):
        data = file_of(mammogram(np.arange(1200).reshape(40, 30), ImageLaterality="R", ViewPosition="MLO"))
        (tmp_path / "source" / name).write_bytes(data)
    scan(tmp_path / "source", "copy.png")
    (tmp_path / "source/scans/copy.png").rename(tmp_path / "source/copy.bak")
    report, records, _ = imported(tmp_path, '[image]\npatient_id = "{dicom_patient}"\nannotation = "none"\n')
    assert sorted(records) == ["1.2.840.1", "1.2.840.2", "IM0001"]
    assert report.skipped == []
    assert f"images by their first bytes and not by their ending, passed over: 1, such as {tmp_path}" in report.notes[0]


def test_endings_in_capitals_are_found(source: Path, tmp_path: Path) -> None:
    (source / "scans/P2_right_MLO.png").rename(source / "scans/P2_right_MLO.PNG")
    (source / "labels").mkdir()
    for name in ("P1_left_CC.txt", "P2_right_MLO.TXT"):
        (source / "labels" / name).write_text("0 0.5 0.5 0.1 0.2\n")
    mapping = CSV.replace('"boxes.csv"', '"labels/*.txt"').replace('"csv"', '"yolo"').replace("calc =", '"0" =')
    _, records, regions = imported(tmp_path, mapping.partition("[csv]")[0])
    assert list(records) == [region.image_id for region in regions] == ["P1_left_CC", "P2_right_MLO"]


def test_yolo_files_beside_the_images(source: Path, tmp_path: Path) -> None:
    (source / "labels").mkdir()
    (source / "labels" / "P1_left_CC.txt").write_text("0 0.5 0.5 0.1 0.2\n")
    (source / "labels" / "P2_right_MLO.txt").write_text("")
    mapping = CSV.replace('"boxes.csv"', '"labels/*.txt"').replace('"csv"', '"yolo"').replace("calc =", '"0" =')
    _, _, (region,) = imported(tmp_path, mapping.partition("[csv]")[0])
    assert region.kind == "cluster"
    assert np.allclose(region.points, ((15.5, 13), (23.5, 16)))


@pytest.mark.parametrize("place", ["labels/classes.txt", "labels/obj.names", "obj.names", "labels/P1/classes.txt"])
@pytest.mark.parametrize("label", ["calc", '"1"'])
def test_the_classes_of_yolo_are_named_by_a_file_beside_or_above_the_labels(
    source: Path, tmp_path: Path, place: str, label: str
) -> None:
    (source / "labels" / "P1").mkdir(parents=True)
    (source / "labels" / "P1" / "P1_left_CC.txt").write_text(
        "1 0.5 0.5 0.1 0.2\n0 0.5 0.5 0.1 0.2\n2 0.5 0.5 0.1 0.2\n"
    )
    (source / place).write_text("mass\ncalc\n\n")
    mapping = CSV.replace('"boxes.csv"', '"labels/**/*.txt"').replace('"csv"', '"yolo"').replace("calc =", f"{label} =")
    report, _, regions = imported(tmp_path, mapping)
    assert [region.kind for region in regions] == ["cluster", "other"]
    (line,) = report.skipped
    assert line.endswith("P1_left_CC.txt:3: [kinds] must name the label, or *. Received: '2'")
    assert f"{source / place}: names the classes of YOLO's files" in report.notes


def test_class_names_that_cannot_be_read_are_one_line(source: Path, tmp_path: Path) -> None:
    (source / "labels").mkdir()
    (source / "labels" / "P1_left_CC.txt").write_text("0 0.5 0.5 0.1 0.2\n")
    (source / "labels" / "classes.txt").write_bytes(b"\xff")
    mapping = CSV.replace('"boxes.csv"', '"labels/*.txt"').replace('"csv"', '"yolo"')
    with pytest.raises(InputError, match=r"classes.txt: cannot be read: is not UTF-8$"):
        imported(tmp_path, mapping)


def test_resource_files_of_macos_are_passed_over(source: Path, tmp_path: Path) -> None:
    (source / "labels").mkdir()
    (source / "labels" / "P1_left_CC.txt").write_text("0 0.5 0.5 0.1 0.2\n")
    for name in ("scans/._P1_left_CC.png", "labels/._P1_left_CC.txt"):
        (source / name).write_bytes(b"\x00\x05\x16\x07\xff")
    mapping = CSV.replace('"boxes.csv"', '"labels/*.txt"').replace('"csv"', '"yolo"').replace("calc =", '"0" =')
    report, records, regions = imported(tmp_path, mapping.partition("[csv]")[0])
    assert (len(records), len(regions), report.skipped) == (2, 1, [])


def test_coco(source: Path, tmp_path: Path) -> None:
    content = {
        "images": [{"id": 1, "file_name": "P2_right_MLO.png"}],
        "categories": [{"id": 1, "name": "calc"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [10, 5, 3, 3]}],
    }
    mapping = CSV.replace('"boxes.csv"', '"c.json"').replace('"csv"', '"coco"').partition("[csv]")[0]
    _, _, (region,) = imported(tmp_path, mapping, c__json=json.dumps(content))
    assert region == Region("P2_right_MLO", "r1", "cluster", "box", ((4.5, 9.5), (7.5, 12.5)))


@pytest.mark.parametrize(
    ("format_", "content"),
    [
        (
            "coco",
            '{{"images": [{{"id": 1, "file_name": "P2_right_MLO.png", "height": {0}, "width": {1}}}], '
            '"categories": [{{"id": 1, "name": "calc"}}], '
            '"annotations": [{{"image_id": 1, "category_id": 1, "bbox": [1, 5, 3, 3]}}]}}',
        ),
        (
            "voc",
            "<annotation><filename>P2_right_MLO.png</filename><size><height>{0}</height><width>{1}</width></size>"
            "<object><name>calc</name><bndbox><xmin>11</xmin><ymin>6</ymin><xmax>13</xmax><ymax>8</ymax></bndbox>"
            "</object></annotation>",
        ),
        (
            "labelme",
            '{{"imagePath": "P2_right_MLO.png", "imageHeight": {0}, "imageWidth": {1}, "shapes": [{{"label": "calc", '
            '"shape_type": "rectangle", "points": [[10, 5], [13, 8]]}}]}}',
        ),
    ],
)
def test_region_drawn_on_an_image_of_another_size_is_listed(
    source: Path, tmp_path: Path, format_: str, content: str
) -> None:
    mapping = CSV.replace('"boxes.csv"', '"a.x"').replace('"csv"', f'"{format_}"').partition("[csv]")[0]
    for height, width, num_taken in ((40, 30, 1), (0, 0, 1), (400, 300, 0), (30, 40, 0)):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        report, _, regions = imported(tmp_path, mapping, a__x=content.format(height, width))
        assert (len(regions), len(report.skipped)) == (num_taken, 1 - num_taken)
    assert report.skipped[0].endswith("1: must be of the image's size, (40, 30) rows and columns. Received: (30, 40)")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("P1_left_CC,calc,1,2,3,4,A\nP2_right_MLO,,,,,,A\nP9,calc,1,2,3,4,A\n", ["complete", "complete"]),
        ("P1_left_CC,lump,1,2,3,4,A\n", ["partial", "complete"]),
        ("P1_left_CC,calc,50,50,60,60,A\n", ["partial", "complete"]),
        ("a/P1_left_CC.png,calc,1,2,3,4,A\nb/P1_left_CC.png,calc,1,2,3,4,A\n", ["partial", "complete"]),
        ("P1_left_CC,calc,1,2,3,x,A\n", ["partial", "complete"]),
        ("P9,calc,1,2,3,x,A\n", ["complete", "complete"]),
        (",calc,1,2,3,x,A\n", ["partial", "partial"]),
        (",calc,1,2,3,4,A\n", ["partial", "partial"]),
        ("P1_left_CC,calc\n", ["partial", "partial"]),
    ],
)
def test_image_of_which_an_annotation_may_be_missing_is_not_complete(
    source: Path, tmp_path: Path, rows: str, expected: list[str]
) -> None:
    mapping = CSV.replace('annotation = "partial"', 'annotation = "complete"')
    report, records, _ = imported(tmp_path, mapping, boxes__csv=BOXES + rows)
    assert [record.annotation for record in records.values()] == expected
    number = expected.count("partial")
    images = "1 image" if number == 1 else f"{number} images"
    note = f"annotation of {images} is partial instead of complete: annotations that may be theirs are listed"
    assert [one for one in report.notes if note in one] == [f"{note} as skipped"] * bool(number)


def test_complete_images_without_a_region_are_noted(source: Path, tmp_path: Path) -> None:
    mapping = CSV.replace('annotation = "partial"', 'annotation = "complete"')
    report, _, _ = imported(tmp_path, mapping, boxes__csv=f"{BOXES}P1_left_CC,calc,1,2,3,4,A\n")
    assert report.notes == ["1 complete images have no region: all their patches are negative"]


@pytest.mark.parametrize("called", ["old/P1_left_CC.png", "/data/P1/P1_left_CC.jpg", "C:\\data\\P1_left_CC.png"])
def test_images_that_moved_into_one_folder_keep_their_regions(source: Path, tmp_path: Path, called: str) -> None:
    report, _, regions = imported(tmp_path, CSV, boxes__csv=f"{BOXES}{called},calc,1,2,3,4,A\n")
    assert ([region.image_id for region in regions], report.skipped) == (["P1_left_CC"], [])


def test_regions_of_two_folders_do_not_end_at_one_image(source: Path, tmp_path: Path) -> None:
    boxes = BOXES + "a/P1_left_CC.png,calc,1,2,3,4,A\nb/P1_left_CC.png,calc,1,2,3,4,A\n"
    report, _, regions = imported(tmp_path, CSV, boxes__csv=boxes)
    assert regions == []
    assert [line.partition(" must be named with one folder. ")[2] for line in report.skipped] == [
        "Received: 'a/P1_left_CC.png' and 'b/P1_left_CC.png'",
        "Received: 'b/P1_left_CC.png' and 'a/P1_left_CC.png'",
    ]
