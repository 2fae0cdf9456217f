import shutil
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from mmgkeras.cli import COMMANDS, main
from mmgkeras.cli.console import NumberRange
from PIL import Image

from mmgkeras.savedmodel.detector import load_with_finer
from mmgkeras.savedmodel.metadata import patients_digest, read_metadata

CSV = """image_id,patient_id,fold,row,col,label,probability,tissue
a,p3,1,0,0,1,0.75,1
a,p3,1,0,1,1,0.25,1
b,p4,1,0,0,0,0.5,1
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, export_mean_model: Callable[..., Path]) -> Path:
    changes = {"held_out_patients_sha256": patients_digest(["p3", "p4"])}
    return export_mean_model(tmp_path_factory.mktemp("models") / "1", changes=changes)


@pytest.fixture
def model(tmp_path: Path, exported: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "mean" / "1"))


def test_a_threshold_that_is_given_goes_into_the_next_version(model: Path) -> None:
    result = CliRunner().invoke(main, ["threshold", "--model", str(model), "--threshold", "0.3"])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{model.with_name('2')}\n"
    point = read_metadata(model.with_name("2")).operating_point
    assert point is not None
    assert (point.threshold, point.kind, point.target) == (0.3, "given", None)


def test_the_finer_model_beside_it_comes_along(model: Path, export_finer_model: Callable[[Path], Path]) -> None:
    finer = export_finer_model(model)
    taken = finer.with_name("2")  # by another model of that name
    taken.mkdir()
    result = CliRunner().invoke(main, ["threshold", "--model", str(model), "--threshold", "0.3"])
    assert result.stdout == f"{model.with_name('3')}\n"
    loaded = load_with_finer(model.with_name("3"))
    assert loaded.metadata.threshold == 0.3
    assert loaded.finer is not None
    assert loaded.finer.metadata == read_metadata(finer)
    assert not list(taken.iterdir())


def test_a_finer_model_that_cannot_be_copied_leaves_no_version_without_it(
    model: Path, export_finer_model: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    finer, copy = export_finer_model(model), shutil.copytree

    def copy_unless_finer(source: Path, *arguments: object, **options: object) -> object:
        if source == finer:
            raise OSError(28, "No space left on device")
        return copy(source, *arguments, **options)

    monkeypatch.setattr(shutil, "copytree", copy_unless_finer)
    result = CliRunner().invoke(main, ["threshold", "--model", str(model), "--threshold", "0.3"])
    assert result.exit_code == 1
    assert "No space left" in result.stderr
    assert [path.name for path in model.parent.iterdir() if path.name.isdecimal()] == ["1"]


@pytest.mark.parametrize(
    ("target", "kind", "number", "threshold"),
    [
        ("sensitivity=0.5", "sensitivity", 0.5, 0.75),
        ("sensitivity=1", "sensitivity", 1, 0.25),
        ("false-positives=0", "false_positives_per_image", 0, 0.75),
        ("false-positives=1.5", "false_positives_per_image", 1.5, 0.25),
    ],
)
def test_a_threshold_is_chosen_from_predictions_and_said(
    model: Path, tmp_path: Path, target: str, kind: str, number: float, threshold: float
) -> None:
    predictions = tmp_path / "validation.csv"
    predictions.write_text(CSV)
    arguments = ["threshold", "--model", str(model), "--operating-point", target, "--predictions", str(predictions)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{model.with_name('2')}\n"
    notes = [line for line in result.stderr.splitlines() if line.startswith("note: ")]
    assert [note for note in notes if f"{threshold:.4f}" in note]
    assert [note for note in notes if "sensitivity" in note]
    point = read_metadata(model.with_name("2")).operating_point
    assert point is not None
    assert (point.threshold, point.kind, point.target) == (threshold, kind, number)


def test_the_test_subset_is_refused_in_one_line_and_nothing_written(model: Path, tmp_path: Path) -> None:
    predictions = tmp_path / "predictions.csv"
    predictions.write_text(CSV.replace("p3", "p1").replace("p4", "p2"))
    arguments = ["--operating-point", "sensitivity=0.9", "--predictions", str(predictions)]
    result = CliRunner().invoke(main, ["threshold", "--model", str(model), *arguments])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {predictions}: ")
    assert "fold 1" in result.stderr
    assert result.stderr.count("\n") == 1
    assert [path.name for path in model.parent.iterdir()] == ["1"]


def test_the_detector_gets_the_threshold_of_ones_own_mammograms_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "bad.png").write_bytes(b"\x89PNG")
    rows, cols = np.ogrid[:200, :200]
    breast = np.where((rows - 100) ** 2 + cols**2 < 80**2, 90, 0).astype(np.uint8)
    Image.fromarray(breast).save(tmp_path / "images" / "1_L_CC.png")
    arguments = ["--model", "detector", "--operating-point", "marks=0.5", "--images", str(tmp_path / "images")]
    result = CliRunner().invoke(main, ["threshold", *arguments])
    assert result.exit_code == 1
    assert result.stderr == "error: detector: comes with the package; say with --export where the new version goes\n"
    result = CliRunner().invoke(main, ["threshold", *arguments, "--export", str(tmp_path / "clinic")])
    assert result.exit_code == 1  # for the file that cannot be read
    assert result.stdout == f"{tmp_path / 'clinic' / '1'}\n"
    assert f"error: {tmp_path / 'images' / 'bad.png'}: is damaged" in result.stderr
    assert "chosen from 1 mammogram given as free of calcification" in result.stderr
    assert "patient on whom the model is tested" not in result.stderr  # but on phantoms
    clinic = load_with_finer(tmp_path / "clinic" / "1")
    point = clinic.metadata.operating_point
    assert point is not None
    assert (point.kind, point.target, point.threshold) == ("marks_per_image", 0.5, 0.5)
    assert clinic.finer is not None
    assert "for marks per image of 0.5" in (tmp_path / "clinic" / "1" / "MODEL_CARD.md").read_text()


def test_a_place_that_cannot_have_the_new_version_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    arguments = ["--model", "detector", "--operating-point", "marks=1", "--images", str(tmp_path / "none.png")]
    result = CliRunner().invoke(main, ["threshold", *arguments, "--export", str(tmp_path / "file")])
    assert result.exit_code == 1
    assert result.stderr == f"error: {tmp_path / 'file' / '1'}: cannot be written: Not a directory\n"


@pytest.mark.parametrize(
    "value",
    [
        "sensitivity",
        "sensitivity=0",
        "sensitivity=1.1",
        "sensitivity=nan",
        "false-positives=-1",
        "youden=1",
        "marks=1e-320",
    ],
)
def test_a_target_that_is_none_is_wrong_usage(value: str) -> None:
    arguments = ["threshold", "--model", "m/1", "--operating-point", value, "--predictions", "p.csv"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert f"Received: '{value}'" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--operating-point", "sensitivity=0.9"],
        ["--predictions", "p.csv"],
        ["--threshold", "0.3", "--predictions", "p.csv"],
        ["--threshold", "0.3", "--store", "s"],
        ["--threshold", "0.3", "--images", "i.png"],
        ["--operating-point", "marks=1", "--predictions", "p.csv"],
        ["--operating-point", "marks=1", "--images", "i.png", "--store", "s"],
        ["--operating-point", "sensitivity=0.9", "--images", "i.png"],
        ["--operating-point", "sensitivity=0.9", "--predictions", "p.csv", "--spacing-mm", "0.1"],
        ["--threshold", "0.3", "--operating-point", "sensitivity=0.9", "--predictions", "p.csv"],
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, ["threshold", "--model", "m/1", *arguments])
    assert result.exit_code == 2
    assert all(option in result.stderr for option in ("--operating-point", "--predictions", "--threshold"))


def test_the_overlay_marks_at_the_threshold_that_the_model_brings(
    model: Path, quadrant_data: Path, tmp_path: Path
) -> None:
    CliRunner().invoke(main, ["threshold", "--model", str(model), "--threshold", "0.99"])
    pictures = {}
    for name, arguments in {
        "default": ["1"],
        "own": ["2"],
        "asked": ["2", "--threshold", "0.5"],
    }.items():
        version, *more = arguments
        options = ["--model", str(model.with_name(version)), "--data", str(quadrant_data), "--image-id", "a"]
        result = CliRunner().invoke(main, ["overlay", *options, "--out", str(tmp_path / name), *more])
        assert result.exit_code == 0, result.output
        assert ("note: " in result.stderr) == (name != "asked")
        assert ("0.99" in result.stderr) == (name == "own")
        pictures[name] = (tmp_path / name / "a.png").read_bytes()
    assert pictures["default"] == pictures["asked"] != pictures["own"]


def test_the_earlier_name_works_and_says_the_new_one(model: Path) -> None:
    result = CliRunner().invoke(main, ["export", "--model", str(model), "--threshold", "0.3"])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{model.with_name('2')}\n"
    assert result.stderr.count("\n") == 1
    assert "deprecated" in result.stderr
    assert "mmgkeras threshold" in result.stderr


@pytest.mark.parametrize("command", ["threshold", "overlay", "evaluate"])
@pytest.mark.parametrize("value", ["nan", "NaN", "inf", "-inf", "0", "-0.1", "1.01", "0,5"])
def test_a_threshold_that_is_no_probability_is_wrong_usage(command: str, value: str) -> None:
    result = CliRunner().invoke(main, [command, f"--threshold={value}"])
    assert result.exit_code == 2
    assert "Invalid value for '--threshold'" in result.stderr


def test_no_option_takes_nan_for_a_number() -> None:
    """click's own range does: no comparison with its ends is true."""
    ranges = {
        f"{command.name} {option.name}": type(option.type)
        for command in COMMANDS
        for option in command.params
        if isinstance(option.type, click.FloatRange | click.types.FloatParamType)
    }
    assert set(ranges) >= {"evaluate threshold", "overlay threshold", "threshold value", "phantom spacing_mm"}
    assert set(ranges.values()) == {NumberRange}
