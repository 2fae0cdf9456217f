"""`mmgkeras check` as a user meets it: exit codes, page, corrected copies."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from mmgkeras.cli import main
from PIL import Image

from mmgkeras.config import PatchesConfig
from mmgkeras.errors import InputError
from mmgkeras.patches.check import check_folder, read_folder
from mmgkeras.patches.findings import Finding
from mmgkeras.report.check_page import write_check
from mmgkeras.tables import read_images

HEADER = "image_id,path,patient_id,laterality,view,annotation,spacing_mm\n"


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["check", *map(str, words)])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A left breast without fault."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows, cols = np.ogrid[:200, :120]
    uneven = np.random.default_rng(1).integers(80, 160, (200, 120))
    pixels = np.where((rows - 100) ** 2 + cols**2 < 80**2, uneven, 0).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    (folder / "images.csv").write_text(f"{HEADER}a,a.png,p,L,CC,complete,0.1\n")
    (folder / "regions.csv").write_text('image_id,region_id,kind,shape,points\na,1,calcification,point,"100,20"\n')
    return folder


def test_the_exit_code_is_that_of_the_gravest_finding(data: Path) -> None:
    assert run("--data", data).exit_code == 0
    table = data / "images.csv"
    table.write_text(f"{HEADER}a,a.png,p,L,CC,complete,\n")
    noted = run("--data", data)
    assert (noted.exit_code, noted.stdout.splitlines()[-2:]) == (
        0,
        ["note: spacing_mm is missing for 1 of 1 image", "0 faults, 0 warnings, 1 note"],
    )
    table.write_text(f"{HEADER}a,a.png,p,R,CC,complete,0.1\n")
    warned = run("--data", data)
    assert warned.exit_code == 3
    assert f"warning: {table}:2: image a: by the pixels the chest wall is left, by standard hanging" in warned.stdout
    table.write_text(f"{HEADER}a,b.png,p,R,CC,complete,0.1\n")
    assert run("--data", data).exit_code == 1


def test_a_folder_whose_name_is_no_utf8_is_checked_and_not_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(os.fsdecode(b"M\xfc"))
    data.rename(folder)
    (folder / "images.csv").write_text(f"{HEADER}a,a.png,p,R,CC,complete,0.1\nb,b.png,q,L,CC,none,0.1\n")
    result = run("--data", folder, "--out", tmp_path / "out")
    assert result.exit_code == 1
    page = (tmp_path / "out/check.html").read_text(encoding="utf-8")
    assert "in M\\udcfc, " in page
    assert ">b.png: cannot be read" in page
    assert "M\\udcfc/" not in page
    report = check_folder(read_folder(folder, PatchesConfig()))
    report.findings.append(Finding("note", "odd", str(InputError(f"is not {folder}/b.png"))))
    write_check(report, tmp_path / "odd")
    assert (tmp_path / "odd/tables/findings.csv").read_text().endswith("\nnote,odd,,,is not b.png\n")
    assert run("--data", folder, "--out", tmp_path / "new", "--fix").stderr.endswith(
        "images.csv: cannot be written: text must be UTF-8. Received: '../../M\\udcfc/a.png'\n"
    )


def test_the_page_shows_the_image_and_names_no_folder(data: Path, tmp_path: Path) -> None:
    (data / "images.csv").write_text(f"{HEADER}a,a.png,<b>p,R,CC,complete,0.1\nb,b.png,q,L,CC,none,0.1\n")
    result = run("--data", data, "--out", tmp_path / "out")
    assert result.exit_code == 1
    page = (tmp_path / "out/check.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 1
    assert "images.csv:2: image a: by the pixels" in page
    assert "&lt;b&gt;p" in page
    assert str(tmp_path) not in page
    table = (tmp_path / "out/tables/findings.csv").read_text()
    assert "fault,image,b.png,b," in table
    assert str(tmp_path) not in table
    assert run("--data", data, "--out", tmp_path / "out").stderr.splitlines()[-1].endswith("or give --overwrite")
    assert run("--data", data, "--out", tmp_path / "out", "--overwrite").exit_code == 1


def test_fix_writes_a_data_folder_of_corrected_tables(data: Path, tmp_path: Path) -> None:
    before = f"{HEADER}a,a.png,p,left,cc,complete,0.1\n".replace(",", ";")
    (data / "images.csv").write_text(before)
    result = run("--data", data, "--out", tmp_path / "out", "--fix")
    assert result.exit_code == 1
    assert f"error: {data}/images.csv:1: fields must be separated by commas. Received: semicolons" in result.stderr
    assert f"fixed: {data}/images.csv:2: view is 'CC' instead of 'cc'" in result.stdout
    assert (data / "images.csv").read_text() == before
    (record,) = read_images(tmp_path / "out/fixed/images.csv")
    assert (record.view, record.laterality) == ("CC", "L")
    assert run("--data", tmp_path / "out/fixed").exit_code == 0
    assert run("--data", data, "--fix").exit_code == 2


def test_a_page_that_is_there_already_is_refused_before_the_images_are_read(data: Path, tmp_path: Path) -> None:
    assert run("--data", data, "--out", tmp_path / "out").exit_code == 0
    result = run("--data", data, "--out", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"error: {tmp_path / 'out'}: already exists; name another place or give --overwrite\n"


def test_faults_are_told_where_no_page_can_be_written(data: Path, tmp_path: Path) -> None:
    (data / "images.csv").write_text(f"{HEADER}a,b.png,p,L,CC,complete,0.1\n")
    (data / "labels.csv").write_bytes("image_id,row,col,label\nä,0,0,1\n".encode("latin-1"))
    result = run("--data", data, "--out", tmp_path / "out", "--fix")
    assert result.exit_code == 1
    assert f"error: {data / 'b.png'}: cannot be read: No such file or directory\n" in result.stderr


def test_pixel_size_beside_a_model(data: Path, model_path: Path) -> None:
    result = run("--data", data, "--model", model_path)
    told = json.loads((model_path / "assets.extra/mmgkeras.json").read_text())["spacing_mm"]
    assert told == 0.2
    assert result.exit_code == 3
    assert "pixels of 0.1 to 0.1 mm in 1 of 1 image, the model 0.2 mm" in result.stdout


def test_a_folder_that_is_none_of_data_is_one_line(tmp_path: Path) -> None:
    for folder in (tmp_path / "nowhere", tmp_path):
        result = run("--data", folder)
        assert (result.exit_code, result.stdout) == (1, "")
        assert (
            result.stderr == f"error: {folder}: is not a data folder: it has no images.csv; mmgkeras import makes one\n"
        )
