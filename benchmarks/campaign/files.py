"""The files that mmgkeras reads back, each with what reads it: targets for mutations.

Every target is a small file of its kind in a folder made by `make_targets`, and a function that reads it as a command
would. A reader either takes the file or raises an MmgError.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.campaign.mutations import forge, mutations
from mmgkeras.config import read_config
from mmgkeras.errors import MmgError
from mmgkeras.patches.split import fold_patches
from mmgkeras.patches.store import PatchStore
from mmgkeras.savedmodel.metadata import METADATA_FILE, read_metadata
from mmgkeras.schema import Region
from mmgkeras.study.layout import FoldJob, read_done
from mmgkeras.study.read import read_study
from mmgkeras.study.run_files import POINTING, SHORTCUT, TIMING, read_environment, read_history, read_measurements
from mmgkeras.tables import read_images, read_labels, read_predictions, read_regions, write_labels, write_regions

KEPT = Path(__file__).resolve().parents[2] / "tests" / "data" / "crossval-0.1.0"
JOB = FoldJob("sakaida2023-resnet18", 0, 1)


@dataclass(frozen=True, slots=True)
class Target:
    """A file, what reads it, and the store whose checksums are redone after it was changed, if it is forged."""

    name: str
    path: Path
    read: Callable[[], object]
    forged: Path | None = None


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
    (crossval / "crossval.json").write_text((crossval / "crossval.json").read_text().replace(before, after))
    write_labels(folder / "labels.csv", [("a", 0, col, col % 2) for col in range(5)])
    write_regions(
        folder / "regions.csv", [Region("a", str(n), "cluster", "circle", ((n, 2), (3, 3))) for n in range(5)]
    )
    lines = (store / "images.csv").read_text().splitlines()
    (folder / "images.csv").write_text("\n".join(",".join(line.split(",")[:13]) for line in lines) + "\n")
    part, model = JOB.folder(crossval), JOB.model(crossval)

    def open_store() -> object:
        return fold_patches(PatchStore.open(store), 1)

    of_store = [
        Target(f"{name}{', forged' if forged else ''}", store / name, open_store, forged)
        for name in ("store.json", "patches.csv", "images.csv", "patches-00000.npy")
        for forged in (None, store)
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
        *of_study,
        Target("mmgkeras.json", model / METADATA_FILE, lambda: read_metadata(model)),
        Target("config.toml", part / "run" / "config.toml", lambda: read_config(part / "run" / "config.toml")),
        Target("images.csv of data", folder / "images.csv", lambda: read_images(folder / "images.csv")),
        Target("regions.csv", folder / "regions.csv", lambda: read_regions(folder / "regions.csv")),
        Target("labels.csv", folder / "labels.csv", lambda: read_labels(folder / "labels.csv")),
    ]


def mutate(target: Target, *, seed: int, number: int) -> Outcome:
    """Reads so many mutations of a target, and puts it back as it was."""
    data = target.path.read_bytes()
    manifest = None if target.forged is None else (target.forged / "store.json").read_bytes()
    taken, refused, failures = 0, 0, []
    for count, changed in enumerate(mutations(data, suffix=target.path.suffix, seed=seed, number=number)):
        target.path.write_bytes(changed)
        if target.forged is not None:
            forge(target.forged)
        try:
            target.read()
            taken += 1
        except MmgError as error:
            refused += 1
            failures += [f"mutation {count}: {fault}" for fault in faults_of_message(str(error))]
        except Exception as error:
            failures.append(f"mutation {count}: {type(error).__name__}: {str(error)[:200]}")
        if target.forged is not None and manifest is not None:
            (target.forged / "store.json").write_bytes(manifest)
    target.path.write_bytes(data)
    return Outcome(taken, refused, tuple(failures))


def faults_of_message(message: str) -> list[str]:
    """What a message to the user must not be: empty, unprintable, or longer than anyone reads."""
    lines = message.split("\n")
    faults = ["is empty"] if not all(lines) else []
    faults += ["has unprintable characters"] if not all(line.isprintable() for line in lines) else []
    faults += ["has too long a line"] if max(map(len, lines)) > 2100 else []
    return faults + (["has too many lines"] if len(lines) > 1001 else [])
