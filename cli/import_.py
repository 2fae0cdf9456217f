"""`mmgkeras import`: public data sets, tables of one's own and folders of DICOM files, turned into a data folder."""

import importlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from .console import PATH, echo, track
from .workers import chosen_workers, engine_option

if TYPE_CHECKING:
    from mmgkeras.images.dicom_facts import Kind


class _DataSet(NamedTuple):
    """A data set as the help tells it: its name, what it is, and what its folder holds."""

    name: str
    is_what: str
    holds: str


_DATA_SETS: Final = {
    "cdd-cesm": _DataSet(
        "CDD-CESM",
        "the paper's data set: its low-energy images.",
        'the images, "Radiology manual annotations.xlsx" and "Radiology_hand_drawn_segmentations_v2.csv". The '
        "outlines have no class: those that may be something else than calcification become regions of kind other",
    ),
    "cbis-ddsm": _DataSet(
        "CBIS-DDSM",
        "films with a mask of each calcification or mass.",
        "the case lists (CSV) and the images and masks, as DICOM, PNG or JPEG",
    ),
    "inbreast": _DataSet(
        "INbreast",
        "digital images, each calcification marked.",
        "INbreast.csv or INbreast.xls, AllDICOMs and AllXML",
    ),
    "vindr-mammo": _DataSet(
        "VinDr-Mammo",
        "20,000 images with boxes around findings.",
        "finding_annotations.csv and the folder images",
    ),
    "cmmd": _DataSet(
        "CMMD",
        "5,202 images, findings told by breast.",
        "CMMD_clinicaldata_revision.xlsx and the DICOM files",
    ),
    "bmcd": _DataSet(
        "BMCD",
        "pairs of images, each calcification marked.",
        "the folders Normal_cases and Suspicious_cases",
    ),
    "rsna": _DataSet(
        "RSNA",
        "54,706 images, cancer told by breast.",
        "train.csv and the folder train_images",
    ),
    "mini-mias": _DataSet(
        "mini-MIAS",
        "322 films with circles around their findings.",
        "Info.txt and the films (*.pgm)",
    ),
}
"""Each has a module in mmgkeras.sources of its name, with a function `read_` and that name."""


@click.group("import", short_help="Turn DICOM files or a public data set into a data folder.")
def import_() -> None:
    """Turn DICOM files, a public data set or a table of your own into a data folder (images.csv, regions.csv)."""


def _add(word: str, data_set: _DataSet) -> None:
    """Adds the command of a data set."""

    def run(ctx: click.Context, source: Path, *, out: Path, overwrite: bool, boxes: Path | None = None) -> None:
        module = word.replace("-", "_")
        read = getattr(importlib.import_module(f"mmgkeras.sources.{module}"), f"read_{module}")
        if boxes is not None:
            read = partial(read, boxes=boxes)
        inputs = filter(None, [boxes])
        _import(ctx, data_set.name, read, source=source, out=out, inputs=inputs, overwrite=overwrite)

    params: list[click.Parameter] = [click.Argument(["source"], metavar="DIR", type=PATH), *_options()]
    if word == "cdd-cesm":
        boxes = "CSV file of calcification boxes, taken instead of the drawn outlines."
        params.insert(2, click.Option(["--boxes"], type=PATH, help=boxes))
    told = (
        f"DIR holds, at any depth, {data_set.holds}. Images are not copied. Counts are printed beside those of the "
        "data set's makers; a row or image that could not be used although it should is listed, with exit code 1. "
        "docs/data_sets.md says what is positive, negative and unknown."
    )
    import_.add_command(
        click.Command(
            word,
            callback=click.pass_context(run),
            params=params,
            help=f"Turn {data_set.name} below DIR into a data folder.\n\n{told}",
            short_help=f"{data_set.name}: {data_set.is_what}",
            epilog=f"Example: mmgkeras import {word} downloads/{word} --out data/{word}",
        )
    )


def _options() -> list[click.Parameter]:
    return [
        click.Option(["--out"], type=PATH, required=True, help="Data folder to write."),
        click.Option(["--overwrite"], is_flag=True, help="Replace images.csv and regions.csv in the data folder."),
    ]


def _import(
    ctx: click.Context,
    name: str,
    read: Callable[..., None],
    *,
    source: Path,
    out: Path,
    inputs: Iterable[Path],
    overwrite: bool,
) -> None:
    """Imports and tells what came of it."""
    from mmgkeras.errors import counted
    from mmgkeras.sources.data_set import import_data_set

    report = import_data_set(name, read, source, out, inputs=inputs, overwrite=overwrite, track=track)
    for note in report.notes:
        echo(f"note: {note}")
    for count in report.counts:
        echo(f"count: {count.what}: {count.here}" + (f"; printed: {count.printed}" if count.printed else ""))
    echo(f"{out}: {counted(report.num_images, 'image')}, {counted(report.num_regions, 'region')}")
    for skipped in report.skipped:
        echo(f"error: skipped: {skipped}", err=True)
    if report.skipped:
        ctx.exit(1)


for _word, _data_set in _DATA_SETS.items():
    _add(_word, _data_set)


@import_.command(
    "table",
    epilog="Example: mmgkeras import table scans --mapping scans.toml --out data/scans",
    short_help="Your own files: CSV, COCO, YOLO, VOC, LabelMe or VIA.",
)
@click.argument("source", metavar="DIR", type=PATH)
@click.option("--mapping", type=PATH, required=True, help="TOML file that says what your names and words mean.")
@click.option("--out", type=PATH, required=True, help="Data folder to write.")
@click.option("--overwrite", is_flag=True, help="Replace images.csv and regions.csv in the data folder.")
@click.pass_context
def table(ctx: click.Context, source: Path, *, mapping: Path, out: Path, overwrite: bool) -> None:
    """Turn images and annotations of your own below DIR into a data folder, by a mapping.

    The mapping says which files are images, where patient, side and view stand (in paths, a table or DICOM headers),
    and which labels are calcifications, cluster regions or something else: see docs/data_sets.md. Images are not
    copied. A row or image that could not be used although it should is listed, with exit code 1.
    """
    from mmgkeras.sources.image_mapping import read_mapping
    from mmgkeras.sources.mapped_table import read_mapped_table

    read = partial(read_mapped_table, mapping=read_mapping(mapping))
    _import(ctx, "your images", read, source=source, out=out, inputs=[mapping], overwrite=overwrite)


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
@engine_option
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
    engine: str,
    ray_address: str | None,
) -> None:
    """Turn all mammograms below DIR, or of a DICOMDIR, into a data folder: images.csv, images as PNG, import.csv.

    No name, date or number of a patient comes into the folder: ids are keyed hashes. The key, and the table that says
    which file is which row of import.csv, are written beside the folder; keep them to yourself. What is no mammogram
    for presentation is counted and listed with its reason; damaged files also give exit code 1. If it is killed, the
    same command goes on.
    """
    from mmgkeras.errors import counted
    from mmgkeras.sources.dicom_folder import import_dicom

    workers = chosen_workers(engine, ray_address=ray_address)
    done = import_dicom(source, out, key=key, voi=voi, take=take, workers=workers, overwrite=overwrite, track=track)
    for reason, number in done.left_out.most_common():
        echo(f"left out: {counted(number, 'file')}: {reason}")
    for note in done.notes:
        echo(f"note: {note}")
    echo(f"note: keep to yourself: {done.key} and {done.files}")
    echo(f"{out}: {counted(done.num_images, 'image')} of {counted(done.num_patients, 'patient')}")
    if done.num_damaged:
        ctx.exit(1)
