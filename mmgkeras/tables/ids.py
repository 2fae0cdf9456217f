"""Ids that a person takes for one: they differ in Unicode form, case, width or invisible characters alone.

Owns the folding of ids. Nothing is renamed: ids that fold to one are found, and the caller says so.
"""

import unicodedata
from collections.abc import Iterable
from typing import Final

_INVISIBLE: Final = frozenset({"Cc", "Cf"})
"""Unicode categories of control and format characters, zero-width spaces and joiners among them."""


def fold_id(text: str) -> str:
    """The id in compatibility form (NFKC), without case, invisible characters and surrounding or repeated blanks."""
    visible = "".join(letter for letter in text if letter in "\t\n" or unicodedata.category(letter) not in _INVISIBLE)
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", visible).casefold()).split())


def look_alikes(ids: Iterable[str]) -> list[tuple[str, ...]]:
    """The groups of two and more different ids that fold to one, in the order of their first."""
    groups: dict[str, list[str]] = {}
    for one in dict.fromkeys(ids):
        groups.setdefault(fold_id(one), []).append(one)
    return [tuple(group) for group in groups.values() if len(group) > 1]
