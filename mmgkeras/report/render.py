"""A table as HTML, as CSV and as LaTeX: the same numbers three times.

Owns how numbers are written and how text is escaped in each. What stands in a table is its section's affair.
"""

import csv
import io
import math
import re
from collections.abc import Callable, Iterator
from html import escape
from typing import Final

from mmgkeras.evaluation.interval import Interval
from mmgkeras.evaluation.outputs import NOT_AVAILABLE
from mmgkeras.report.table import Cell, Table

LONG_ROWS: Final = 40
"""A table with more rows is folded on the page: it is opened by a click, and read in its CSV."""
WIDE_COLUMNS: Final = 7
"""A table with more columns is set smaller, bounds below estimates; in LaTeX it is shrunk to the width of the text."""

_LATEX: Final = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\u2212": "$-$",
    "\u2013": "--",
    "\u2014": "---",
    "\u00d7": r"$\times$",
    "\u00b1": r"$\pm$",
    "\u2264": r"$\leq$",
    "\u2265": r"$\geq$",
    "\u00b0": r"$^\circ$",
    "\u2019": "'",
    "\u2026": r"\ldots{}",
}
"""What TeX would read as a command, and signs that its usual fonts lack in text."""


def cell_text(cell: Cell) -> str:
    """A cell as it is read: three decimals, thousands apart, an interval in brackets, "n/a" for None."""
    if cell is None:
        return NOT_AVAILABLE
    if isinstance(cell, Interval):
        return _interval_text(cell)
    if isinstance(cell, str):
        return cell
    return _whole(cell) if isinstance(cell, int) else _decimal(cell)


def as_html(table: Table) -> str:
    """The table with its title above and its note below; a long one folded."""
    head = "".join(
        f'<th scope="col"{_side(table, place)}>{escape(name)}</th>' for place, name in enumerate(table.columns)
    )
    body = "".join(f"<tr>{''.join(_html_cells(row, table))}</tr>" for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    name, title = escape(table.name), escape(table.title)
    # A caption element would be squeezed to the width of its table.
    drawn = f'<table aria-label="{title}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    kind = "table wide" if len(table.columns) > WIDE_COLUMNS else "table"
    if len(table.rows) > LONG_ROWS:
        summary = f"{title} ({len(table.rows):,} rows, also in tables/{name}.csv)"
        return f'<details id="{name}" class="{kind} long"><summary>{summary}</summary>{drawn}{note}</details>'
    return f'<div id="{name}" class="{kind}"><p class="title">{title}</p>{drawn}{note}</div>'


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
    writer.writerow(header)
    for row in table.rows:
        writer.writerow([field for cell, three in zip(row, split, strict=True) for field in _fields(cell, three=three)])
    return text.getvalue()


def as_latex(table: Table) -> str:
    """A table for the package booktabs, title as caption, note below; the first line names the packages it needs.

    A wide one is shrunk to the width of the text, a long one broken over pages.
    """
    sides = "".join("r" if _is_numeric(table, place) else "l" for place in range(len(table.columns)))
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
    return re.sub(r"[\s\S]", lambda match: _LATEX.get(match.group(), match.group()), text)


def _whole(value: int) -> str:
    return f"{value:,}".replace("-", "\u2212")


def _decimal(value: float) -> str:
    text = f"{value:,.3f}"
    return text.replace("-", "\u2212") if float(text.replace(",", "")) != 0 else text.removeprefix("-")


def _interval_text(interval: Interval) -> str:
    bounds = _bounds_text(interval)
    return f"{_decimal(interval.estimate)} {bounds}" if bounds else _decimal(interval.estimate)


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


def _is_numeric(table: Table, place: int) -> bool:
    return bool(table.rows) and not any(isinstance(row[place], str) for row in table.rows)


def _side(table: Table, place: int) -> str:
    return ' class="num"' if _is_numeric(table, place) else ""


def _html_cells(row: tuple[Cell, ...], table: Table) -> Iterator[str]:
    for place, cell in enumerate(row):
        if place == 0 and isinstance(cell, str):
            yield f'<th scope="row">{escape(cell)}</th>'
        else:
            is_number = cell is not None and not isinstance(cell, str)
            kind = ' class="num"' if is_number or (cell is None and _is_numeric(table, place)) else ""
            yield f"<td{kind}>{_html_text(cell)}</td>"


def _html_text(cell: Cell) -> str:
    """The bounds of an interval are set apart, so that a wide table can put them below the estimate."""
    if isinstance(cell, Interval) and (bounds := _bounds_text(cell)):
        return f'{_decimal(cell.estimate)} <span class="bounds">{bounds}</span>'
    return escape(cell_text(cell))


def _fields(cell: Cell, *, three: bool) -> tuple[str, ...]:
    if isinstance(cell, Interval):
        return tuple(_plain(value) for value in (cell.estimate, *(_bounds(cell) or (None, None))))
    return (_plain(cell), "", "") if three else (_plain(cell),)


def _plain(cell: str | float | None) -> str:
    if cell is None:
        return NOT_AVAILABLE
    return cell if isinstance(cell, str) else str(cell) if isinstance(cell, int) else f"{cell:.6g}"


RENDERERS: Final[dict[str, Callable[[Table], str]]] = {"csv": as_csv, "tex": as_latex}
"""By the suffix of the file that each is written to."""
