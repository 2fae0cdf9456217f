"""Whole columns of a table as arrays, for tables with a row for each patch. Faults are noted in the table."""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgkeras.tables.rows import Table, finite


def texts(table: Table, name: str) -> list[str]:
    """A column of names, each there and without blanks around it."""
    values = table.column(name)
    for index, value in enumerate(values):
        if not value or value != value.strip():
            table.add_fault(index, f"{name} must not be empty or have blanks around it. Received: {value!r}")
    return values


def integers(table: Table, name: str) -> NDArray[np.int64]:
    """(rows,) int64 a column of whole numbers; 0 stands in for a faulty one."""
    values = table.column(name)
    try:
        return np.array([int(value) for value in values], dtype=np.int64)
    except (ValueError, OverflowError):
        return np.array([_integer(table, name, index=i, value=v) for i, v in enumerate(values)], dtype=np.int64)


def numbers(table: Table, name: str) -> NDArray[np.float64]:
    """(rows,) float64 a column of finite numbers; 0 stands in for a faulty one."""
    column = np.empty(len(table.rows), dtype=np.float64)
    for index, value in enumerate(table.column(name)):
        number = finite(value)
        if number is None:
            table.add_fault(index, f"{name} must be a finite number. Received: {value!r}")
        column[index] = 0.0 if number is None else number
    return column


def note_outside(
    table: Table, values: NDArray[Any], *, name: str, low: float = -math.inf, high: float = math.inf
) -> None:
    """Notes each value that does not lie in [low, high]."""
    allowed = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
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
            table.add_fault(index, f"{rule}; line {first_lines[key]} has it too. Received: {key}")


def _integer(table: Table, name: str, *, index: int, value: str) -> int:
    try:
        number = int(value)
    except ValueError:
        number = None
    if number is None or abs(number) >= 2**63:
        table.add_fault(index, f"{name} must be a whole number. Received: {value!r}")
        return 0
    return number
