"""Types of options that several commands share."""

import math
from pathlib import Path
from typing import Any

import click

PATH = click.Path(path_type=Path)


class NumberRange(click.FloatRange):
    """A range of numbers; NaN, which no comparison leaves out, is in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"must be a number. Received: {value!r}", param, ctx)
        return number


PROBABILITY = NumberRange(0, 1, min_open=True)
"""A threshold: above 0, at which everything would be called, and at most 1."""
