"""A job of a cross-validation in a process of its own: how it is started, and what it does there.

TensorFlow keeps what one training did to it, its seeds, its devices, its memory; a new process starts clean, and takes
nothing with it when it dies. It ends when the process that started it does, however that came.
"""

import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from .console import echo, fault_lines, quiet_tensorflow, track

if TYPE_CHECKING:
    from mmgkeras.crossval.queue import Launch
    from mmgkeras.study.layout import FoldJob
    from mmgkeras.study.run_files import EpochRow

_FAULT = 1
_INTERRUPTED = 130
_START = "from mmgkeras.cli.worker import work; work()"


def process_launcher(out: Path, *, has_own_terminal: bool) -> "Launch":
    """A function that runs a job in a new process and returns when it has ended well.

    Args:
        out: the folder of the cross-validation.
        has_own_terminal: progress goes to this process' stderr; else to log.txt in the job's folder, and the process
            sees no GPU but its own.
    """
    from mmgkeras.crossval.queue import JobCrashError
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
    with ExitStack() as stack:
        errors = None if log is None else stack.enter_context(_opened(log))
        process = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
        )
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
