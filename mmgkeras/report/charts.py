"""Charts as inline SVG, drawn by hand: lines and steps, strips of points, a matrix.

Owns where things stand in a chart: plot, axes, legend. Colours and dashes are `strokes`', ticks are `axes`'.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmgkeras.report.axes import Axis, coordinate, linear_axis, log_axis
from mmgkeras.report.strokes import COLOURS, Weight, curve_path, mark, stroke

_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 12, 46
_LEGEND_ROW: Final = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One curve or set of points.

    Attributes:
        label: in the legend; "" keeps it out of the legend.
        x, y: (n,) in data units; NaN breaks no curve but is left out.
        style: number of its colour, dash and mark; `strokes.REFERENCE` for a line to compare with.
        form: "line" joins the points, "step" goes across before it goes up or down, "marked" joins and marks them.
        weight: "faint" draws it thin and light, behind the others.
    """

    label: str
    x: ArrayLike
    y: ArrayLike
    style: int = 0
    form: Literal["line", "step", "marked"] = "line"
    weight: Weight = "normal"


def figure(picture: str, caption: str) -> str:
    """HTML of a chart with its caption; the caption is text, the picture HTML."""
    return f'<figure class="chart">{picture}<figcaption>{escape(caption)}</figcaption></figure>'


def figures(pictures: Sequence[str]) -> str:
    """HTML of several figures side by side where the page is wide enough."""
    return f'<div class="charts">{"".join(pictures)}</div>'


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    x_scale: Literal["linear", "log"] = "linear",
    x_ticks: Literal["any", "whole"] = "any",
    width: int = 460,
    height: int = 330,
) -> str:
    """SVG of curves over common axes with ticks, a grid and a legend below.

    Args:
        series: drawn in their order, faint ones first.
        title: read aloud in place of the picture; the visible caption is `figure`'s.
        x_label: below the axis.
        y_label: beside the axis.
        x_range: what the axis shows; by default all points. Curves beyond are cut off.
        y_range: the same of y.
        x_scale: "log" for positive x alone.
        x_ticks: "whole" for x that are counted, such as epochs.
        width: in CSS pixels.
        height: in CSS pixels, the legend not counted.
    """
    points = [_finite(one, is_log=x_scale == "log") for one in series]
    across, length_px = [x for x, _ in points], width - _LEFT - _RIGHT
    if x_scale == "log":
        x_axis = log_axis(across, shown=x_range, length_px=length_px)
    else:
        x_axis = linear_axis(across, shown=x_range, length_px=length_px, least_step=1 if x_ticks == "whole" else 0)
    y_axis = linear_axis([y for _, y in points], shown=y_range, length_px=height - _TOP - _BOTTOM)
    ordered = sorted(range(len(series)), key=lambda index: series[index].weight != "faint")
    drawn = "".join(_drawn(series[index], points[index], x_axis=x_axis, y_axis=y_axis) for index in ordered)
    inner = _plot(drawn, x_axis=x_axis, y_axis=y_axis) + _axes(x_axis, y_axis, x_label=x_label, y_label=y_label)
    named = [(one.label, _sample(one)) for one in series if one.label]
    return _svg(inner, named, title=title, width=width, height=height)


def strip_chart(
    groups: Sequence[tuple[str, ArrayLike]],
    *,
    title: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
    width: int = 460,
    height: int = 330,
) -> str:
    """SVG of one column of points for each group, with a bar at its median and a box from quartile to quartile.

    Args:
        groups: name and values (n,) of each; NaN is left out.
        title: read aloud in place of the picture.
        y_label: beside the axis.
        y_range: what the axis shows; by default all points.
        width: in CSS pixels.
        height: in CSS pixels.
    """
    values = [np.asarray(group, float) for _, group in groups]
    values = [group[np.isfinite(group)] for group in values]
    y_axis = linear_axis(values, shown=y_range, length_px=height - _TOP - _BOTTOM)
    step = (width - _LEFT - _RIGHT) / max(len(groups), 1)
    drawn = "".join(
        _strip(group, y_axis=y_axis, centre=step * (index + 0.5), half=0.36 * step, style=index)
        for index, group in enumerate(values)
    )
    inner = _plot(drawn, x_axis=None, y_axis=y_axis, width=width - _LEFT - _RIGHT)
    inner += _y_axis(y_axis, label=y_label)
    inner += _categories([name for name, _ in groups], step=step, bottom=_TOP + y_axis.length_px)
    return _svg(inner, [], title=title, width=width, height=height)


