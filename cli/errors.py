"""How a fault that is not ours leaves the program: its lines on stderr, exit code 1, no traceback."""

import errno
import os
from typing import Any

import click

from .terminal import echo


class UserErrorGroup(click.Group):
    """A command group that lists its commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names in the order of the work: data first, results last."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; the user's faults and the system's become lines and exit code 1."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            lines = fault_lines(error)
            if not lines:
                raise
            for line in lines:
                echo(f"error: {line}", err=True)
            ctx.exit(1)


def fault_lines(error: Exception) -> list[str]:
    """What to tell the user of an error; nothing of one that is a bug of ours, or that click must see."""
    from mmgkeras.errors import MmgError

    if isinstance(error, MmgError):
        return str(error).splitlines()
    if isinstance(error, MemoryError):
        return [f"too little memory: {str(error).partition(chr(10))[0] or 'the system gave no more'}"]
    if isinstance(error, OSError) and error.errno not in (None, errno.EPIPE):
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return [f"{place}{error.strerror}"]
    if type(error).__name__ == "ResourceExhaustedError":  # TensorFlow's, which is not imported here
        return [f"too little memory or space on the disk: {str(error).partition(chr(10))[0]}"]
    return []
