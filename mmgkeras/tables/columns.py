"""Whole columns of a table as arrays, for tables with a row for each patch or image. Faults are noted in the table."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.errors import shown
from mmgkeras.tables.rows import CONTROL, Table, finite, whole

_DIGITS: Final = frozenset("0123456789-")


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
        if name not in table.columns:
            continue
        if column.kind == "text":
            frame[name] = pd.Series(texts(table, name), dtype="str")
        else:
            values: NDArray[Any] = (
                integers(table, name)
                if column.kind == "whole"
                else numbers(table, name, may_be_empty=column.may_be_empty)
            )
            frame[name] = values
            note_outside(table, values, name=name, low=column.low, high=column.high)
    return frame


def texts(table: Table, name: str) -> list[str]:
    """A column of names, each there, without blanks around it and without control characters."""
    values = table.column(name)
    has_control = CONTROL.search("".join(values)) is not None
    for index, value in enumerate(values):
        if not value or value != value.strip():
            table.add_fault(index, f"{name} must not be empty or have blanks around it. Received: {shown(value)}")
        elif has_control and CONTROL.search(value):
            table.add_fault(index, f"{name} must hold no control character. Received: {shown(value)}")
    return values


def integers(table: Table, name: str) -> NDArray[np.int64]:
    """(rows,) int64 a column of whole numbers; 0 stands in for a faulty one."""
    values = table.column(name)
    try:
        if set("".join(values)) <= _DIGITS:
            return np.array([int(value) for value in values], dtype=np.int64)
    except (ValueError, OverflowError):
        pass  # the faulty ones are named below
    column = np.zeros(len(values), dtype=np.int64)
    for index, value in enumerate(values):
        number = whole(value)
        if number is None:
            table.add_fault(index, f"{name} must be a whole number. Received: {shown(value)}")
        else:
            column[index] = number
    return column


def numbers(table: Table, name: str, *, may_be_empty: bool = False) -> NDArray[np.float64]:
    """(rows,) float64 a column of finite numbers; NaN where it may be empty and is; 0 stands in for a faulty one."""
    column = np.zeros(len(table.rows), dtype=np.float64)
    for index, value in enumerate(table.column(name)):
        if may_be_empty and not value:
            column[index] = math.nan
        elif (number := finite(value)) is not None:
            column[index] = number
        else:
            more = " or empty" if may_be_empty else ""
            table.add_fault(index, f"{name} must be a finite number{more}. Received: {shown(value)}")
    return column


def note_outside(
    table: Table, values: NDArray[Any], *, name: str, low: float = -math.inf, high: float = math.inf
) -> None:
    """Notes each value that does not lie in [low, high]; NaN is no value."""
    allowed = f"at least {low:,.10g}" if high == math.inf else f"from {low:,.10g} to {high:,.10g}"
    for index in np.flatnonzero((values < low) | (values > high)):
        table.add_fault(int(index), f"{name} must be {allowed}. Received: {values[index]}")


def note_duplicates(table: Table, keys: Sequence[Hashable], *, rule: str) -> None:
    """Notes each key that an earlier row has too."""
    if len(set(keys)) == len(keys):
        return
    first_lines: dict[Hashable, int] = {}
    for index, key in enumerate(keys):
        line = table.lines[index]
        if first_lines.setdefault(key, line) != line:
            table.add_fault(index, f"{rule}; line {first_lines[key]} has it too. Received: {shown(key)}")
