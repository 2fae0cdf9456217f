"""Charts are compared with pictures of themselves: `python tests/report/test_charts.py` draws these anew."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.testing.compare import compare_images

from mmgkeras.report.charts import (
    COLOURS,
    DASHES,
    MARKERS,
    REFERENCE,
    Chart,
    Series,
    as_svg,
    line_chart,
    matrix_chart,
    strip_chart,
)

REFERENCES = Path(__file__).parent / "reference"
TOLERANCE = 3.0
"""Root mean square of the grey levels that may differ: another FreeType places the same letters a little otherwise."""


def curves() -> Chart:
    x = np.linspace(0, 1, 50)
    return line_chart(
        [
            Series(label="chance", x=(0, 1), y=(0, 1), style=REFERENCE),
            Series(label="", x=x, y=x**0.2, weight="faint"),
            Series(label="one", x=x, y=x**0.3),
            Series(
                label="two",
                x=[0, 0.3, 0.6, 1],
                y=[0, 0.6, np.nan, 1],
                style=1,
                form="marked",
                bounds=([np.nan, 0.4, 0.1, 0.9], [np.nan, 0.7, 0.2, 1]),
            ),
        ],
        title="Curves",
        caption="",
        x_label="1 \u2212 specificity",
        y_label="sensitivity",
        x_range=(0, 1),
        y_range=(0, 1),
        width=240,
        height=200,
    )


def steps() -> Chart:
    return line_chart(
        [Series(label="steps", x=[0.05, 0.2, 1, 10], y=[0.1, 0.5, 0.8, 0.8], style=2, form="step")],
        title="Steps",
        caption="",
        x_label="false positives per image",
        y_label="sensitivity",
        x_range=(0.05, 10),
        y_range=(0, 1),
        x_scale="log",
        width=280,
        height=180,
    )


def epochs() -> Chart:
    return line_chart(
        [
            Series(label=f"fold {fold}", x=[1, 2, 3], y=[0.9 / fold, 0.5 / fold, 0.4], form="marked", style=fold - 1)
            for fold in (1, 2, 3)
        ],
        title="Epochs",
        caption="",
        x_label="epoch",
        y_label="cross-entropy",
        x_ticks="whole",
        width=240,
        height=170,
    )


def strips() -> Chart:
    groups = [("18", [0.9, 0.95, np.nan, 1.0, 0.95]), ("50", [0.8, 0.85, 0.86, 0.9]), ("none", [np.nan])]
    return strip_chart(groups, title="Strips", caption="", y_label="accuracy", width=240, height=200)


def matrix() -> Chart:
    return matrix_chart(tp=3, fp=10, tn=1990, fn=1, title="Matrix", caption="")


KINDS: tuple[Callable[[], Chart], ...] = (curves, steps, epochs, strips, matrix)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_chart_looks_as_it_did(kind: Callable[[], Chart], tmp_path: Path) -> None:
    drawn = tmp_path / f"{kind.__name__}.png"
    kind().figure.savefig(drawn)
    assert compare_images(str(REFERENCES / drawn.name), str(drawn), tol=TOLERANCE) is None


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_chart_is_the_same_bytes_each_time_and_its_ids_are_its_own(kind: Callable[[], Chart]) -> None:
    chart = kind()
    svg = as_svg(chart)
    assert svg == as_svg(kind())
    ids = re.findall(r' id="([^"]+)"', svg)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', svg)) <= set(ids)
    other = as_svg(Chart(kind().figure, "Another title", ""))
    assert not set(ids) & set(re.findall(r' id="([^"]+)"', other))


def test_text_is_escaped_and_the_title_is_read_aloud() -> None:
    series = Series(label="<a>", x=[0, 1], y=[0, 1])
    svg = as_svg(line_chart([series], title="A <title>", caption="", x_label="x & y", y_label="y"))
    root = ET.fromstring(svg)
    assert (root.attrib["role"], root.attrib["aria-label"]) == ("img", "A <title>")
    assert root.findtext("title") == "A <title>"
    assert {"x & y", "<a>"} <= {element.text for element in root.iter("text")}


def test_the_users_own_matplotlib_settings_change_nothing() -> None:
    import matplotlib as mpl

    expected = as_svg(curves())
    with mpl.rc_context({"axes.facecolor": "black", "svg.fonttype": "path", "font.size": 30}):
        assert as_svg(curves()) == expected


def test_a_curve_of_many_points_is_thinned_where_nobody_could_tell() -> None:
    x = np.linspace(0, 1, 20_000)
    svg = as_svg(line_chart([Series(label="", x=x, y=x**2)], title="t", caption="", x_label="x", y_label="y"))
    assert len(svg) < 20_000


def test_every_colour_has_a_dash_and_a_marker_of_its_own() -> None:
    assert len(set(DASHES)) == len(set(MARKERS)) == len(set(COLOURS)) == len(COLOURS)


def test_charts_without_values_are_empty_and_not_an_error() -> None:
    as_svg(strip_chart([("none", [np.nan])], title="t", caption="", y_label="accuracy"))
    as_svg(line_chart([], title="t", caption="", x_label="x", y_label="y"))
    assert "0.0% of row" in as_svg(matrix_chart(tp=0, fp=0, tn=1, fn=0, title="t", caption=""))


if __name__ == "__main__":
    for kind in KINDS:
        kind().figure.savefig(REFERENCES / f"{kind.__name__}.png")
