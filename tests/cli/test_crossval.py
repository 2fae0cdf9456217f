"""The command's own part: its options, its table, and how the processes of its jobs end."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mmgkeras.cli import main

from mmgkeras.config import Config
from mmgkeras.crossval.cross_validate import Crossvalidated, JobCrashError
from mmgkeras.crossval.summary_table import JobRow
from mmgkeras.errors import InputError, InputFaultsError
from mmgkeras.evaluation.metrics import measure
from mmgkeras.study.layout import FoldJob

worker = sys.modules["mmgkeras.cli.crossval"]
"""The module; in the package its name is the command's."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the library's function was called with; it reports one fold, and notes a line."""
    values: dict[str, Any] = {}

    def fake_crossval(store: Path, **arguments: Any) -> Crossvalidated:
        import pandas as pd

        values.update(arguments, store=store)
        frame = pd.DataFrame({"image_id": "a", "patient_id": "p", "label": [1, 0], "probability": [0.75, 0.25]})
        metrics = measure(frame)
        row = JobRow(job=FoldJob("x" * 40, 0, 1), tissue=metrics, all_patches=metrics, training_minutes=1234.56)
        arguments["report"]([row, row])
        arguments["note"]("something to know")
        return Crossvalidated(rows=[row, row], num_done_before=1)

    monkeypatch.setattr("mmgkeras.crossval.cross_validate.crossval", fake_crossval)
    return values


def config_files(folder: Path, *names: str) -> list[str]:
    """--config of each, in a folder of its own."""
    arguments = []
    for number, name in enumerate(names):
        path = folder / str(number) / f"{name}.toml"
        path.parent.mkdir()
        path.write_text(f"[train]\nepochs = {number + 1}\n")
        arguments += ["--config", str(path)]
    return arguments


def crossval(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["crossval", "--store", "store", "--out", "out", *arguments])


def test_networks_are_called_by_their_files_and_the_table_fits(
    asked: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["mmgkeras", "crossval", "--out", "my folder"])
    more = ["--set", "train.l2=0.1", "--folds", "2,1", "--seeds", "0, 3", "--placement", "per-gpu", "--devices", "2"]
    result = crossval(*config_files(tmp_path, "resnet18", "resnet50"), *more)
    assert result.exit_code == 0, result.output
    assert {name: config.train.epochs for name, config in asked["configs"].items()} == {"resnet18": 1, "resnet50": 2}
    assert {config.train.l2 for config in asked["configs"].values()} == {0.1}
    assert (asked["folds"], asked["seeds"], asked["placement"], asked["devices"]) == ((2, 1), (0, 3), "per-gpu", "2")
    assert asked["command"] == "mmgkeras crossval --out 'my folder'"
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].split() == ["x" * 25 + "...", "0", "1", "1.000", "1.000", "1.000", "1.000", "1234.6"]
    assert lines[-1] == "crossval: out"
    assert result.stderr == "note: something to know\n2 folds done, 1 of them before\n"


def test_all_folds_and_the_first_seed_are_the_default(asked: Mapping[str, Any], tmp_path: Path) -> None:
    assert crossval(*config_files(tmp_path, "resnet18")).exit_code == 0
    assert (asked["folds"], asked["seeds"], asked["placement"]) == (None, (0,), "mirrored")


def test_two_files_of_one_name_are_refused(asked: Mapping[str, Any], tmp_path: Path) -> None:
    result = crossval(*config_files(tmp_path, "resnet18", "resnet18"))
    assert result.exit_code == 1
    assert result.stderr == (
        f"error: {tmp_path / '1' / 'resnet18.toml'}: is called resnet18, as another configuration; "
        "give files of different names\n"
    )
    assert asked == {}


@pytest.mark.parametrize("text", ["0", "1,1", "1,,2", "one", "-1", "", "1_0", "\uff11", "9" * 5000])
def test_folds_that_are_no_numbers_are_wrong_usage(asked: Mapping[str, Any], tmp_path: Path, text: str) -> None:
    result = crossval(*config_files(tmp_path, "resnet18"), "--folds", text)
    assert result.exit_code == 2
    assert "Received: " in " ".join(result.stderr.split())


JOB = FoldJob("resnet18", 0, 1)


@pytest.mark.parametrize("has_own_terminal", [True, False])
def test_a_process_that_ends_well_is_a_job_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has_own_terminal: bool
) -> None:
    monkeypatch.setattr(worker, "_START", "import sys; print(sys.argv[1:], file=sys.stderr)")
    worker.process_launcher(tmp_path, has_own_terminal=has_own_terminal)(JOB, "GPU:1")
    log = tmp_path / "resnet18" / "seed0" / "fold1" / "log.txt"
    if has_own_terminal:
        assert not log.exists()
    else:
        assert log.read_text() == f"{[str(tmp_path), 'resnet18/seed0/fold1', 'GPU:1', 'alone']}\n"


def test_the_faults_of_a_process_are_told_with_its_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(worker, "_START", "import sys; print('one'); print('two'); sys.exit(1)")
    with pytest.raises(InputFaultsError, match=r"^resnet18/seed0/fold1: one\nresnet18/seed0/fold1: two$"):
        worker.process_launcher(tmp_path, has_own_terminal=False)(JOB, "CPU:0")


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("import os; os.kill(os.getpid(), 9)", "was killed by signal 9, "),
        ("raise SystemExit(3)", "ended with code 3, "),
        ("1 / 0", "ended with code 1, "),
    ],
)
def test_a_process_that_crashes_is_told_from_a_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, how: str
) -> None:
    monkeypatch.setattr(worker, "_START", code)
    with pytest.raises(JobCrashError, match=f"^its process {how}.*fold1/log.txt$"):
        worker.process_launcher(tmp_path, has_own_terminal=False)(JOB, "CPU:0")


def test_a_log_that_cannot_be_written_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(worker, "_START", "")
    (tmp_path / "resnet18").write_text("")
    with pytest.raises(InputError, match=r"log.txt: cannot be written: "):
        worker.process_launcher(tmp_path, has_own_terminal=False)(JOB, "CPU:0")


def test_the_files_of_the_paper_are_its_protocol() -> None:
    from mmgkeras.config import ModelConfig, read_config

    for name in ("resnet18", "resnet50", "resnet101"):
        path = Path(__file__).parents[2] / "configs" / f"sakaida2023-{name}.toml"
        assert read_config(path) == Config(model=ModelConfig(network=name, normalisation="training"))
