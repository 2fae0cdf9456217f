"""The types of columns: what their fields must be, and whole columns of a table as numbers or text."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.errors import shown
from mmgkeras.json_files import CONTROL
from mmgkeras.tables.rows import Table, finite, whole


@dataclass(frozen=True, slots=True)
class Column:
    """What the fields of a column must be.

    Attributes:
        kind: a name that is not empty, a whole number, or a finite number.
        low, high: limits of a number, both allowed.
        may_be_empty: an empty field of a finite number is NaN.
    """

    kind: Literal["text", "whole", "number"]
    low: float = -math.inf
    high: float = math.inf
    may_be_empty: bool = False


TEXT: Final = Column("text")
PLACE: Final = Column("whole", low=0, high=10**6)
"""A row or column of a grid."""
LABEL: Final = Column("whole", low=-1, high=1)
FLAG: Final = Column("whole", low=0, high=1)
PART: Final = Column("number", low=0, high=1)


def frame_of(table: Table, columns: Mapping[str, Column]) -> pd.DataFrame:
    """The columns of a table, those of the mapping that it has: text str, whole int64, other numbers float64."""
    frame = pd.DataFrame(index=range(len(table.rows)))
    for name, column in columns.items():
        if name in table.columns:
            is_text = column.kind == "text"
            frame[name] = pd.Series(_texts(table, name), dtype="str") if is_text else _numbers(table, name, column)
    return frame


def _texts(table: Table, name: str) -> list[str]:
    values = table.column(name)
    has_control = CONTROL.search("".join(values)) is not None
    for index, value in enumerate(values):
        if not value or value != value.strip():
            table.add_fault(index, f"{name} must not be empty or have blanks around it. Received: {shown(value)}")
        elif has_control and CONTROL.search(value):
            table.add_fault(index, f"{name} must hold no control character. Received: {shown(value)}")
    return values


def _numbers(table: Table, name: str, column: Column) -> NDArray[Any]:
    """(rows,) int64 or float64; 0 stands in for a faulty field."""
    is_whole, low, high = column.kind == "whole", column.low, column.high
    parse: Callable[[str], float | None] = whole if is_whole else finite
    rule = "a whole number" if is_whole else f"a finite number{' or empty' if column.may_be_empty else ''}"
    numbers: list[float] = []
    for index, text in enumerate(table.column(name)):
        number = math.nan if column.may_be_empty and not text else parse(text)
        if number is None:
            table.add_fault(index, f"{name} must be {rule}. Received: {shown(text)}")
        numbers.append(0 if number is None else number)
    values = np.array(numbers, dtype=np.int64 if is_whole else np.float64)
    allowed = f"at least {low:,.10g}" if high == math.inf else f"from {low:,.10g} to {high:,.10g}"
    for place in np.flatnonzero((values < low) | (values > high)):
        table.add_fault(int(place), f"{name} must be {allowed}. Received: {values[place]}")
    return values


def note_duplicates(table: Table, keys: Sequence[Hashable], *, rule: str) -> None:
    """Notes each key that an earlier row has too."""
    if len(set(keys)) == len(keys):
        return
    first_lines: dict[Hashable, int] = {}
    for index, key in enumerate(keys):
        line = table.lines[index]
        if first_lines.setdefault(key, line) != line:
            table.add_fault(index, f"{rule}; line {first_lines[key]} has it too. Received: {shown(key)}")
