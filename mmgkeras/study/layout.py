"""The files of one fold of a cross-validation, read and checked row by row.

Owns the columns of timing.csv, shortcut.csv and pointing.csv as the report takes them. Which files a study must have,
and what must agree between them, is `study`'s.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from mmgkeras.errors import InputError
from mmgkeras.tables.columns import integers, numbers, texts
from mmgkeras.tables.rows import Table, finite, read_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The columns of one kind of file, by what their fields are.

    Attributes:
        texts: names, never empty.
        integers: whole numbers.
        numbers: finite numbers.
        measured: finite numbers or empty fields, which become NaN.
    """

    texts: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """All names; a file may have them in any order."""
        return (*self.texts, *self.integers, *self.numbers, *self.measured)


SECONDS: Final = ("read_s", "divide_s", "infer_s", "draw_s")
"""The parts of the time that one mammogram takes, in the order of the work."""
TIMING: Final = Layout(texts=("image_id",), integers=("num_patches", "is_cold"), measured=SECONDS)
SHORTCUT: Final = Layout(
    texts=("image_id", "patient_id", "change"), integers=("row", "col", "label"), numbers=("probability",)
)
POINTING: Final = Layout(
    texts=("image_id", "patient_id"),
    integers=("row", "col", "is_hit"),
    numbers=("peak_row", "peak_col", "chance"),
)


def read_rows(path: Path, layout: Layout) -> pd.DataFrame | None:
    """The frame of a file in its own order, columns as in the layout; None where there is no file.

    Raises:
        InputError: if the file cannot be read.
        InputFaultsError: every missing or unknown column, and every field that is not what it must be.
    """
    if not path.is_file():
        return None
    table = read_table(path, required=layout.columns)
    frame = pd.DataFrame({name: pd.Series(texts(table, name), dtype="str") for name in layout.texts})
    for name in layout.integers:
        frame[name] = integers(table, name)
    for name in layout.numbers:
        frame[name] = numbers(table, name)
    for name in layout.measured:
        frame[name] = _measured(table, name)
    table.raise_faults()
    return frame


def read_json(path: Path, *, keys: Sequence[str]) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        InputError: if the file cannot be read, is not a JSON object, or lacks one of the keys.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path}: is not JSON. Received: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: must be a JSON object. Received: {type(values).__name__}")
    if missing := [key for key in keys if key not in values]:
        raise InputError(f"{path}: must be an object with {', '.join(keys)}. Missing: {', '.join(missing)}")
    return values


def read_history(path: Path) -> pd.DataFrame | None:
    """The rows of history.csv, one for each epoch, all float64 and NaN where empty; None where there is no file.

    Raises:
        InputError: if the file cannot be read or holds something else than numbers.
    """
    if not path.is_file():
        return None
    try:
        frame = pd.read_csv(path).astype("float64")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: must be a table of numbers. Received: {str(error).splitlines()[0]}") from error
    missing = [name for name in ("epoch", "loss") if name not in frame.columns]
    if missing:
        raise InputError(f"{path}: column {missing[0]} is missing. Received: {', '.join(map(str, frame.columns))}")
    return frame


def _measured(table: Table, name: str) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """(rows,) float64, NaN where the field is empty."""
    column = np.full(len(table.rows), np.nan)
    for index, value in enumerate(table.column(name)):
        if value:
            number = finite(value)
            if number is None:
                table.add_fault(index, f"{name} must be a finite number or empty. Received: {value!r}")
            else:
                column[index] = number
    return column
