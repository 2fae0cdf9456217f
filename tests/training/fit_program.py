"""`mmgkeras fit` as a program, for tests: how it is called, and what it says when it refuses."""

import subprocess
import sys

import numpy as np
from click.testing import CliRunner
from mmgkeras.cli import main

WIDTH = 0.25
COMMON = ["--fold", "1"]
for setting in ("model.weights=none", f"model.width={WIDTH}", "train.batch_size=54"):
    COMMON += ["--set", setting]
"""54 of 272 samples: five steps an epoch. A narrow network, for it learns in a fifth of the time."""


def arguments(store, folder, *more):
    return [
        "fit",
        "--store",
        str(store),
        "--run",
        str(folder / "run"),
        "--export",
        str(folder / "model"),
        *COMMON,
        *more,
    ]


def start(store, folder, *more):
    command = [sys.executable, "-c", "from mmgkeras.cli import main; main()", *arguments(store, folder, *more)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process):
    stdout, stderr = process.communicate(timeout=3600)
    assert process.returncode == 0, stderr
    return stdout, stderr


def saved_weights(run):
    with np.load(run / "checkpoint.npz") as arrays:
        return {name: arrays[name] for name in arrays.files if name.startswith("model/")}


def refused(store, folder, *more):
    """The one line of a refused start, after which nothing new is there."""
    before = sorted(folder.rglob("*"))
    result = CliRunner().invoke(main, arguments(store, folder, *more))
    assert result.exit_code == 1, result.output
    assert sorted(folder.rglob("*")) == before
    assert not result.stdout
    (line,) = result.stderr.splitlines()
    return line
