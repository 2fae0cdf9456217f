"""How a fault in the user's input leaves the program: its lines on stderr, exit code 1, no traceback."""

from typing import Any

import click


class UserErrorGroup(click.Group):
    """A command group that lists its commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names in the order of the work: data first, results last."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; an MmgError becomes its lines and exit code 1."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            from mmgkeras.errors import MmgError

            if not isinstance(error, MmgError):
                raise
            for line in str(error).splitlines():
                click.echo(f"error: {line}", err=True)
            ctx.exit(1)
