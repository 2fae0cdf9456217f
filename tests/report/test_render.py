import csv
import io

import pytest

from mmgkeras.evaluation.interval import Interval
from mmgkeras.report.page import page
from mmgkeras.report.render import LONG_ROWS, as_csv, as_html, as_latex, cell_text, latex_text
from mmgkeras.report.table import Cell, Section, Table


def table(*rows: tuple[Cell, ...], columns: tuple[str, ...] = ("Network", "AUC"), note: str = "") -> Table:
    return Table(name="some_table", title="AUC & more", columns=columns, rows=rows, note=note)


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, "n/a"),
        ("R18", "R18"),
        (12345, "12,345"),
        (-7, "\u22127"),
        (0.95649, "0.956"),
        (-0.0004, "0.000"),
        (-1.5, "\u22121.500"),
        (Interval(0.9, 0.85, 0.941), "0.900 (0.850\u20130.941)"),
        (Interval(-0.01, -0.02, 0.005), "\u22120.010 (\u22120.020 to 0.005)"),
        (Interval(0.9), "0.900"),
        (Interval(0.45, 0.45, 0.1 + 0.35), "0.450"),
        (Interval(0.0, 0.0, 1e-17), "0.000"),
    ],
)
def test_a_cell_is_written_as_it_is_read(cell: Cell, text: str) -> None:
    assert cell_text(cell) == text


def test_html_escapes_all_text_and_sets_numbers_apart() -> None:
    html = as_html(table(("<b>&", 0.5), ("x", None), note="a < b"))
    assert '<th scope="row">&lt;b&gt;&amp;</th><td class="num">0.500</td>' in html
    assert '<td class="num">n/a</td>' in html
    assert '<p class="title">AUC &amp; more</p>' in html
    assert '<p class="note">a &lt; b</p>' in html


def test_a_long_table_is_folded_and_names_its_csv() -> None:
    assert as_html(table(*[("x", 1)] * LONG_ROWS)).startswith("<div")
    folded = as_html(table(*[("x", 1)] * (LONG_ROWS + 1)))
    assert folded.startswith("<details")
    assert "tables/some_table.csv" in folded


def test_a_column_with_an_interval_becomes_three_in_csv() -> None:
    rows = (("a,b", Interval(0.123456789, 0.1, 0.2)), ("c", 0.5), ("d", None), ("e", Interval(0.45, 0.45, 0.45)))
    text = as_csv(table(*rows))
    assert list(csv.reader(io.StringIO(text))) == [
        ["Network", "AUC", "AUC low", "AUC high"],
        ["a,b", "0.123457", "0.1", "0.2"],
        ["c", "0.5", "", ""],
        ["d", "n/a", "", ""],
        ["e", "0.45", "n/a", "n/a"],
    ]


def test_latex_escapes_what_tex_would_read_as_a_command() -> None:
    assert latex_text("50 % of a_b & {c} #1 $x$ ~ ^ \\") == (
        r"50 \% of a\_b \& \{c\} \#1 \$x\$ \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )
    assert latex_text("\u22120.1\u20130.2 \u00d7 \u2265") == r"$-$0.1--0.2 $\times$ $\geq$"


def test_latex_has_booktabs_rules_and_aligns_numbers_right() -> None:
    text = as_latex(table(("resnet_18", Interval(0.9, 0.8, 0.95)), note="100 %"))
    assert text.splitlines() == [
        "% booktabs",
        r"\begin{table}",
        r"\centering",
        r"\caption{AUC \& more}",
        r"\label{tab:some-table}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"Network & AUC \\",
        r"\midrule",
        r"resnet\_18 & 0.900 (0.800--0.950) \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\footnotesize 100 \%",
        r"\end{table}",
    ]


def test_a_wide_latex_table_is_shrunk_and_a_long_one_broken() -> None:
    wide = as_latex(table(("x", *range(7)), columns=tuple("abcdefgh")))
    assert wide.splitlines()[5] == r"\resizebox{\textwidth}{!}{%"
    long = as_latex(table(*[("x", 1)] * (LONG_ROWS + 1)))
    assert long.splitlines()[:4] == [
        "% booktabs, longtable",
        r"\begin{longtable}{lr}",
        r"\caption{AUC \& more}",
        r"\label{tab:some-table}\\",
    ]


def test_a_page_lists_its_sections_and_forbids_the_network() -> None:
    sections = [
        Section(anchor="one", title="One & all", body=("<p>text</p>", table(("x", 1)))),
        Section(anchor="two", title="Two", body=()),
    ]
    html = page(sections, title="A <title>", facts=("5 < 6",), footer="end")
    assert '<a href="#one">One &amp; all</a>' in html
    assert '<h2 id="two">Two</h2>' in html
    assert "default-src 'none'" in html
    assert "never for diagnosis" in html
    assert "<h1>A &lt;title&gt;</h1><p>5 &lt; 6</p>" in html
    assert "http" not in html.replace("http-equiv", "")


def test_two_sections_of_one_anchor_are_refused() -> None:
    section = Section(anchor="one", title="One", body=())
    with pytest.raises(ValueError, match="an anchor of its own"):
        page([section, section], title="t", facts=(), footer="f")
