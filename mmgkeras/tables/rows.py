"""CSV rows with the lines they stand on, and the list of faults found in them.

Owns the CSV dialect (UTF-8, comma, double quotes; a byte order mark, empty rows and empty columns are passed over) and
the types of columns; knows no table.
"""

import csv
import difflib
import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TextIO, TypeVar

from mmgkeras.errors import InputError, InputFaultsError, shown
from mmgkeras.files import atomic_file
from mmgkeras.json_files import CONTROL, is_unicode
from mmgkeras.tables.cells import from_cell, to_cell

_T = TypeVar("_T", bound=str)

_WHOLE: Final = re.compile(r"-?[0-9]{1,18}")
_MOST_FAULTS: Final = 999
MAX_COLUMNS: Final = 1000
_NUMERALS: Final = re.compile(r"[-+.eE0-9]{1,400}")


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV file as text.

    Attributes:
        path: of the file.
        columns: names in the file's order.
        header_line: the line of the file on which they stand.
        rows: fields of each row, as many as there are columns.
        lines: of each row, the line of the file on which it begins, from 1.
        faults: found so far; a checker adds to them and ends with `end` or `raise_faults`.
        faulty: the places in `rows` of those that have one.
    """

    path: Path
    columns: tuple[str, ...]
    header_line: int = 1
    rows: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    faulty: set[int] = field(default_factory=set)

    def add_fault(self, index: int, message: str) -> None:
        """Notes what is wrong with row `index`, from 0.

        Raises:
            InputFaultsError: if that makes more than anyone reads.
        """
        self.faulty.add(index)
        self._add(f"{self.path}:{self.lines[index]}: {message}")

    def _add(self, fault: str) -> None:
        self.faults.append(fault)
        if len(self.faults) >= _MOST_FAULTS:
            self.faults.append(f"{self.path}: has {_MOST_FAULTS} faults so far; the rest of it was not read")
            self.raise_faults()

    def end(self, faults: list[str] | None) -> None:
        """Ends the reading if anything was wrong; or, where a list is given, puts the faults there.

        Raises:
            InputFaultsError: every fault noted so far, where no list is given.
        """
        if faults is None:
            self.raise_faults()
        else:
            faults.extend(self.faults)

    def add_length_fault(self, line: int, *, received: int) -> None:
        """Notes a row of too few or too many fields, which is not among `rows`.

        Raises:
            InputFaultsError: as `add_fault`.
        """
        rule = f"a row must have {len(self.columns)} fields, as the header has"
        self._add(f"{self.path}:{line}: {rule}. Received: {received}")

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


@contextmanager
def long_fields() -> Iterator[None]:
    """Has csv take fields of any length until the block ends: a mask's runs can be longer than its own 128 KiB."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def read_table(
    path: Path,
    *,
    required: Sequence[str],
    optional: Sequence[str] = (),
    prefix: str = "",
    keeps_own: bool = False,
    reserved: Sequence[str] = (),
) -> Table:
    """The rows of a CSV file whose header holds all required columns and otherwise optional ones.

    Rows and columns that are wholly empty are passed over.

    Args:
        path: of the file.
        required: columns that must be there.
        optional: columns that may be there.
        prefix: further columns may be there whose names begin so; "" for none.
        keeps_own: any other column may be there too, unless its name is nearly that of one that is not.
        reserved: names that such a column must not have.

    Raises:
        InputError: if the file cannot be read or is not CSV in UTF-8 with commas.
        InputFaultsError: if columns are missing, unknown or twice. Rows of too few or too many fields are faults of the
            table.
    """
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: cannot be read: it is not a file")
        with long_fields(), path.open(encoding="utf-8-sig", newline="") as file:
            table = _read(path, file, required=required)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be UTF-8 text. Received: {error}") from error
    table = _without_empty_columns(table, known={*required, *optional})
    header_faults = []
    for name in table.columns:
        known = name in required or name in optional or (prefix and name.startswith(prefix))
        if not known and (fault := _fault_of_own(name, table.columns, (*required, *optional), reserved, keeps_own)):
            header_faults.append(f"{path}:{table.header_line}: {fault}")
    if header_faults:
        raise InputFaultsError([*header_faults, *table.faults])
    return table


def line_numbers(path: Path, columns: Sequence[str]) -> dict[tuple[str, ...], int]:
    """The line of the first row that has each set of texts in the columns.

    Raises:
        InputError: as `read_table`.
    """
    table = read_table(path, required=columns, keeps_own=True)
    keys = zip(*map(table.column, columns), strict=True)
    return dict(reversed(list(zip(keys, table.lines, strict=True))))


