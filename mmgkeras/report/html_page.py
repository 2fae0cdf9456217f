"""Sections as one HTML file that fetches nothing, and their tables as CSV and LaTeX.

Owns what the templates in `templates/` are given; how the page looks is theirs and page.css'.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mmgkeras.json_files import in_unicode
from mmgkeras.report.charts import as_svg
from mmgkeras.report.content import Section, Table
from mmgkeras.report.table_files import LONG_ROWS, RENDERERS, WIDE_COLUMNS, cell_parts, numeric_columns

TABLES: Final = "tables"
TABLE_FILES: Final = tuple(f"{TABLES}/*.{suffix}" for suffix in RENDERERS)
POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Content-Security-Policy: pictures out of the file itself, its own styles, and nothing else."""


def page(sections: Sequence[Section], *, title: str, facts: Sequence[str], footer: str) -> str:
    """One HTML file that fetches nothing, the facts as lines below its heading.

    Raises:
        ValueError: if two sections have one anchor, which would lead the table of contents astray.
    """
    anchors = [section.anchor for section in sections]
    if len(set(anchors)) != len(anchors):
        raise ValueError(f"Each section needs an anchor of its own. Received: {anchors}")
    templates = Environment(
        loader=PackageLoader("mmgkeras.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals |= {"long_rows": LONG_ROWS, "wide_columns": WIDE_COLUMNS}
    templates.filters |= {
        "kind": lambda block: type(block).__name__,
        "svg": lambda chart: Markup(as_svg(chart)),
        "parts": cell_parts,
        "numeric_columns": numeric_columns,
    }
    text = templates.get_template("page.html").render(
        sections=sections, title=title, facts=facts, footer=footer, policy=POLICY
    )
    return in_unicode(text)


def tables_of(sections: Sequence[Section]) -> Iterator[Table]:
    """Every table, in the order of the page."""
    return (part for section in sections for part in section.body if isinstance(part, Table))


def write_tables(folder: Path, tables: Iterator[Table]) -> None:
    """Writes each table as CSV and LaTeX into a new folder.

    Raises:
        ValueError: if two tables have one name, for one file would replace the other.
    """
    folder.mkdir()
    names: set[str] = set()
    for table in tables:
        if table.name in names:
            raise ValueError(f"Each table needs a name of its own. Received: {table.name!r} twice")
        names.add(table.name)
        for suffix, render in RENDERERS.items():
            (folder / f"{table.name}.{suffix}").write_text(in_unicode(render(table)), encoding="utf-8")
