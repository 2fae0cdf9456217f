"""The importer of RSNA's challenge, on small made-up folders in the real layout."""

from pathlib import Path

import numpy as np
import pytest

from mmgkeras.schema import ImageRecord
from mmgkeras.sources.data_set import ImportReport, import_data_set
from mmgkeras.sources.rsna import read_rsna
from mmgkeras.tables import read_images
from tests.images.dicom_files import file_of, mammogram

HEADER = (
    "site_id,patient_id,image_id,laterality,view,age,cancer,biopsy,invasive,BIRADS,implant,density,machine_id,"
    "difficult_negative_case\n"
)
ROW = "1,2,201,R,CC,55.0,0,0,0,1.0,0,C,21,False\n"


def imported(
    tmp_path: Path, *rows: str, images: tuple[str, ...] = ("train_images/2/201",)
) -> tuple[ImportReport, dict[str, ImageRecord]]:
    source, out = tmp_path / "source", tmp_path / "out"
    stored = np.linspace(0, 4095, 600).reshape(30, 20).astype(np.int64)
    for name in images:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / f"{name}.dcm").write_bytes(file_of(mammogram(stored)))
    (source / "train.csv").write_text(HEADER + "".join(rows))
    report = import_data_set("RSNA", read_rsna, source, out)
    return report, {record.image_id: record for record in read_images(out / "images.csv")}


def test_record_is_of_the_row(tmp_path: Path) -> None:
    report, records = imported(tmp_path, ROW)
    assert records["201"] == ImageRecord(
        image_id="201",
        path="../source/train_images/2/201.dcm",
        patient_id="2",
        laterality="R",
        view="CC",
        annotation="none",
        density="C",
        birads="1",
        age=55.0,
        pathology="normal",
    )
    assert report.skipped == []


def test_images_of_two_patients_that_share_an_id_are_listed(tmp_path: Path) -> None:
    rows = (ROW, ROW.replace("1,2,201", "1,3,201"), ROW.replace("1,2,201", "1,3,202"))
    images = ("train_images/2/201", "train_images/3/201", "train_images/3/202")
    report, records = imported(tmp_path, *rows, images=images)
    assert list(records) == ["202"]
    assert [line.partition(": ")[0] for line in report.skipped] == [
        f"{tmp_path}/source/train_images/{number}/201.dcm" for number in (2, 3)
    ]
    assert "Received: '201' of another image too; neither is used" in report.skipped[0]


@pytest.mark.parametrize(
    ("row", "pathology", "birads"),
    [
        ("1,2,201,R,CC,55,1,1,1,0.0,0,C,21,False\n", "cancer", "0"),
        ("1,2,201,R,CC,55,0,0,0,1.0,1,C,21,False\n", "implant", "1"),
        ("1,2,201,R,CC,55,1,0,0,1.0,1,C,21,False\n", "cancer; implant", "1"),
        ("1,2,201,R,CC,55,0,0,0,2.0,0,C,21,False\n", None, "2"),
        ("2,2,201,R,CC,,0,0,0,,0,,21,False\n", None, None),
    ],
)
def test_only_birads_1_without_cancer_and_implant_is_called_normal(
    tmp_path: Path, row: str, pathology: str | None, birads: str | None
) -> None:
    _, records = imported(tmp_path, row)
    assert (records["201"].pathology, records["201"].birads) == (pathology, birads)
    assert not records["201"].is_called_normal


def test_axillary_tail_is_another_view(tmp_path: Path) -> None:
    _, records = imported(tmp_path, ROW.replace("CC", "AT"))
    assert records["201"].view == "other"


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (ROW.replace("201", "202"), "train.csv:3: there is no image 2/202"),
        (ROW, "train.csv:3: 2/201 must appear once"),
        (ROW.replace("201", "203").replace(",R,", ",B,"), "train.csv:3: laterality must be one of L, R. Received: 'B'"),
        (ROW.replace("201", "203").replace("CC", "XX"), "train.csv:3: view must be one of CC, MLO"),
        (ROW.replace("201", "203").replace("55.0,0", "55.0,2"), "train.csv:3: cancer must be one of 0, 1"),
    ],
)
def test_row_at_fault_is_listed(tmp_path: Path, wrong: str, expected: str) -> None:
    report, records = imported(
        tmp_path, ROW, wrong, images=("train_images/2/201", "train_images/2/203")[: 1 + ("203" in wrong)]
    )
    (line,) = report.skipped
    assert expected in line
    assert list(records) == ["201"]


def test_images_of_the_test_set_are_passed_over(tmp_path: Path) -> None:
    report, _ = imported(tmp_path, ROW, images=("train_images/2/201", "test_images/9/901"))
    assert report.skipped == []
    assert "images without a row in train.csv, passed over: 1" in report.notes


def test_layout_of_the_real_table(shared_data: Path, tmp_path: Path) -> None:
    """A made-up table in the real layout: every row is taken."""
    lines = (shared_data / "schema-examples" / "rsna_like_train.csv").read_text().splitlines(keepends=True)
    names = tuple(f"train_images/{line.split(',')[1]}/{line.split(',')[2]}" for line in lines[1:])
    report, records = imported(tmp_path, *lines[1:], images=names)
    assert (len(records), report.skipped) == (4, [])
