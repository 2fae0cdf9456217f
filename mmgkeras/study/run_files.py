"""The files of a fold: of its training run, environment.json and history.csv, and of what its model is measured by.

Owns the names of a run's files, and environment.json, history.csv, timing.csv, shortcut.csv and pointing.csv, reader
beside writer. What a training does with them is `training`'s; what the numbers mean is told where they are measured.
"""

import csv
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import pandas as pd
from pydantic import Field

from mmgkeras.errors import InputError
from mmgkeras.files import atomic_file, is_nobodys
from mmgkeras.json_files import (
    Count,
    FilePath,
    FoldNumber,
    JsonModel,
    Seed,
    Sha256,
    Text,
    read_json,
    read_path,
    write_json,
    written_path,
)
from mmgkeras.patches.split import LeakProof
from mmgkeras.tables.cells import write_cells
from mmgkeras.tables.columns import FLAG, LABEL, PART, PLACE, TEXT, Column, frame_of
from mmgkeras.tables.rows import read_table

CONFIG: Final = "config.toml"
ENVIRONMENT: Final = "environment.json"
CHECKPOINT: Final = "checkpoint.npz"
HISTORY: Final = "history.csv"
TENSORBOARD: Final = "tensorboard"
RUN_FILES: Final = (ENVIRONMENT, CONFIG, CHECKPOINT, HISTORY, f"{TENSORBOARD}/*")
"""Patterns of all files of a run, the one that makes it one first."""

SubsetLetter = Annotated[str, Field(pattern="^[A-Z]$")]


class Origin(JsonModel):
    """A model that a training started from, and which patients it did not learn from.

    Attributes:
        store_checksum: of the patch store that it was trained on.
        fold: 1-based.
        test_patients_sha256: `patients_digest` of the fold's test patients.
        variables_sha256: of the file with its weights.
    """

    store_checksum: Sha256
    fold: FoldNumber
    test_patients_sha256: Sha256
    variables_sha256: Sha256


class RunCounts(JsonModel):
    """How many patches a run learns from and holds out, augmented too, and how many steps an epoch has."""

    positives: Count
    negatives: Count
    validation: Count
    augmented_positives: Count
    augmented_negatives: Count
    steps_per_epoch: Count


class RunStart(JsonModel):
    """A start of a run: the step it began at, on which devices, with which programs."""

    step: Count
    devices: tuple[Text, ...]
    versions: dict[str, Text]


class Environment(JsonModel):
    """What environment.json says of a run; it names no patient and no image.

    Attributes:
        fold, test_subset, test_patients_sha256: what was left out of the training.
        store_checksum, training_patches_sha256: what it learns from.
        seed: of the training.
        leak_guard: that nothing is on both sides of the fold.
        counts: of patches.
        starts: one each time that the training began or went on.
        export: the folder of the model that comes of it.
        is_finished: the model has been exported.
        started_from: the models whose weights the training began with.
    """

    fold: FoldNumber
    test_subset: SubsetLetter
    test_patients_sha256: Sha256
    store_checksum: Sha256
    training_patches_sha256: Sha256
    seed: Seed
    leak_guard: LeakProof
    counts: RunCounts
    starts: tuple[RunStart, ...] = ()
    export: FilePath
    is_finished: bool = False
    started_from: tuple[Origin, ...] = ()


IDENTITY: Final = ("fold", "test_patients_sha256", "store_checksum", "training_patches_sha256")
"""What, with the configuration, makes two runs the same run."""


def read_environment(run: Path) -> Environment | None:
    """What environment.json of a run says; None where there is no run: no folder, or an empty one.

    Raises:
        InputError: if the folder holds something else, or the file is damaged.
    """
    if not run.exists() or (run.is_dir() and all(map(is_nobodys, run.iterdir()))):
        return None
    if not (run / ENVIRONMENT).exists():
        raise InputError(f"{run}: is not a run folder, it has no {ENVIRONMENT}; name another place")
    environment = read_json(run / ENVIRONMENT, Environment, hint="name another place for the run")
    return environment.model_copy(update={"export": read_path(environment.export, run)})