def matrix_chart(*, tp: int, fp: int, tn: int, fn: int, title: str) -> str:
    """SVG of a confusion matrix: rows the truth, columns the answer, each shaded by its part of the row."""
    cell_w, cell_h, left, top = 116, 58, 104, 44
    rows = (("calcification", ((tp, "TP"), (fn, "FN"))), ("none", ((fp, "FP"), (tn, "TN"))))
    parts = [
        f'<text x="{left + cell_w}" y="16" class="label" text-anchor="middle">classified as</text>',
        f'<text x="{left + cell_w / 2:g}" y="36" text-anchor="middle">calcification</text>',
        f'<text x="{left + cell_w * 1.5:g}" y="36" text-anchor="middle">none</text>',
    ]
    for row, (name, cells) in enumerate(rows):
        y = top + row * cell_h
        parts.append(f'<text x="{left - 8}" y="{y + cell_h / 2 + 4:g}" text-anchor="end">{name}</text>')
        total = sum(count for count, _ in cells)
        for col, (count, sign) in enumerate(cells):
            part = count / total if total else 0.0
            x = left + col * cell_w
            middle = x + cell_w / 2
            parts.append(
                f'<rect x="{x}" y="{y}" width="{cell_w}" height="{cell_h}" fill="{COLOURS[0]}" '
                f'fill-opacity="{0.04 + 0.34 * part:.3f}" stroke="#999"/>'
                f'<text x="{middle:g}" y="{y + 26}" class="count" text-anchor="middle">{count:,}</text>'
                f'<text x="{middle:g}" y="{y + 44}" text-anchor="middle">{sign}, {part:.1%} of row</text>'
            )
    return _svg("".join(parts), [], title=title, width=left + 2 * cell_w + 2, height=top + 2 * cell_h + 2)


def _svg(inner: str, named: Sequence[tuple[str, str]], *, title: str, width: int, height: int) -> str:
    legend, legend_px = _legend(named, top=height + 4, width=width)
    return (
        f'<svg role="img" aria-label="{escape(title)}" viewBox="0 0 {width} {height + legend_px}" '
        f'width="{width}" height="{height + legend_px}"><title>{escape(title)}</title>{inner}{legend}</svg>'
    )


