"""`mmgkeras fit` killed ten times and started again comes to the same model, byte for byte, and the same records."""

import csv
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util.tensor_util import make_ndarray

CHECKPOINT_STEPS = 3
STEPS_PER_EPOCH = 8
EPOCHS = 4
TIMEOUT_S = 300

# Imports once, then divides into a process of its own for each run: a third of the time of eleven whole starts.
SERVER = """
import json, os, sys
import mmgkeras.training.fit
from mmgkeras.cli import main
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 0)
        os.dup2(nowhere, 1)
        main(json.loads(line))
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Runs:
    """Starts `mmgkeras` with the same arguments again and again."""

    def __init__(self, arguments, stderr):
        self.arguments = arguments
        self.stderr = stderr
        with stderr.open("w") as errors:
            self.server = subprocess.Popen(
                [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )

    def start(self):
        """Starts a run; its process id."""
        self.server.stdin.write(json.dumps(self.arguments) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())

    def has_ended(self):
        return bool(select.select([self.server.stdout], [], [], 0)[0])

    def code(self):
        """The exit code of the run, once it has ended."""
        return int(self.server.stdout.readline())

    def kill_when(self, condition):
        """Starts a run and kills it as soon as the condition holds."""
        pid = self.start()
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert not self.has_ended(), f"ended with {self.code()} before it was killed: {self.stderr.read_text()}"
            assert time.monotonic() < deadline
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)
        assert self.code() == -signal.SIGKILL

    def close(self):
        self.server.stdin.close()
        self.server.wait(timeout=TIMEOUT_S)
        self.server.stdout.close()


def fit_arguments(store, folder):
    values = {
        "model.weights": "none",
        "train.batch_size": 34,
        "train.epochs": EPOCHS,
        "train.checkpoint_steps": CHECKPOINT_STEPS,
    }
    places = ["--store", str(store), "--run", str(folder / "run"), "--export", str(folder / "model")]
    settings = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    return ["fit", *places, "--fold", "1", *settings]


def a_save(folder):
    """True while a checkpoint is being written."""
    return lambda: any((folder / "run").glob(".checkpoint.npz.*.partial"))


def new_checkpoint(folder, *, delay_s):
    """True some time after the checkpoint was replaced for the first time from now on."""
    path = folder / "run" / "checkpoint.npz"
    before = path.stat().st_ino if path.exists() else None
    seen = []

    def condition():
        if not seen and path.exists() and path.stat().st_ino != before:
            seen.append(time.monotonic())
        return bool(seen) and time.monotonic() >= seen[0] + delay_s

    return condition


def events_begun(folder):
    """True when TensorBoard's folder is there: before the first checkpoint, in the first epoch."""
    return (folder / "run" / "tensorboard").exists


def new_row(folder):
    """True when history.csv has a row more than now: between an epoch and the next."""
    path = folder / "run" / "history.csv"

    def num_rows():
        return path.read_text().count("\n") - 1 if path.exists() else 0

    before = num_rows()
    return lambda: num_rows() > before


def export_begun(folder):
    """True while the SavedModel is being written."""
    return lambda: any((folder / "model").glob(".1.*.partial"))


@pytest.fixture(scope="module")
def uninterrupted_and_killed(training_store, tmp_path_factory):
    """The folders of a run that was left alone and of one that was killed ten times."""
    whole, killed = (tmp_path_factory.mktemp(name) for name in ("whole", "killed"))
    command = [sys.executable, "-c", "from mmgkeras.cli import main; main()", *fit_arguments(training_store, whole)]
    with (whole / "stderr").open("w") as errors:
        alone = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
    runs = Runs(fit_arguments(training_store, killed), killed / "stderr")
    try:
        runs.kill_when(events_begun(killed))
        runs.kill_when(a_save(killed))
        runs.kill_when(new_checkpoint(killed, delay_s=0.1))
        runs.kill_when(new_checkpoint(killed, delay_s=0.05))
        runs.kill_when(new_row(killed))
        runs.kill_when(a_save(killed))
        runs.kill_when(new_checkpoint(killed, delay_s=0.1))
        runs.kill_when(new_row(killed))
        runs.kill_when(new_row(killed))
        runs.kill_when(export_begun(killed))
        runs.start()
        assert runs.code() == 0, runs.stderr.read_text()
    finally:
        runs.close()
    assert alone.wait(timeout=TIMEOUT_S) == 0, (whole / "stderr").read_text()
    return whole, killed


def test_the_variables_of_the_model_are_byte_equal(uninterrupted_and_killed):
    whole, killed = (folder / "model" / "1" / "variables" for folder in uninterrupted_and_killed)
    names = sorted(path.name for path in whole.iterdir())
    assert names == ["variables.data-00000-of-00001", "variables.index"]
    assert names == sorted(path.name for path in killed.iterdir())
    for name in names:
        assert (whole / name).read_bytes() == (killed / name).read_bytes()


def test_every_start_is_on_record(uninterrupted_and_killed):
    environment = json.loads((uninterrupted_and_killed[1] / "run" / "environment.json").read_text())
    steps = [start["step"] for start in environment["starts"]]
    assert len(steps) == 11
    assert steps == sorted(steps)
    assert steps[0] == 0
    assert steps[-1] == STEPS_PER_EPOCH * EPOCHS
    assert any(step % STEPS_PER_EPOCH for step in steps), "no start was in the middle of an epoch"


def test_history_is_the_same_but_for_the_clock(uninterrupted_and_killed):
    histories = []
    for folder in uninterrupted_and_killed:
        with (folder / "run" / "history.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["epoch"] for row in rows] == [str(1 + number) for number in range(EPOCHS)]
        histories.append([{**row, "patches_per_second": None} for row in rows])
    assert histories[0] == histories[1]


def read_events(folder):
    """(tag, step) and value of every event in all files."""
    return [
        ((value.tag, event.step), make_ndarray(value.tensor).tolist())
        for path in sorted((folder / "run" / "tensorboard").iterdir())
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]


def test_events_are_the_same_and_no_step_comes_twice(uninterrupted_and_killed):
    whole, killed = (read_events(folder) for folder in uninterrupted_and_killed)
    assert max(Counter(place for place, _ in killed).values()) == 1
    assert {place for place, _ in killed} == {place for place, _ in whole}
    expected = dict(whole)
    for (tag, step), value in killed:
        if tag != "patches_per_second":
            assert value == expected[tag, step], (tag, step)
    assert {"loss", "learning_rate", "auc", "sensitivity", "specificity", "patches_per_second"} <= {
        tag for (tag, _) in expected
    }


def test_nothing_half_written_is_left(uninterrupted_and_killed):
    names = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) for folder in uninterrupted_and_killed]
    assert [name for name in names[1] if "tfevents" not in name] == [
        name for name in names[0] if "tfevents" not in name
    ]
