"""`mmgkeras fit` killed nine times and started again comes to the same model, byte for byte, and the same records."""

import csv
import json
import signal
import subprocess
import sys
from collections import Counter

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util.tensor_util import make_ndarray

from mmgkeras.savedmodel.metadata import read_metadata

CHECKPOINT_STEPS = 3
STEPS_PER_EPOCH = 8
EPOCHS = 4
PATIENCE_S = 3600
"""Nothing here depends on how fast the machine is: a run dies at a call that is counted, not at a time."""

DEATHS = (
    ("loop", "save_checkpoint", 1, "before"),  # events are there, no checkpoint is
    ("np", "savez", 1, "midway"),
    ("loop", "save_checkpoint", 2, "after"),  # while the training has gone on beside it
    ("loop", "write_history", 1, "before"),  # an epoch's checkpoint is there, its row is not
    ("loop", "write_history", 1, "after"),
    ("loop", "save_checkpoint", 2, "before"),
    ("export_run", "recalibrate_batch_norm", 1, "before"),
    ("tf.saved_model", "save", 1, "after"),  # half of an export
    ("export_run", "write_environment", 1, "before"),  # a model that the run does not know of
)
STARTS = [0, 0, 0, 6, 8, 16, 18, 32, 32, 32]
"""At which step each run begins, the last one being left alone."""

# Imports once, then divides into a process of its own for each run: a third of the time of as many whole starts.
SERVER = """
import json, os, signal, sys
import numpy as np
import tensorflow as tf
from mmgkeras.training import export_run, loop
import mmgkeras.training.fit
from mmgkeras.cli import main

def die_at(owner, name, call, moment):
    owner, calls = eval(owner), []
    original = getattr(owner, name)
    def counted(*arguments, **options):
        calls.append(name)
        if len(calls) < call:
            return original(*arguments, **options)
        if moment == "after":
            original(*arguments, **options)
        if moment == "midway":
            arguments[0].write(b"half of it")
            arguments[0].flush()
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(owner, name, counted)

for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        arguments, death = json.loads(line)
        if death:
            die_at(*death)
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 0)
        os.dup2(nowhere, 1)
        main(arguments)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def fit_arguments(store, folder):
    values = {
        "model.weights": "none",
        "model.width": 0.25,
        "model.normalisation": "training",
        "train.batch_size": 34,
        "train.ema_momentum": 0.9,
        "train.epochs": EPOCHS,
        "train.checkpoint_steps": CHECKPOINT_STEPS,
        "train.checkpoint_minutes": 1440,
    }
    places = ["--store", str(store), "--run", str(folder / "run"), "--export", str(folder / "model")]
    settings = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    return ["fit", *places, "--fold", "1", *settings]


@pytest.fixture(scope="module")
def runs_of_each_kind(training_store, tmp_path_factory):
    """The folders of a run left alone, of one killed nine times, and of one exported on its way."""
    whole, killed, stopped = (tmp_path_factory.mktemp(name) for name in ("whole", "killed", "stopped"))
    runs = [(fit_arguments(training_store, killed), death) for death in (*DEATHS, None)]
    runs.append((fit_arguments(training_store, whole), None))
    arguments = fit_arguments(training_store, stopped)
    runs += [(arguments, DEATHS[2]), ([*arguments, "--stop"], None), (arguments, None)]
    commands = "".join(json.dumps(run) + "\n" for run in runs)
    done = subprocess.run(
        [sys.executable, "-c", SERVER], input=commands, capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert [int(code) for code in done.stdout.split()] == [
        *[-signal.SIGKILL] * len(DEATHS),
        *(0, 0),
        *(-signal.SIGKILL, 0, 0),
    ], done.stderr
    return whole, killed, stopped


def test_the_variables_of_the_model_are_byte_equal(runs_of_each_kind):
    whole, killed = (folder / "model" / "1" / "variables" for folder in runs_of_each_kind[:2])
    names = sorted(path.name for path in whole.iterdir())
    assert names == ["variables.data-00000-of-00001", "variables.index"]
    assert names == sorted(path.name for path in killed.iterdir())
    for name in names:
        assert (whole / name).read_bytes() == (killed / name).read_bytes()


def test_every_start_is_on_record(runs_of_each_kind):
    environment = json.loads((runs_of_each_kind[1] / "run" / "environment.json").read_text())
    assert [start["step"] for start in environment["starts"]] == STARTS
    assert STARTS[-1] == STEPS_PER_EPOCH * EPOCHS


def test_history_is_the_same_but_for_the_clock(runs_of_each_kind):
    histories = []
    for folder in runs_of_each_kind[:2]:
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


def test_events_are_the_same_and_no_step_comes_twice(runs_of_each_kind):
    whole, killed = (read_events(folder) for folder in runs_of_each_kind[:2])
    assert max(Counter(place for place, _ in killed).values()) == 1
    assert {place for place, _ in killed} == {place for place, _ in whole}
    expected = dict(whole)
    for (tag, step), value in killed:
        if tag != "patches_per_second":
            assert value == expected[tag, step], (tag, step)
    assert {"loss", "learning_rate", "auc", "sensitivity", "specificity", "patches_per_second"} <= {
        tag for (tag, _) in expected
    }


def test_nothing_half_written_is_left(runs_of_each_kind):
    names = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) for folder in runs_of_each_kind[:2]]
    assert [name for name in names[1] if "tfevents" not in name] == [
        name for name in names[0] if "tfevents" not in name
    ]


def test_an_unfinished_run_is_exported_as_it_stands_and_says_so(runs_of_each_kind):
    model = runs_of_each_kind[2] / "model" / "1"
    told = "stopped in epoch 1 of 4, after 6 of 32 steps"
    assert str(read_metadata(model).stopped) == told
    assert told in (model / "MODEL_CARD.md").read_text()
    assert (model / "variables" / "variables.index").is_file()


def test_it_goes_on_to_the_same_model_as_another_version(runs_of_each_kind):
    whole, stopped = runs_of_each_kind[0] / "model" / "1", runs_of_each_kind[2] / "model" / "2"
    assert read_metadata(stopped) == read_metadata(whole)
    name = "variables/variables.data-00000-of-00001"
    assert (stopped / name).read_bytes() == (whole / name).read_bytes()
    assert json.loads((runs_of_each_kind[2] / "run" / "environment.json").read_text())["is_finished"]
