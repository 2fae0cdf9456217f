"""`mmgkeras crossval` as a program: a real training, killed and started again, comes to the same files."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

TIMEOUT_S = 3600
STEPS_PER_EPOCH = 5


def start(store: Path, config: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    arguments = ["crossval", "--store", str(store), "--config", str(config), "--out", str(out), "--folds", "2", *more]
    command = [sys.executable, "-c", "from mmgkeras.cli import main; main()", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> str:
    stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, stderr
    return stdout


@pytest.fixture(scope="module")
def whole_and_killed(training_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """The folder of a job left alone, that of one whose parent was killed after an epoch, and what that one printed.

    The first has its processor to itself, as with one process for each GPU; the second is mirrored.
    """
    folder = tmp_path_factory.mktemp("crossval")
    config, (whole, killed) = folder / "tiny.toml", (folder / "whole", folder / "killed")
    config.write_text('[model]\nweights = "none"\nwidth = 0.25\n[train]\nepochs = 3\nbatch_size = 54\n')
    alone = start(training_store, config, whole, "--placement", "per-gpu", "--devices", "CPU:0")
    process = start(training_store, config, killed)
    checkpoint = killed / "tiny" / "seed0" / "fold2" / "run" / "checkpoint.npz"
    deadline = time.monotonic() + TIMEOUT_S
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    # Its stderr is the job's as well: it is at its end only when that process, too, has ended.
    process.communicate(timeout=TIMEOUT_S)
    printed = finished(start(training_store, config, killed))
    finished(alone)
    return whole / "tiny" / "seed0" / "fold2", killed / "tiny" / "seed0" / "fold2", printed


def test_a_queue_that_was_killed_goes_on_where_it_was(whole_and_killed: tuple[Path, Path, str]) -> None:
    environments = [json.loads((folder / "run" / "environment.json").read_text()) for folder in whole_and_killed[:2]]
    assert [start["step"] for start in environments[0]["starts"]] == [0]
    first, second = (start["step"] for start in environments[1]["starts"])
    assert first == 0
    assert STEPS_PER_EPOCH <= second < 3 * STEPS_PER_EPOCH


@pytest.mark.parametrize("name", ["predictions.csv", "../predictions.csv"])
def test_it_comes_to_the_same_files(whole_and_killed: tuple[Path, Path, str], name: str) -> None:
    whole, killed, _ = whole_and_killed
    assert (killed / name).read_bytes() == (whole / name).read_bytes()


def test_what_was_left_out_is_written_down_with_the_reason(whole_and_killed: tuple[Path, Path, str]) -> None:
    for folder in whole_and_killed[:2]:
        assert not (folder / "shortcut.csv").exists()  # the store's images are noise, in which no breast is found
        skipped = json.loads((folder / "done.json").read_text())["skipped"]
        assert skipped == {
            "shortcut.csv": "no tissue patch of the test subset is free of calcification",
            "pointing.csv": "the class activation has one cell for a whole patch, which points nowhere",
        }


def test_it_comes_to_the_same_model(whole_and_killed: tuple[Path, Path, str]) -> None:
    models = [folder / "model" / "1" for folder in whole_and_killed[:2]]
    for name in ("variables/variables.data-00000-of-00001", "MODEL_CARD.md", "assets.extra/mmgkeras.json"):
        assert (models[0] / name).read_bytes() == (models[1] / name).read_bytes()


def test_the_process_of_a_job_writes_to_its_log_or_the_terminal(whole_and_killed: tuple[Path, Path, str]) -> None:
    whole, killed, _ = whole_and_killed
    log = (whole / "log.txt").read_text()
    assert "tiny/seed0/fold2: epoch 3: loss " in log
    assert "Traceback" not in log
    assert not (killed / "log.txt").exists()


def test_the_table_and_the_folder_are_printed(whole_and_killed: tuple[Path, Path, str]) -> None:
    _, killed, printed = whole_and_killed
    lines = printed.splitlines()
    assert lines[1].split()[:3] == ["tiny", "0", "2"]
    assert lines[-1] == f"crossval: {killed.parents[2]}"
