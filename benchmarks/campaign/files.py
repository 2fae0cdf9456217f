"""The files that mmgkeras reads back, each with what reads it: targets for mutations.

Every target is a small file of its kind in a folder made by `make_targets`, and a function that reads it as a command
would. A reader either takes the file or raises an MmgError.
"""

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.campaign.mutations import forge, mutations
from mmgkeras.config import read_config
from mmgkeras.errors import MmgError
from mmgkeras.files import sha256_file
from mmgkeras.patches.split import fold_patches
from mmgkeras.patches.store import PatchStore
from mmgkeras.savedmodel.metadata import METADATA_FILE, read_metadata
from mmgkeras.schema import Region
from mmgkeras.study.layout import FoldJob, is_done, model_sha256, read_crossval, read_done
from mmgkeras.study.read import read_study
from mmgkeras.study.run_files import POINTING, SHORTCUT, TIMING, read_environment, read_history, read_measurements
from mmgkeras.tables import read_images, read_labels, read_predictions, read_regions, write_labels, write_regions
from mmgkeras.training.checkpoint import Progress, load_checkpoint, save_checkpoint, snapshot

KEPT = Path(__file__).resolve().parents[2] / "tests" / "data" / "crossval-0.1.0"
JOB = FoldJob("sakaida2023-resnet18", 0, 1)


