"""The report as one HTML file: nothing is fetched, and a policy in its head forbids it.

Owns the frame of the page: typography, table of contents, print. Classes for sections: `figure` with `figcaption`,
`.charts` and `.gallery` (figures side by side), `.note`, `.missing` (what is not there, in one line), `.blank` (a field
for the group to fill in), `.lead`, `table`.
"""

from collections.abc import Sequence
from html import escape
from typing import Final

from mmgkeras.report.render import as_html
from mmgkeras.report.table import Section

POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Content-Security-Policy: pictures out of the file itself, its own styles, and nothing else."""

_STYLE: Final = """
:root { --ink: #1d2530; --soft: #5a6572; --line: #d9dee4; --tint: #f5f7f9; --accent: #0b5e93; }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body { margin: 0; color: var(--ink); background: #fff;
  font: 15px/1.55 "Source Sans 3", "Segoe UI", Roboto, "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; }
.layout { display: grid; grid-template-columns: 236px minmax(0, 1fr); max-width: 1320px; margin: 0 auto; }
nav { position: sticky; top: 0; align-self: start; max-height: 100vh; overflow-y: auto; padding: 30px 18px 30px 26px;
  font-size: 13.5px; border-right: 1px solid var(--line); }
nav p { margin: 0 0 8px; font-weight: 600; color: var(--soft); }
nav ol { list-style: none; margin: 0; padding: 0; }
nav li { margin: 0; }
nav a { display: block; padding: 3px 0; color: var(--ink); text-decoration: none; }
nav a:hover { color: var(--accent); text-decoration: underline; }
main { padding: 30px 34px 80px; min-width: 0; }
header { border-bottom: 2px solid var(--ink); padding-bottom: 14px; margin-bottom: 6px; }
h1 { font-size: 27px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -.01em; }
h2 { font-size: 20.5px; line-height: 1.25; margin: 46px 0 10px; padding-top: 6px; border-top: 1px solid var(--line); }
h3 { font-size: 16px; margin: 26px 0 6px; }
header + section > h2 { border-top: 0; margin-top: 16px; }
p { margin: 8px 0; max-width: 86ch; }
ul { max-width: 86ch; }
a { color: var(--accent); }
header p { margin: 2px 0; color: var(--soft); }
.warning { color: #8a2c00; font-weight: 600; }
.lead { font-size: 16px; }
.note, figcaption { color: var(--soft); font-size: 13px; line-height: 1.45; }
.note { max-width: 100ch; margin: 5px 0 0; }
.missing { color: var(--soft); border-left: 3px solid var(--line); padding: 2px 0 2px 12px; font-style: italic; }
.blank { display: inline-block; min-width: 12em; min-height: 1.3em; border-bottom: 1px solid #8b95a1;
  background: #fdfbf0; }
.table { margin: 16px 0 22px; overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; line-height: 1.4; font-variant-numeric: tabular-nums;
  border-top: 1.5px solid var(--ink); border-bottom: 1.5px solid var(--ink); }
.title { font-weight: 600; margin: 0 0 6px; font-size: 14px; }
th, td { padding: 3px 14px 3px 0; text-align: left; vertical-align: top; }
th:last-child, td:last-child { padding-right: 4px; }
thead th { border-bottom: 1px solid var(--ink); vertical-align: bottom; font-weight: 600; }
tbody th { font-weight: 400; white-space: nowrap; }
tbody tr + tr > * { border-top: 1px solid #edf0f3; }
tbody tr:hover > * { background: var(--tint); }
.num { text-align: right; }
td.num { white-space: nowrap; }
.bounds { color: var(--soft); }
.wide table { font-size: 12.5px; }
.wide th, .wide td { padding-right: 11px; }
.wide .bounds { display: block; font-size: 11.5px; }
details > summary { cursor: pointer; font-weight: 600; font-size: 14px; color: var(--accent); padding: 4px 0; }
details[open] > summary { margin-bottom: 8px; }
figure { margin: 16px 0; break-inside: avoid; }
figcaption { margin-top: 4px; max-width: 92ch; }
.charts, .gallery { display: flex; flex-wrap: wrap; gap: 6px 26px; align-items: flex-start; }
.charts figure { margin: 10px 0; }
figure.chart { width: fit-content; max-width: 100%; }
figure.chart figcaption { contain: inline-size; }
.gallery { gap: 16px; }
.gallery figure { margin: 0; width: 172px; }
.gallery .patch { width: 324px; }
.patch div { display: flex; gap: 6px; align-items: flex-start; }
.patch svg { min-width: 0; }
.gallery img { width: 100%; height: auto; display: block; background: #000; }
svg { max-width: 100%; height: auto; display: block; }
svg text { font: 12px "Source Sans 3", "Segoe UI", Roboto, "Helvetica Neue", Arial, "DejaVu Sans", sans-serif;
  fill: var(--ink); }
svg text.label { font-size: 12.5px; fill: var(--soft); }
svg text.count { font-size: 17px; font-weight: 600; }
pre { background: var(--tint); border: 1px solid var(--line); padding: 10px 12px; font-size: 12.5px; line-height: 1.45;
  white-space: pre-wrap; overflow-wrap: anywhere; max-width: 110ch; }
code { font-size: .92em; overflow-wrap: anywhere; }
footer { margin-top: 50px; padding-top: 12px; border-top: 1px solid var(--line); color: var(--soft); font-size: 13px; }
@media (max-width: 900px) {
  .layout { display: block; }
  nav { position: static; max-height: none; border-right: 0; border-bottom: 1px solid var(--line); padding: 18px; }
  nav ol { columns: 2; }
  main { padding: 18px; }
}
@page { size: A4; margin: 16mm 14mm; }
@media print {
  body { font-size: 9.5pt; }
  .layout { display: block; max-width: none; }
  nav { display: none; }
  main { padding: 0; }
  h1 { font-size: 19pt; }
  h2 { font-size: 14pt; break-after: avoid; margin-top: 8mm; }
  h3, .title, summary { break-after: avoid; }
  a { color: inherit; text-decoration: none; }
  .table { overflow: visible; break-inside: avoid; }
  .table.long { break-inside: auto; }
  table { font-size: 8pt; }
  th, td { padding: 1.5pt 7pt 1.5pt 0; }
  .wide table { font-size: 6.8pt; }
  .wide .bounds { font-size: 6.2pt; }
  .wide th, .wide td { padding-right: 4pt; }
  thead { display: table-header-group; }
  tr, figure, .note { break-inside: avoid; }
  .charts, .gallery { display: block; }
  .charts figure, .gallery figure { display: inline-block; vertical-align: top; margin: 2mm 3mm 2mm 0; }
  .charts figure { max-width: 84mm; }
  .charts figure:only-child { max-width: 130mm; }
  h2 + p { break-after: avoid; }
  .gallery figure { width: 32mm; }
  .gallery .patch { width: 42mm; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


def page(sections: Sequence[Section], *, title: str, facts: Sequence[str], footer: str) -> str:
    """The whole file.

    Args:
        sections: in the order of the page.
        title: of the page and its heading, as text.
        facts: lines below the heading, as text.
        footer: the last line, as text.

    Raises:
        ValueError: if two sections have one anchor, which would lead the table of contents astray.
    """
    anchors = [section.anchor for section in sections]
    if len(set(anchors)) != len(anchors):
        raise ValueError(f"Each section needs an anchor of its own. Received: {anchors}")
    contents = "".join(
        f'<li><a href="#{escape(section.anchor)}">{escape(section.title)}</a></li>' for section in sections
    )
    lines = "".join(f"<p>{escape(fact)}</p>" for fact in facts)
    body = "\n".join(_section(section) for section in sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<div class="layout">
<nav aria-label="Contents"><p>Contents</p><ol>{contents}</ol></nav>
<main>
<header><h1>{escape(title)}</h1>{lines}
<p class="warning">For research use only. Not a medical device, never for diagnosis.</p></header>
{body}
<footer>{escape(footer)}</footer>
</main>
</div>
</body>
</html>
"""


def missing(text: str) -> str:
    """HTML of one line where a part of the report would stand; takes text."""
    return f'<p class="missing">{escape(text)}</p>'


def blank(wanted: str) -> str:
    """HTML of a field that only the group can fill in; takes what is wanted in it, as text."""
    return f'<span class="blank">to be filled in: {escape(wanted)}</span>'


def paragraph(text: str, *, kind: str = "") -> str:
    """HTML of a paragraph of text, of a class of the page."""
    return f'<p class="{escape(kind)}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def _section(section: Section) -> str:
    parts = "\n".join(part if isinstance(part, str) else as_html(part) for part in section.body)
    return f'<section>\n<h2 id="{escape(section.anchor)}">{escape(section.title)}</h2>\n{parts}\n</section>'
