"""images.csv: one row for each image of a data set, as an ImageRecord."""

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Final

from mmgkeras.errors import shown
from mmgkeras.schema import ANNOTATIONS, LATERALITIES, SIDES, VIEWS, ImageRecord
from mmgkeras.tables.rows import Row, read_table, write_table

REQUIRED: Final = ("image_id", "path", "patient_id", "laterality", "view", "annotation")
IMAGE_COLUMNS: Final = tuple(field.name for field in fields(ImageRecord))
"""All columns in the order in which they are written; those after `REQUIRED` may be left out or empty."""

MAX_SPACING_MM: Final = 100
MAX_AGE: Final = 150


def read_images(path: Path) -> list[ImageRecord]:
    """The records of images.csv in the file's order.

    Raises:
        InputError: if the file cannot be read or lists no image.
        InputFaultsError: every missing or unknown column, empty or unknown value, bad number and duplicate image_id.
    """
    table = read_table(path, required=REQUIRED, optional=IMAGE_COLUMNS[len(REQUIRED) :])
    first_lines: dict[str, int] = {}
    records = []
    for row in table:
        record = _record(row)
        line = table.lines[row.index]
        if first_lines.setdefault(record.image_id, line) != line:
            first = first_lines[record.image_id]
            row.add_fault(f"image_id must be unique; line {first} has it too. Received: {shown(record.image_id)}")
        records.append(record)
    if not records:
        table.faults.append(f"{path}:2: at least one image must be listed. Received: the header alone")
    table.raise_faults()
    return records


def write_images(path: Path, records: Iterable[ImageRecord], *, overwrite: bool = False) -> None:
    """Writes images.csv with all columns, so that `read_images` gives equal records.

    Raises:
        InputError: if the file exists and `overwrite` is not set, or cannot be written.
    """
    write_table(path, columns=IMAGE_COLUMNS, rows=map(image_values, records), overwrite=overwrite)


def image_values(record: ImageRecord) -> tuple[object, ...]:
    """The fields of one record in the order of IMAGE_COLUMNS; None where unknown."""
    return tuple(getattr(record, name) for name in IMAGE_COLUMNS)


def _record(row: Row) -> ImageRecord:
    return ImageRecord(
        image_id=row.identifier("image_id"),
        path=row.identifier("path"),
        patient_id=row.identifier("patient_id"),
        laterality=row.choice("laterality", LATERALITIES),
        view=row.choice("view", VIEWS),
        annotation=row.choice("annotation", ANNOTATIONS),
        chest_wall=row.optional_choice("chest_wall", SIDES),
        spacing_mm=row.optional_number("spacing_mm", above=0, at_most=MAX_SPACING_MM),
        density=row.optional_text("density"),
        birads=row.optional_text("birads"),
        age=row.optional_number("age", above=0, at_most=MAX_AGE),
        pathology=row.optional_text("pathology"),
        vendor=row.optional_text("vendor"),
    )
