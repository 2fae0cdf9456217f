"""One's own files, by a mapping: what is wrong with it, a row or an image is one line."""

from pathlib import Path

import pytest

from mmgkeras.errors import InputError
from mmgkeras.sources.image_mapping import read_mapping

from .mapped import BOXES, CSV, imported, scan


@pytest.fixture
def source(tmp_path: Path) -> Path:
    scan(tmp_path / "source", "P1_left_CC.png")
    scan(tmp_path / "source", "P2_right_MLO.png")
    return tmp_path / "source"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("P9,calc,1,2,3,4,A", "boxes.csv:2: the image must be one of the folder's, and one alone. Received: 'P9'"),
        ("P1_left_CC,lump,1,2,3,4,A", "boxes.csv:2: [kinds] must name the label, or *. Received: 'lump'"),
        ("P1_left_CC,calc,1,2,3,x,A", "boxes.csv:2: ymax must be a number. Received: 'x'"),
        ("P1_left_CC,calc,50,50,60,60,A", "must overlap the image of 40 rows and 30 columns"),
        ("P1_left_CC,calc", "boxes.csv:2: a row must have 7 fields"),
    ],
)
def test_row_at_fault_is_listed(source: Path, tmp_path: Path, row: str, expected: str) -> None:
    report, records, regions = imported(tmp_path, CSV, boxes__csv=f"{BOXES}{row}\n")
    (line,) = report.skipped
    assert expected in line
    assert (len(records), regions) == (2, [])


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('left = "L"\n', "", "laterality must be one of L, R; [words.laterality] may translate it. Received: 'left'"),
        ('"0.07"', '"wide"', "spacing_mm must be a number above 0. Received: 'wide'"),
        ('"{patient}"', '"{person}"', "{person} must be one of file, folder, dicom_patient"),
        ("P\\d+", "P1", "the pattern must be found in its path. Received: 'scans/P2_right_MLO.png'"),
        ('annotation = "partial"', 'annotation = "partial"\nimage_id = "x"', "image_id must be unique. Received: 'x'"),
        ('laterality = "{side}"', 'laterality = ""', "laterality must not be empty"),
    ],
)
def test_image_at_fault_is_listed(source: Path, tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in CSV
    scan(source, "P3_right_CC.png")
    try:
        skipped = imported(tmp_path, CSV.replace(old, new), boxes__csv=BOXES)[0].skipped
    except InputError as error:
        skipped = str(error).splitlines()
    assert [line for line in skipped if expected in line]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("P\t1,51,0.1,normal", "its patient_id must have no control character, and no blank at its ends"),
        ("P1,151,0.1,normal", "its age must be above 0 and at most 150. Received: 151.0"),
        ("P1,51,700,normal", "its spacing_mm must be above 0 and at most 100. Received: 700.0"),
        ("P1,51,0.1,nor\x00mal", "its pathology must have no control character. Received: 'nor\\x00mal'"),
    ],
)
def test_image_that_images_csv_cannot_hold_is_listed(source: Path, tmp_path: Path, row: str, expected: str) -> None:
    mapping = 'table = "t.csv"\ntable_image = "name"\n' + CSV.replace('"0.07"', '"{mm}"')
    mapping = mapping.replace('"{patient}"', '"{who}"\nage = "{age}"\npathology = "{found}"')
    table = f"name,who,age,mm,found\nP1_left_CC,{row}\nP2_right_MLO,P2,52,0.1,\n"
    report, records, _ = imported(tmp_path, mapping, boxes__csv=BOXES, t__csv=table)
    (line,) = report.skipped
    assert line == f"{source}/scans/P1_left_CC.png: {line.partition('.png: ')[2]}"
    assert expected in line
    assert list(records) == ["P2_right_MLO"]


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(f"\ufeff{CSV}", encoding="utf-8")
    assert read_mapping(tmp_path / "m.toml").images == "scans/*.png"


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ("images =", "is not TOML"),
        ("[image]\n", "image.patient_id is missing"),
        (CSV.replace("pattern", "patern"), "patern: no such key; did you mean pattern?"),
        (CSV.replace("label =", "lable ="), "csv.lable: no such key; did you mean label?"),
        (CSV.replace("(?P<patient>", "(?P<folder>"), "pattern: must have no group of a name that stands for the file"),
        (CSV.replace("(?P<patient>", "(?P<patient"), "pattern: must be a regular expression"),
        (CSV.replace('"scans/*.png"', '"/scans/*.png"'), "images: must be a pattern of paths below DIR"),
        (CSV.replace('"scans/*.png"', '"**.png"'), "images: must be a pattern of paths below DIR"),
        (CSV.replace('"boxes.csv"', '"/boxes.csv"'), "annotations: must be a pattern of paths below DIR"),
        (CSV.replace('"boxes.csv"', '"."'), "annotations: must be a pattern of paths below DIR"),
        (CSV.partition("box =")[0], "csv must have one of box, circle and point. Received: none"),
        (f'{CSV}point = ["x", "y"]\n', "csv must have one of box, circle and point. Received: box, point"),
        (CSV.replace('view = "{view}"', 'vew = "{view}"'), "image: must have columns of images.csv: image_id"),
        (CSV.replace('"cluster"', '"calc"'), "kinds.calc"),
        (CSV.replace('format = "csv"\n', ""), "annotations and format must be given together"),
        (CSV.partition("[csv]")[0], "csv is missing: format csv needs the columns"),
        (CSV.replace('"csv"', '"pickle"'), "format"),
        (CSV.replace('["xmin", "ymin", "xmax", "ymax"]', '["xmin"]'), "csv.box"),
    ],
)
def test_mapping_at_fault_is_refused_with_its_key(tmp_path: Path, mapping: str, expected: str) -> None:
    (tmp_path / "mapping.toml").write_text(mapping)
    with pytest.raises(InputError) as caught:
        read_mapping(tmp_path / "mapping.toml")
    assert str(caught.value).startswith(f"{tmp_path / 'mapping.toml'}: ")
    assert expected in str(caught.value)


def test_pattern_without_images_and_annotations_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must hold images none/\*\.png"):
        imported(tmp_path, CSV.replace("scans/*.png", "none/*.png"), boxes__csv=BOXES)
    (source / "boxes.csv").unlink()
    with pytest.raises(InputError, match=r"must hold annotations boxes\.csv\. Received: none"):
        imported(tmp_path, CSV)
