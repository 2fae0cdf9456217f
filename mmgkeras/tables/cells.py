"""Text as it stands in the cells of our CSV files: a spreadsheet that opens one must not take a name for a formula.

Text that begins with = + - or @ gets an apostrophe before it, the sign that spreadsheets know for text; so does text
that begins with apostrophes and then one of these. A reader takes one away again, so that every text comes back as it
was. Numbers, and lists of them, stay as they are.
"""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import pandas as pd

_FORMULA: Final = re.compile(r"'*[=+\-@\t\r]")
_ESCAPED: Final = re.compile(r"'+[=+\-@\t\r]")
_NUMBERS: Final = re.compile(r"[-+.,eE0-9 ]+")


def to_cell(value: object) -> object:
    """A value to be written: text that a spreadsheet would take for a formula is escaped, all else is unchanged."""
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBERS.fullmatch(value):
        return f"'{value}"
    return value


def from_cell(text: str) -> str:
    """The text that was written to a cell."""
    return text[1:] if text[:1] == "'" and _ESCAPED.match(text) else text


def to_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """The same table with the text of its columns as `to_cell` writes it."""
    return _changed(frame, _FORMULA, to_cell)


def write_cells(frame: pd.DataFrame, path: Path, *, columns: list[str] | None = None, missing: str = "") -> None:
    """Writes a table as CSV, its text as `to_cell` gives it; `columns` are written, by default all.

    All of it is quoted where a carriage return stands alone in a text, for it would end the row: the CSV writers of
    pandas and Python leave it as it is.
    """
    cells = to_cells(frame)
    texts = [name for name in cells.columns if not pd.api.types.is_numeric_dtype(cells[name])]
    has_return = any(isinstance(value, str) and "\r" in value for name in texts for value in cells[name].unique())
    quoting: Literal[0, 1] = csv.QUOTE_ALL if has_return else csv.QUOTE_MINIMAL
    cells.to_csv(path, columns=columns, index=False, na_rep=missing, lineterminator="\n", quoting=quoting)


def from_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """The table that was written as `to_cells` gives it."""
    return _changed(frame, _ESCAPED, lambda value: from_cell(value) if isinstance(value, str) else value)


def _changed(frame: pd.DataFrame, pattern: re.Pattern[str], change: Callable[[Any], object]) -> pd.DataFrame:
    """A copy with the columns changed that hold text which matches; the frame itself where none does."""
    texts = [name for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name])]
    found = [name for name in texts if any(isinstance(v, str) and pattern.match(v) for v in frame[name].unique())]
    return frame.assign(**{name: frame[name].map(change) for name in found}) if found else frame
