"""What `check` says of a data folder."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgkeras.config import PatchesConfig
from mmgkeras.errors import InputFaultsError
from mmgkeras.patches.check import DataReport, check_data
from mmgkeras.schema import ImageRecord, Region
from mmgkeras.tables import write_images, write_labels, write_regions

CONFIG = PatchesConfig(patch_px=16)


def breast(*, side: str, value: int = 150) -> np.ndarray:
    """(40, 30) uint8 with a bright half disc at one edge."""
    rows, cols = np.mgrid[:40, :30]
    pixels = np.where(((rows - 20) / 18) ** 2 + (cols / 20) ** 2 <= 1, value, 0).astype(np.uint8)
    return pixels if side == "left" else pixels[:, ::-1]


def record(image_id: str, **changes: object) -> ImageRecord:
    values: dict[str, object] = {
        "image_id": image_id,
        "path": f"{image_id}.png",
        "patient_id": "p1",
        "laterality": "L",
        "view": "CC",
        "annotation": "complete",
    }
    return ImageRecord(**(values | changes))


def point(image_id: str, row: float, col: float) -> Region:
    return Region(image_id, "r1", "calcification", "point", ((row, col),))


def checked(folder: Path, images: dict[ImageRecord, np.ndarray], *regions: Region) -> DataReport:
    for one, pixels in images.items():
        Image.fromarray(pixels).save(folder / one.path)
    write_images(folder / "images.csv", images)
    write_regions(folder / "regions.csv", regions)
    return check_data(folder, CONFIG)


def test_good_folder_is_counted(tmp_path: Path) -> None:
    images = {
        record("a"): breast(side="left"),
        record("b", patient_id="p2", laterality="R", annotation="none"): breast(side="right", value=90),
    }
    report = checked(tmp_path, images, point("a", 20, 5))
    assert (report.faults, report.remarks) == ([], [])
    assert (len(report.records), report.num_read, report.num_patients, report.num_annotations) == (2, 2, 2, 1)
    assert report.pixel_types == {"uint8": 2}
    assert report.sizes == {(40, 30): 2}
    assert report.sides == {"as told": 2}


def test_unreadable_images_are_faults_and_the_others_are_still_checked(tmp_path: Path) -> None:
    Image.fromarray(breast(side="left")).save(tmp_path / "a.png")
    (tmp_path / "b.png").touch()
    write_images(tmp_path / "images.csv", [record("c"), record("b"), record("a")])
    report = check_data(tmp_path, CONFIG)
    assert report.faults == [
        f"{tmp_path / 'c.png'}: cannot be read: No such file or directory",
        f"{tmp_path / 'b.png'}: is empty (0 bytes)",
    ]
    assert (len(report.records), report.num_read) == (3, 1)


def test_region_outside_its_image_is_a_fault(tmp_path: Path) -> None:
    report = checked(tmp_path, {record("a"): breast(side="left")}, point("a", 40, 5))
    (fault,) = report.faults
    assert fault.startswith(f"{tmp_path / 'regions.csv'}: image a, region r1: ")


def test_region_of_an_unlisted_image_is_a_fault(tmp_path: Path) -> None:
    report = checked(tmp_path, {record("a"): breast(side="left")}, point("z", 1, 1))
    (fault,) = report.faults
    assert "image_id 'z'" in fault


def test_label_outside_the_grid_is_a_fault(tmp_path: Path) -> None:
    Image.fromarray(breast(side="left")).save(tmp_path / "a.png")
    write_images(tmp_path / "images.csv", [record("a")])
    write_labels(tmp_path / "labels.csv", [("a", 2, 1, 1), ("a", 3, 0, 1)])
    report = check_data(tmp_path, CONFIG)
    (fault,) = report.faults
    assert "labels.csv:3: image a has 3 x 2 patches of 16 px" in fault
    assert report.num_annotations == 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"laterality": "R"}, "laterality R"),
        ({"chest_wall": "right"}, "chest_wall right"),
    ],
)
def test_other_chest_wall_by_the_pixels_is_a_remark(tmp_path: Path, changes: dict[str, str], told: str) -> None:
    report = checked(tmp_path, {record("a", **changes): breast(side="left")})
    assert report.faults == []
    (remark,) = report.remarks
    assert remark.startswith("image a: ")
    assert told in remark
    assert report.sides == {"at the other edge": 1}


def test_image_without_a_breast_has_no_clear_side(tmp_path: Path) -> None:
    report = checked(tmp_path, {record("a"): np.zeros((40, 30), dtype=np.uint8)})
    assert report.sides == {"unclear": 1}
    assert report.remarks == []


def test_mixed_depths_are_a_remark(tmp_path: Path) -> None:
    deep = breast(side="left", value=90).astype(np.uint16) * 20
    report = checked(tmp_path, {record("a"): breast(side="left"), record("b"): deep})
    (remark,) = report.remarks
    assert "8-bit" in remark
    assert "x257" in remark


def test_ids_that_look_alike_are_a_remark(tmp_path: Path) -> None:
    images = {
        record("a", patient_id="p1"): breast(side="left"),
        record("b", patient_id="P1"): breast(side="left", value=90),
    }
    told = "differ only in Unicode form, case, width or invisible characters"
    assert checked(tmp_path, images).remarks == [f"patient ids 'p1', 'P1' {told}"]


@pytest.mark.parametrize(("patient_id", "whose"), [("p1", "the same patient"), ("p2", "another patient")])
def test_identical_pixels_are_a_remark(tmp_path: Path, patient_id: str, whose: str) -> None:
    images = {record("a"): breast(side="left"), record("b", patient_id=patient_id): breast(side="left")}
    (remark,) = checked(tmp_path, images).remarks
    assert remark.startswith("image b: ")
    assert whose in remark


def test_marks_on_an_image_called_normal_are_a_remark(tmp_path: Path) -> None:
    report = checked(tmp_path, {record("a", pathology="normal"): breast(side="left")}, point("a", 20, 5))
    (remark,) = report.remarks
    assert remark.startswith("image a: ")


def test_fault_in_a_table_is_raised(tmp_path: Path) -> None:
    (tmp_path / "images.csv").write_text("image_id,path\n")
    with pytest.raises(InputFaultsError, match=r"images\.csv:1: column patient_id is missing"):
        check_data(tmp_path, CONFIG)


def cluster(image_id: str, top: float, left: float, bottom: float, right: float) -> Region:
    return Region(image_id, "c1", "cluster", "box", ((top, left), (bottom, right)))


def test_a_cluster_region_in_no_positive_patch_is_a_remark(tmp_path: Path) -> None:
    # The grid of a left breast begins at the bottom left: patches meet at row 8 and 24 and column 16.
    on_corner = cluster("a", 21, 13, 26, 18)
    report = checked(tmp_path, {record("a"): breast(side="left")}, on_corner)
    assert report.faults == []
    assert report.remarks == ["image a: cluster region c1 lies in no positive patch; a patch holds at most 25% of it"]
    assert report.unplaced == [("a", "c1")]


@pytest.mark.parametrize("marked", [cluster("a", 12, 3, 18, 9), point("a", 22, 14)])
def test_a_cluster_region_in_or_beside_a_positive_patch_is_none(tmp_path: Path, marked: Region) -> None:
    regions = [marked] if marked.kind == "cluster" else [cluster("a", 21, 13, 26, 18), marked]
    assert checked(tmp_path, {record("a"): breast(side="left")}, *regions).remarks == []
