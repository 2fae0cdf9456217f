"""`mmgkeras import` and `mmgkeras check` as a user meets them."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from mmgkeras.cli import main
from PIL import Image

from tests.images.dicom_files import file_of, mammogram
from tests.sources.test_cdd_cesm import CIRCLE, database, listed


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A database of one patient: film 1 with a cluster, film 2 normal."""
    folder = tmp_path / "mini-mias"
    folder.mkdir()
    rows, cols = np.mgrid[:1024, :1024]
    is_breast = ((rows - 512) / 500) ** 2 + (cols / 600) ** 2 <= 1
    uneven = np.random.default_rng(0).integers(80, 160, (2, 64, 64), np.uint8).repeat(16, axis=1).repeat(16, axis=2)
    Image.fromarray(np.where(is_breast, uneven[0], 0).astype(np.uint8)[:, ::-1]).save(folder / "mdb001.pgm")
    Image.fromarray(np.where(is_breast, uneven[1], 0).astype(np.uint8)).save(folder / "mdb002.pgm")
    (folder / "Info.txt").write_text("prose\nmdb001 G CALC B 800 500 20\nmdb002 G NORM\n")
    return folder


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_import_then_check_of_a_good_folder(source: Path, tmp_path: Path) -> None:
    imported = run("import", "mini-mias", source, "--out", tmp_path / "data")
    assert imported.exit_code == 0
    assert imported.stdout.splitlines()[-1] == f"{tmp_path / 'data'}: 2 images, 1 region"
    assert [line for line in imported.stdout.splitlines() if line.startswith("note: ")]
    checked = run("check", "--data", tmp_path / "data")
    assert checked.exit_code == 0
    assert checked.stdout.splitlines() == [
        "images       2 of 1 patient, 2 readable",
        "size         1024 to 1024 rows, 1024 to 1024 columns",
        "pixel type   uint8 2",
        "annotation   none 1, partial 1; regions or patch labels: 1",
        "chest wall   as told 2 (by the pixels)",
        "0 faults, 0 warnings, 0 notes",
    ]


def test_import_lists_what_it_skipped_and_exits_1(source: Path, tmp_path: Path) -> None:
    (source / "mdb002.pgm").unlink()
    result = run("import", "mini-mias", source, "--out", tmp_path / "data")
    assert result.exit_code == 1
    assert [line for line in result.stderr.splitlines() if line.startswith(f"error: skipped: {source}: mdb002 ")]
    assert (tmp_path / "data" / "images.csv").exists()


def test_import_does_not_overwrite_unasked(source: Path, tmp_path: Path) -> None:
    arguments = ("import", "mini-mias", source, "--out", tmp_path / "data")
    run(*arguments)
    refused = run(*arguments)
    assert refused.exit_code == 1
    path = tmp_path / "data" / "images.csv"
    assert refused.stderr.startswith(f"error: {path}: ")
    assert refused.stderr.endswith("--overwrite\n")
    assert run(*arguments, "--overwrite").exit_code == 0


def test_import_of_another_folder_is_one_line(tmp_path: Path) -> None:
    result = run("import", "mini-mias", tmp_path / "source", "--out", tmp_path / "data")
    assert result.exit_code == 1
    assert result.stderr == f"error: {tmp_path / 'source'}: must be the folder of mini-MIAS\n"
    assert not (tmp_path / "data").exists()


def test_import_into_a_place_that_cannot_be_written_is_one_line(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("import", "mini-mias", source, "--out", tmp_path / "file" / "data")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'file' / 'data'}: cannot be")


def test_check_lists_every_fault_and_exits_1(source: Path, tmp_path: Path) -> None:
    run("import", "mini-mias", source, "--out", tmp_path / "data")
    whole = (source / "mdb001.pgm").read_bytes()
    (source / "mdb001.pgm").write_bytes(whole[:5000])
    (source / "mdb002.pgm").write_bytes(b"")
    result = run("check", "--data", tmp_path / "data")
    assert result.exit_code == 1
    faults = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(faults) == 2
    assert [fault.split(": ")[1].rpartition("/")[2] for fault in faults] == ["mdb001.pgm", "mdb002.pgm"]
    assert result.stdout.splitlines()[-1] == "2 faults, 0 warnings, 0 notes"


def test_check_takes_the_patch_size_for_labels(source: Path, tmp_path: Path) -> None:
    run("import", "mini-mias", source, "--out", tmp_path / "data")
    (tmp_path / "data" / "labels.csv").write_text("image_id,row,col,label\nmdb001,15,15,1\n")
    assert run("check", "--data", tmp_path / "data").exit_code == 1
    assert run("check", "--data", tmp_path / "data", "--set", "patches.patch_px=64").exit_code == 0


def test_import_dicom_counts_what_it_left_out_and_names_nobody(tmp_path: Path) -> None:
    rows, cols = np.ogrid[:90, :60]
    stored = np.where((rows - 45) ** 2 + cols**2 < 38**2, 2000 + rows + cols, 0)
    (tmp_path / "in").mkdir()
    whole = file_of(mammogram(stored, ImageLaterality="L", ViewPosition="CC", ImagerPixelSpacing=[0.1, 0.1]))
    (tmp_path / "in/Doe.dcm").write_bytes(whole)
    (tmp_path / "in/notes.txt").write_text("x")
    arguments = ("import", "dicom", tmp_path / "in", "--out", tmp_path / "data")
    result = run(*arguments)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "left out: 1 file: is no DICOM file"
    assert lines[-1] == f"{tmp_path / 'data'}: 1 image of 1 patient"
    assert run("check", "--data", tmp_path / "data").exit_code == 0
    (tmp_path / "in/cut.dcm").write_bytes(whole[:-100])
    damaged = run(*arguments, "--overwrite")
    assert damaged.exit_code == 1
    assert "left out: 1 file: is damaged or cut short" in damaged.stdout
    assert "Doe" not in result.output + damaged.output


def test_import_cdd_cesm_counts_beside_what_is_printed_and_lists_what_it_skipped(tmp_path: Path) -> None:
    name = "P1_L_DM_CC"
    source = database(tmp_path / "in", [listed(name)], calcified=[name], shapes=[(name, CIRCLE), (name, "{}")])
    (tmp_path / "boxes.csv").write_text("ImageName,Source,Type,xmin,ymin,xmax,ymax,pixx,pixy\n")
    arguments = ("import", "cdd-cesm", source, "--out", tmp_path / "data")
    result = run(*arguments)
    assert result.exit_code == 1
    assert "count: low-energy images: 1 image of 1 patient; printed: 1,003 images of 326 patients" in result.stdout
    assert result.stdout.splitlines()[-1] == f"{tmp_path / 'data'}: 1 image, 1 region"
    assert f"error: skipped: {source / 'Radiology_hand_drawn_segmentations_v2.csv'}:3: a shape must be" in result.stderr
    boxed = run(*arguments, "--overwrite", "--boxes", tmp_path / "boxes.csv")
    assert boxed.stdout.splitlines()[-1] == f"{tmp_path / 'data'}: 1 image, 0 regions"
