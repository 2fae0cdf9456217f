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

from mmgkeras.tables.columns import integers, note_duplicates, note_outside, texts
from mmgkeras.tables.rows import read_table, write_table

LABEL_COLUMNS: Final = ("image_id", "row", "col", "label")


def read_labels(path: Path) -> pd.DataFrame:
    """The frame of labels.csv: image_id str, row and col int64 from 0, label int8 of 1, 0, -1; index is the line.

    Raises:
        InputError: if the file cannot be read.
        InputFaultsError: every missing or unknown column, empty id, bad number, unknown label and patch labelled
            twice.
    """
    table = read_table(path, required=LABEL_COLUMNS, optional=("reader",))
    image_ids = texts(table, "image_id")
    rows, cols, labels = (integers(table, name) for name in ("row", "col", "label"))
    note_outside(table, rows, name="row", low=0)
    note_outside(table, cols, name="col", low=0)
    note_outside(table, labels, name="label", low=-1, high=1)
    note_duplicates(
        table, list(zip(image_ids, rows.tolist(), cols.tolist(), strict=True)), rule="a patch must have one label"
    )
    table.raise_faults()
    return pd.DataFrame(
        {"image_id": pd.Series(image_ids, dtype="str"), "row": rows, "col": cols, "label": labels.astype(np.int8)},
    ).set_index(pd.Index(table.lines, name="line", dtype=np.int64))


def write_labels(path: Path, labels: Iterable[tuple[str, int, int, int]], *, overwrite: bool = False) -> None:
    """Writes labels.csv from (image_id, row, col, label).

    Raises:
        InputError: if the file exists and `overwrite` is not set, or cannot be written.
    """
    write_table(path, columns=LABEL_COLUMNS, rows=labels, overwrite=overwrite)
