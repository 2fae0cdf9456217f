"""The tables of other people's data sets: CSV with any delimiter, and Excel workbooks, of more columns than are needed.

Owns how such a table becomes rows that know where they stand; what its columns mean is the importers'.
"""

import csv
import io
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import pandas as pd
from python_calamine import CalamineError

from mmgkeras.errors import InputError, shown
from mmgkeras.schema import Laterality
from mmgkeras.sources.data_set import ImportReport
from mmgkeras.tables.rows import SEP_LINE, finite

_T = TypeVar("_T")
SIDES: Final[dict[str, Laterality]] = {"L": "L", "R": "R"}
"""For `Row.one_of`: the breast as most tables write it."""
_LONGEST_FIELD: Final = 2**31 - 1
_WORKBOOKS: Final = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods")
_DELIMITERS: Final = ",;\t|"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table of the data set: its file and line, and its fields without blanks around them."""

    place: str
    values: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        """The field of a column."""
        return self.values[column]

    def number(self, column: str) -> float:
        """The number in a column.

        Raises:
            InputError: if there is none.
        """
        number = finite(self.values[column])
        if number is None:
            raise InputError(f"{column} must be a number. Received: {shown(self.values[column])}")
        return number

    def one_of(self, column: str, words: Mapping[str, _T]) -> _T:
        """What the word in a column stands for.

        Raises:
            InputError: if it is none of these words.
        """
        value = self.values[column]
        if value not in words:
            raise InputError(f"{column} must be one of {', '.join(words)}. Received: {shown(value)}")
        return words[value]


def read_rows(
    path: Path,
    columns: Sequence[str],
    *,
    report: ImportReport,
    sheet: str | int = 0,
    header_row: int = 1,
    is_used: Callable[[str], bool] = lambda _: False,
) -> list[Row]:
    """The rows of a CSV file or of a sheet of a workbook that has these columns and any others.

    Names and fields are taken without blanks and newlines around them. A CSV file may be separated by commas,
    semicolons, tabs or vertical bars, and be in UTF-8, in UTF-16 with its mark, or in Windows' western letters. Rows of
    another length than the header are listed as skipped; empty ones are passed over, as are other columns that share a
    name or have none.

    Args:
        path: of the file.
        columns: that it must have.
        report: gets what is skipped.
        sheet: of a workbook, by name or number from 0.
        header_row: of a workbook, the row with the names, from 1.
        is_used: whether a column of this name is used too, if it is there.

    Raises:
        InputError: if it cannot be read, lacks a column, or has one twice that is used.
    """
    if path.suffix.lower() in _WORKBOOKS:
        header, lines = _workbook_lines(path, sheet=sheet, header_row=header_row)
        place = f"{path}: sheet {sheet!r}" if isinstance(sheet, str) else str(path)
        line = f"{place}, row "
    else:
        header, lines = _csv_lines(path, columns)
        place, line = str(path), f"{path}:"
    if missing := [column for column in columns if column not in header]:
        received = shown(", ".join(header))
        raise InputError(f"{place}: must have the columns {', '.join(missing)} too. Received: {received}")
    if twice := [name for name in header if header.count(name) > 1 and (name in columns or is_used(name))]:
        raise InputError(f"{place}: must have each column once. Received: {shown(twice[0])} several times")
    wanted = [name if header.count(name) == 1 else "" for name in header]  # of two of a name it is not known which
    rows = []
    for number, values in lines:
        if not any(values):
            continue
        if len(values) != len(header):
            with report.skipping(f"{line}{number}", image=""):
                raise InputError(f"a row must have {len(header)} fields, as the header has. Received: {len(values)}")
            continue
        fields = {name: value for name, value in zip(wanted, values, strict=True) if name}
        rows.append(Row(f"{line}{number}", fields))
    return rows


def by_name(rows: Iterable[Row], name_of: Callable[[Row], str], report: ImportReport) -> dict[str, Row]:
    """The rows by a name that each must have alone; a second one of a name is listed as skipped."""
    named: dict[str, Row] = {}
    for row in rows:
        name = name_of(row)
        if name in named:
            report.skipped.append(f"{row.place}: {name} must appear once")
        named.setdefault(name, row)
    return named


_Lines = list[tuple[int, list[str]]]


def _csv_lines(path: Path, columns: Sequence[str]) -> tuple[list[str], _Lines]:
    """The names of a CSV file's columns, of which some should be these; each row's first line, from 1, and fields."""
    try:
        decoded = _decoded(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    before = csv.field_size_limit(_LONGEST_FIELD)
    lines: _Lines = []
    first = 1
    try:
        delimiter = _delimiter(decoded, columns)
        reader = csv.reader(io.StringIO(decoded, newline=""), delimiter=delimiter, strict=True)
        for values in reader:
            if lines or ("".join(values).strip() and not SEP_LINE.fullmatch("".join(values))):
                lines.append((first, [value.strip() for value in values]))
            first = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}:{first}: is not CSV. Received: {error}") from error
    finally:
        csv.field_size_limit(before)
    if not lines:
        raise InputError(f"{path}: must have a header and rows. Received: an empty file")
    return lines[0][1], lines[1:]


def _decoded(data: bytes) -> str:
    is_utf_16 = data.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    for encoding in ("utf-16" if is_utf_16 else "utf-8-sig", "cp1252"):
        with suppress(UnicodeDecodeError):
            return data.decode(encoding)
    return data.decode("latin-1")


def _delimiter(text: str, columns: Sequence[str]) -> str:
    """The one by which the header has the most of these columns, and then the most columns."""
    lines = (line for line in text.splitlines() if line.strip())
    header = next((line for line in lines if not SEP_LINE.fullmatch(line.rstrip(_DELIMITERS))), "")

    def found(delimiter: str) -> tuple[int, int]:
        names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
        return len(set(columns) & set(names)), len(names)

    return max(_DELIMITERS, key=found)


def _workbook_lines(path: Path, *, sheet: str | int, header_row: int) -> tuple[list[str], _Lines]:
    """The names of a sheet's columns; the number of each row, from 1, and its fields."""
    try:
        # Without a header: pandas would call the second of two columns of a name by another one.
        frame = pd.read_excel(path, sheet_name=sheet, header=None, dtype=str, keep_default_na=False, engine="calamine")
    except (OSError, ValueError, CalamineError) as error:
        raise InputError(f"{path}: sheet {sheet!r} cannot be read: {shown(str(error))}") from error
    rows = [[str(value).strip() for value in row] for row in frame.itertuples(index=False, name=None)]
    if len(rows) < header_row:
        raise InputError(f"{path}: sheet {sheet!r} must have a header and rows. Received: {len(rows)} rows")
    return rows[header_row - 1], list(enumerate(rows[header_row:], start=header_row + 1))
