"""`mmgkeras import`: public data sets and folders of DICOM files, turned into a data folder."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .console import PATH, echo, track

if TYPE_CHECKING:
    from mmgkeras.images.dicom_header import Kind
    from mmgkeras.sources.data_set import ImportReport


@click.group("import", short_help="Turn DICOM files or a public data set into a data folder.")
def import_() -> None:
    """Turn DICOM files or a public data set into a data folder (images.csv, images or regions.csv)."""


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

    _tell(ctx, out, import_mini_mias(source, out, overwrite=overwrite, track=track))


@import_.command(
    "cdd-cesm",
    epilog="Example: mmgkeras import cdd-cesm downloads/CDD-CESM --out data/cdd-cesm",
    short_help="CDD-CESM, the paper's data set: its low-energy images.",
)
@click.argument("source", metavar="DIR", type=PATH)
@click.option("--out", type=PATH, required=True, help="Data folder to write.")
@click.option("--boxes", type=PATH, help="CSV file of calcification boxes, taken instead of the drawn outlines.")
@click.option("--overwrite", is_flag=True, help="Replace images.csv and regions.csv in the data folder.")
@click.pass_context
def cdd_cesm(ctx: click.Context, source: Path, *, out: Path, boxes: Path | None, overwrite: bool) -> None:
    """Turn the low-energy images of CDD-CESM below DIR into a data folder.

    DIR holds the images, "Radiology manual annotations.xlsx" and "Radiology_hand_drawn_segmentations_v2.csv". Images
    are not copied. The outlines have no class: those that may be something else than calcification become regions of
    kind other. A row or image that could not be used although it should is listed, with exit code 1.
    """
    from mmgkeras.sources.cdd_cesm import import_cdd_cesm

    _tell(ctx, out, import_cdd_cesm(source, out, boxes=boxes, overwrite=overwrite, track=track))


def _tell(ctx: click.Context, out: Path, report: "ImportReport") -> None:
    for note in report.notes:
        echo(f"note: {note}")
    echo(f"{out}: {report.num_images} images, {report.num_regions} regions")
    for skipped in report.skipped:
        echo(f"error: skipped: {skipped}", err=True)
    if report.skipped:
        ctx.exit(1)


@import_.command(
    "dicom",
    epilog="Example: mmgkeras import dicom export --out data/hospital",
    short_help="DICOM: the mammograms of a folder or DICOMDIR, without names.",
)
@click.argument("source", metavar="DIR|DICOMDIR", type=PATH)
@click.option("--out", type=PATH, required=True, help="Data folder to write.")
@click.option("--key", type=PATH, help="File with the secret of the ids, made if missing.  [default: OUT.key]")
@click.option("--voi", type=click.IntRange(1), default=1, show_default=True, help="Which VOI LUT or window is applied.")
@click.option(
    "--take",
    multiple=True,
    type=click.Choice(["secondary-capture", "for-processing"]),
    help="Also take images of this kind; repeatable.",
)
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.pass_context
def dicom(
    ctx: click.Context,
    source: Path,
    *,
    out: Path,
    key: Path | None,
    voi: int,
    take: tuple["Kind", ...],
    overwrite: bool,
) -> None:
    """Turn all mammograms below DIR, or of a DICOMDIR, into a data folder: images.csv, images as PNG, import.csv.

    No name, date or number of a patient comes into the folder: ids are keyed hashes. The key, and the table that says
    which file is which row of import.csv, are written beside the folder; keep them to yourself. What is no mammogram
    for presentation is counted and listed with its reason; damaged files also give exit code 1. If it is killed, the
    same command goes on.
    """
    from mmgkeras.sources.dicom_folder import import_dicom

    done = import_dicom(
        source, out, key=key, voi=voi, take=take, num_workers=os.cpu_count() or 1, overwrite=overwrite, track=track
    )
    for reason, number in done.left_out.most_common():
        echo(f"left out: {number} {'file' if number == 1 else 'files'}: {reason}")
    for note in done.notes:
        echo(f"note: {note}")
    echo(f"note: keep to yourself: {done.key} and {done.files}")
    echo(f"{out}: {done.num_images} images of {done.num_patients} patients")
    if done.num_damaged:
        ctx.exit(1)