def write_table(
    path: Path, *, columns: Sequence[str], rows: Iterable[Sequence[object]], overwrite: bool = False
) -> None:
    """Writes a CSV file that is whole or not there; None becomes an empty field.

    Raises:
        InputError: if the file exists and `overwrite` is not set, or cannot be written, or a text is no UTF-8, as the
            name of a file may be.
    """
    with (
        atomic_file(path, overwrite=overwrite) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        plain, quoted = (
            csv.writer(file, lineterminator="\n", quoting=rule) for rule in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
        )
        plain.writerow(columns)
        for row in rows:
            cells = [to_cell(value) for value in row]
            if wrong := next((cell for cell in cells if isinstance(cell, str) and not is_unicode(cell)), None):
                raise InputError(f"{path}: cannot be written: text must be UTF-8. Received: {shown(wrong)}")
            has_return = any(isinstance(cell, str) and "\r" in cell for cell in cells)  # alone it is not quoted
            (quoted if has_return else plain).writerow(cells)


_SEPARATORS: Final = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
SEP_LINE: Final = re.compile(r"sep=(.?)", re.IGNORECASE)
"""The first line by which a file tells Excel what separates its fields."""


def _read(path: Path, file: TextIO, *, required: Sequence[str]) -> Table:
    reader = csv.reader(file, strict=True)
    table: Table | None = None
    first_line = 1
    try:
        for values in reader:
            if "".join(values).strip():
                if table is not None:
                    _add_row(table, values, line=first_line)
                elif sep := SEP_LINE.fullmatch("".join(values)):
                    if sep[1]:
                        raise InputError(_fault_of_separator(path, first_line, sep[1]))
                else:
                    table = Table(path, tuple(values), header_line=first_line)
                    _check_header(table, required)
            first_line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}:{first_line}: is not CSV. Received: {error}") from error
    if table is None:
        raise InputError(f"{path}:1: the header must hold {', '.join(required)}. Received: an empty file")
    return table


def _add_row(table: Table, values: list[str], *, line: int) -> None:
    num_columns = len(table.columns)
    if len(values) > num_columns and not "".join(values[num_columns:]).strip():
        values = values[:num_columns]
    if len(values) == num_columns:
        table.rows.append(list(map(from_cell, values)))
        table.lines.append(line)
    else:
        table.add_length_fault(line, received=len(values))


def _check_header(table: Table, required: Sequence[str]) -> None:
    """Ends the reading of a file that is no such table.

    Raises:
        InputError: if its fields are not separated by commas, or are too many.
        InputFaultsError: for every column that is missing or twice.
    """
    columns, place = table.columns, f"{table.path}:{table.header_line}"
    if len(columns) > MAX_COLUMNS:
        raise InputError(f"{place}: must have at most {MAX_COLUMNS:,} columns. Received: {len(columns):,}")
    missing = [name for name in required if name not in columns]
    for separator in _SEPARATORS if missing else ():
        if set(missing) & {name.strip(' "') for name in ",".join(columns).split(separator)}:
            raise InputError(_fault_of_separator(table.path, table.header_line, separator))
    meant = {_meant(name, missing): f" (is it {shown(name)}?)" for name in columns}
    received = ", ".join(columns)
    table.faults.extend(
        f"{place}: column {name} is missing{meant.get(name, '')}. Received: {received}" for name in missing
    )
    table.faults.extend(
        f"{place}: a column must appear once. Received: {shown(name)} {columns.count(name)} times"
        for name in dict.fromkeys(columns)
        if name.strip() and columns.count(name) > 1
    )
    table.raise_faults()


def _fault_of_separator(path: Path, line: int, separator: str) -> str:
    received = _SEPARATORS.get(separator, shown(separator))
    return f"{path}:{line}: fields must be separated by commas. Received: {received}"


def _without_empty_columns(table: Table, *, known: Collection[str]) -> Table:
    """The same without columns that hold nothing, and with a fault for each without a name that holds something."""
    unknown = [place for place, name in enumerate(table.columns) if name not in known]
    empty = {place for place in unknown if not any(row[place].strip() for row in table.rows)}
    for place in unknown:
        if place not in empty and not table.columns[place].strip():
            index = next(index for index, row in enumerate(table.rows) if row[place].strip())
            table.add_fault(index, f"column {place + 1} has no name. Received: {shown(table.rows[index][place])}")
    if not empty:
        return table
    kept = [place for place in range(len(table.columns)) if place not in empty]
    columns = tuple(table.columns[place] for place in kept)
    return replace(table, columns=columns, rows=[[row[place] for place in kept] for row in table.rows])


def _fault_of_own(
    name: str, columns: Sequence[str], known: Sequence[str], reserved: Sequence[str], keeps_own: bool
) -> str | None:
    """What is wrong with a column that is not one of the table's own."""
    if not name.strip():
        return None  # told with the row
    meant = _meant(name, [word for word in known if word not in columns])
    if meant or not keeps_own:
        hint = f"did you mean {meant}?" if meant else f"allowed: {', '.join(known)}"
        return f"no such column; {hint}. Received: {shown(name)}"
    if name in reserved or name.startswith(tuple(word for word in reserved if word.endswith("_"))):
        return f"a column of your own must not be named as one of predictions.csv; rename it. Received: {shown(name)}"
    if name != name.strip() or CONTROL.search(name):
        return f"a column's name must have no blanks around it and no control character. Received: {shown(name)}"
    return None


def _meant(name: str, words: Sequence[str]) -> str | None:
    """The word that a name is but for case, blanks and hyphens, or for a slip of the pen."""
    plain = {re.sub(r"[\W_]", "", word).casefold(): word for word in words}
    near = difflib.get_close_matches(re.sub(r"[\W_]", "", name).casefold()[:100], plain, n=1, cutoff=0.8)
    return plain[near[0]] if near else None
