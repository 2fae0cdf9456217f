"""`mmgkeras predict`: marks on mammograms from their files alone, by the detector that comes with the package."""

from pathlib import Path

import click

from .console import PATH, PROBABILITY, NumberRange, echo, quiet_tensorflow, track
from .workers import ray_actors, ray_address_option, refuse_address

_EXAMPLES = """\b
Examples:
  mmgkeras predict my.png
  mmgkeras predict films/*.png --spacing-mm 0.05 --out marked
  mmgkeras predict my.png --marks-per-image 2
  mmgkeras predict my.png --model saved_models/mine-1/1
  mmgkeras predict archive/ --model saved_models/mine-1/1 --model saved_models/mine-2/1 --no-pictures --geojson
  mmgkeras predict study/*.dcm --dicom-out results
  mmgkeras predict archive/images.csv --server http://127.0.0.1:8501 --model mine
  mmgkeras predict archive/images.csv --engine ray --ray-address head:6379
"""


@click.command(epilog=_EXAMPLES, short_help="Mark mammograms: no table, no training.")
@click.argument("images", type=PATH, nargs=-1, required=True)
@click.option("--out", type=PATH, default="marked", show_default=True, help="The folder for the results.")
@click.option(
    "--model",
    "models",
    type=PATH,
    multiple=True,
    default=["detector"],
    show_default=True,
    help="Another SavedModel's folder, NAME/VERSION, or a name on --server; several are averaged.",
)
@click.option("--server", metavar="URL", help="Score on a server: http://HOST:8501, or grpc://HOST:8500.")
@click.option(
    "--deadline",
    type=NumberRange(0, min_open=True),
    default=120.0,
    show_default=True,
    help="Seconds that a server may take for a mammogram, all tries together.",
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
    "--engine",
    type=click.Choice(["tensorflow", "openvino", "ray"]),
    default="tensorflow",
    show_default=True,
    help="What runs the model; openvino is faster on processors, ray is a cluster with TensorFlow (docs/at-scale.md).",
)
@ray_address_option
@click.option(
    "--bfloat16", is_flag=True, help="Two to four times as fast on new processors; docs/serving.md says how exact."
)
@click.option(
    "--dicom-out",
    type=PATH,
    help="A folder for results that a PACS takes: marked image (SC), marks (SEG), CAD report (SR).",
)
@click.option("--no-pictures", is_flag=True, help="Draw nothing.")
@click.option("--json-lines", is_flag=True, help="Also write marks.jsonl, a line an image.")
@click.option("--geojson", is_flag=True, help="Also write geojson/NAME.geojson, which QuPath imports.")
@click.option("--overwrite", is_flag=True, help="Replace the results that are there, all of them.")
@click.pass_context
def predict(
    ctx: click.Context,
    *,
    images: tuple[Path, ...],
    out: Path,
    models: tuple[Path, ...],
    server: str | None,
    deadline: float,
    laterality: str | None,
    spacing_mm: float | None,
    threshold: float | None,
    marks_per_image: float | None,
    stride: int | None,
    engine: str,
    ray_address: str | None,
    bfloat16: bool,
    dicom_out: Path | None,
    no_pictures: bool,
    json_lines: bool,
    geojson: bool,
    overwrite: bool,
) -> None:
    """Mark what may be calcification on mammograms: DICOM, PNG, JPEG, TIFF or PGM.

    IMAGES are files, folders of them, or an images.csv, which says side and pixel size of each. Writes pictures,
    marks.csv and marks.json, and prints a line an image. The package's detector looks for groups: it may pass over a
    single calcification. Goes on after a file that cannot be read, lists it, and then exits with 1. If it is killed,
    the same command goes on. For research use, not for diagnosis.
    """
    if engine != "ray":
        refuse_address(ray_address)
    quiet_tensorflow()
    from mmgkeras.inference.predict import predict as predict_files
    from mmgkeras.schema import probability_text

    done = predict_files(
        images,
        out=out,
        models=models,
        server=server,
        deadline_s=deadline,
        laterality=laterality,  # type: ignore[arg-type]
        spacing_mm=spacing_mm,
        threshold=threshold,
        marks_per_image=marks_per_image,
        stride_px=stride,
        engine="openvino" if engine == "openvino" else "tensorflow",
        workers=ray_actors(ray_address, can_use_gpus=True) if engine == "ray" else None,
        in_bfloat16=bfloat16,
        dicom_out=dicom_out,
        with_pictures=not no_pictures,
        with_json_lines=json_lines,
        with_geojson=geojson,
        overwrite=overwrite,
        track=track,
    )
    for image in done.images:
        echo(image.line())
    echo(f"note: marked from a probability of {probability_text(done.threshold)}; results in {out}", err=True)
    for note in done.notes:
        echo(f"note: {note}", err=True)
    for path, reason in done.skipped.items():
        echo(f"error: {path}: {reason}", err=True)
    if done.skipped:
        ctx.exit(1)
