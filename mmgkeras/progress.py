"""How long work reports that it goes on, without knowing a terminal."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

_T = TypeVar("_T")


class Track(Protocol):
    """Passes items on, one by one, and may show how many are done."""

    def __call__(self, items: Sequence[_T], label: str) -> Iterable[_T]:
        """The same items in the same order; `label` says in a few words what is done with them."""
        ...


def silent(_: object) -> None:
    """Reports nothing."""


def untracked(items: Sequence[_T], label: str) -> Iterable[_T]:  # noqa: ARG001 - the protocol's signature
    """Shows nothing."""
    return items
