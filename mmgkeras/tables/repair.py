"""Corrected copies of the tables of a data folder: only what is certain is changed, and the originals are not touched.

Certain is what can mean but one thing: the separator, empty rows and columns, blanks around names, the case of words
that are one of a list, a decimal comma, a row that stands there twice. A wrong number, or two spellings of one patient,
is not; nor what a row of too many or too few fields means, which stays as it is.
"""

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from mmgkeras.errors import InputError, shown
from mmgkeras.schema import ANNOTATIONS, KINDS, LATERALITIES, SHAPES, SIDES, VIEWS
from mmgkeras.tables.cells import from_cell
from mmgkeras.tables.data_tables import IMAGE_COLUMNS, LABEL_COLUMNS, REGION_COLUMNS
from mmgkeras.tables.rows import MAX_COLUMNS, long_fields, write_table

_TABLES: Final = {
    "images.csv": IMAGE_COLUMNS,
    "regions.csv": REGION_COLUMNS,
    "labels.csv": (*LABEL_COLUMNS, "reader"),
}
_WORDS: Final = {
    "laterality": {**{word: word for word in LATERALITIES}, "left": "L", "right": "R"},
    "chest_wall": {**{word: word for word in SIDES}, "l": "left", "r": "right"},
    "view": {word: word for word in VIEWS},
    "annotation": {word: word for word in ANNOTATIONS},
    "kind": {word: word for word in KINDS},
    "shape": {word: word for word in SHAPES},
}
_NUMBERS: Final = ("spacing_mm", "age")
_DECIMAL_COMMA: Final = re.compile(r"\d+,\d+")
_SEP_LINE: Final = re.compile(r"sep=.?,*", re.IGNORECASE)
_SEPARATORS: Final = ",;\t|"


def repair_tables(data: Path, out: Path) -> list[str]:
    """Writes a copy of each table of a data folder into the folder `out`, which exists; one line for each change.

    Paths of images are written relative to `out`, so that it is a data folder.

    Raises:
        InputError: if a table cannot be read as text, or a copy cannot be written.
    """
    changes: list[str] = []
    for name, known in _TABLES.items():
        path = data / name
        if not path.is_file():
            continue
        lines = list(_rows(path, known, changes))
        if not lines:
            continue
        columns, rows = lines[0][1], lines[1:]
        whole = [(line, row) for line, row in rows if len(row) == len(columns)]
        for line, row in whole:
            _mend(row, columns, known=known, path=path, line=line, changes=changes)
        unique = _without_twins(rows, path=path, changes=changes)
        if "path" in columns:
            place = columns.index("path")
            for _, row in whole:
                row[place] = _moved(row[place], data=data, out=out)
        write_table(out / name, columns=columns, rows=unique)
    return changes


def _rows(path: Path, known: Sequence[str], changes: list[str]) -> Iterator[tuple[int, list[str]]]:
    """The header, with the names of known columns as they are known, and the rows; without what is wholly empty.

    A row with more fields than the header, or fewer, is a fault for its reader, and has as many here. Where one has
    more, no column is left out.
    """
    text = _text(path, changes)
    separator = _separator(text, known)
    if separator != ",":
        changes.append(f"{path}: separated by commas instead of {shown(separator)}")
    try:
        with long_fields():
            rows = _numbered(text, separator)
    except csv.Error as error:
        raise InputError(f"{path}: is not CSV. Received: {error}") from error
    if not rows:
        return
    header_line, header = rows[0]
    if len(header) > MAX_COLUMNS:
        raise InputError(f"{path}:{header_line}: must have at most {MAX_COLUMNS:,} columns. Received: {len(header):,}")
    has_longer = _holds_something(rows[1:], slice(len(header), None))
    kept = [
        place
        for place, name in enumerate(header)
        if name.strip() or has_longer or _holds_something(rows[1:], slice(place, place + 1))
    ]
    plain = {_plain(name): name for name in known if name not in header}
    names = [plain.get(_plain(header[place]), header[place].strip()) for place in kept]
    for place, name in zip(kept, names, strict=True):
        if header[place] != name:
            changes.append(f"{path}:{header_line}: column {shown(header[place])} is named {name}")
    yield header_line, names
    for line, row in rows[1:]:
        surplus = row[len(header) :] if "".join(row[len(header) :]).strip() else []
        yield line, [from_cell(value) for value in (*(row[place] for place in kept if place < len(row)), *surplus)]


def _holds_something(rows: Sequence[tuple[int, list[str]]], places: slice) -> bool:
    return any("".join(row[places]).strip() for _, row in rows)


def _text(path: Path, changes: list[str]) -> str:
    try:
        data = path.read_bytes()
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            changes.append(f"{path}: written in UTF-8 instead of UTF-16")
            return data.decode("utf-16")
        return data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: must be UTF-8 text. Received: {error}") from error


def _separator(text: str, known: Sequence[str]) -> str:
    """The one by which the header has the most of the known columns."""
    header = next((line for line in text.splitlines() if line.strip() and not _SEP_LINE.fullmatch(line)), "")
    plain = set(map(_plain, known))
    return max(_SEPARATORS, key=lambda separator: len(plain & set(map(_plain, header.split(separator)))))


def _numbered(text: str, separator: str) -> list[tuple[int, list[str]]]:
    """Rows that are not empty, with their lines."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[tuple[int, list[str]]] = []
    line = 1
    for row in reader:
        if "".join(row).strip() and not (not rows and _SEP_LINE.fullmatch(",".join(row))):
            rows.append((line, row))
        line = reader.line_num + 1
    return rows


def _mend(
    row: list[str], columns: Sequence[str], *, known: Sequence[str], path: Path, line: int, changes: list[str]
) -> None:
    """Mends the fields of a row in place and notes each."""
    for place, (name, value) in enumerate(zip(columns, row, strict=True)):
        words = {word.casefold(): meant for word, meant in _WORDS.get(name, {}).items() if name in known}
        mended = words.get(value.strip().casefold(), value.strip())
        if name in known and name in _NUMBERS and _DECIMAL_COMMA.fullmatch(mended):
            mended = mended.replace(",", ".")
        if mended != value:
            row[place] = mended
            changes.append(f"{path}:{line}: {name} is {shown(mended)} instead of {shown(value)}")


def _without_twins(rows: Sequence[tuple[int, list[str]]], *, path: Path, changes: list[str]) -> list[list[str]]:
    first: dict[tuple[str, ...], int] = {}
    unique = []
    for line, row in rows:
        if first.setdefault(tuple(row), line) == line:
            unique.append(row)
        else:
            changes.append(f"{path}:{line}: left out, for it is line {first[tuple(row)]} again")
    return unique


def _moved(path: str, *, data: Path, out: Path) -> str:
    """The path of an image from `out`, where it was one from `data`."""
    if not path or os.path.isabs(path):  # noqa: PTH117 - text as it stands in the table
        return path
    return f"{Path(os.path.relpath(data.resolve(), out.resolve())).as_posix()}/{path}"


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).casefold()
