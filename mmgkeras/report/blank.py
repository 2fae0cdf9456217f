"""Fields of the report that only the group can fill in."""

from html import escape


def blank(wanted: str) -> str:
    """HTML of a field that stands out on the page and says what is wanted in it."""
    return f'<span class="blank">to be filled in: {escape(wanted)}</span>'