def _legend(named: Sequence[tuple[str, str]], *, top: int, width: int) -> tuple[str, int]:
    """Samples and labels in as many columns as fit, and the height they take."""
    if not named:
        return "", 0
    longest = max(len(label) for label, _ in named)
    columns = max(1, min(len(named), (width - _LEFT) // (44 + 7 * longest)))
    column_px = (width - _LEFT) / columns
    parts = []
    for index, (label, sample) in enumerate(named):
        x, y = _LEFT + column_px * (index % columns), top + _LEGEND_ROW * (index // columns) + 6
        parts.append(f'<g transform="translate({x:.0f} {y})">{sample}<text x="34" y="4">{escape(label)}</text></g>')
    return "".join(parts), _LEGEND_ROW * -(-len(named) // columns) + 6


def _finite(series: Series, *, is_log: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(series.x, float), np.asarray(series.y, float)
    kept = np.isfinite(x) & np.isfinite(y) & ((x > 0) | (not is_log))
    return x[kept], y[kept]


def _drawn(
    series: Series, points: tuple[NDArray[np.float64], NDArray[np.float64]], *, x_axis: Axis, y_axis: Axis
) -> str:
    x, y = x_axis.px(points[0]), y_axis.length_px - y_axis.px(points[1])
    parts = []
    if len(x):
        d = curve_path(x, y, is_step=series.form == "step")
        parts.append(f'<path d="{d}" fill="none" {stroke(series.style, weight=series.weight)}/>')
    if series.form == "marked":
        parts.extend(mark(a, b, style=series.style) for a, b in zip(x, y, strict=True))
    return "".join(parts)


def _sample(series: Series) -> str:
    """What stands before a label in the legend."""
    line = f'<path d="M0 0H28" fill="none" {stroke(series.style, weight=series.weight)}/>'
    return line + (mark(14, 0, style=series.style) if series.form == "marked" else "")


def _strip(values: NDArray[np.float64], *, y_axis: Axis, centre: float, half: float, style: int) -> str:
    """Points spread sideways where they would fall on each other, and the quartiles over them."""
    if not len(values):
        return ""
    y = y_axis.length_px - y_axis.px(np.sort(values))
    parts: list[str] = []
    for level in np.unique(np.round(y / 3)):
        row = y[np.round(y / 3) == level]
        gap = min(4.2, 2 * half / max(len(row), 1))
        offsets = (np.arange(len(row)) - (len(row) - 1) / 2) * gap
        parts.extend(
            mark(centre + dx, b, style=style, size=1.9, opacity=0.6) for dx, b in zip(offsets, row, strict=True)
        )
    q1, median, q3 = (y_axis.length_px - float(y_axis.px(np.array(q))) for q in np.percentile(values, [25, 50, 75]))
    left = centre - half
    parts.append(
        f'<rect x="{coordinate(left)}" y="{coordinate(q3)}" width="{coordinate(2 * half)}" '
        f'height="{coordinate(q1 - q3)}" fill="none" stroke="#222" stroke-width="1"/>'
        f'<path d="M{coordinate(left)} {coordinate(median)}h{coordinate(2 * half)}" stroke="#222" stroke-width="2.5"/>'
    )
    return "".join(parts)


def _plot(drawn: str, *, x_axis: Axis | None, y_axis: Axis, width: float = 0) -> str:
    """The grid, the frame and what is drawn, cut off at the frame."""
    width = width if x_axis is None else x_axis.length_px
    height = y_axis.length_px
    lines = [f"M0 {coordinate(height - at)}H{width:g}" for at, _ in y_axis.ticks]
    lines += [] if x_axis is None else [f"M{coordinate(at)} 0V{height:g}" for at, _ in x_axis.ticks]
    return (
        f'<svg x="{_LEFT}" y="{_TOP}" width="{width:g}" height="{height:g}" overflow="hidden">'
        f'<path d="{"".join(lines)}" stroke="#e4e4e4" fill="none"/>{drawn}</svg>'
        f'<rect x="{_LEFT}" y="{_TOP}" width="{width:g}" height="{height:g}" fill="none" stroke="#777"/>'
    )


def _axes(x_axis: Axis, y_axis: Axis, *, x_label: str, y_label: str) -> str:
    bottom = _TOP + y_axis.length_px
    ticks = "".join(
        f'<text x="{coordinate(_LEFT + at)}" y="{bottom + 16:g}" text-anchor="middle">{text}</text>'
        for at, text in x_axis.ticks
    )
    middle = _LEFT + x_axis.length_px / 2
    name = f'<text x="{middle:g}" y="{bottom + 36:g}" class="label" text-anchor="middle">{escape(x_label)}</text>'
    return ticks + name + _y_axis(y_axis, label=y_label)


def _y_axis(axis: Axis, *, label: str) -> str:
    ticks = "".join(
        f'<text x="{_LEFT - 6}" y="{coordinate(_TOP + axis.length_px - at + 4)}" text-anchor="end">{text}</text>'
        for at, text in axis.ticks
    )
    middle = _TOP + axis.length_px / 2
    return (
        f'{ticks}<text transform="translate(14 {middle:g}) rotate(-90)" class="label" text-anchor="middle">'
        f"{escape(label)}</text>"
    )


def _categories(names: Sequence[str], *, step: float, bottom: float) -> str:
    return "".join(
        f'<text x="{coordinate(_LEFT + step * (index + 0.5))}" y="{bottom + 18:g}" text-anchor="middle">'
        f"{escape(name)}</text>"
        for index, name in enumerate(names)
    )
