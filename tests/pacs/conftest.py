"""Archives that end with their test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .archive import Archive


@pytest.fixture
def make_archive() -> Iterator[Callable[..., Archive]]:
    made: list[Archive] = []

    def make(**options: Any) -> Archive:
        made.append(Archive(**options))
        return made[-1]

    yield make
    for archive in made:
        archive.close()


@pytest.fixture
def archive(make_archive: Callable[..., Archive]) -> Archive:
    return make_archive()
