"""`mmgkeras overlay`: mammograms with their calcified patches marked."""

from pathlib import Path

import click

from .console import PATH, PROBABILITY, echo, quiet_tensorflow, track

_EXAMPLES = """\b
Examples:
  mmgkeras overlay --model saved_models/mine-1/1 --data data --out overlays
  mmgkeras overlay --model saved_models/mine-1/1 --data data --image-id p7-left --truth --stride 56 --out overlays
  mmgkeras overlay --model saved_models/mine-1/1 --data data --truth --activation --out overlays
"""


@click.command(epilog=_EXAMPLES, short_help="Draw what a model says of mammograms.")
@click.option("--model", type=PATH, required=True, help="A SavedModel's folder, NAME/VERSION.")
@click.option("--data", type=PATH, required=True, help="Folder with images.csv.")
@click.option("--image-id", "image_ids", multiple=True, help="Which image to draw; repeatable.  [default: all]")
@click.option("--out", type=PATH, required=True, help="The folder for the pictures.")
@click.option(
    "--threshold",
    type=PROBABILITY,
    help="Patches of at least this probability are marked.  [default: the model's operating point, else 0.5]",
)
@click.option("--stride", type=click.IntRange(min=1), help="Pixels between patches.  [default: the model's]")
@click.option("--truth", "with_truth", is_flag=True, help="Draw annotations, positive and unknown patches too.")
@click.option("--activation", "with_activation", is_flag=True, help="Draw where in a marked patch the model sees it.")
@click.option("--config", type=PATH, help="TOML file; its [patches] table is the label rule.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Such as patches.label_source=assumed.")
@click.option("--overwrite", is_flag=True, help="Replace the pictures that are there.")
@click.pass_context
def overlay(
    ctx: click.Context,
    *,
    model: Path,
    data: Path,
    image_ids: tuple[str, ...],
    out: Path,
    threshold: float | None,
    stride: int | None,
    with_truth: bool,
    with_activation: bool,
    config: Path | None,
    overrides: tuple[str, ...],
    overwrite: bool,
) -> None:
    """Draw what a model says of mammograms: PNGs at native resolution, and small ones in previews/.

    Goes on after an image that cannot be drawn, lists it, and then exits with 1. For research use, not for diagnosis.
    """
    from mmgkeras.config import read_config

    settings = read_config(config, overrides=overrides)
    quiet_tensorflow()
    from mmgkeras.inference.marking import mark_folder

    marked = mark_folder(
        model,
        data,
        out=out,
        image_ids=image_ids,
        threshold=threshold,
        stride_px=stride,
        truth=settings.patches if with_truth else None,
        with_activation=with_activation,
        overwrite=overwrite,
        track=track,
    )
    if threshold is None:
        echo(f"note: patches of at least {marked.threshold:g} are marked, the model's own threshold", err=True)
    for note in marked.notes:
        echo(f"note: {note}", err=True)
    for path in marked.pictures.values():
        echo(path)
    for image_id, reason in marked.skipped.items():
        echo(f"error: image {image_id} skipped: {reason}", err=True)
    if marked.skipped:
        ctx.exit(1)
