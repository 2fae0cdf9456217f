"""images.csv, regions.csv and labels.csv, the tables of a data folder, and folds.csv, the subsets of its patients.

Also finds ids that a person takes for one.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from string import ascii_uppercase
from typing import Final
from unicodedata import category, normalize

import numpy as np
import pandas as pd

from mmgkeras.errors import shown
from mmgkeras.schema import ANNOTATIONS, KINDS, LATERALITIES, SHAPES, SIDES, VIEWS, ImageRecord, Region, fault_of_points
from mmgkeras.tables.columns import LABEL, PLACE, TEXT, frame_of, note_duplicates
from mmgkeras.tables.predictions_csv import BASELINE_PREFIX, PREDICTION_COLUMNS
from mmgkeras.tables.rows import Row, finite, read_table, write_table

REQUIRED: Final = ("image_id", "path", "patient_id", "laterality", "view", "annotation")
IMAGE_COLUMNS: Final = tuple(field.name for field in fields(ImageRecord) if field.name != "own")
"""All columns in the order in which they are written; those after `REQUIRED` may be left out or empty."""

MAX_SPACING_MM: Final = 100
MAX_AGE: Final = 150


def read_images(path: Path, *, faults: list[str] | None = None) -> list[ImageRecord]:
    """The records of images.csv in the file's order.

    Args:
        path: of the file.
        faults: where given, the faults of single rows are put there, and the other rows are returned.

    Raises:
        InputError: if the file cannot be read or lists no image.
        InputFaultsError: every missing or unknown column, empty or unknown value, bad number and duplicate image_id.
    """
    table = read_table(
        path,
        required=REQUIRED,
        optional=IMAGE_COLUMNS[len(REQUIRED) :],
        keeps_own=True,
        reserved=(*PREDICTION_COLUMNS, BASELINE_PREFIX),
    )
    own = [name for name in table.columns if name not in IMAGE_COLUMNS]
    first_lines: dict[str, int] = {}
    records = []
    for row in table:
        record = _record(row, own=own)
        line = table.lines[row.index]
        if first_lines.setdefault(record.image_id, line) != line:
            first = first_lines[record.image_id]
            row.add_fault(f"image_id must be unique; line {first} has it too. Received: {shown(record.image_id)}")
        records.append(record)
    if not table.rows and not table.faults:
        table.faults.append(f"{path}:2: at least one image must be listed. Received: the header alone")
    table.end(faults)
    return [record for index, record in enumerate(records) if index not in table.faulty]


def write_images(path: Path, records: Iterable[ImageRecord], *, overwrite: bool = False) -> None:
    """Writes images.csv with all columns and then those of the user, so that `read_images` gives equal records.

    A record that lacks one of the user's columns gets an empty field there.

    Raises:
        InputError: if the file exists and `overwrite` is not set, or cannot be written.
    """
    records = list(records)
    own = list(dict.fromkeys(name for record in records for name, _ in record.own))
    rows = ((*image_fields(record), *map(dict(record.own).get, own)) for record in records)
    write_table(path, columns=(*IMAGE_COLUMNS, *own), rows=rows, overwrite=overwrite)


def image_fields(record: ImageRecord) -> tuple[object, ...]:
    """What a record has for each of `IMAGE_COLUMNS`."""
    return tuple(getattr(record, name) for name in IMAGE_COLUMNS)


def _record(row: Row, *, own: Sequence[str]) -> ImageRecord:
    return ImageRecord(
        image_id=row.identifier("image_id"),
        path=row.identifier("path"),
        patient_id=row.identifier("patient_id"),
        laterality=row.choice("laterality", LATERALITIES),
        view=row.choice("view", VIEWS),
        annotation=row.choice("annotation", ANNOTATIONS),
        chest_wall=row.choice("chest_wall", SIDES) if row.values.get("chest_wall") else None,
        spacing_mm=row.optional_number("spacing_mm", above=0, at_most=MAX_SPACING_MM),
        density=row.optional_text("density"),
        birads=row.optional_text("birads"),
        age=row.optional_number("age", above=0, at_most=MAX_AGE),
        pathology=row.optional_text("pathology"),
        vendor=row.optional_text("vendor"),
        own=tuple((name, row.optional_text(name) or "") for name in own),
    )


REGION_COLUMNS: Final = ("image_id", "region_id", "kind", "shape", "points")
_MAX_NUMBER: Final = 10**9


def read_regions(
    path: Path, *, faults: list[str] | None = None, lines: dict[tuple[str, str], int] | None = None
) -> list[Region]:
    """The regions of regions.csv in the file's order; none are allowed.

    Args:
        path: of the file.
        faults: as of `read_images`.
        lines: where given, gets the line of each (image_id, region_id).

    Raises:
        InputError: if the file cannot be read.
        InputFaultsError: every missing or unknown column, empty or unknown value, bad point, wrong number of points
            and region_id that its image has twice.
    """
    table = read_table(path, required=REGION_COLUMNS, keeps_own=True)
    first_lines = {} if lines is None else lines
    regions = []
    for row in table:
        region = _region(row)
        line = table.lines[row.index]
        key = (region.image_id, region.region_id)
        if first_lines.setdefault(key, line) != line:
            rule = f"region_id must be unique within image {shown(region.image_id)}; line {first_lines[key]} has it too"
            row.add_fault(f"{rule}. Received: {shown(region.region_id)}")
        regions.append(region)
    table.end(faults)
    return [region for index, region in enumerate(regions) if index not in table.faulty]


def write_regions(path: Path, regions: Iterable[Region], *, overwrite: bool = False) -> None:
    """Writes regions.csv, so that `read_regions` gives equal regions.

    Raises:
        InputError: if the file exists and `overwrite` is not set, or cannot be written.
    """
    rows = (
        (region.image_id, region.region_id, region.kind, region.shape, _points_text(region.points))
        for region in regions
    )
    write_table(path, columns=REGION_COLUMNS, rows=rows, overwrite=overwrite)


def _region(row: Row) -> Region:
    shape = row.choice("shape", SHAPES)
    image_id, region_id, kind = row.identifier("image_id"), row.identifier("region_id"), row.choice("kind", KINDS)
    points: list[tuple[float, float]] = []
    for pair in row.values["points"].split():
        numbers = [finite(text) for text in pair.split(",")]
        known = [number for number in numbers if number is not None and abs(number) <= _MAX_NUMBER]
        if len(numbers) != 2 or len(known) != 2:
            rule = f'points must be pairs of numbers, none beyond {_MAX_NUMBER:,}, such as "10,20 30,40"'
            row.add_fault(f"{rule}. Received: {shown(pair)}")
            break
        points.append((known[0], known[1]))
    else:
        if fault := fault_of_points(shape, len(points)):
            row.add_fault(fault)
    return Region(image_id, region_id, kind, shape, tuple(points))


def _points_text(points: Iterable[tuple[float, float]]) -> str:
    """The shortest text of numbers that reads back as the same ones, without ".0"."""
    return " ".join(",".join(repr(float(number)).removesuffix(".0") for number in point) for point in points)


_COLUMNS: Final = {"image_id": TEXT, "row": PLACE, "col": PLACE, "label": LABEL}
LABEL_COLUMNS: Final = tuple(_COLUMNS)


def read_labels(path: Path, *, faults: list[str] | None = None) -> pd.DataFrame:
    """The frame of labels.csv: image_id str, row and col int64 from 0, label int8 of 1, 0, -1; index is the line.

    `faults` as of `read_images`.

    Raises:
        InputError: if the file cannot be read.
        InputFaultsError: every missing or unknown column, empty id, bad number, unknown label and patch labelled
            twice.
    """
    table = read_table(path, required=LABEL_COLUMNS, optional=("reader",), keeps_own=True)
    frame = frame_of(table, _COLUMNS)
    keys = list(zip(*(frame[name].tolist() for name in ("image_id", "row", "col")), strict=True))
    note_duplicates(table, keys, rule="a patch must have one label")
    table.end(faults)
    frame = frame.astype({"label": np.int8}).set_index(pd.Index(table.lines, name="line", dtype=np.int64))
    return frame.drop(index=[table.lines[index] for index in table.faulty])


def write_labels(path: Path, labels: Iterable[tuple[str, int, int, int]], *, overwrite: bool = False) -> None:
    """Writes labels.csv from (image_id, row, col, label).

    Raises:
        InputError: if the file exists and `overwrite` is not set, or cannot be written.
    """
    write_table(path, columns=LABEL_COLUMNS, rows=labels, overwrite=overwrite)


FOLD_COLUMNS: Final = ("patient_id", "subset")


def read_folds(path: Path) -> dict[str, str]:
    """The subset of each patient, "A" and on, in the file's order; fold k tests subset k (paper, 3.2).

    Raises:
        InputError: if the file cannot be read.
        InputFaultsError: every missing or unknown column, empty patient_id, subset that is not a letter A to Z, and
            patient listed twice, in two subsets or in one.
    """
    table = read_table(path, required=FOLD_COLUMNS, keeps_own=True)
    assignment: dict[str, str] = {}
    for row in table:
        patient = row.identifier("patient_id")
        subset = row.choice("subset", ascii_uppercase)
        first = assignment.get(patient)
        if first is None:
            assignment[patient] = subset
        elif first == subset:
            row.add_fault(f"a patient must be listed once. Received: {shown(patient)} again")
        else:
            row.add_fault(f"a patient must be in one subset. Received: {shown(patient)} in {first} and {subset}")
    table.raise_faults()
    return assignment


def write_folds(path: Path, assignment: Mapping[str, str], *, overwrite: bool = False) -> None:
    """Writes folds.csv, patients in order.

    Raises:
        InputError: if the file exists and `overwrite` is not set, or cannot be written.
    """
    write_table(path, columns=FOLD_COLUMNS, rows=sorted(assignment.items()), overwrite=overwrite)


_INVISIBLE: Final = frozenset({"Cc", "Cf"})
"""Unicode categories of control and format characters, zero-width spaces and joiners among them."""


def folded_id(text: str) -> str:
    """What ids that a person takes for one have in common.

    It is their compatibility form (NFKC) without case, invisible characters and surrounding or repeated blanks.
    """
    visible = "".join(letter for letter in text if letter in "\t\n" or category(letter) not in _INVISIBLE)
    return " ".join(normalize("NFKC", normalize("NFKC", visible).casefold()).split())


_NOBODY: Final = re.compile(r"#?n/?a|nan|nat|none|null|nil|unknown|anonym(ous|[iy][sz]ed)?|removed|[-?.]+")
"""Of folded ids: as tables and programs write what is missing or was taken away."""


def says_nothing(patient_id: str) -> bool:
    """Whether an id stands for a patient who is not known."""
    return _NOBODY.fullmatch(folded_id(patient_id)) is not None


def without_zeros(folded: str) -> str:
    """A folded id; that of a whole number without leading zeros."""
    return (folded.lstrip("0") or "0") if folded.isdecimal() else folded


def look_alikes(ids: Iterable[str]) -> list[tuple[str, ...]]:
    """The groups of two and more different ids that a person takes for one, in the order of their first.

    Numbers that differ in leading zeros are such ids: a spreadsheet takes these away.
    """
    groups: dict[str, list[str]] = {}
    for one in dict.fromkeys(ids):
        groups.setdefault(without_zeros(folded_id(one)), []).append(one)
    return [tuple(group) for group in groups.values() if len(group) > 1]
