"""The BMCD importer, on small made-up folders in the layout that is published of it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgkeras.patches.region_masks import region_mask
from mmgkeras.schema import ImageRecord, Region
from mmgkeras.sources.bmcd import read_bmcd
from mmgkeras.sources.data_set import ImportReport, import_data_set
from mmgkeras.tables import read_images, read_regions
from tests.images.dicom_files import file_of, mammogram

MARKS = ((20, 10, 24, 15), (40, 30, 41, 32))
"""First and last row and column of two marks."""


def put(source: Path, folder: str, name: str, *, marks: tuple[tuple[int, ...], ...] = MARKS, scale: int = 1) -> None:
    """An image, and its picture with the marks in red, at `scale` times its size."""
    (source / folder).mkdir(parents=True, exist_ok=True)
    rows, cols = np.ogrid[:90, :60]
    stored = np.where((rows - 45) ** 2 + cols**2 < 38**2, 2000 + rows + cols, 0)
    data = file_of(mammogram(stored, ImageLaterality="L", ImagerPixelSpacing=[0.085, 0.085]))
    (source / folder / f"{name}.dcm").write_bytes(data)
    gray = (stored // 16).astype(np.uint8)
    colours = np.stack([gray] * 3, axis=-1)
    for top, left, bottom, right in marks:
        colours[top : bottom + 1, left : right + 1] = (255, 0, 0)
    large = colours.repeat(scale, axis=0).repeat(scale, axis=1)
    Image.fromarray(large).save(source / folder / f"{name}_GT.jpg", quality=100, subsampling=0)


def imported(source: Path, out: Path) -> tuple[ImportReport, dict[str, ImageRecord], list[Region]]:
    report = import_data_set("BMCD", read_bmcd, source, out)
    return report, {one.image_id: one for one in read_images(out / "images.csv")}, read_regions(out / "regions.csv")


def boxes(regions: list[Region]) -> list[tuple[int, ...]]:
    covered = [region_mask(region, height=90, width=60) for region in regions]
    return [(one.top, one.left, one.top + one.mask.shape[0] - 1, one.left + one.mask.shape[1] - 1) for one in covered]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    put(source, "Dataset/Suspicious_cases/7", "CC_recent")
    return source


def test_each_red_part_is_a_calcification(source: Path, tmp_path: Path) -> None:
    report, records, regions = imported(source, tmp_path / "out")
    assert [(region.image_id, region.region_id, region.kind) for region in regions] == [
        ("suspicious7_CC_recent", "r1", "calcification"),
        ("suspicious7_CC_recent", "r2", "calcification"),
    ]
    assert boxes(regions) == list(MARKS)
    assert records["suspicious7_CC_recent"] == ImageRecord(
        image_id="suspicious7_CC_recent",
        path="../source/Dataset/Suspicious_cases/7/CC_recent.dcm",
        patient_id="suspicious7",
        laterality="L",
        view="CC",
        annotation="complete",
        spacing_mm=0.085,
    )
    assert report.skipped == []


def test_misspelled_names_of_the_data_set_are_taken(source: Path, tmp_path: Path) -> None:
    folder = "Dataset/Suspicious_cases/33"
    for name in ("CC_recemt", "CC_prior", "MLO_recent"):
        put(source, folder, name)
    (source / folder / "CC_recemt_GT.jpg").rename(source / folder / "CC_recent_GT.Jpg")
    (source / folder / "MLO_recent_GT.jpg").rename(source / folder / "MLO_reent_GT.jpg")
    (source / folder / "MLO_recent.dcm").rename(source / folder / "MLO_recent.DCM")
    report, records, regions = imported(source, tmp_path / "out")
    assert report.skipped == []
    assert {one for one in records if "33" in one} == {
        f"suspicious33_{n}" for n in ("CC_recent", "CC_prior", "MLO_recent")
    }
    assert len(regions) == 2 * len(records)
    assert {record.annotation for record in records.values()} == {"complete"}


def test_picture_of_another_size_is_brought_to_that_of_its_image(source: Path, tmp_path: Path) -> None:
    put(source, "Dataset/Suspicious_cases/7", "CC_recent", scale=2)
    report, _, regions = imported(source, tmp_path / "out")
    assert boxes(regions) == list(MARKS)
    assert [note for note in report.notes if "CC_recent_GT.jpg: of (180, 120) rows and columns, is brought to" in note]


def test_every_mark_of_a_larger_picture_is_taken(source: Path, tmp_path: Path) -> None:
    picture = np.zeros((135, 90, 3), np.uint8)  # 1.5 times the image
    picture[30:120:10, 15:60:5] = (255, 0, 0)
    path = source / "Dataset" / "Suspicious_cases" / "7" / "CC_recent_GT.jpg"
    Image.fromarray(picture).save(path, quality=100, subsampling=0)
    _, _, regions = imported(source, tmp_path / "out")
    wanted = {(row * 2 // 3, col * 2 // 3) for row in range(30, 120, 10) for col in range(15, 60, 5)}
    assert {box[:2] for box in boxes(regions)} == wanted


def test_outlined_mark_is_filled(source: Path, tmp_path: Path) -> None:
    edges = ((20, 10, 20, 19), (29, 10, 29, 19), (20, 10, 29, 10), (20, 19, 29, 19))
    put(source, "Dataset/Suspicious_cases/7", "CC_recent", marks=edges)
    _, _, (region,) = imported(source, tmp_path / "out")
    assert region_mask(region, height=90, width=60).mask.all()


def test_groups_rounds_views_and_capitals(source: Path, tmp_path: Path) -> None:
    put(source, "Dataset/Normal_cases/7", "MLO_prior", marks=())
    folder = source / "Dataset" / "Normal_cases" / "7"
    (folder / "MLO_prior.dcm").rename(folder / "MLO_prior.DCM")
    report, records, _ = imported(source, tmp_path / "out")
    record = records["normal7_MLO_prior"]
    assert (record.patient_id, record.view, record.annotation) == ("normal7", "MLO", "complete")
    assert report.skipped == []


def test_image_without_a_picture_is_listed_and_not_annotated(source: Path, tmp_path: Path) -> None:
    (source / "Dataset/Suspicious_cases/7/CC_recent_GT.jpg").unlink()
    report, records, _ = imported(source, tmp_path / "out")
    assert records["suspicious7_CC_recent"].annotation == "none"
    assert report.skipped[0].endswith("7: must hold one file CC_re*_GT.jp*g. Received: none")


def test_image_with_two_pictures_is_listed_and_not_annotated(source: Path, tmp_path: Path) -> None:
    put(source, "Dataset/Suspicious_cases/7", "CC_recent", marks=MARKS[:1])
    picture = source / "Dataset/Suspicious_cases/7/CC_recent_GT.jpg"
    shutil.copy(picture, picture.with_suffix(".JPEG"))
    report, records, regions = imported(source, tmp_path / "out")
    assert (records["suspicious7_CC_recent"].annotation, regions) == ("none", [])
    assert report.skipped[0].endswith("7: must hold one file CC_re*_GT.jp*g. Received: 2")


def test_damaged_picture_is_listed_and_its_image_not_annotated(source: Path, tmp_path: Path) -> None:
    (source / "Dataset/Suspicious_cases/7/CC_recent_GT.jpg").write_bytes(b"\xff\xd8\xff")
    report, records, regions = imported(source, tmp_path / "out")
    assert (records["suspicious7_CC_recent"].annotation, regions) == ("none", [])
    assert "CC_recent_GT.jpg: is damaged" in report.skipped[0]


def test_image_whose_header_does_not_tell_the_breast_is_listed(source: Path, tmp_path: Path) -> None:
    folder = source / "Dataset/Suspicious_cases"
    shutil.copytree(folder / "7", folder / "8")
    (folder / "8" / "CC_recent.dcm").write_bytes(file_of(mammogram(np.zeros((90, 60)))))
    report, records, _ = imported(source, tmp_path / "out")
    assert list(records) == ["suspicious7_CC_recent"]
    assert report.skipped[0].endswith("8/CC_recent.dcm: its header does not tell the breast")
