"""Charts: curves over common axes, strips of points, a confusion matrix; drawn by matplotlib, embedded as SVG.

Owns how charts look. The colours are Okabe and Ito's, told apart by the colour-blind; every colour has a dash and a
marker of its own, so that a chart printed in grey is still read.
"""

import hashlib
import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from html import escape
from typing import Any, Final, Literal

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from mmgkeras.report.content import Chart

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#7A5C00", "#56B4E9", "#333333")
"""Okabe and Ito's palette; their yellow, unreadable on white, is left out and their orange darkened."""
DASHES: Final[tuple[Any, ...]] = (
    "-",
    (0, (3.5, 1.5)),
    (0, (1, 1.2)),
    (0, (4.5, 1.5, 1, 1.5)),
    (0, (2.5, 1)),
    (0, (0.8, 1.5)),
    (0, (6, 1.5)),
)
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
REFERENCE: Final = -1
"""The style of a line that others are held against: thin, grey, dotted."""

_STYLE: Final = {
    "font.family": "DejaVu Sans",
    "font.size": 11.5,
    "axes.labelsize": 12,
    "axes.labelcolor": "#5a6572",
    "axes.edgecolor": "#777777",
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "xtick.color": "#777777",
    "ytick.color": "#777777",
    "xtick.labelcolor": "#1d2530",
    "ytick.labelcolor": "#1d2530",
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "path.simplify_threshold": 0.4,
    "svg.fonttype": "none",
    "svg.hashsalt": "mmgkeras",
}
"""On top of matplotlib's defaults, never of the user's own settings; a chart is the same bytes each time."""
_SETTINGS: Final[dict[Any, Any]] = {
    key: value for key, value in matplotlib.rcParamsDefault.items() if key != "backend"
} | _STYLE
"""A backend would not be put back by `rc_context`."""
_LEGEND_ROW_PX: Final = 18
_LEFT_PX: Final = 60
_BELOW_PX: Final = 46
_SHADES: Final = LinearSegmentedColormap.from_list("shares", ["#f7fafd", "#9fc6e4"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One curve or set of points.

    Attributes:
        label: in the legend; "" keeps it out of the legend.
        x, y: (n,) in data units; NaN breaks no curve but is left out.
        style: number of its colour, dash and marker; `REFERENCE` for a line to compare with.
        form: "line" joins the points, "step" goes across before it goes up or down, "marked" joins and marks them.
        bounds: lower and upper ends (n,) of the bars through the points; NaN for no bar.
        weight: "faint" draws it thin and light, behind the others.
    """

    label: str
    x: ArrayLike
    y: ArrayLike
    style: int = 0
    form: Literal["line", "step", "marked"] = "line"
    bounds: tuple[ArrayLike, ArrayLike] | None = None
    weight: Literal["normal", "faint"] = "normal"


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    caption: str,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    x_scale: Literal["linear", "log"] = "linear",
    x_ticks: Literal["any", "whole"] = "any",
    width: int = 400,
    height: int = 325,
) -> Chart:
    """Curves over common axes, with a grid, and a legend below; faint ones lie behind the others.

    Args:
        series: drawn in their order.
        title: in place of the picture.
        caption: below it.
        x_label: with its unit.
        y_label: with its unit.
        x_range: what the axis shows; by default all points. Curves beyond are cut off.
        y_range: the same of y.
        x_scale: "log" for positive x alone.
        x_ticks: "whole" for x that are counted, such as epochs.
        width: in CSS pixels.
        height: in CSS pixels, the legend not counted.
    """
    labels = [one.label for one in series if one.label]
    columns = max(1, min(len(labels), int((width - 40) // (50 + 7.2 * max(map(len, labels), default=0)))))
    with _look():
        legend_px = _LEGEND_ROW_PX * -(-len(labels) // columns)
        figure, axes = _figure(width, height + legend_px, below=_BELOW_PX + legend_px)
        for one in sorted(series, key=lambda one: one.weight != "faint"):
            _draw(axes, one)
        axes.set(xlabel=x_label, ylabel=y_label)
        if x_scale == "log":
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        elif x_ticks == "whole":
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if x_range is not None:
            axes.set_xlim(*x_range)
        if y_range is not None:
            axes.set_ylim(*y_range)
        if labels:
            left = _LEFT_PX / width
            figure.legend(loc="lower left", bbox_to_anchor=(left, 0), borderaxespad=0, borderpad=0, ncols=columns)
    return Chart(figure, title, caption)


def strip_chart(
    groups: Sequence[tuple[str, ArrayLike]],
    *,
    title: str,
    caption: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
    width: int = 460,
    height: int = 380,
) -> Chart:
    """One column of points for each group of values (n,), a box from quartile to quartile and a bar at the median.

    NaN is left out. The other arguments are those of `line_chart`.
    """
    values = [np.asarray(group, float) for _, group in groups]
    values = [group[np.isfinite(group)] for group in values]
    places = range(len(groups))
    with _look():
        figure, axes = _figure(width, height, below=30)
        for place, group in enumerate(values):
            look: dict[str, Any] = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}
            axes.scatter(place + _spread(group), group, s=17, alpha=0.6, linewidths=0, **look)
        axes.boxplot(
            values,
            positions=places,
            widths=0.72,
            whis=0,
            showcaps=False,
            showfliers=False,
            manage_ticks=False,
            medianprops={"color": "#222222", "linewidth": 2.5},
        )
        axes.set(ylabel=y_label, xlim=(-0.5, len(groups) - 0.5))
        axes.set_xticks(places, [name for name, _ in groups])
        axes.grid(visible=False, axis="x")
        if y_range is not None:
            axes.set_ylim(*y_range)
    return Chart(figure, title, caption)


def matrix_chart(*, tp: int, fp: int, tn: int, fn: int, title: str, caption: str) -> Chart:
    """A confusion matrix: rows the truth, columns the decision, each cell shaded by its share of the row."""
    counts = np.array([[tp, fn], [fp, tn]])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with _look():
        figure, axes = _figure(345, 180, left=108, above=44, below=2)
        axes.grid(visible=False)
        axes.pcolormesh(shares, cmap=_SHADES, vmin=0, vmax=1, edgecolors="#999999", linewidth=0.8)
        about: dict[str, Any] = {"ha": "center", "textcoords": "offset points", "color": "#1d2530"}
        for (row, col), sign in np.ndenumerate([["TP", "FN"], ["FP", "TN"]]):
            centre = (col + 0.5, row + 0.5)
            axes.annotate(f"{counts[row, col]:,}", centre, xytext=(0, 1), fontsize=15, weight="bold", **about)
            axes.annotate(f"{sign}, {shares[row, col]:.1%} of row", centre, xytext=(0, -17), **about)
        axes.set_xticks([0.5, 1.5], ["calcification", "none"])
        axes.set_yticks([0.5, 1.5], ["calcification", "none"])
        axes.set(xlabel="classified as", ylabel="labelled")
        axes.xaxis.set_label_position("top")
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        axes.invert_yaxis()
        axes.spines[:].set_visible(False)
    return Chart(figure, title, caption)


def as_svg(chart: Chart) -> str:
    """Inline SVG of a chart in the page's own font; its ids begin with a hash of its title."""
    buffer = io.StringIO()
    with _look():
        chart.figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    inner = text[text.index("<g id=") : text.rindex("</svg>")]
    inner = re.sub(r' id="[A-Za-z0-9.]+_\d+"| transform="rotate\(-0 [^"]+"|(?<=; )font-family: [^;]+; ', "", inner)
    inner = re.sub(r' (?:d|x|y)="[^"]+"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), inner)
    name = hashlib.sha256(chart.title.encode()).hexdigest()[:8]
    inner = re.sub(r'(?<= id=")|(?<=href="#)|(?<=url\(#)', f"c{name}-", inner.replace("xlink:href", "href"))
    inner = re.sub(r"\s*\n\s*", " ", inner)
    width, height = (f"{edge:g}" for edge in chart.figure.get_size_inches() * chart.figure.dpi)
    return (
        f'<svg role="img" aria-label="{escape(chart.title)}" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}"><title>{escape(chart.title)}</title>{inner}</svg>'
    )


def _look() -> AbstractContextManager[None]:
    return matplotlib.rc_context(_SETTINGS)


def _figure(
    width: int, height: int, *, left: int = _LEFT_PX, above: int = 10, below: int = _BELOW_PX
) -> tuple[Figure, Axes]:
    """A figure, and axes with margins in pixels: what a layout engine would find takes twice the time to draw."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    right = 10
    box = (left / width, below / height, (width - left - right) / width, (height - above - below) / height)
    return figure, figure.add_axes(box)


def _draw(axes: Axes, series: Series) -> None:
    x, y = np.asarray(series.x, float), np.asarray(series.y, float)
    known = np.isfinite(x) & np.isfinite(y)
    is_faint = series.weight == "faint"
    look: dict[str, Any] = {"color": COLOURS[series.style % len(COLOURS)], "lw": 2, "ls": DASHES[series.style % 7]}
    if series.style == REFERENCE:
        look = {"color": "#8a8a8a", "lw": 1.2, "ls": ":"}
    elif is_faint:
        look |= {"lw": 1, "ls": "-", "alpha": 0.6}
    if series.form == "marked":
        look |= {"marker": MARKERS[series.style % len(MARKERS)], "ms": 5.5}
    if series.bounds is not None:
        low, high = (np.asarray(bound, float)[known] for bound in series.bounds)
        axes.vlines(x[known], low, high, color=look["color"], lw=1, alpha=0.6)
    drawstyle = "steps-post" if series.form == "step" else "default"
    axes.plot(x[known], y[known], label=series.label or "_", drawstyle=drawstyle, **look)


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) offsets to the side, so that points that would fall on each other lie in a row."""
    if not len(values):
        return values
    alike = pd.Series(values).groupby(np.round(values / max(np.ptp(values), 1e-9) * 100))
    size = alike.transform("size")
    offsets = (alike.cumcount() - (size - 1) / 2) * np.minimum(0.024, 0.72 / size)
    return offsets.to_numpy(dtype=np.float64)
