"""CSV rows with the lines they stand on, and the list of faults found in them.

Owns the CSV dialect (UTF-8, comma, double quotes, a byte order mark tolerated) and the types of columns; knows no
table.
"""

import csv
import difflib
import math
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TextIO, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.errors import InputError, InputFaultsError, shown
from mmgkeras.files import atomic_file
from mmgkeras.json_files import CONTROL
from mmgkeras.tables.cells import from_cell, to_cell

_T = TypeVar("_T", bound=str)

_WHOLE: Final = re.compile(r"-?[0-9]{1,18}")
_MOST_FAULTS: Final = 999
_NUMERALS: Final = re.compile(r"[-+.eE0-9]{1,400}")


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV file as text.

    Attributes:
        path: of the file.
        columns: names in the file's order.
        rows: fields of each row, as many as there are columns.
        lines: of each row, the line of the file on which it begins, from 1.
        faults: found so far; a checker adds to them and ends with `raise_faults`.
    """

    path: Path
    columns: tuple[str, ...]
    rows: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def add_fault(self, index: int, message: str) -> None:
        """Notes what is wrong with row `index`, from 0.

        Raises:
            InputFaultsError: if that makes more than anyone reads.
        """
        self.faults.append(f"{self.path}:{self.lines[index]}: {message}")
        if len(self.faults) >= _MOST_FAULTS:
            self.faults.append(f"{self.path}: has {_MOST_FAULTS} faults so far; the rest of it was not read")
            self.raise_faults()

    def raise_faults(self) -> None:
        """Ends the reading if anything was wrong.

        Raises:
            InputFaultsError: every fault noted so far.
        """
        if self.faults:
            raise InputFaultsError(self.faults)

    def column(self, name: str) -> list[str]:
        """The fields of one column."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]

    def __iter__(self) -> Iterator["Row"]:
        """The rows, in the file's order."""
        for index, values in enumerate(self.rows):
            yield Row(self, index, dict(zip(self.columns, values, strict=True)))


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table. A field that breaks its rule is noted as a fault and a stand-in of its type returned."""

    table: Table
    index: int
    values: dict[str, str]

    def add_fault(self, message: str) -> None:
        """Notes what is wrong with this row."""
        self.table.add_fault(self.index, message)

    def identifier(self, name: str) -> str:
        """A name that must be there and have no blanks around it, for "P1" and "P1 " would count as two."""
        value = self.values[name]
        if not value.strip():
            self.add_fault(f"{name} must not be empty. Received: {shown(value)}")
        elif value != value.strip():
            self.add_fault(f"{name} must not begin or end with a blank. Received: {shown(value)}")
        elif CONTROL.search(value):
            self.add_fault(f"{name} must hold no control character. Received: {shown(value)}")
        return value

    def choice(self, name: str, allowed: Sequence[_T]) -> _T:
        """One of the allowed words."""
        value = self.values[name]
        for word in allowed:
            if value == word:
                return word
        self.add_fault(f"{name} must be one of {', '.join(allowed)}. Received: {shown(value)}")
        return allowed[0]

    def optional_text(self, name: str) -> str | None:
        """The field, or None where it is empty or the column is missing."""
        value = self.values.get(name, "")
        if CONTROL.search(re.sub(r"[\t\n\r]", "", value)):
            self.add_fault(f"{name} must hold no control character. Received: {shown(value)}")
        return value or None

    def optional_number(self, name: str, *, above: float, at_most: float) -> float | None:
        """A number greater than `above` and no greater than `at_most`; None where it is empty or has no column."""
        value = self.values.get(name)
        if not value:
            return None
        number = finite(value)
        if number is None or not above < number <= at_most:
            rule = f"{name} must be a number above {above:g} and at most {at_most:g}, or empty"
            self.add_fault(f"{rule}. Received: {shown(value)}")
            return None
        return number


def finite(text: str) -> float | None:
    """The number that a text spells in ASCII, such as -1.5e-3; None if it spells none or not a finite one."""
    if not _NUMERALS.fullmatch(text):
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def whole(text: str) -> int | None:
    """The whole number that a text spells in ASCII digits, 18 at most; None if it spells none."""
    return int(text) if _WHOLE.fullmatch(text) else None


def read_table(path: Path, *, required: Sequence[str], optional: Sequence[str] = (), prefix: str = "") -> Table:
    """The rows of a CSV file whose header holds all required columns and otherwise optional ones alone.

    Args:
        path: of the file.
        required: columns that must be there.
        optional: columns that may be there.
        prefix: further columns may be there whose names begin so; "" for none.

    Raises:
        InputError: if the file cannot be read or is not CSV in UTF-8.
        InputFaultsError: if columns are missing, unknown or twice, or a row has too few or too many fields.
    """
    before = csv.field_size_limit(2**31 - 1)  # a mask's runs can be longer than the 128 KiB of a field by default
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: cannot be read: it is not a file")
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read(path, file, required=required, optional=optional, prefix=prefix)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be UTF-8 text. Received: {error}") from error
    finally:
        csv.field_size_limit(before)


def write_table(
    path: Path, *, columns: Sequence[str], rows: Iterable[Sequence[object]], overwrite: bool = False
) -> None:
    """Writes a CSV file that is whole or not there; None becomes an empty field.

    Raises:
        InputError: if the file exists and `overwrite` is not set, or cannot be written.
    """
    with (
        atomic_file(path, overwrite=overwrite) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(map(to_cell, row) for row in rows)


def _read(path: Path, file: TextIO, *, required: Sequence[str], optional: Sequence[str], prefix: str) -> Table:
    reader = csv.reader(file, strict=True)
    columns: tuple[str, ...] | None = None
    table = Table(path, ())
    first_line = 1
    try:
        for values in reader:
            if values and columns is None:
                columns = tuple(values)
                table = Table(path, columns)
                table.faults.extend(
                    f"{path}:{first_line}: {fault}"
                    for fault in _header_faults(columns, required=required, optional=optional, prefix=prefix)
                )
                table.raise_faults()
            elif values:
                table.rows.append(list(map(from_cell, values)))
                table.lines.append(first_line)
                if len(values) != len(table.columns):
                    rule = f"a row must have {len(table.columns)} fields, as the header has"
                    table.add_fault(len(table.rows) - 1, f"{rule}. Received: {len(values)}")
            first_line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}:{first_line}: is not CSV. Received: {error}") from error
    if columns is None:
        raise InputError(f"{path}:1: the header must hold {', '.join(required)}. Received: an empty file")
    table.raise_faults()
    return table


def _header_faults(
    columns: Sequence[str], *, required: Sequence[str], optional: Sequence[str], prefix: str
) -> Iterator[str]:
    known = (*required, *optional)
    for name in required:
        if name not in columns:
            yield f"column {name} is missing. Received: {', '.join(columns)}"
    for name in dict.fromkeys(columns):
        if columns.count(name) > 1:
            yield f"a column must appear once. Received: {shown(name)} {columns.count(name)} times"
        if name not in known and not (prefix and name.startswith(prefix)):
            near = difflib.get_close_matches(name, [word for word in known if word not in columns], n=1)
            hint = f"did you mean {near[0]}?" if near else f"allowed: {', '.join(known)}"
            yield f"no such column; {hint}. Received: {shown(name)}"


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
