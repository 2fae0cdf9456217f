"""`mmgkeras phantom`: makes mammogram-like images with exact truth."""

import os
from collections import Counter
from pathlib import Path
from typing import Literal, cast

import click

from .console import PATH, NumberRange, echo, track


@click.command(
    epilog="Example: mmgkeras phantom --out demo/data --patients 30 --seed 1 --spacing-mm 0.2 --twins",
    short_help="Make mammogram-like images with exact truth.",
)
@click.option("--out", type=PATH, required=True, help="Data folder to write.")
@click.option("--patients", type=click.IntRange(1, 9999), required=True, help="Number of patients, of 2.6 images each.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Same seed, same images.")
@click.option(
    "--spacing-mm",
    type=NumberRange(0.05, 1.0),
    multiple=True,
    default=(0.1,),
    show_default=True,
    help="Edge of a pixel; repeatable: one for each patient in turn.",
)
@click.option("--bits", type=click.Choice(["8", "16"]), default="8", show_default=True, help="Of a pixel.")
@click.option(
    "--looks",
    type=click.Choice(["plain", "randomised"]),
    help="One look for all images, or one of its own for each, to train on.  [default: plain]",
)
@click.option("--config", type=PATH, help="TOML file whose section [phantom] counts.")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Overrides one key; repeatable.")
@click.option("--twins", is_flag=True, help="Also write OUT/twins: the same images without calcifications.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
def phantom(
    *,
    out: Path,
    patients: int,
    seed: int,
    spacing_mm: tuple[float, ...],
    bits: str,
    looks: str | None,
    config: Path | None,
    overrides: tuple[str, ...],
    twins: bool,
    overwrite: bool,
) -> None:
    """Make mammogram-like images with exact truth, to try everything out, to test it and to train on it."""
    from mmgkeras.config import read_config
    from mmgkeras.errors import counted
    from mmgkeras.sources.phantom import write_phantom

    given = (*overrides, f"phantom.looks={looks}") if looks else overrides
    num_images, regions = write_phantom(
        out,
        num_patients=patients,
        seed=seed,
        spacing_mm=spacing_mm if len(spacing_mm) > 1 else spacing_mm[0],
        bits=cast(Literal[8, 16], int(bits)),
        config=read_config(config, overrides=given).phantom,
        has_twins=twins,
        num_workers=os.cpu_count() or 1,
        overwrite=overwrite,
        track=track,
    )
    kinds = Counter(region.kind for region in regions)
    num_marks, num_clusters = kinds["calcification"], kinds["cluster"]
    numbers = {"patient": patients, "image": num_images, "calcification": num_marks, "cluster": num_clusters}
    echo(f"{out}: {', '.join(counted(number, one) for one, number in numbers.items())}")
