import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from mmgkeras.report.axes import linear_axis, log_axis
from mmgkeras.report.charts import Series, figure, line_chart, matrix_chart, strip_chart
from mmgkeras.report.strokes import COLOURS, DASHES, REFERENCE, curve_path, stroke


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter("text")]


def line(*series: Series, **changes: object) -> str:
    arguments = {"title": "A <title>", "x_label": "x & y", "y_label": "y"} | changes
    return line_chart(series, **arguments)  # type: ignore[arg-type]


def test_ticks_stand_at_round_numbers_and_cover_the_data() -> None:
    axis = linear_axis([np.array([0.12, 0.87])], shown=None, length_px=280)
    assert (axis.low, axis.high) == (pytest.approx(0.0), pytest.approx(1.0))
    assert [text for _, text in axis.ticks] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert [at for at, _ in axis.ticks] == pytest.approx([0, 56, 112, 168, 224, 280])


def test_a_step_of_a_quarter_shows_both_decimals() -> None:
    axis = linear_axis([], shown=(0, 1), length_px=230)
    assert [text for _, text in axis.ticks] == ["0.00", "0.25", "0.50", "0.75", "1.00"]


def test_equal_values_and_none_still_have_an_axis() -> None:
    assert linear_axis([np.array([3.0, 3.0])], shown=None, length_px=100).high > 3
    assert linear_axis([np.array([np.nan])], shown=None, length_px=100).high == 1


def test_counted_values_have_whole_ticks() -> None:
    axis = linear_axis([np.array([1, 2])], shown=None, length_px=400, least_step=1)
    assert [text for _, text in axis.ticks] == ["1", "2"]


def test_equal_ratios_take_equal_lengths_on_a_log_axis() -> None:
    axis = log_axis([], shown=(0.1, 10), length_px=400)
    assert axis.px(np.array([0.1, 1.0, 10.0])) == pytest.approx([0, 200, 400])
    assert [text for _, text in axis.ticks] == ["0.1", "0.2", "0.5", "1", "2", "5", "10"]


def test_a_line_is_drawn_upwards_from_the_bottom_of_the_plot() -> None:
    svg = line(Series(label="a", x=[0, 0.5, 1], y=[0, 0.5, 1]), x_range=(0, 1), y_range=(0, 1), width=272, height=258)
    assert 'd="M0 200L100 100L200 0"' in svg


def test_a_step_goes_across_before_it_goes_up() -> None:
    assert curve_path(np.array([0.0, 10.0]), np.array([5.0, 1.0]), is_step=True) == "M0 5H10V1"


def test_points_that_nobody_could_tell_apart_are_drawn_once_but_the_last_is_kept() -> None:
    x = np.array([0.0, 0.1, 0.2, 0.3])
    assert curve_path(x, np.zeros(4), is_step=False) == "M0 0L0.3 0"


def test_nan_is_left_out_of_a_curve() -> None:
    svg = line(
        Series(label="a", x=[0, 0.5, 1], y=[0, np.nan, 1]), x_range=(0, 1), y_range=(0, 1), width=272, height=258
    )
    assert 'd="M0 200L200 0"' in svg


def test_text_is_escaped_and_the_title_is_read_aloud() -> None:
    svg = line(Series(label="<a>", x=[0, 1], y=[0, 1]))
    root = ET.fromstring(svg)
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == "A <title>"
    assert root.findtext("title") == "A <title>"
    assert {"x & y", "<a>"} <= set(texts(svg))


def test_series_without_a_label_are_not_in_the_legend() -> None:
    svg = line(Series(label="", x=[0, 1], y=[0, 1]), Series(label="shown", x=[0, 1], y=[1, 0]))
    assert len(re.findall(r"<g transform", svg)) == 1


def test_every_colour_has_a_dash_of_its_own() -> None:
    assert len({*DASHES}) == len({*COLOURS}) == len(COLOURS)
    assert "stroke-dasharray" not in stroke(0)
    assert len({stroke(style).replace(COLOURS[style], "") for style in range(len(COLOURS))}) == len(COLOURS)
    assert "stroke-dasharray" in stroke(REFERENCE)


def test_a_strip_draws_every_known_value_and_its_quartiles() -> None:
    svg = strip_chart([("R18", [0.9, 0.95, np.nan, 1.0])], title="t", y_label="accuracy", y_range=(0.8, 1.0))
    assert svg.count("<circle") == 3
    assert "R18" in texts(svg)
    assert 'stroke-width="2.5"' in svg


def test_a_strip_of_nothing_is_an_empty_plot() -> None:
    assert "<circle" not in strip_chart([("none", [np.nan])], title="t", y_label="accuracy")


def test_a_confusion_matrix_shows_counts_and_their_part_of_the_row() -> None:
    svg = matrix_chart(tp=3, fp=10, tn=1990, fn=1, title="t")
    assert {"3", "1", "10", "1,990", "TP, 75.0% of row", "FP, 0.5% of row"} <= set(texts(svg))
    assert "0.0% of row" in " ".join(texts(matrix_chart(tp=0, fp=0, tn=1, fn=0, title="t")))


def test_a_caption_is_text() -> None:
    assert figure("<svg></svg>", "a < b") == (
        '<figure class="chart"><svg></svg><figcaption>a &lt; b</figcaption></figure>'
    )
