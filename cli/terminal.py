"""What the commands print, with nothing in it that a terminal would obey."""

import unicodedata

import click

_UNPRINTABLE = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})


def echo(text: object, *, err: bool = False) -> None:
    """Prints a text with its lines, on stderr with `err`; names, ids and paths in it may hold anything."""
    click.echo("\n".join(map(printable, str(text).split("\n"))), err=err)


def printable(text: str) -> str:
    r"""The text with control and invisible characters and halves of characters as escapes, such as \x1b."""
    if text.isprintable():
        return text
    return "".join(
        letter.encode("unicode_escape").decode() if unicodedata.category(letter) in _UNPRINTABLE else letter
        for letter in text
    )
