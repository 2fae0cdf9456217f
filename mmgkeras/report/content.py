"""What the page is made of: sections of paragraphs, tables, charts and pictures, all of it plain data.

Owns the types. Text is text, never HTML: the templates escape it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.figure import Figure

from mmgkeras.evaluation.interval import Interval
from mmgkeras.json_files import without_folders

Cell = str | int | float | Interval | None
"""What stands in a table; None is written "n/a", a float with three decimals, an `Interval` with its bounds."""
TextKind = Literal["", "lead", "note", "missing", "blank"]


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph: "lead" is large, "note" small, "missing" says what is not there, "blank" what the group adds."""

    text: str
    kind: TextKind = ""


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading within a section; `anchor` is its id in the page, "" for none."""

    text: str
    anchor: str = ""


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list."""

    items: tuple[Text, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Numbers in rows and columns, equal on the page, in CSV and in LaTeX.

    Attributes:
        name: of its files, without suffix, such as "table7"; unique in a report.
        title: one line above it.
        columns: the header.
        rows: as many cells each as there are columns.
        note: what must be known to read it, below it.
        is_folded: whether the page shows the title alone until it is clicked.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    is_folded: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure of matplotlib, a point of which is a pixel of the page; the title, unique on it, is read aloud."""

    figure: Figure
    title: str
    caption: str


@dataclass(frozen=True, slots=True)
class Charts:
    """Charts side by side where the page is wide enough; a `Text` stands in the place of one that cannot be drawn."""

    charts: tuple[Chart | Text, ...]


@dataclass(frozen=True, slots=True)
class FlowStep:
    """One box of a flow, and what is left out on the way from it to the next; the first line of a box is bold."""

    lines: tuple[str, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Flow:
    """Boxes from top to bottom, and beside them what was left out."""

    steps: tuple[FlowStep, ...]
    caption: str


@dataclass(frozen=True, slots=True)
class Frame:
    """A rectangle on a picture, in its pixels; `kind` says how it is drawn."""

    left: int
    top: int
    width: int
    height: int
    kind: Literal["place", "calcification", "cluster", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """`width` by `height` pixels as a data URI, drawn `shown_height` CSS pixels high; `title` is read aloud."""

    uri: str
    title: str
    width: int
    height: int
    shown_height: int
    frames: tuple[Frame, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A patch and its place on the mammogram; the first of the lines below begins with `value`, in bold."""

    value: str
    lines: tuple[str, ...]
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class Gallery:
    """Cards side by side; a click enlarges one."""

    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True)
class Folded:
    """Text as it was written, below a title that opens it."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a study says to an item of a checklist; `links` are (anchor, title) of what shows it."""

    text: str
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Checklist:
    """The parts of a file of `checklist_items/`, and the answers that their items name."""

    parts: Sequence[Mapping[str, Any]]
    answers: Mapping[str, Answer]


Block = Text | Heading | Bullets | Table | Charts | Flow | Gallery | Folded | Checklist


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One heading of the report and what is below it; `anchor` is its id in the page, unique in a report."""

    anchor: str
    title: str
    body: tuple[Block, ...] = ()


def missing(text: str) -> Text:
    """One line where a part of the report would stand; of paths in it the last part is shown."""
    return Text(without_folders(text), "missing")
