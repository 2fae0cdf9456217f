from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from mmgkeras.evaluation.interval import Interval
from mmgkeras.report.content import (
    Answer,
    Block,
    Bullets,
    Card,
    Chart,
    Charts,
    Checklist,
    Flow,
    FlowStep,
    Folded,
    Frame,
    Gallery,
    Heading,
    Picture,
    Section,
    Table,
    Text,
)
from mmgkeras.report.html_page import page, write_tables
from mmgkeras.report.table_files import LONG_ROWS

EVIL = "<i>&"
"""Text that would be markup if it were not escaped."""
PICTURE = Picture(
    uri="data:image/png;base64,AAAA",
    title=EVIL,
    width=8,
    height=16,
    shown_height=150,
    frames=(Frame(1, 2, 3, 4, "place"),),
)
BLOCKS: tuple[Block, ...] = (
    Text(EVIL),
    Text(EVIL, "blank"),
    Heading(EVIL, "inner"),
    Bullets((Text(EVIL), Text(EVIL, "blank"))),
    Table(name="t", title=EVIL, columns=(EVIL, "n"), rows=((EVIL, 0.5), ("x", None)), note=EVIL),
    Charts((Text(EVIL, "missing"),)),
    Charts((Chart(Figure(), EVIL, EVIL),)),
    Flow((FlowStep((EVIL,), (EVIL,)), FlowStep((EVIL,))), EVIL),
    Gallery((Card(value=EVIL, lines=(EVIL, EVIL), pictures=(PICTURE, PICTURE)),)),
    Folded(EVIL, EVIL),
    Checklist(
        ({"heading": EVIL, "items": [{"number": "1", "asks": EVIL, "answers": ["a"], "wanted": EVIL}]},),
        {"a": Answer(EVIL, (("inner", EVIL),))},
    ),
)


class Elements(HTMLParser):
    """Names of all elements, and the attributes of each."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def made(*blocks: Block) -> str:
    section = Section(anchor="one", title="One & all", body=blocks)
    return page([section], title="A <title>", facts=("5 < 6",), footer="end")


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: type(block).__name__)
def test_text_of_every_block_is_escaped(block: Block) -> None:
    html = made(block)
    assert EVIL not in html
    assert "&lt;i&gt;&amp;" in html


def test_a_page_lists_its_sections_and_forbids_the_network_and_scripts() -> None:
    html = made(*BLOCKS)
    elements = Elements(html)
    assert '<a href="#one">One &amp; all</a>' in html
    assert '<h2 id="one">One &amp; all</h2>' in html
    assert "A &lt;title&gt;" in html
    assert "5 &lt; 6" in html
    policy = elements.named("meta")[1]["content"]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert "http" not in html.replace("http-equiv", "")
    assert elements.named("script") == elements.named("link") == []


def test_a_page_is_the_same_bytes_each_time() -> None:
    assert made(*BLOCKS) == made(*BLOCKS)


def test_two_sections_of_one_anchor_are_refused() -> None:
    section = Section(anchor="one", title="One")
    with pytest.raises(ValueError, match="an anchor of its own"):
        page([section, section], title="t", facts=(), footer="f")


def test_numbers_are_set_apart_from_text_and_bounds_from_estimates() -> None:
    rows = (("x", 0.5), ("y", None), ("z", Interval(0.9, 0.85, 0.95)))
    html = made(Table(name="t", title="T", columns=("Network", "AUC"), rows=rows))
    assert '<th scope="row">x</th><td class="num">0.500</td>' in html
    assert '<td class="num">n/a</td>' in html
    assert '0.900 <span class="bounds">(0.850\u20130.950)</span>' in html


@pytest.mark.parametrize(
    ("num_rows", "is_folded", "tag"),
    [(LONG_ROWS, False, "div"), (LONG_ROWS + 1, False, "details"), (1, True, "details")],
)
def test_a_table_is_folded_where_it_is_long_or_asked_for(num_rows: int, is_folded: bool, tag: str) -> None:
    table = Table(name="some_table", title="T", columns=("x",), rows=((1,),) * num_rows, is_folded=is_folded)
    html = made(table)
    assert [name for name, attributes in Elements(html).found if attributes.get("id") == "some_table"] == [tag]
    assert ("tables/some_table.csv" in html) == (tag == "details")


def test_a_picture_keeps_its_shape_and_has_its_frames() -> None:
    elements = Elements(made(Gallery((Card(value="0.9", lines=("a",), pictures=(PICTURE,)),))))
    (drawn,) = elements.named("svg")
    assert (drawn["width"], drawn["height"], drawn["viewbox"]) == ("75", "150", "0 0 8 16")
    (frame,) = elements.named("rect")
    assert frame == {"class": "place", "x": "1", "y": "2", "width": "3", "height": "4"}


def test_a_name_that_is_no_text_stands_escaped_in_the_page_and_the_tables(tmp_path: Path) -> None:
    table = Table(name="t", title="M\udcfc", columns=("store",), rows=(("M\udcfc",),))
    section = Section(anchor="a", title="A", body=(table,))
    assert ">M\\udcfc</th>" in page([section], title="", facts=(), footer="")
    write_tables(tmp_path / "tables", iter([table]))
    assert (tmp_path / "tables" / "t.csv").read_text() == "store\nM\\udcfc\n"
    assert "M\\textbackslash{}udcfc" in (tmp_path / "tables" / "t.tex").read_text()
