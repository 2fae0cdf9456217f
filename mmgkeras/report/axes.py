"""Axes of charts: from data to pixels, and where the ticks stand.

Owns ranges, ticks and the text of numbers. Draws nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_TICK_PX: Final = 56
"""Ticks stand about this far apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A range of data over a length in pixels.

    Attributes:
        low, high: data at pixel 0 and at the end; logarithms to base 10 where `is_log`.
        length_px: of the axis.
        is_log: whether equal ratios take equal lengths.
        ticks: pixel from the low end, and text.
    """

    low: float
    high: float
    length_px: float
    is_log: bool = False
    ticks: tuple[tuple[float, str], ...] = ()

    def px(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pixels from the low end, of data of any shape; beyond the range they lie outside 0 to `length_px`."""
        scaled = np.log10(np.maximum(values, 1e-300)) if self.is_log else values
        return (scaled - self.low) / (self.high - self.low) * self.length_px


def linear_axis(
    values: Sequence[NDArray[np.float64]],
    *,
    shown: tuple[float, float] | None,
    length_px: float,
    least_step: float = 0,
) -> Axis:
    """An axis that shows a range, or all values with ticks at both ends, no nearer than the least step."""
    low, high = shown or _extent(values)
    step = max(_step((high - low) / max(length_px / _TICK_PX, 2)), least_step)
    if shown is None:
        low, high = step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9) + (0 if _is_whole(step) else 1))
    scale = length_px / (high - low)
    ticks = tuple(
        ((number * step - low) * scale, f"{number * step:,.{decimals}f}") for number in range(first, last + 1)
    )
    return Axis(low=low, high=high, length_px=length_px, ticks=ticks)


def log_axis(values: Sequence[NDArray[np.float64]], *, shown: tuple[float, float] | None, length_px: float) -> Axis:
    """An axis of logarithms with ticks at 1, 2 and 5 times the powers of ten, or at the powers alone if they crowd."""
    low, high = shown or _extent([group[group > 0] for group in values])
    low = max(low, 1e-12)
    start, end = math.log10(low), math.log10(max(high, low * 1.001))
    scale = length_px / (end - start)
    factors = (1, 2, 5) if scale >= 2 * _TICK_PX else (1,)
    powers = range(math.floor(start), math.ceil(end) + 1)
    marks = [factor * 10.0**power for power in powers for factor in factors]
    ticks = tuple(
        ((math.log10(mark) - start) * scale, number_text(mark))
        for mark in marks
        if start - 1e-9 <= math.log10(mark) <= end + 1e-9
    )
    return Axis(low=start, high=end, length_px=length_px, is_log=True, ticks=ticks)


def number_text(value: float) -> str:
    """A number with as many digits as it needs, at most six."""
    return f"{value:,.6g}"


def coordinate(value: float) -> str:
    """A pixel position in a path, to a tenth."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


def _extent(values: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    joined = np.concatenate([np.ravel(group) for group in values]) if values else np.zeros(0)
    joined = joined[np.isfinite(joined)]
    if not len(joined):
        return 0.0, 1.0
    low, high = float(joined.min()), float(joined.max())
    if low == high:
        margin = abs(low) / 2 or 0.5
        return low - margin, high + margin
    return low, high


def _step(rough: float) -> float:
    """The least of 1, 2, 2.5, 5 times a power of ten that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in _STEPS if factor * power >= rough * (1 - 1e-9))


def _is_whole(step: float) -> bool:
    """Whether the step's first digit says it all: not so for 2.5."""
    mantissa = step / 10.0 ** math.floor(math.log10(step) + 1e-9)
    return abs(mantissa - round(mantissa)) < 1e-9
