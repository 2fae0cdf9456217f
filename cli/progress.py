"""A progress bar on stderr for library functions that take a `track`."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import click

from .terminal import echo

_T = TypeVar("_T")


def track(items: Sequence[_T], label: str) -> Iterable[_T]:
    """Passes items on under a bar; one line at the end where stderr is not a terminal."""
    return _bar(items, label) if sys.stderr.isatty() else _line(items, label)


def _bar(items: Sequence[_T], label: str) -> Iterator[_T]:
    with click.progressbar(items, label=f"{label:<24}", file=sys.stderr, show_pos=True) as bar:
        yield from bar


def _line(items: Sequence[_T], label: str) -> Iterator[_T]:
    yield from items
    echo(f"{label}: {len(items)}", err=True)
