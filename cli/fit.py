"""`mmgkeras fit`: train one fold."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .console import PATH, echo, quiet_tensorflow, track

if TYPE_CHECKING:
    from mmgkeras.study.run_files import EpochRow

_METRICS = ("auc", "sensitivity", "specificity")
_COLUMNS = {
    "epoch": "d",
    "step": "d",
    **dict.fromkeys(("loss", *_METRICS, *(f"validation_{name}" for name in _METRICS)), ".4f"),
    "patches_per_second": ".1f",
}
"""The columns that are printed, each where it has a number, and their formats."""
_EXAMPLES = """\b
Examples:
  mmgkeras fit --store store --fold 1 --run runs/first
  mmgkeras fit --store store --fold 1 --run runs/resnet50 --set model.network=resnet50 --devices 2
"""


@click.command(epilog=_EXAMPLES, short_help="Train a network on one fold, and export it.")
@click.option("--store", type=PATH, required=True, help="Patch store, divided by `split`.")
@click.option("--fold", type=click.IntRange(min=1), required=True, help="Fold 1 leaves out subset A for testing.")
@click.option("--run", type=PATH, required=True, help="Run folder; an interrupted run goes on.")
@click.option(
    "--export",
    type=PATH,
    help="Folder of the model; a version number is added.  [default: saved_models/<name of the run folder>]",
)
@click.option("--config", type=PATH, help="TOML file of what differs from the defaults.")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Overrides one key; repeatable.")
@click.option("--devices", help="Number of GPUs, or names such as GPU:0,GPU:1.  [default: all GPUs, else CPU:0]")
@click.option("--overwrite", is_flag=True, help="Begin again in place of an earlier run in the same folder.")
@click.option("--stop", is_flag=True, help="Train no further: export an unfinished run as its last checkpoint is.")
def fit(
    *,
    store: Path,
    fold: int,
    run: Path,
    export: Path | None,
    config: Path | None,
    overrides: tuple[str, ...],
    devices: str | None,
    overwrite: bool,
    stop: bool,
) -> None:
    """Train a network on all subsets but the fold's own, and export it as a SavedModel.

    Prints a line for each epoch: metrics of the training batches as they were learned from. The test subset is not
    read. A run that was interrupted goes on when the same command is given again; the same command with --stop exports
    it as it is.
    """
    from mmgkeras.config import read_config

    if stop and overwrite:
        raise click.UsageError("Give --stop or --overwrite, not both.")
    settings = read_config(config, overrides=overrides)
    quiet_tensorflow()
    from mmgkeras.training.devices import choose_devices, precision_note
    from mmgkeras.training.fit import fit as fit_library

    note = precision_note(settings.train, devices=choose_devices(devices))
    if note:
        echo(f"note: {note}", err=True)
    has_header = False

    def report(row: "EpochRow") -> None:
        nonlocal has_header
        cells = {name: f"{getattr(row, name):{form}}" for name, form in _COLUMNS.items()}
        cells = {name: cell.rjust(len(name)) for name, cell in cells.items() if cell != "nan"}
        if not has_header:
            echo("  ".join(cells))
            has_header = True
        echo("  ".join(cells.values()))
        patches_left = (settings.train.epochs / row.epoch - 1) * row.step * settings.train.batch_size
        if (minutes := round(patches_left / row.patches_per_second / 60)) > 1:
            echo(f"epochs left: {settings.train.epochs - row.epoch}, about {minutes} min", err=True)

    fitted = fit_library(
        store,
        fold=fold,
        config=settings,
        run=run,
        export=export or Path("saved_models") / run.name,
        devices=devices,
        overwrite=overwrite,
        stop=stop,
        track=track,
        report=report,
        note=lambda text: echo(f"note: {text}", err=True),
    )
    if fitted.was_finished:
        echo(f"{run}: has finished; nothing to do, --overwrite begins again", err=True)
    if fitted.is_stopped:
        echo(f"{run}: has not come to its end; the same command without --stop goes on", err=True)
    echo(f"model: {fitted.model}")
