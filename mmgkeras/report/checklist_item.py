"""What a reporting checklist is made of."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """One item, paraphrased.

    Attributes:
        number: in the published checklist, such as "12c".
        asks: what it wants to be told, in a few words of our own.
        facts: names of the entries of `checklist_facts.study_facts` that answer it.
        wanted: what the group must add; "" if the facts say it all.
    """

    number: str
    asks: str
    facts: tuple[str, ...] = ()
    wanted: str = ""


@dataclass(frozen=True, slots=True)
class Checklist:
    """A published checklist.

    Attributes:
        anchor: of its heading in the page.
        name: as it is known.
        source: the publication, what of it was followed, and how surely.
        parts: items under the headings of the publication, in its order.
    """

    anchor: str
    name: str
    source: str
    parts: tuple[tuple[str, tuple[Item, ...]], ...]

    @property
    def items(self) -> tuple[Item, ...]:
        """All items in order."""
        return tuple(item for _, items in self.parts for item in items)
