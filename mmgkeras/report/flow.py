"""The inclusion flow as a drawing: boxes from top to bottom, and beside them what was left out.

Owns the drawing alone; what stands in the boxes is `dataset`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

_WIDTH: Final = 340
_SIDE_LEFT: Final = 400
_LINE: Final = 18
_PADDING: Final = 10
_GAP: Final = 44
_MARGIN: Final = 2


@dataclass(frozen=True, slots=True)
class FlowStep:
    """One box and what is left out on the way from it to the next.

    Attributes:
        lines: of text in the box, short enough not to be wrapped (about 48 letters).
        left_out: lines of the box beside the arrow below; none for an arrow alone.
    """

    lines: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def flow_chart(steps: Sequence[FlowStep], *, title: str) -> str:
    """Inline SVG of the steps; all text is escaped."""
    parts, top = [], _MARGIN
    for index, step in enumerate(steps):
        height = _height(step.lines)
        parts.append(_box(step.lines, left=_MARGIN, top=top, height=height))
        bottom = top + height
        if index == len(steps) - 1:
            top = bottom
            break
        gap = max(_GAP, _height(step.left_out) + 16) if step.left_out else _GAP
        parts.append(_arrow(_WIDTH // 2, bottom, _WIDTH // 2, bottom + gap))
        if step.left_out:
            side_height = _height(step.left_out)
            side_top = bottom + (gap - side_height) // 2
            parts.append(_box(step.left_out, left=_SIDE_LEFT, top=side_top, height=side_height))
            middle = side_top + side_height // 2
            parts.append(_arrow(_WIDTH // 2, middle, _SIDE_LEFT, middle))
        top = bottom + gap
    width = _SIDE_LEFT + _WIDTH + 2 * _MARGIN
    return (
        f'<svg viewBox="0 0 {width} {top + _MARGIN}" width="{width}" role="img" aria-label="{escape(title)}" '
        f'style="max-width:100%;height:auto" font-family="inherit" font-size="13">{"".join(parts)}</svg>'
    )


def _height(lines: Sequence[str]) -> int:
    return len(lines) * _LINE + 2 * _PADDING - 4


def _box(lines: Sequence[str], *, left: int, top: int, height: int) -> str:
    texts = "".join(
        f'<text x="{left + _PADDING}" y="{top + _PADDING + 10 + index * _LINE}" fill="currentColor" '
        f'font-weight="{400 if index else 600}">{escape(line)}</text>'
        for index, line in enumerate(lines)
    )
    return (
        f'<rect x="{left}" y="{top}" width="{_WIDTH}" height="{height}" rx="3" fill="none" stroke="currentColor" '
        f'stroke-opacity="0.55"/>{texts}'
    )


def _arrow(x1: int, y1: int, x2: int, y2: int) -> str:
    """A line whose head is at (x2, y2), pointing down or right."""
    across, along = (4, 7) if x1 == x2 else (7, 4)
    other = f"{x2 + across} {y2 - along}" if x1 == x2 else f"{x2 - across} {y2 + along}"
    head = f"M{x2 - across} {y2 - along}L{x2} {y2}L{other}"
    return f'<path d="M{x1} {y1}L{x2} {y2}{head}" fill="none" stroke="currentColor" stroke-opacity="0.7"/>'
