"""`mmgkeras check`: whether a data folder can be used, before anything is made of it."""

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .console import PATH, echo, track

if TYPE_CHECKING:
    from mmgkeras.patches.check import DataReport

WARNED = 3
"""The exit code where nothing is worse than a warning; 2 is click's, for a wrong call."""
_EXAMPLES = """\b
Examples:
  mmgkeras check --data data
  mmgkeras check --data data --out checked --fix
  mmgkeras check --data data --model saved_models/mine/1
  mmgkeras check --data data --set patches.patch_px=64
"""


@click.command(epilog=_EXAMPLES, short_help="Read a whole data folder and say what is wrong with it.")
@click.option("--data", type=PATH, required=True, help="Folder with images.csv.")
@click.option("--out", type=PATH, help="Folder for check.html, a page with pictures, and the findings as a table.")
@click.option("--fix", is_flag=True, help="Write corrected copies of the tables into OUT/fixed: what is certain alone.")
@click.option("--model", type=PATH, help="A SavedModel whose pixel size the images should have.")
@click.option("--config", type=PATH, help="TOML file; its [patches] table counts for labels.csv.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Such as patches.patch_px=64; repeatable.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.pass_context
def check(
    ctx: click.Context,
    *,
    data: Path,
    out: Path | None,
    fix: bool,
    model: Path | None,
    config: Path | None,
    overrides: tuple[str, ...],
    overwrite: bool,
) -> None:
    """Read every image and annotation of a data folder, and say what is wrong and what is odd.

    Faults (an image, annotation or row cannot be used) end with exit code 1, warnings (something is probably wrong)
    with 3, notes with 0.
    """
    from mmgkeras.config import read_config
    from mmgkeras.files import check_outputs
    from mmgkeras.patches.check import check_folder, read_folder
    from mmgkeras.processes import Processes

    if fix and out is None:
        raise click.UsageError("--fix needs --out, the folder for the corrected copies.")
    if out is not None:
        check_outputs([out], overwrite=overwrite, inputs=[data])
    folder = read_folder(data, read_config(config, overrides=overrides).patches)
    model_mm = _spacing_of(model)
    report = check_folder(folder, model_mm=model_mm, workers=Processes(os.cpu_count() or 1), track=track)
    _print(report)
    for fault in report.faults:  # before the page, which may fail
        echo(f"error: {fault}", err=True)
    if out is not None:
        from mmgkeras.report.check_page import CHECK_HTML, FIXED, write_check

        for change in write_check(report, out, fix=fix, overwrite=overwrite, track=track):
            echo(f"fixed: {change}")
        echo(f"{out / CHECK_HTML}{f', {out / FIXED}' if fix else ''}")
    if report.findings and report.findings[0].severity != "note":
        ctx.exit(1 if report.faults else WARNED)


def _spacing_of(model: Path | None) -> float | None:
    if model is None:
        return None
    from mmgkeras.savedmodel.detector import model_folder
    from mmgkeras.savedmodel.metadata import read_metadata

    return read_metadata(model_folder(model)).spacing_mm


def _print(report: "DataReport") -> None:
    from mmgkeras.errors import counted

    heights, widths = zip(*report.sizes, strict=True) if report.sizes else ((0,), (0,))
    echo(
        f"images       {len(report.records):,} of {counted(report.num_patients, 'patient')}, {report.num_read} readable"
    )
    echo(f"size         {min(heights)} to {max(heights)} rows, {min(widths)} to {max(widths)} columns")
    echo(f"pixel type   {_counted(report.pixel_types)}")
    annotations = _counted(Counter(record.annotation for record in report.records))
    echo(f"annotation   {annotations}; regions or patch labels: {report.num_annotations:,}")
    echo(f"chest wall   {_counted(report.sides)} (by the pixels)")
    for finding in report.findings:
        if finding.severity != "fault":
            echo(f"{finding.severity}: {finding}")
    counts = ((len(report.of(severity)), severity) for severity in ("fault", "warning", "note"))
    echo(", ".join(f"{count} {severity}{'' if count == 1 else 's'}" for count, severity in counts))


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
