"""A table as CSV and as LaTeX, and its cells as the page has them: the same numbers three times.

Owns how numbers are written. What stands in a table is its section's affair, how the page sets it the template's.
"""

import csv
import io
import math
from collections.abc import Callable
from typing import Final

from mmgkeras.evaluation.interval import Interval
from mmgkeras.evaluation.outputs import NOT_AVAILABLE
from mmgkeras.json_files import in_unicode
from mmgkeras.report.content import Cell, Table
from mmgkeras.tables.cells import to_cell

LONG_ROWS: Final = 40
"""A table with more rows is folded on the page: it is opened by a click, and read in its CSV."""
WIDE_COLUMNS: Final = 7
"""A table with more columns is set smaller, bounds below estimates; in LaTeX it is shrunk to the width of the text."""

# fmt: off
_LATEX: Final = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "\u2212": "$-$", "\u2013": "--", "\u2014": "---", "\u00d7": r"$\times$", "\u00b1": r"$\pm$", "\u2264": r"$\leq$",
    "\u2265": r"$\geq$", "\u00b0": r"$^\circ$", "\u2019": "'", "\u2026": r"\ldots{}",
})
# fmt: on
"""What TeX would read as a command, and signs that its usual fonts lack in text."""


def cell_text(cell: Cell) -> str:
    """A cell as it is read: three decimals, thousands apart, an interval in brackets, "n/a" for None."""
    return " ".join(part for part in cell_parts(cell) if part)


def cell_parts(cell: Cell) -> tuple[str, str]:
    """The same in two: the number, and the bounds of an interval, "" for none."""
    if isinstance(cell, Interval):
        return _decimal(cell.estimate), _bounds_text(cell)
    if cell is None or isinstance(cell, str):
        return NOT_AVAILABLE if cell is None else cell, ""
    return _whole(cell) if isinstance(cell, int) else _decimal(cell), ""


def numeric_columns(table: Table) -> tuple[bool, ...]:
    """Of each column, whether no cell of it is text."""
    return tuple(
        bool(table.rows) and not any(isinstance(row[place], str) for row in table.rows)
        for place in range(len(table.columns))
    )


def as_csv(table: Table) -> str:
    """The table with up to six significant digits; a column that holds an interval becomes three: itself, low, high."""
    split = [any(isinstance(row[place], Interval) for row in table.rows) for place in range(len(table.columns))]
    header = [
        name
        for column, is_interval in zip(table.columns, split, strict=True)
        for name in ((column, f"{column} low", f"{column} high") if is_interval else (column,))
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_plain, header))
    for row in table.rows:
        writer.writerow([field for cell, three in zip(row, split, strict=True) for field in _fields(cell, three=three)])
    return text.getvalue()


def as_latex(table: Table) -> str:
    """A table for the package booktabs, title as caption, note below; the first line names the packages it needs.

    A wide one is shrunk to the width of the text, a long one broken over pages.
    """
    sides = "".join("r" if is_numeric else "l" for is_numeric in numeric_columns(table))
    title = [rf"\caption{{{latex_text(table.title)}}}", rf"\label{{tab:{table.name.replace('_', '-')}}}"]
    head = [r"\toprule", " & ".join(latex_text(name) for name in table.columns) + r" \\", r"\midrule"]
    rows = [" & ".join(latex_text(cell_text(cell)) for cell in row) + r" \\" for row in table.rows]
    note = [rf"\par\footnotesize {latex_text(table.note)}"] if table.note else []
    if len(table.rows) > LONG_ROWS:
        start = ["% booktabs, longtable", rf"\begin{{longtable}}{{{sides}}}", *title[:1], rf"{title[1]}\\"]
        lines = [*start, *head, r"\endhead", *rows, r"\bottomrule", r"\end{longtable}", *note]
    else:
        is_wide = len(table.columns) > WIDE_COLUMNS
        tabular = [rf"\begin{{tabular}}{{{sides}}}", *head, *rows, r"\bottomrule", r"\end{tabular}"]
        shrunk = [r"\resizebox{\textwidth}{!}{%", *tabular, "}"] if is_wide else tabular
        packages = "% booktabs, graphicx" if is_wide else "% booktabs"
        lines = [packages, r"\begin{table}", r"\centering", *title, *shrunk, *note, r"\end{table}"]
    return "\n".join(lines) + "\n"


def latex_text(text: str) -> str:
    """Text that TeX prints as it stands."""
    return in_unicode(text).translate(_LATEX)


def _whole(value: int) -> str:
    return f"{value:,}".replace("-", "\u2212")


def _decimal(value: float) -> str:
    text = f"{value:,.3f}"
    return text.replace("-", "\u2212") if float(text.replace(",", "")) != 0 else text.removeprefix("-")


def _bounds(interval: Interval) -> tuple[float, float] | None:
    """None where they are not known, or so near each other that nothing varied but the last digits of a float."""
    low, high = interval.low, interval.high
    if low is None or high is None or math.isclose(low, high, abs_tol=1e-12):
        return None
    return low, high


def _bounds_text(interval: Interval) -> str:
    bounds = _bounds(interval)
    if bounds is None:
        return ""
    join = " to " if min(bounds) < 0 else "\u2013"
    return f"({join.join(map(_decimal, bounds))})"


def _fields(cell: Cell, *, three: bool) -> tuple[str, ...]:
    if isinstance(cell, Interval):
        return tuple(_plain(value) for value in (cell.estimate, *(_bounds(cell) or (None, None))))
    return (_plain(cell), "", "") if three else (_plain(cell),)


def _plain(cell: str | float | None) -> str:
    if cell is None:
        return NOT_AVAILABLE
    if isinstance(cell, str):
        return str(to_cell(cell))
    return str(cell) if isinstance(cell, int) else f"{cell:.6g}"


RENDERERS: Final[dict[str, Callable[[Table], str]]] = {"csv": as_csv, "tex": as_latex}
"""By the suffix of the file that each is written to."""
