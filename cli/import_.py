"""`mmgkeras import`: public data sets, turned into a data folder."""

from pathlib import Path

import click

from .console import PATH, echo, track


@click.group("import", short_help="Turn a public data set into a data folder.")
def import_() -> None:
    """Turn a public data set into a data folder (images.csv, regions.csv)."""


@import_.command(
    "mini-mias",
    epilog="Example: mmgkeras import mini-mias downloads/mini-mias --out data/mini-mias",
    short_help="mini-MIAS: 322 films with circles around their findings.",
)
@click.argument("source", metavar="DIR", type=PATH)
@click.option("--out", type=PATH, required=True, help="Data folder to write.")
@click.option("--overwrite", is_flag=True, help="Replace images.csv and regions.csv in the data folder.")
@click.pass_context
def mini_mias(ctx: click.Context, source: Path, *, out: Path, overwrite: bool) -> None:
    """Turn the unpacked mini-MIAS database (Info.txt and *.pgm) in DIR into a data folder.

    The films are not copied: images.csv names them relative to the data folder. Known oddities of the data are told
    and met; a row or film that could not be used although it should is listed, with exit code 1.
    """
    from mmgkeras.sources.mini_mias import import_mini_mias

    report = import_mini_mias(source, out, overwrite=overwrite, track=track)
    for note in report.notes:
        echo(f"note: {note}")
    echo(f"{out}: {report.num_images} images, {report.num_regions} regions")
    for skipped in report.skipped:
        echo(f"error: skipped: {skipped}", err=True)
    if report.skipped:
        ctx.exit(1)
