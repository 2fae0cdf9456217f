"""The `mmgkeras` command: parse, call one library function, print. Importing it loads click and the standard library.

Results go to stdout, progress and logs to stderr. Exit code 1 is a fault in the user's input, told in one line; 2 is
wrong usage; a traceback is a bug of ours.
"""

import click

from .check import check
from .crossval import crossval
from .errors import UserErrorGroup
from .evaluate import evaluate
from .export import export
from .fit import fit
from .import_ import import_
from .overlay import overlay
from .phantom import phantom
from .prepare import prepare
from .report import report
from .split import split


@click.group(cls=UserErrorGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="mmgkeras")
def main() -> None:
    """Find calcifications in mammograms at full resolution. For research use, never for diagnosis."""


COMMANDS: tuple[click.Command, ...] = (
    phantom,
    import_,
    check,
    prepare,
    split,
    fit,
    crossval,
    evaluate,
    overlay,
    report,
    export,
)
for _command in COMMANDS:
    main.add_command(_command)
