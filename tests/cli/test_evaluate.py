import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from mmgkeras.cli import main

from mmgkeras.patches.store import PatchStore


@pytest.fixture
def model(tmp_path: Path, quadrant_store: Path, export_mean_model: Callable[..., Path]) -> Path:
    checksum = PatchStore.open(quadrant_store).checksum
    return export_mean_model(tmp_path / "mean" / "1", changes={"store_checksum": checksum})


def test_metrics_are_printed_and_the_tables_written(model: Path, quadrant_store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["evaluate", "--model", str(model), "--store", str(quadrant_store), "--out", str(out)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert re.search(r"\b2 positive .*\b6 negative .*\b2 images .*\b2 patients\b", result.stdout)
    assert "diagnosis" in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 80
    names = {path.name for path in out.iterdir()}
    assert names == {"predictions.csv", "metrics.json", "metrics.csv", "mammograms.csv"}
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1
    assert again.stderr.startswith(f"error: {out / 'predictions.csv'}: ")
    assert again.stderr.endswith("--overwrite\n")
    first = result.stdout.splitlines()
    predictions = ["--predictions", str(out / "predictions.csv"), "--out", str(tmp_path / "again")]
    recomputed = CliRunner().invoke(main, ["evaluate", *predictions]).stdout.splitlines()
    assert recomputed == [line for line in first if not line.startswith(("Seconds", "  on "))]


def test_an_external_store_is_said_on_stderr(
    quadrant_store: Path, tmp_path: Path, export_mean_model: Callable[..., Path]
) -> None:
    model = export_mean_model(tmp_path / "mean" / "1")
    result = CliRunner().invoke(
        main, ["evaluate", "--model", str(model), "--store", str(quadrant_store), "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 0, result.output
    assert f"note: {quadrant_store}" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [[], ["--model", "m"], ["--store", "s"], ["--predictions", "p.csv", "--store", "s"]],
)
def test_sources_that_do_not_go_together_are_wrong_usage(arguments: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["evaluate", *arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert all(option in result.stderr for option in ("--model", "--store", "--predictions"))


def test_a_threshold_of_zero_is_wrong_usage(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["evaluate", "--threshold", "0", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2


def test_a_folder_that_is_no_model_is_one_line(quadrant_store: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "out"
    model.mkdir()
    result = CliRunner().invoke(
        main, ["evaluate", "--model", str(model), "--store", str(quadrant_store), "--out", str(out)]
    )
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {model}: ")
    assert not out.exists()