@dataclass(frozen=True, slots=True)
class Target:
    """A file and what reads it.

    Attributes:
        name: of the kind.
        path: of the file.
        read: reads it as a command would.
        forge: redoes the checksums over it after it was changed; None where it is left as it is or has none.
        redone: the file that holds these checksums.
    """

    name: str
    path: Path
    read: Callable[[], object]
    forge: Callable[[], None] | None = None
    redone: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How mutations of one file ended: how many were taken and refused, and those that ended in another way."""

    taken: int
    refused: int
    failures: tuple[str, ...]


def make_targets(kept: Path, folder: Path) -> list[Target]:
    """The targets, in a folder that exists, of the cross-validation that is kept for the tests."""
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    store, crossval = folder / "store", folder / "crossval"
    np.save(store / "patches-00000.npy", np.zeros((675, 32, 32, 1), np.uint8))
    before = json.loads((store / "store.json").read_text())["checksum"]
    forge(store)
    after = json.loads((store / "store.json").read_text())["checksum"]
    for path in (crossval / "crossval.json", JOB.folder(crossval) / "done.json"):
        path.write_text(path.read_text().replace(before, after))
    write_labels(folder / "labels.csv", [("a", 0, col, col % 2) for col in range(5)])
    write_regions(
        folder / "regions.csv", [Region("a", str(n), "cluster", "circle", ((n, 2), (3, 3))) for n in range(5)]
    )
    lines = (store / "images.csv").read_text().splitlines()
    (folder / "images.csv").write_text("\n".join(",".join(line.split(",")[:13]) for line in lines) + "\n")
    part, model = JOB.folder(crossval), JOB.model(crossval)
    redo_model = partial(_redo, part / "done.json", ("model_sha256",), lambda: model_sha256(model))
    redo_model()

    def open_store() -> object:
        return fold_patches(PatchStore.open(store), 1)

    of_store = [
        Target(f"{name}{', forged' if redone else ''}", store / name, open_store, *redone)
        for name in ("store.json", "patches.csv", "images.csv", "patches-00000.npy")
        for redone in ((), (partial(forge, store), store / "store.json"))
    ]
    run = part / "run"
    measured = {"timing.csv": TIMING, "shortcut.csv": SHORTCUT, "pointing.csv": POINTING}
    of_study = [
        Target("crossval.json", crossval / "crossval.json", lambda: read_study(crossval)),
        Target("done.json", part / "done.json", lambda: read_done(crossval, JOB)),
        Target("predictions.csv", part / "predictions.csv", lambda: read_predictions(part / "predictions.csv")),
        *(
            Target(name, part / name, partial(read_measurements, part / name, columns))
            for name, columns in measured.items()
        ),
        Target("environment.json", run / "environment.json", lambda: read_environment(run)),
        Target("history.csv", run / "history.csv", lambda: read_history(run / "history.csv")),
    ]
    return [
        *of_store,
        Target("folds.csv", store / "folds.csv", open_store),
        Target(
            "folds.csv, forged",
            store / "folds.csv",
            lambda: (read_study(crossval), open_store()),
            partial(
                _redo, crossval / "crossval.json", ("store", "folds_sha256"), lambda: sha256_file(store / "folds.csv")
            ),
            crossval / "crossval.json",
        ),
        *of_study,
        Target("mmgkeras.json", model / METADATA_FILE, lambda: read_metadata(model)),
        Target(
            "mmgkeras.json, forged",
            model / METADATA_FILE,
            lambda: (_check_done(crossval), read_metadata(model)),
            redo_model,
            part / "done.json",
        ),
        _checkpoint(folder),
        Target("config.toml", part / "run" / "config.toml", lambda: read_config(part / "run" / "config.toml")),
        Target("images.csv of data", folder / "images.csv", lambda: read_images(folder / "images.csv")),
        Target("regions.csv", folder / "regions.csv", lambda: read_regions(folder / "regions.csv")),
        Target("labels.csv", folder / "labels.csv", lambda: read_labels(folder / "labels.csv")),
    ]


def _redo(path: Path, keys: tuple[str, ...], digest: Callable[[], str]) -> None:
    """Puts a digest into a JSON file."""
    values = json.loads(path.read_text())
    holder = values
    for key in keys[:-1]:
        holder = holder[key]
    holder[keys[-1]] = digest()
    path.write_text(json.dumps(values))


def _check_done(out: Path) -> None:
    crossval = read_crossval(out)
    if crossval is not None:
        is_done(out, JOB, crossval=crossval, files=())


class _Variable:
    """What a checkpoint needs of a variable."""

    path = "kernel"

    def __init__(self) -> None:
        self.value = np.arange(12, dtype=np.float32).reshape(3, 4)
        self.shape = self.value.shape

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(self.value, dtype=dtype)

    def assign(self, value: Any) -> None:
        self.value = value


def _checkpoint(folder: Path) -> Target:
    path, variables = folder / "checkpoint.npz", [_Variable()]
    save_checkpoint(path, snapshot(Progress(step=7), model=variables, optimizer=variables))
    return Target("checkpoint.npz", path, lambda: load_checkpoint(path, model=variables, optimizer=variables))


def mutate(target: Target, *, seed: int, number: int) -> Outcome:
    """Reads so many mutations of a target, and puts it back as it was."""
    data = target.path.read_bytes()
    redone = b"" if target.redone is None else target.redone.read_bytes()
    taken, refused, failures = 0, 0, []
    for count, changed in enumerate(mutations(data, suffix=target.path.suffix, seed=seed, number=number)):
        target.path.write_bytes(changed)
        if target.forge is not None:
            target.forge()
        try:
            with warnings.catch_warnings(action="error"):
                target.read()
            taken += 1
        except MmgError as error:
            refused += 1
            failures += [f"mutation {count}: {fault}" for fault in faults_of_message(str(error))]
        except Exception as error:
            failures.append(f"mutation {count}: {type(error).__name__}: {str(error)[:200]}")
        if target.redone is not None:
            target.redone.write_bytes(redone)
    target.path.write_bytes(data)
    return Outcome(taken, refused, tuple(failures))


def faults_of_message(message: str) -> list[str]:
    """What a message to the user must not be: empty, unprintable, or longer than anyone reads."""
    lines = message.split("\n")
    faults = ["is empty"] if not all(lines) else []
    faults += ["has unprintable characters"] if not all(line.isprintable() for line in lines) else []
    faults += ["has too long a line"] if max(map(len, lines)) > 2100 else []
    return faults + (["has too many lines"] if len(lines) > 1001 else [])
