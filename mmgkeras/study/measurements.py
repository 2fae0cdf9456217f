"""timing.csv, shortcut.csv and pointing.csv: what is measured of a fold's model beside its predictions.

Owns their columns, their one reader and their one writer. What the numbers mean is told where they are measured.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pandas as pd

from mmgkeras.files import atomic_file
from mmgkeras.tables.cells import to_cells
from mmgkeras.tables.rows import FLAG, LABEL, PART, PLACE, TEXT, Column, frame_of, read_table

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
        to_cells(written).to_csv(temporary, index=False, lineterminator="\n")
