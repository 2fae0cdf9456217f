import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from mmgkeras.cli import main
from PIL import Image
from pydicom import dcmread

from mmgkeras.errors import InputError
from mmgkeras.inference.predict import predict
from tests.pacs.readings import write_source


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, export_mean_model: Callable[..., Path]) -> Path:
    return export_mean_model(tmp_path_factory.mktemp("models") / "1")


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Two films of one name in two folders, each a breast at the left with one bright spot, and a damaged one."""
    rows, cols = np.ogrid[:160, :160]
    pixels = np.where((rows - 80) ** 2 + cols**2 < 70**2, 90, 0).astype(np.uint8)
    pixels[64:80, 16:32] = 255
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels).save(tmp_path / folder / "=film L_CC.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    return tmp_path


def test_files_alone_are_marked_and_a_bad_one_is_listed(
    model: Path, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(films))
    paths = [films / "one" / "=film L_CC.png", films / "broken.png", films / "two" / "=film L_CC.png"]
    done = predict([*paths, paths[0]], out=films / "marked", model=model)
    assert [image.path for image in done.images] == [paths[0], paths[2]]
    assert list(done.skipped) == [films / "broken.png"]
    assert [image.picture.name for image in done.images] == ["=film L_CC.png", "=film L_CC-2.png"]
    assert all(image.picture.is_file() for image in done.images)
    assert len(list((films / "marked" / "previews").iterdir())) == 2
    marks = pd.read_csv(films / "marked" / "marks.csv")
    assert marks[["mark", "top", "left", "bottom", "right"]].to_numpy().tolist() == [[1, 64, 16, 80, 32]] * 2
    written = json.loads((films / "marked" / "marks.json").read_text())
    assert [image["marks"][0]["top"] for image in written["images"]] == [64, 64]
    assert written["images"][0]["laterality_from"] == "the name"
    assert written["skipped"][0]["path"] == "~/broken.png"
    assert str(films) not in (films / "marked" / "marks.json").read_text()
    assert str(films) not in (films / "marked" / "marks.csv").read_text()
    assert written["threshold"] == 0.5
    assert "pixel size of 2 images is not known" in done.notes[0]


def test_the_line_of_an_image_says_what_was_taken_for_granted(model: Path, films: Path) -> None:
    path = films / "one" / "=film L_CC.png"
    (image,) = predict([path], out=films / "a", model=model, laterality="R", spacing_mm=0.1).images
    assert image.line() == (
        f"{path}: 1 mark, the first with probability 0.73; right breast by the option, hanging mirrored; "
        "0.1 mm a pixel, resampled to 0.2"
    )


def test_results_that_are_there_stay_unless_told(model: Path, films: Path) -> None:
    path = films / "one" / "=film L_CC.png"
    predict([path], out=films / "out", model=model)
    with pytest.raises(InputError, match="already exists"):
        predict([path], out=films / "out", model=model)
    predict([path], out=films / "out", model=model, overwrite=True)
    (films / "out" / "marks.csv").write_text("my,own\n")
    with pytest.raises(InputError, match=r"marks.csv: was not made by this command"):
        predict([path], out=films / "out", model=model, overwrite=True)


def test_an_input_is_never_replaced(model: Path, films: Path) -> None:
    path = films / "one" / "=film L_CC.png"
    before = path.read_bytes()
    with pytest.raises(InputError, match="which is read"):
        predict([path], out=films / "one", model=model, overwrite=True)
    assert path.read_bytes() == before


def test_marks_an_image_are_asked_of_the_detector_alone(model: Path, films: Path) -> None:
    with pytest.raises(InputError, match="of the detector alone"):
        predict([films / "x.png"], out=films / "out", model=model, marks_per_image=1.0)


def test_the_command_prints_a_line_an_image_and_exits_with_1_after_a_bad_one(model: Path, films: Path) -> None:
    good, bad = str(films / "one" / "=film L_CC.png"), str(films / "broken.png")
    result = CliRunner().invoke(main, ["predict", bad, good, "--model", str(model), "--out", str(films / "out")])
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{good}: 1 mark, ")
    assert f"error: {bad}: " in result.stderr
    assert CliRunner().invoke(main, ["predict"]).exit_code == 2


class TestDicomOut:
    def test_results_of_dicom_files_alone_go_to_the_folder(self, deep_model_path: Path, films: Path) -> None:
        source, png = write_source(films / "a.dcm"), films / "one" / "=film L_CC.png"
        done = predict(
            [source, png], out=films / "out", model=deep_model_path, threshold=0.01, dicom_out=films / "results"
        )
        assert [image.path for image in done.images] == [source]
        assert "must be DICOM" in done.skipped[png]
        assert sorted(path.name for path in (films / "results").iterdir()) == ["a-sc.dcm", "a-seg.dcm", "a-sr.dcm"]
        report = dcmread(films / "results" / "a-sr.dcm")
        assert report.PatientID == "4711"
        marks = pd.read_csv(films / "out" / "marks.csv")
        assert len(marks) == len(dcmread(films / "results" / "a-seg.dcm").SegmentSequence) >= 1

    def test_tables_console_and_pictures_name_no_patient(
        self, deep_model_path: Path, films: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        source = write_source(
            films / "a.dcm", PatientName="SECRET^NAME", PatientID="SECRET-ID", AccessionNumber="SECRET"
        )
        arguments = [str(source), "--model", str(deep_model_path), "--out", str(films / "out"), "--threshold", "0.01"]
        result = CliRunner().invoke(main, ["predict", *arguments, "--dicom-out", str(films / "results")])
        assert result.exit_code == 0, result.output
        told = result.output + "".join(capfd.readouterr())
        told += (films / "out" / "marks.csv").read_text() + (films / "out" / "marks.json").read_text()
        assert "SECRET" not in told
        assert "19600102" not in told
        assert b"SECRET" not in (films / "out" / "a.png").read_bytes()

    def test_a_folder_that_holds_the_images_is_refused(self, deep_model_path: Path, films: Path) -> None:
        source = write_source(films / "a.dcm")
        with pytest.raises(InputError, match="which is read"):
            predict([source], out=films / "out", model=deep_model_path, dicom_out=films)

    def test_without_the_extra_it_says_how_to_install_it(
        self, deep_model_path: Path, films: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delitem(sys.modules, "mmgkeras.pacs.dicom_results", raising=False)
        monkeypatch.setitem(sys.modules, "highdicom", None)
        source = write_source(films / "a.dcm")
        with pytest.raises(InputError, match=r"--dicom-out needs highdicom.*pip install 'mmgkeras\[pacs\]'"):
            predict([source], out=films / "out", model=deep_model_path, dicom_out=films / "results")
        assert not (films / "out").exists()
