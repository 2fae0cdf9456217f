"""The `mmgkeras` command: parse, call one library function, print. Importing it loads click and the standard library.

Results go to stdout, progress and logs to stderr. Exit code 1 is a fault in the user's input, told in one line; 2 is
wrong usage; a traceback is a bug of ours.
"""

import click

from .check import check
from .console import UserErrorGroup
from .convert import convert
from .crossval import crossval
from .evaluate import evaluate
from .fit import fit
from .import_ import import_
from .listen import listen
from .overlay import overlay
from .phantom import phantom
from .predict import predict
from .prepare import prepare
from .report import report
from .serve import serve
from .serve_config import serve_config
from .split import split
from .threshold import export, threshold


@click.group(cls=UserErrorGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="mmgkeras")
def main() -> None:
    """Find calcifications in mammograms at full resolution. For research use, never for diagnosis."""


COMMANDS: tuple[click.Command, ...] = (
    predict,
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
    threshold,
    convert,
    serve,
    serve_config,
    listen,
)
for _command in (*COMMANDS, export):
    main.add_command(_command)
