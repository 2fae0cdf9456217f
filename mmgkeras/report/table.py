"""What sections of the report are made of: tables of numbers, and HTML around them.

Owns the two types. How a table is written as HTML, CSV or LaTeX is `render`'s.
"""

from dataclasses import dataclass

from mmgkeras.evaluation.interval import Interval

Cell = str | int | float | Interval | None
"""What stands in a table; None is written "n/a", a float with three decimals, an `Interval` with its bounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Numbers in rows and columns, equal on the page, in CSV and in LaTeX.

    Attributes:
        name: of its files, without suffix, such as "table7"; unique in a report.
        title: one line above it.
        columns: the header.
        rows: as many cells each as there are columns.
        note: what must be known to read it, below it.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One heading of the report and what is below it.

    Attributes:
        anchor: its id in the page, such as "calibration"; unique in a report.
        title: the heading, as text.
        body: in order: a `str` is HTML that is put in as it is, so all data in it must be escaped; a `Table` is
            rendered.
    """

    anchor: str
    title: str
    body: tuple[str | Table, ...]
