"""What charts are drawn with: colours, dashes, marks and paths, as SVG.

Owns how one style is told from another. The colours are Okabe and Ito's, told apart by the colour-blind; every colour
has a dash and a mark of its own, so that a chart printed in grey is still read. Knows no axis and no data.
"""

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from mmgkeras.report.axes import coordinate

Weight = Literal["normal", "faint"]

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#7A5C00", "#56B4E9", "#333333")
"""Okabe and Ito's palette; their yellow, unreadable on white, is left out and their orange darkened."""
DASHES: Final = ("", "7 3", "2 2.5", "9 3 2 3", "5 2", "1.5 3", "12 3")
MARKS: Final = ("circle", "square", "triangle", "diamond")
REFERENCE: Final = -1
"""The style of a line that others are held against: thin, grey, dotted."""

_GREY: Final = "#8a8a8a"
_SAME_PX: Final = 0.4
"""Points of a curve that lie closer to the one before are not drawn; nobody sees them."""


def curve_path(x: NDArray[np.float64], y: NDArray[np.float64], *, is_step: bool) -> str:
    """Path data through the points; those that fall on the one before are left out, the last never."""
    parts: list[str] = []
    last_x = last_y = np.inf
    for index, (a, b) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        if index and index < len(x) - 1 and abs(a - last_x) < _SAME_PX and abs(b - last_y) < _SAME_PX:
            continue
        if not parts:
            parts.append(f"M{coordinate(a)} {coordinate(b)}")
        elif is_step:
            parts.append(f"H{coordinate(a)}V{coordinate(b)}")
        else:
            parts.append(f"L{coordinate(a)} {coordinate(b)}")
        last_x, last_y = a, b
    return "".join(parts)


def colour(style: int) -> str:
    """The colour of a style."""
    return _GREY if style == REFERENCE else COLOURS[style % len(COLOURS)]


def stroke(style: int, *, weight: Weight = "normal") -> str:
    """The attributes of a line in a style; a faint one is thin, light and without dashes."""
    dash = "1 3" if style == REFERENCE else DASHES[style % len(DASHES)]
    is_thin = weight == "faint" or style == REFERENCE
    look = 'stroke-width="1"' if is_thin else 'stroke-width="2"'
    look += ' stroke-opacity="0.45"' if weight == "faint" else ""
    look += f' stroke-dasharray="{dash}"' if dash and weight != "faint" else ""
    return f'stroke="{colour(style)}" {look} stroke-linejoin="round"'


def mark(x: float, y: float, *, style: int, size: float = 3.2, opacity: float = 1.0) -> str:
    """The mark of a style at (x, y); `size` is half its width in pixels."""
    look = f'fill="{colour(style)}"' + (f' fill-opacity="{opacity:g}"' if opacity < 1 else "")
    form = MARKS[style % len(MARKS)]
    a, b, s = coordinate(x), coordinate(y), size
    if form == "circle":
        return f'<circle cx="{a}" cy="{b}" r="{s:g}" {look}/>'
    corners = {
        "square": ((-s, -s), (s, -s), (s, s), (-s, s)),
        "triangle": ((0, -s), (s, s), (-s, s)),
        "diamond": ((0, -1.3 * s), (1.3 * s, 0), (0, 1.3 * s), (-1.3 * s, 0)),
    }[form]
    d = "L".join(f"{coordinate(x + dx)} {coordinate(y + dy)}" for dx, dy in corners)
    return f'<path d="M{d}Z" {look}/>'
