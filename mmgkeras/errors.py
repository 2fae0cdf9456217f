"""The errors a user can cause. Anything else that is raised is a bug of ours.

Owns the exception types and the wording of several faults in one; knows nothing of what was wrong.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class MmgError(Exception):
    """One line for the user: what was wrong, what was received, what is allowed, in which file and line or key."""


class ConfigError(MmgError):
    """A configuration file or a `--set` breaks a rule."""


class InputError(MmgError):
    """An image, a table or a store breaks a rule."""


class InputFaultsError(InputError):
    """Every fault found in an input, one line each, so that all can be mended at once."""

    def __init__(self, faults: Sequence[str]) -> None:
        """Joins the faults; each must be one line that names its file."""
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class WeightsError(MmgError):
    """The weights to start from are missing, damaged or of another network."""


@contextmanager
def errors_of_writing(path: Path) -> Iterator[None]:
    """Turns what the system says against writing to `path` into one line.

    Raises:
        InputError: for any OSError of the block.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
