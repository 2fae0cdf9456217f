"""`mmgkeras predict`: marks on mammograms from their files alone, by the detector that comes with the package."""

from pathlib import Path

import click

from .console import PATH, PROBABILITY, NumberRange, echo, quiet_tensorflow, track

_EXAMPLES = """\b
Examples:
  mmgkeras predict my.png
  mmgkeras predict films/*.png --spacing-mm 0.05 --out marked
  mmgkeras predict my.png --marks-per-image 2
  mmgkeras predict my.png --model saved_models/mine-1/1
  mmgkeras predict study/*.dcm --dicom-out results
"""


@click.command(epilog=_EXAMPLES, short_help="Mark mammograms: no table, no training.")
@click.argument("images", type=PATH, nargs=-1, required=True)
@click.option("--out", type=PATH, default="marked", show_default=True, help="The folder for the results.")
@click.option(
    "--model", type=PATH, default="detector", show_default=True, help="Another SavedModel's folder, NAME/VERSION."
)
@click.option(
    "--laterality",
    type=click.Choice(["L", "R"]),
    help="The breast.  [default: by DICOM header, name (p7_L_CC) or pixels]",
)
@click.option(
    "--spacing-mm",
    type=NumberRange(0, 100, min_open=True),
    help="The edge of a pixel; the image is resampled to the model's.  [default: by DICOM header, else taken as it is]",
)
@click.option("--threshold", type=PROBABILITY, help="Mark from this probability on.  [default: the model's]")
@click.option(
    "--marks-per-image",
    type=NumberRange(0.05, 20),
    help="False marks an image, on phantoms, that are put up with; instead of --threshold, of the detector alone.",
)
@click.option("--stride", type=click.IntRange(min=1), help="Pixels between patches.  [default: the model's]")
@click.option(
    "--dicom-out",
    type=PATH,
    help="A folder for results that a PACS takes: marked image (SC), marks (SEG), CAD report (SR).",
)
@click.option("--overwrite", is_flag=True, help="Replace the results that are there.")
@click.pass_context
def predict(
    ctx: click.Context,
    *,
    images: tuple[Path, ...],
    out: Path,
    model: Path,
    laterality: str | None,
    spacing_mm: float | None,
    threshold: float | None,
    marks_per_image: float | None,
    stride: int | None,
    dicom_out: Path | None,
    overwrite: bool,
) -> None:
    """Mark what may be calcification on mammograms: DICOM, PNG, JPEG, TIFF or PGM.

    Writes pictures, marks.csv and marks.json, and prints a line an image. Goes on after a file that cannot be read,
    lists it, and then exits with 1. For research use, not for diagnosis.
    """
    quiet_tensorflow()
    from mmgkeras.inference.predict import predict as predict_files

    done = predict_files(
        images,
        out=out,
        model=model,
        laterality=laterality,  # type: ignore[arg-type]
        spacing_mm=spacing_mm,
        threshold=threshold,
        marks_per_image=marks_per_image,
        stride_px=stride,
        dicom_out=dicom_out,
        overwrite=overwrite,
        track=track,
    )
    for image in done.images:
        echo(image.line())
    echo(
        f"note: marked from a probability of {done.threshold:.3g}; pictures, marks.csv and marks.json in {out}",
        err=True,
    )
    for note in done.notes:
        echo(f"note: {note}", err=True)
    for path, reason in done.skipped.items():
        echo(f"error: {path}: {reason}", err=True)
    if done.skipped:
        ctx.exit(1)
