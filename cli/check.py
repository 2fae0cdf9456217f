"""`mmgkeras check`: whether a data folder can be used, before anything is made of it."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .console import PATH, echo, track

if TYPE_CHECKING:
    from mmgkeras.patches.check import DataReport

_EXAMPLES = """\b
Examples:
  mmgkeras check --data data
  mmgkeras check --data data --set patches.patch_px=64
"""


@click.command(epilog=_EXAMPLES, short_help="Read a whole data folder and say what is wrong with it.")
@click.option("--data", type=PATH, required=True, help="Folder with images.csv.")
@click.option("--config", type=PATH, help="TOML file; its [patches] table counts for labels.csv.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Such as patches.patch_px=64; repeatable.")
@click.pass_context
def check(ctx: click.Context, *, data: Path, config: Path | None, overrides: tuple[str, ...]) -> None:
    """Read every image and annotation of a data folder, and say what is wrong and what is odd.

    Faults (an image or annotation cannot be used) end with exit code 1; remarks (it can be used, but look) do not.
    """
    from mmgkeras.config import read_config
    from mmgkeras.patches.check import check_data

    report = check_data(data, read_config(config, overrides=overrides).patches, track=track)
    _print(report)
    for fault in report.faults:
        echo(f"error: {fault}", err=True)
    if report.faults:
        ctx.exit(1)


def _print(report: "DataReport") -> None:
    heights, widths = zip(*report.sizes, strict=True) if report.sizes else ((0,), (0,))
    echo(f"images       {len(report.records)} of {report.num_patients} patients, {report.num_read} readable")
    echo(f"size         {min(heights)} to {max(heights)} rows, {min(widths)} to {max(widths)} columns")
    echo(f"pixel type   {_counted(report.pixel_types)}")
    annotations = _counted(Counter(record.annotation for record in report.records))
    echo(f"annotation   {annotations}; {report.num_annotations} regions or patch labels")
    echo(f"chest wall   {_counted(report.sides)} (by the pixels)")
    for remark in report.remarks:
        echo(f"remark: {remark}")
    echo(f"{len(report.faults)} faults, {len(report.remarks)} remarks")


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
