"""labels.csv: what readers said of each patch, in place of regions.

One row for each patch, by its place in the image's grid. A patch without a row is what an unmarked one is by the
image's annotation: without calcification where that is complete, else unknown. A column `reader` may be there, but
there must be one label for each patch, the readers' consensus (paper, 3.2).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from mmgkeras.tables.columns import LABEL, PLACE, TEXT, frame_of, note_duplicates
from mmgkeras.tables.rows import read_table, write_table

_COLUMNS: Final = {"image_id": TEXT, "row": PLACE, "col": PLACE, "label": LABEL}
LABEL_COLUMNS: Final = tuple(_COLUMNS)


def read_labels(path: Path) -> pd.DataFrame:
    """The frame of labels.csv: image_id str, row and col int64 from 0, label int8 of 1, 0, -1; index is the line.

    Raises:
        InputError: if the file cannot be read.
        InputFaultsError: every missing or unknown column, empty id, bad number, unknown label and patch labelled
            twice.
    """
    table = read_table(path, required=LABEL_COLUMNS, optional=("reader",))
    frame = frame_of(table, _COLUMNS)
    keys = list(zip(*(frame[name].tolist() for name in ("image_id", "row", "col")), strict=True))
    note_duplicates(table, keys, rule="a patch must have one label")
    table.raise_faults()
    return frame.astype({"label": np.int8}).set_index(pd.Index(table.lines, name="line", dtype=np.int64))


def write_labels(path: Path, labels: Iterable[tuple[str, int, int, int]], *, overwrite: bool = False) -> None:
    """Writes labels.csv from (image_id, row, col, label).

    Raises:
        InputError: if the file exists and `overwrite` is not set, or cannot be written.
    """
    write_table(path, columns=LABEL_COLUMNS, rows=labels, overwrite=overwrite)
