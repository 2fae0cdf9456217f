"""`mmgkeras crossval`: every fold of every network, in a queue that can be cut and goes on.

Owns the process of each job, how it is started and what it does there. TensorFlow keeps what one training did to it,
its seeds, its devices, its memory; a new process starts clean, and takes nothing with it when it dies. It ends when the
process that started it does, however that came.
"""

import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

import click

from .console import PATH, echo, fault_lines, quiet_tensorflow, track

if TYPE_CHECKING:
    from mmgkeras.crossval.cross_validate import Launch
    from mmgkeras.crossval.summary_table import JobRow
    from mmgkeras.study.layout import FoldJob
    from mmgkeras.study.run_files import EpochRow

_DIGITS = 10
"""More than any number has that is allowed here."""


def numbers_from(lowest: int) -> Callable[[click.Context, click.Parameter, str | None], tuple[int, ...] | None]:
    """A callback that makes a text such as "1,3" whole numbers from `lowest` on, each once."""

    def convert(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
        if value is None:
            return None
        parts = [part.strip() for part in value.split(",")]
        numbers = [int(part) for part in parts if part.isascii() and part.isdecimal() and len(part) <= _DIGITS]
        if len(numbers) < len(parts) or min(numbers) < lowest or len(set(numbers)) < len(numbers):
            rule = f"give whole numbers from {lowest} on, each once, with commas between"
            raise click.BadParameter(f"{rule}. Received: {value!r}", ctx=ctx, param=param)
        return tuple(numbers)

    return convert


_EXAMPLES = """\b
Examples:
  mmgkeras crossval --store store --config configs/sakaida2023-resnet18.toml --out crossval
  mmgkeras crossval --store store --config configs/sakaida2023-resnet18.toml \\
      --config configs/sakaida2023-resnet50.toml --seeds 0,1 --placement per-gpu --out crossval
"""


@click.command(epilog=_EXAMPLES, short_help="Train and score every fold of one or more networks.")
@click.option("--store", type=PATH, required=True, help="Patch store, divided by `split`.")
@click.option(
    "--config",
    "files",
    type=PATH,
    multiple=True,
    required=True,
    help="TOML file of a network, which is called by the file's name without .toml; repeatable.",
)
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Overrides one key of every file.")
@click.option("--out", type=PATH, required=True, help="Folder; a queue that was cut goes on.")
@click.option("--folds", callback=numbers_from(1), help="Such as 1,2; fold 1 tests subset A.  [default: all]")
@click.option("--seeds", callback=numbers_from(0), default="0", show_default=True, help="Such as 0,1: of the training.")
@click.option(
    "--placement",
    type=click.Choice(["mirrored", "per-gpu"]),
    default="mirrored",
    show_default=True,
    help="One fold at a time on all devices, or one on each.",
)
@click.option("--devices", help="Number of GPUs, or names such as GPU:0,GPU:1.  [default: all GPUs, else CPU:0]")
@click.option(
    "--data",
    type=PATH,
    help="Data folder of the store, to time reading and to point at regions.  [default: where it was prepared from]",
)
@click.option("--overwrite", is_flag=True, help="Do these folds again; what another configuration made goes.")
def crossval(
    *,
    store: Path,
    files: tuple[Path, ...],
    overrides: tuple[str, ...],
    out: Path,
    folds: tuple[int, ...] | None,
    seeds: tuple[int, ...],
    placement: Literal["mirrored", "per-gpu"],
    devices: str | None,
    data: Path | None,
    overwrite: bool,
) -> None:
    """Train each network on every fold, score each fold's own test subset, time and try the models.

    Folds that are done and unchanged are skipped, those that were cut go on: give the same command again, without
    --overwrite. Each runs in a process of its own. Prints a table of what is done whenever another fold is.
    """
    from mmgkeras.config import read_configs

    configs = read_configs(files, overrides=overrides)
    quiet_tensorflow()
    from mmgkeras.crossval.cross_validate import crossval as crossval_library
    from mmgkeras.crossval.summary_table import as_table
    from mmgkeras.errors import counted

    def report(rows: Sequence["JobRow"]) -> None:
        echo(f"{as_table(rows)}\n")

    done = crossval_library(
        store,
        configs=configs,
        out=out,
        folds=folds,
        seeds=seeds,
        placement=placement,
        devices=devices,
        overwrite=overwrite,
        data=data,
        command=shlex.join(["mmgkeras", *sys.argv[1:]]),
        launch=process_launcher(out.absolute(), has_own_terminal=placement == "mirrored"),
        report=report,
        note=lambda text: echo(f"note: {text}", err=True),
    )
    echo(f"{counted(len(done.rows), 'fold')} done, {done.num_done_before} of them before", err=True)
    echo(f"crossval: {out}")


_FAULT = 1
_INTERRUPTED = 130
_START = "from mmgkeras.cli.crossval import work; work()"


def process_launcher(out: Path, *, has_own_terminal: bool) -> "Launch":
    """A function that runs a job in a new process and returns when it has ended well.

    Args:
        out: the folder of the cross-validation.
        has_own_terminal: progress goes to this process' stderr; else to log.txt in the job's folder, and the process
            sees no GPU but its own.
    """
    from mmgkeras.crossval.cross_validate import JobCrashError
    from mmgkeras.errors import InputFaultsError
    from mmgkeras.study.layout import LOG

    def launch(job: "FoldJob", devices: str) -> None:
        command = [sys.executable, "-c", _START, str(out), job.name, devices]
        if has_own_terminal:
            code, faults = _run(command, log=None)
            place = "see above"
        else:
            place = str(job.folder(out) / LOG)
            code, faults = _run([*command, "alone"], log=Path(place))
        if code == _FAULT and faults:
            raise InputFaultsError([f"{job.name}: {fault}" for fault in faults])
        if code:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            raise JobCrashError(f"its process {how}, {place}")

    return launch


def _run(command: list[str], *, log: Path | None) -> tuple[int, list[str]]:
    """The exit code of a process and what it wrote to stdout, by line; its stderr goes into a log, if one is named.

    Its stdin is a pipe that nothing is written to: it is closed when this process ends.
    """
    with (
        nullcontext() if log is None else _opened(log) as errors,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        faults = [] if process.stdout is None else process.stdout.read().splitlines()
        return process.wait(), faults


def _opened(log: Path) -> TextIO:
    from mmgkeras.errors import InputError

    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("a", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{log}: cannot be written: {error.strerror or error}") from error


def work() -> None:
    """What the process does, with the arguments OUT JOB DEVICES ["alone"]; faults go to stdout, a line each."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _work(*sys.argv[1:])
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)


def _work(out: str, name: str, devices: str, *alone: str) -> None:
    quiet_tensorflow()
    from mmgkeras.crossval.job import run_job
    from mmgkeras.study.layout import FoldJob
    from mmgkeras.training.devices import use_only

    def report(row: "EpochRow") -> None:
        metrics = f"loss {row.loss:.4f}, AUC of the training batches {row.auc:.4f}"
        echo(f"{name}: epoch {row.epoch}: {metrics}, {row.patches_per_second:.1f} patches/s", err=True)

    try:
        names = use_only(devices) if alone else devices
        run_job(Path(out), FoldJob.of_name(name), devices=names, track=track, report=report)
    except Exception as error:
        lines = fault_lines(error)
        if not lines:
            raise
        echo("\n".join(lines))
        sys.exit(_FAULT)


def _end_with_parent() -> None:
    """Waits for the other end of stdin to be closed, which happens at the latest when its process dies."""
    while os.read(0, 1):
        pass
    os._exit(1)
