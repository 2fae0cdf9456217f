"""Which image an annotation is of, and what becomes of it where that cannot be told."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .mapped import imported

FOLDERS = r"""
pattern = '(?P<patient>P\d+)/(?P<side>[LR])_(?P<view>CC|MLO)'
annotations = "ANNOTATIONS"
format = "FORMAT"
[image]
image_id = "{folder}_{file}"
patient_id = "{patient}"
laterality = "{side}"
view = "{view}"
annotation = "partial"
[kinds]
"*" = "cluster"
"""

BOX = {"label": "calc", "shape_type": "rectangle", "points": [[10, 5], [13, 8]]}


def coco_of(*names: str) -> str:
    """A box on each image."""
    return json.dumps(
        {
            "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
            "categories": [{"id": 1, "name": "calc"}],
            "annotations": [
                {"image_id": number, "category_id": 1, "bbox": [10, 5, 3, 3]} for number in range(len(names))
            ],
        }
    )


def patients(tmp_path: Path, *names: str) -> None:
    """Images such as P1/L_CC.png."""
    for name in names:
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.arange(1200, dtype=np.uint8).reshape(40, 30)).save(tmp_path / "source" / name)


@pytest.mark.parametrize("called", [("P1/L_CC.png", "P2/L_CC.png"), ("P2/L_CC.png",)])
def test_region_of_an_image_that_is_not_there_is_not_put_on_another_patients(
    tmp_path: Path, called: tuple[str, ...]
) -> None:
    patients(tmp_path, "P1/L_CC.png")
    mapping = FOLDERS.replace("ANNOTATIONS", "c.json").replace("FORMAT", "coco")
    report, _, regions = imported(tmp_path, mapping, c__json=coco_of(*called))
    assert [region.image_id for region in regions] == ["P1_L_CC"] * (len(called) - 1)
    (line,) = report.skipped
    assert line.endswith("Received: 'P2/L_CC.png'; by its name alone it may be P1/L_CC.png")


@pytest.mark.parametrize("called", ["P2/L_CC.png", "L_CC.png"])
def test_region_of_a_damaged_image_is_not_put_on_another_patients(tmp_path: Path, called: str) -> None:
    patients(tmp_path, "P1/L_CC.png", "P2/L_CC.png")
    (tmp_path / "source" / "P2/L_CC.png").write_bytes(b"\x89PNG cut short")
    mapping = FOLDERS.replace("ANNOTATIONS", "c.json").replace("FORMAT", "coco")
    report, _, regions = imported(tmp_path, mapping, c__json=coco_of(called))
    assert regions == []
    assert len(report.skipped) == 2


@pytest.mark.parametrize(
    ("format_", "ending", "content"),
    [
        ("yolo", "txt", "0 0.5 0.5 0.1 0.2\n"),
        ("labelme", "json", json.dumps({"imagePath": "L_CC.png", "shapes": [BOX]})),
        ("labelme", "json", json.dumps({"imagePath": "..\\P2\\L_CC.png", "shapes": [BOX]})),
        ("coco", "json", coco_of("L_CC.png")),
    ],
)
def test_annotation_file_in_a_patients_folder_is_of_her_images(
    tmp_path: Path, format_: str, ending: str, content: str
) -> None:
    patients(tmp_path, "P1/L_CC.png")
    (tmp_path / "source" / "P2").mkdir()
    (tmp_path / "source" / "P2" / f"L_CC.{ending}").write_text(content)
    mapping = FOLDERS.replace("ANNOTATIONS", f"*/*.{ending}").replace("FORMAT", format_)
    report, _, regions = imported(tmp_path, mapping)
    assert (regions, len(report.skipped)) == ([], 1)
    patients(tmp_path, "P2/L_CC.png")
    shutil.rmtree(tmp_path / "out")
    report, _, regions = imported(tmp_path, mapping)
    assert ([region.image_id for region in regions], report.skipped) == (["P2_L_CC"], [])


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ({"image_id": 1, "category_id": 1, "bbox": [1, 2, "x", 4]}, ["complete", "partial"]),
        ({"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4]}, ["complete", "partial"]),
        ({"image_id": 2, "category_id": 1, "bbox": [1, 2, 3, 4]}, ["partial", "partial"]),
        ({"image_id": [1], "category_id": 1, "bbox": [1, 2, 3, 4]}, ["partial", "partial"]),
        (None, ["partial", "partial"]),
    ],
)
def test_bad_annotation_of_coco_is_of_its_image_where_it_tells_one(
    tmp_path: Path, annotation: object, expected: list[str]
) -> None:
    patients(tmp_path, "P1/L_CC.png", "P2/L_CC.png")
    content = json.loads(coco_of("P1/L_CC.png", "P2/L_CC.png"))
    content["annotations"].append(annotation)
    mapping = FOLDERS.replace("ANNOTATIONS", "c.json").replace("FORMAT", "coco")
    mapping = mapping.replace('annotation = "partial"', 'annotation = "complete"')
    report, records, regions = imported(tmp_path, mapping, c__json=json.dumps(content))
    assert [record.annotation for record in records.values()] == expected
    assert (len(regions), len(report.skipped)) == (2, 1)


@pytest.mark.parametrize(
    ("format_", "ending", "content"),
    [
        ("yolo", "txt", "0 0.5 0.5 0.1 0.2\n0 0.5 x 0.1 0.2\n"),
        ("yolo", "txt", "0 0.5\n"),
        ("labelme", "json", json.dumps({"imagePath": "L_CC.png", "shapes": [BOX | {"points": []}]})),
        (
            "via",
            "json",
            json.dumps(
                {
                    "a": {
                        "filename": "L_CC.png",
                        "regions": [{"shape_attributes": {"name": "blob"}, "region_attributes": {}}],
                    }
                }
            ),
        ),
        ("labelme", "json", json.dumps({"imagePath": "L_CC.png", "shapes": [BOX, BOX | {"points": []}]})),
    ],
)
def test_bad_line_in_the_file_of_one_image_makes_no_other_partial(
    tmp_path: Path, format_: str, ending: str, content: str
) -> None:
    patients(tmp_path, "P1/L_CC.png", "P2/L_CC.png")
    (tmp_path / "source" / "P2" / f"L_CC.{ending}").write_text(content)
    mapping = FOLDERS.replace("ANNOTATIONS", f"*/*.{ending}").replace("FORMAT", format_)
    report, records, _ = imported(tmp_path, mapping.replace('annotation = "partial"', 'annotation = "complete"'))
    assert {image_id: record.annotation for image_id, record in records.items()} == {
        "P1_L_CC": "complete",
        "P2_L_CC": "partial",
    }
    assert len(report.skipped) == 1


def test_row_of_an_image_that_is_not_there_is_not_another_patients(tmp_path: Path) -> None:
    patients(tmp_path, "P1/L_CC.png")
    mapping = FOLDERS.replace(
        'annotations = "ANNOTATIONS"\nformat = "FORMAT"', 'table = "t.csv"\ntable_image = "picture"'
    )
    mapping = mapping.replace("[kinds]", 'age = "{age}"\n[kinds]')
    table = "picture,age\nP2/L_CC.png,52\nP1/L_CC.png,51\n"
    report, records, _ = imported(tmp_path, mapping, t__csv=table)
    assert {image_id: record.age for image_id, record in records.items()} == {"P1_L_CC": 51}
    assert len(report.skipped) == 1
