"""`mmgkeras report`: a cross-validation as one page to publish."""

import gc
from pathlib import Path

import click

from .console import PATH, echo, track

_EXAMPLES = """\b
Examples:
  mmgkeras report --crossval crossval --out report
  mmgkeras report --crossval crossval --out report --store store --data data --external evaluation-elsewhere
"""


@click.command(epilog=_EXAMPLES, short_help="Make one page of tables and metrics to publish.")
@click.option("--crossval", type=PATH, required=True, help="The folder that mmgkeras crossval wrote.")
@click.option("--out", type=PATH, required=True, help="The folder for the report.")
@click.option("--store", type=PATH, help="Its patch store, if it is not any more where crossval.json says.")
@click.option("--data", type=PATH, help="Its data folder, if it is not any more where crossval.json says.")
@click.option(
    "--external",
    "externals",
    type=PATH,
    multiple=True,
    help="A folder that mmgkeras evaluate wrote of these models on another store. May be repeated.",
)
@click.option(
    "--resamples",
    type=click.IntRange(min=100),
    default=2000,
    show_default=True,
    help="Sets of patients drawn for the 95 % intervals.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier report.")
def report(
    *,
    crossval: Path,
    out: Path,
    store: Path | None,
    data: Path | None,
    externals: tuple[Path, ...],
    resamples: int,
    overwrite: bool,
) -> None:
    """Make one page of a cross-validation: every table and metric of the paper, ours beside the paper's.

    Writes report.html, which needs no network, and every table as CSV and LaTeX. Trains and scores nothing.
    """
    # The search for garbage, of which one page makes little, would take a fifth of the time, here and at the exit.
    gc.disable()
    try:
        from mmgkeras.report.report import write_report

        page = write_report(
            crossval,
            out=out,
            store=store,
            data=data,
            externals=externals,
            num_resamples=resamples,
            overwrite=overwrite,
            track=track,
        )
    finally:
        gc.freeze()
        gc.enable()
    echo(f"{page}: {page.stat().st_size / 1e6:.1f} MB")
