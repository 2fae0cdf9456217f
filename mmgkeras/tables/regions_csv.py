"""regions.csv: one row for each annotated finding, as a Region.

`points` is text: pairs "row,col" with blanks between them, such as "10,20 30.5,40". Whether a region lies inside its
image is not known here.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mmgkeras.errors import shown
from mmgkeras.schema import KINDS, SHAPES, Region, Shape
from mmgkeras.tables.rows import Row, finite, read_table, write_table

REGION_COLUMNS: Final = ("image_id", "region_id", "kind", "shape", "points")
_MIN_POINTS: Final[dict[Shape, int]] = {"box": 2, "circle": 2, "ellipse": 2, "polygon": 3, "point": 1, "mask": 3}
_ANY_NUMBER: Final = ("polygon", "mask")
_MAX_NUMBER: Final = 10**9


def read_regions(path: Path) -> list[Region]:
    """The regions of regions.csv in the file's order; none are allowed.

    Raises:
        InputError: if the file cannot be read.
        InputFaultsError: every missing or unknown column, empty or unknown value, bad point, wrong number of points
            and region_id that its image has twice.
    """
    table = read_table(path, required=REGION_COLUMNS)
    first_lines: dict[tuple[str, str], int] = {}
    regions = []
    for row in table:
        region = _region(row)
        line = table.lines[row.index]
        key = (region.image_id, region.region_id)
        if first_lines.setdefault(key, line) != line:
            rule = f"region_id must be unique within image {shown(region.image_id)}; line {first_lines[key]} has it too"
            row.add_fault(f"{rule}. Received: {shown(region.region_id)}")
        regions.append(region)
    table.raise_faults()
    return regions


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
    return Region(
        image_id=row.identifier("image_id"),
        region_id=row.identifier("region_id"),
        kind=row.choice("kind", KINDS),
        shape=shape,
        points=_points(row, shape=shape),
    )


def _points(row: Row, *, shape: Shape) -> tuple[tuple[float, float], ...]:
    points = []
    for pair in row.values["points"].split():
        numbers = [finite(text) for text in pair.split(",")]
        known = [number for number in numbers if number is not None and abs(number) <= _MAX_NUMBER]
        if len(numbers) != 2 or len(known) != 2:
            rule = f'points must be pairs of numbers, none beyond {_MAX_NUMBER:,}, such as "10,20 30,40"'
            row.add_fault(f"{rule}. Received: {shown(pair)}")
            return ()
        points.append((known[0], known[1]))
    least = _MIN_POINTS[shape]
    if len(points) < least or (len(points) > least and shape not in _ANY_NUMBER):
        more = " or more" if shape in _ANY_NUMBER else ""
        row.add_fault(f"a {shape} must have {least}{more} points. Received: {len(points)}")
    return tuple(points)


def _points_text(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{_number_text(row)},{_number_text(col)}" for row, col in points)


def _number_text(number: float) -> str:
    """The shortest text that reads back as the same number, without ".0"."""
    return repr(float(number)).removesuffix(".0")
