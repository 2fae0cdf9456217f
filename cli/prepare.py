"""`mmgkeras prepare`: a data folder to a patch store."""

from pathlib import Path

import click

from .console import PATH, echo, track
from .workers import chosen_workers, engine_option

_EXAMPLES = """\b
Examples:
  mmgkeras prepare --data data --out store
  mmgkeras prepare --data data --out store96 --set patches.patch_px=96 --skip-bad
  mmgkeras prepare --data data --out store --engine ray --ray-address head:6379
"""


@click.command(epilog=_EXAMPLES, short_help="Divide mammograms into labelled patches, in a store.")
@click.option(
    "--data",
    type=PATH,
    required=True,
    help="Folder with images.csv and labels.csv or regions.csv; where both are there, labels.csv is taken.",
)
@click.option("--out", type=PATH, required=True, help="The patch store to make.")
@click.option("--config", type=PATH, help="TOML file; its [patches] table counts here.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Such as patches.patch_px=96; repeatable.")
@click.option("--skip-bad", is_flag=True, help="Leave out images with faults and list them in store.json.")
@click.option("--overwrite", is_flag=True, help="Replace the store if it exists, its folds.csv included.")
@engine_option
def prepare(
    *,
    data: Path,
    out: Path,
    config: Path | None,
    overrides: tuple[str, ...],
    skip_bad: bool,
    overwrite: bool,
    engine: str,
    ray_address: str | None,
) -> None:
    """Divide mammograms into labelled patches, in a store to train on and to evaluate with.

    Every image is read once; patches.spacing_mm resamples those of another pixel size. All faults are listed and
    nothing is written if there are any. If it is killed, the same command goes on.
    """
    from mmgkeras.config import read_config
    from mmgkeras.patches.prepare import prepare as make_store
    from mmgkeras.patches.subset_counts import summary_lines

    settings = read_config(config, overrides=overrides).patches
    workers = chosen_workers(engine, ray_address=ray_address)
    store = make_store(data, out, settings, skip_bad=skip_bad, overwrite=overwrite, workers=workers, track=track)
    for line in summary_lines(store):
        echo(line)
