"""The CMMD importer, on small made-up folders and on the real table."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmgkeras.schema import ImageRecord
from mmgkeras.sources.cmmd import read_cmmd
from mmgkeras.sources.data_set import ImportReport, import_data_set
from mmgkeras.tables import read_images, read_regions
from tests.images.dicom_files import code, file_of, mammogram

TABLE = "CMMD_clinicaldata_revision.xlsx"
COLUMNS = ("ID1", "LeftRight", "Age", "number", "abnormality", "classification", "subtype")
VIEWS = {"CC": "399162004", "MLO": "399368009"}


def image(patient: str, side: str, view: str, **changes: object) -> bytes:
    rows, cols = np.ogrid[:30, :20]
    stored = np.where((rows - 15) ** 2 + cols**2 < 13**2, 100 + rows + cols, 0)
    values = {"PatientID": patient, "ImageLaterality": side, "ViewCodeSequence": [code(VIEWS[view])], **changes}
    return file_of(mammogram(stored, bits=8, **values))


def put(source: Path, patient: str, *images: bytes) -> None:
    folder = source / "CMMD" / patient / "07-18-2010-NA-NA-79377" / "1.000000-NA-70244"
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(images, start=1):
        (folder / f"1-{number}.dcm").write_bytes(data)


def table(source: Path, *rows: tuple[str, ...]) -> None:
    source.mkdir(exist_ok=True)
    pd.DataFrame(rows, columns=COLUMNS).to_excel(source / TABLE, index=False)


def imported(source: Path, out: Path) -> tuple[ImportReport, dict[str, ImageRecord]]:
    report = import_data_set("CMMD", read_cmmd, source, out)
    assert read_regions(out / "regions.csv") == []
    return report, {record.image_id: record for record in read_images(out / "images.csv")}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A patient with a row for her right breast, and images of both."""
    source = tmp_path / "source"
    table(source, ("D1-0001", "R", "44", "2", "both", "Malignant", ""))
    put(
        source,
        "D1-0001",
        image("D1-0001", "R", "CC"),
        image("D1-0001", "R", "MLO"),
        image("D1-0001", "L", "CC"),
        image("D1-0001", "L", "CC"),
    )
    return source


def test_record_is_of_the_header_and_the_row_of_its_breast(source: Path, tmp_path: Path) -> None:
    report, records = imported(source, tmp_path / "out")
    assert list(records) == ["D1-0001_R_CC", "D1-0001_R_MLO", "D1-0001_L_CC", "D1-0001_L_CC_2"]
    assert records["D1-0001_R_MLO"] == ImageRecord(
        image_id="D1-0001_R_MLO",
        path="../source/CMMD/D1-0001/07-18-2010-NA-NA-79377/1.000000-NA-70244/1-2.dcm",
        patient_id="D1-0001",
        laterality="R",
        view="MLO",
        annotation="none",
        age=44.0,
        pathology="Malignant: calcification and mass",
    )
    assert records["D1-0001_L_CC"].pathology is None
    assert not any(record.is_called_normal for record in records.values())
    assert report.skipped == []
    assert "2 images are of breasts without a row in the table: their pathology is unknown" in report.notes


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (("D1-0002", "R", "44", "2", "mass", "Benign", ""), "row 3: there is no image of D1-0002_R"),
        (("D1-0001", "R", "44", "2", "mass", "Benign", ""), "row 3: D1-0001_R must appear once"),
        (("D1-0002", "B", "44", "2", "mass", "Benign", ""), "row 3: LeftRight must be one of L, R. Received: 'B'"),
        (("D1-0002", "R", "44", "2", "lump", "Benign", ""), "row 3: abnormality must be one of calcification, mass"),
        (("D1-0002", "R", "44", "2", "mass", "good", ""), "row 3: classification must be one of Benign, Malignant"),
    ],
)
def test_row_at_fault_is_listed(source: Path, tmp_path: Path, wrong: tuple[str, ...], expected: str) -> None:
    table(source, ("D1-0001", "R", "44", "2", "both", "Malignant", ""), wrong)
    report, records = imported(source, tmp_path / "out")
    (line,) = report.skipped
    assert f"{TABLE}, {expected}" in line
    assert records["D1-0001_R_CC"].pathology == "Malignant: calcification and mass"


@pytest.mark.parametrize("changes", [{"PatientID": ""}, {"ImageLaterality": None}, {"ViewCodeSequence": None}])
def test_image_whose_header_is_silent_is_listed(source: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    put(source, "D1-0003", image("D1-0003", "R", "CC", **changes))
    report, records = imported(source, tmp_path / "out")
    (line,) = report.skipped
    assert line.endswith("1-1.dcm: its header does not tell patient, side and view")
    assert len(records) == 4


def test_damaged_image_is_listed(source: Path, tmp_path: Path) -> None:
    put(source, "D1-0003", b"x" * 128 + b"DICM")
    report, _ = imported(source, tmp_path / "out")
    assert "D1-0003" in report.skipped[0]
    assert "is damaged" in report.skipped[0]


def test_every_row_of_the_real_table_is_taken(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # so small files are read before processes have started
    source = tmp_path / "source"
    source.mkdir()
    (source / TABLE).write_bytes((shared_data / "cmmd" / TABLE).read_bytes())
    frame = pd.read_excel(source / TABLE, dtype=str, engine="calamine")
    templates = {side: image("D0-0000", side, "CC") for side in "LR"}
    for number, (patient, side) in enumerate(zip(frame["ID1"], frame["LeftRight"], strict=True)):
        (source / f"{number}.dcm").write_bytes(templates[side].replace(b"D0-0000", patient.encode()))
    report, records = imported(source, tmp_path / "out")
    assert report.skipped == []
    assert len(records) == 1872
    assert len({record.patient_id for record in records.values()}) == 1775
    counts = {count.what: count.here for count in report.counts}
    assert counts["breasts with a row"] == "1,872 of 1,775 patients"
    assert counts["breasts with calcification"] == "262, 198 of them malignant"
    assert counts["breasts with calcification and mass"] == "461, 381 of them malignant"
