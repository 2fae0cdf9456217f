import csv
import io

import pytest

from mmgkeras.evaluation.interval import Interval
from mmgkeras.report.content import Cell, Table
from mmgkeras.report.table_files import LONG_ROWS, as_csv, as_latex, cell_text, latex_text


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


def test_text_that_a_spreadsheet_would_run_is_quoted_and_numbers_stay_numbers() -> None:
    text = as_csv(table(("=1+1", -0.5), ("-x", -3), ("@a", 1), columns=("+name", "AUC")))
    assert text.splitlines() == ["'+name,AUC", "'=1+1,-0.5", "'-x,-3", "'@a,1"]


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
