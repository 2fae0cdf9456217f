"""predictions.csv: what a model said of each patch. All metrics come from it alone."""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from mmgkeras.errors import shown
from mmgkeras.files import atomic_file
from mmgkeras.tables.cells import write_cells
from mmgkeras.tables.columns import LABEL, PART, PLACE, TEXT, Column, frame_of, note_duplicates
from mmgkeras.tables.rows import Table, read_table

_COLUMNS: Final = {
    "image_id": TEXT,
    "patient_id": TEXT,
    "fold": Column("whole", low=1, high=26),
    "row": PLACE,
    "col": PLACE,
    "label": LABEL,
    "probability": PART,
    "tissue": PART,
}
PREDICTION_COLUMNS: Final = tuple(_COLUMNS)
BASELINE_PREFIX: Final = "untrained_"
"""Begins the names of further columns: scores of the same patch that no training went into."""


def read_predictions(path: Path) -> pd.DataFrame:
    """The frame of predictions.csv, in the file's order.

    image_id and patient_id str; fold int64 from 1; row and col int64 from 0; label int8 of 1, 0, -1; probability and
    tissue float64 in [0, 1]; each further column float64 if it is named untrained_*, else str.

    Raises:
        InputError: if the file cannot be read.
        InputFaultsError: every missing or unknown column, empty id, number that is bad, NaN or out of range, patch
            that appears twice in a fold, and image of two patients.
    """
    table = read_table(path, required=PREDICTION_COLUMNS, prefix=BASELINE_PREFIX, keeps_own=True)
    untrained = [name for name in table.columns if name.startswith(BASELINE_PREFIX)]
    frame = frame_of(table, _COLUMNS | dict.fromkeys(untrained, Column("number")))
    for name in table.columns:
        if name not in frame:
            frame[name] = pd.Series(table.column(name), dtype="str")
    keys = list(zip(*(frame[name].tolist() for name in ("fold", "image_id", "row", "col")), strict=True))
    note_duplicates(table, keys, rule="a patch (fold, image_id, row, col) must appear once")
    _note_shared_images(table, frame)
    table.raise_faults()
    return frame.astype({"label": np.int8})


def write_predictions(path: Path, frame: pd.DataFrame, *, overwrite: bool = False) -> None:
    """Writes predictions.csv: PREDICTION_COLUMNS, then the columns untrained_* of the frame, then the user's own.

    Raises:
        InputError: if the file exists and `overwrite` is not set, or cannot be written.
        ValueError: if the frame lacks a column or holds NaN.
    """
    untrained = [name for name in frame.columns if name.startswith(BASELINE_PREFIX)]
    if not set(PREDICTION_COLUMNS) <= set(frame.columns):
        raise ValueError(f"Predictions need the columns {PREDICTION_COLUMNS}. Received: {list(frame.columns)}")
    columns = list(dict.fromkeys([*PREDICTION_COLUMNS, *untrained, *frame.columns]))
    if frame.isna().any(axis=None):
        raise ValueError(f"Predictions must hold no NaN. Received: some in {list(frame.columns[frame.isna().any()])}")
    with atomic_file(path, overwrite=overwrite) as temporary:
        write_cells(frame, temporary, columns=columns)


def _note_shared_images(table: Table, frame: pd.DataFrame) -> None:
    owners: dict[str, str] = {}
    for index, (image, patient) in enumerate(zip(frame["image_id"], frame["patient_id"], strict=True)):
        if owners.setdefault(image, patient) != patient:
            patients = f"{shown(owners[image])} and {shown(patient)}"
            table.add_fault(index, f"image {shown(image)} must have one patient. Received: {patients}")