def write_environment(run: Path, environment: Environment) -> None:
    """Replaces environment.json; the model's place in it is relative to the run.

    Raises:
        InputError: if it cannot be written.
    """
    export = written_path(environment.export, run)
    write_json(run / ENVIRONMENT, environment.model_copy(update={"export": export}))


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One row of history.csv.

    Attributes:
        epoch: from 1.
        step: steps done at its end, of all epochs.
        learning_rate: of its steps.
        loss: mean cross-entropy of its samples, without L2.
        auc, sensitivity, specificity: of its samples as they were learned from.
        patches_per_second: by the clock; the one metric that another run will not repeat.
        validation_auc, validation_sensitivity, validation_specificity: of the patients held out, as patches are; NaN
            where none are.
    """

    epoch: int
    step: int
    learning_rate: float
    loss: float
    auc: float
    sensitivity: float
    specificity: float
    patches_per_second: float
    validation_auc: float = math.nan
    validation_sensitivity: float = math.nan
    validation_specificity: float = math.nan


HISTORY_COLUMNS: Final = tuple(column.name for column in dataclasses.fields(EpochRow))
_VALIDATION: Final = tuple(name for name in HISTORY_COLUMNS if name.startswith("validation_"))
_ORDINAL: Final = Column("whole", low=1, high=10**12)
_COLUMNS: Final = {
    name: _ORDINAL if name in ("epoch", "step") else Column("number", low=0, high=1e30, may_be_empty=True)
    for name in HISTORY_COLUMNS
}


def read_history(path: Path) -> pd.DataFrame:
    """The rows of history.csv, one for each epoch, columns of `EpochRow`; NaN where empty.

    Raises:
        InputError: if the file cannot be read.
        InputFaultsError: every missing or unknown column, and every field that is no number.
    """
    table = read_table(path, required=HISTORY_COLUMNS[: -len(_VALIDATION)], optional=_VALIDATION)
    frame = frame_of(table, _COLUMNS)
    table.raise_faults()
    return frame


def write_history(rows: Sequence[EpochRow], path: Path) -> None:
    """Replaces history.csv; columns of validation only where patients were held out, unknown metrics empty.

    Raises:
        InputError: if the file cannot be written.
    """
    held_out = any(not math.isnan(row.validation_specificity) for row in rows)
    columns = [column for column in HISTORY_COLUMNS if held_out or column not in _VALIDATION]
    with atomic_file(path, overwrite=True) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_text(getattr(row, column)) for column in columns] for row in rows)


def _text(value: float) -> str:
    return "" if math.isnan(value) else str(value) if isinstance(value, int) else f"{value:.6g}"


_SECONDS: Final = Column("number", low=0, high=10**6, may_be_empty=True)
_PIXEL: Final = Column("number", low=-(10**6), high=10**6)

SECONDS: Final = ("read_s", "divide_s", "infer_s", "draw_s")
"""The parts of the time that one mammogram takes, in the order of the work."""
TIMING: Final[Mapping[str, Column]] = {
    "image_id": TEXT,
    "num_patches": Column("whole", low=1, high=10**9),
    "is_cold": FLAG,
    **dict.fromkeys(SECONDS, _SECONDS),
}
SHORTCUT: Final[Mapping[str, Column]] = {
    "image_id": TEXT,
    "patient_id": TEXT,
    "row": PLACE,
    "col": PLACE,
    "label": LABEL,
    "change": TEXT,
    "probability": PART,
}
POINTING: Final[Mapping[str, Column]] = {
    "image_id": TEXT,
    "patient_id": TEXT,
    "row": PLACE,
    "col": PLACE,
    "peak_row": _PIXEL,
    "peak_col": _PIXEL,
    "is_hit": FLAG,
    "chance": PART,
}


def read_measurements(path: Path, columns: Mapping[str, Column]) -> pd.DataFrame | None:
    """The rows of one of these files, columns in their order; None where there is no file.

    Raises:
        InputError: if the file cannot be read.
        InputFaultsError: every missing or unknown column, and every field that is not what it must be.
    """
    if not path.exists():
        return None
    table = read_table(path, required=tuple(columns))
    frame = frame_of(table, columns)
    table.raise_faults()
    return frame


def write_measurements(path: Path, frame: pd.DataFrame, columns: Mapping[str, Column]) -> None:
    """Replaces one of these files; NaN is an empty field, and seconds are written to the microsecond.

    Raises:
        InputError: if the file cannot be written.
    """
    written = frame[list(columns)].round(dict.fromkeys(frame.columns.intersection(list(SECONDS)), 6))
    with atomic_file(path, overwrite=True) as temporary:
        write_cells(written, temporary)
