from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mmgkeras.cli import main


def test_a_folder_that_is_no_cross_validation_is_one_line(tmp_path: Path) -> None:
    out, study = tmp_path / "report", tmp_path / "study"
    study.mkdir()
    result = CliRunner().invoke(main, ["report", "--crossval", str(study), "--out", str(out)])
    assert result.exit_code == 1
    assert result.stderr == (f"error: {study}: is not the folder of a cross-validation: it has no crossval.json\n")
    assert not out.exists()


def test_an_output_that_is_there_is_refused_before_any_work(tmp_path: Path) -> None:
    study = tmp_path.with_name("study")
    result = CliRunner().invoke(main, ["report", "--crossval", str(study), "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert "--overwrite" in result.stderr


def test_too_few_resamples_are_wrong_usage(tmp_path: Path) -> None:
    arguments = ["--crossval", str(tmp_path), "--out", str(tmp_path / "report"), "--resamples", "10"]
    assert CliRunner().invoke(main, ["report", *arguments]).exit_code == 2


def test_every_option_reaches_the_library_and_the_page_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: dict[str, Any] = {}

    def write_report(crossval: Path, **options: Any) -> Path:
        received.update(options, crossval=crossval)
        page = tmp_path / "report.html"
        page.write_text("x" * 1_230_000)
        return page

    monkeypatch.setattr("mmgkeras.report.report.write_report", write_report)
    options = ["--store", "s", "--data", "d", "--external", "e1", "--external", "e2", "--resamples", "300"]
    result = CliRunner().invoke(main, ["report", "--crossval", "c", "--out", "o", *options, "--overwrite"])
    assert result.output == f"{tmp_path / 'report.html'}: 1.2 MB\n"
    del received["track"]
    assert received == {
        "crossval": Path("c"),
        "out": Path("o"),
        "store": Path("s"),
        "data": Path("d"),
        "externals": (Path("e1"), Path("e2")),
        "num_resamples": 300,
        "overwrite": True,
    }
