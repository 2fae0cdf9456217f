"""The report as one HTML file: nothing is fetched, and a policy in its head forbids it.

Owns what the templates in `templates/` are given; they and page.css own how the page looks.
"""

from collections.abc import Sequence
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mmgkeras.report.charts import as_svg
from mmgkeras.report.content import Section
from mmgkeras.report.table_files import LONG_ROWS, WIDE_COLUMNS, cell_parts, numeric_columns

POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Content-Security-Policy: pictures out of the file itself, its own styles, and nothing else."""


def page(sections: Sequence[Section], *, title: str, facts: Sequence[str], footer: str) -> str:
    """The whole file.

    Args:
        sections: in the order of the page.
        title: of the page and its heading.
        facts: lines below the heading.
        footer: the last line.

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
    return templates.get_template("page.html").render(
        sections=sections, title=title, facts=facts, footer=footer, policy=POLICY
    )
