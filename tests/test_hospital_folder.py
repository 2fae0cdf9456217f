"""A folder as a hospital sends it, through every command of the README."""

import csv
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from mmgkeras.cli import main

from mmgkeras.images import read_pixels
from mmgkeras.schema import ImageRecord, Region
from mmgkeras.sources.phantom import write_phantom
from mmgkeras.tables import read_images, read_regions, write_regions
from tests.images.dicom_files import file_of, mammogram

VIEWS = [("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO")]
SMALL = ("patches.patch_px=64", "split.num_subsets=2")
FAST = (
    "model.weights=none",
    "model.width=0.125",
    "augmentation.intensities=[1.0]",
    "train.epochs=1",
    "train.batch_size=16",
)


def run(*words: object, settings: tuple[str, ...] = ()) -> Result:
    options = [part for setting in settings for part in ("--set", setting)]
    return CliRunner().invoke(main, [*map(str, words), *options])


def write_export(folder: Path, phantom: Path) -> dict[str, list[Region]]:
    """Four views of five patients, two of one name, and what else lies about; the marks of each file by its name."""
    folder.mkdir()
    records, regions = read_images(phantom / "images.csv"), read_regions(phantom / "regions.csv")
    marks: dict[str, list[Region]] = {}
    for side, view in VIEWS:
        of_view = [record for record in records if (record.laterality, record.view) == (side, view)][:5]
        assert len(of_view) == 5
        for number, record in enumerate(of_view):
            name = f"study{number}/{side}{view}"
            marks[name] = [region for region in regions if region.image_id == record.image_id]
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(as_dicom(record, phantom, number=number))
    whole = (folder / "study0/LCC").read_bytes()
    (folder / "study0/cut.dcm").write_bytes(whole[:-5000])
    (folder / "README.txt").write_text("Dear colleague")
    tomosynthesis = mammogram(np.zeros((8, 8), int), SOPClassUID="1.2.840.10008.5.1.4.1.1.13.1.3")
    (folder / "study0/tomo").write_bytes(file_of(tomosynthesis))
    report = mammogram(np.zeros((8, 8), int), SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", Modality="SR")
    del report.PixelData
    (folder / "study0/report").write_bytes(file_of(report))
    return marks


def as_dicom(record: ImageRecord, phantom: Path, *, number: int) -> bytes:
    """A phantom as a DICOM file of 12 bits; patients 0 and 1 have one name."""
    return file_of(
        mammogram(
            (read_pixels(phantom / record.path) >> 4).astype(np.int64),
            PatientName=f"Mustermann^Erika{max(number, 1)}",
            PatientID=f"47{number}",
            SOPInstanceUID=f"1.2.840.{number}.{VIEWS.index((record.laterality, record.view))}",
            ImageLaterality=record.laterality,
            ViewPosition=record.view,
            ImagerPixelSpacing=[record.spacing_mm, record.spacing_mm],
        )
    )


def annotate(data: Path, private: Path, marks: dict[str, list[Region]]) -> None:
    """Writes regions.csv for the ids that the import gave, and that every mark was sought, as a reader would."""
    with (data / "import.csv").open() as table, private.open() as names:
        image_ids = {row["file"]: row["image_id"] for row in csv.DictReader(table)}
        paths = {row["path"]: image_ids[row["file"]] for row in csv.DictReader(names)}
    ids = {name: next(image_id for path, image_id in paths.items() if path.endswith(f"/{name}")) for name in marks}
    regions = [
        Region(ids[name], region.region_id, region.kind, region.shape, region.points)
        for name, found in marks.items()
        for region in found
    ]
    write_regions(data / "regions.csv", regions)
    table = data / "images.csv"
    table.write_text(table.read_text().replace(",none,", ",complete,"))


def test_a_folder_of_mixed_dicom_through_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_phantom(Path("phantom"), num_patients=14, seed=7, spacing_mm=0.8, bits=16)
    marks = write_export(Path("export"), Path("phantom"))

    imported = run("import", "dicom", "export", "--out", "mydata")
    assert imported.exit_code == 1  # for the file that is cut
    assert imported.stdout.splitlines()[-1] == "mydata: 20 images of 5 patients"
    assert len([line for line in imported.stdout.splitlines() if line.startswith("left out: 1 file: ")]) == 4
    assert "Mustermann" not in imported.output
    annotate(Path("mydata"), Path("mydata.files.csv"), marks)

    checked = run("check", "--data", "mydata", "--out", "checked", settings=SMALL)
    assert checked.exit_code in (0, 3), checked.output
    assert "20 of 5 patients, 20 readable" in checked.stdout
    assert "Mustermann" not in Path("checked/check.html").read_text()

    commands = [
        run("prepare", "--data", "mydata", "--out", "mystore", settings=SMALL),
        run("split", "--store", "mystore", settings=SMALL),
        run(
            *("fit", "--store", "mystore", "--fold", 1, "--run", "runs/fold1", "--export", "saved_models/mine"),
            settings=(*SMALL, *FAST),
        ),
        run("evaluate", "--model", "saved_models/mine/1", "--store", "mystore", "--out", "results"),
        run("overlay", "--model", "saved_models/mine/1", "--data", "mydata", "--out", "overlays"),
    ]
    assert [(ended.exit_code, ended.output if ended.exit_code else "") for ended in commands] == [(0, "")] * 5
    with Path("results/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    tested = {row["image_id"] for row in rows}
    assert len(tested) in (8, 12)
    assert {row["label"] for row in rows} == {"0", "1"}
    assert len(list(Path("overlays").glob("*.png"))) == 20
