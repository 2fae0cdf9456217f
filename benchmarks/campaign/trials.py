"""Trials in processes of their own: forked from one that has imported everything, a few at a time.

A trial holds or fails; it may itself run commands in further processes, which are killed, fail or race in it.
"""

import contextlib
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_CHUNK = 1 << 16
_BUG = 70


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried, and the function that tries it: None where it held, else what went wrong."""

    name: str
    run: Callable[[], str | None]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: its exit code, and what it wrote to stdout and stderr."""

    code: int
    output: str

    @property
    def has_traceback(self) -> bool:
        """Whether it ended with a bug of ours."""
        return "Traceback" in self.output or self.code == _BUG


def run_trials(trials: Sequence[Trial], *, jobs: int, timeout_s: float) -> list[tuple[Trial, str | None]]:
    """Each trial with what it gave; one that takes longer than the limit has failed."""
    waiting, running, results = list(enumerate(trials)), {}, {}
    while waiting or running:
        while waiting and len(running) < jobs:
            number, trial = waiting.pop(0)
            pid, descriptor = _fork_trial(trial)
            running[descriptor] = (number, pid, time.monotonic() + timeout_s, bytearray())
        ready = select.select(list(running), [], [], 0.5)[0]
        for descriptor, (number, pid, deadline, text) in list(running.items()):
            part = os.read(descriptor, _CHUNK) if descriptor in ready else None
            if part:
                text.extend(part)
            elif part is not None or time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                os.close(descriptor)
                del running[descriptor]
                late = f"took over {timeout_s:g} s" if part is None else "its process died"
                results[number] = text.decode()[1:] or None if text[:1] == b"=" else late
    return [(trial, results[number]) for number, trial in enumerate(trials)]


def run_command(command: Callable[[], object], *, folder: Path, before: Callable[[], object] = lambda: None) -> Ended:
    """How a command ends in a process of its own, in a folder, after `before` was called there."""
    return finished(start_command(command, folder=folder, before=before))


def start_command(
    command: Callable[[], object], *, folder: Path, before: Callable[[], object] = lambda: None
) -> tuple[int, int]:
    """The process of a command that has begun, and the descriptor of the pipe that it prints to."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = _BUG
        try:
            for stream in (1, 2):
                os.dup2(writer, stream)
            os.close(reader)
            os.close(writer)
            os.chdir(folder)
            before()
            command()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    return pid, reader


def finished(process: tuple[int, int]) -> Ended:
    """How a command that was started ended."""
    pid, reader = process
    with open(reader, errors="replace") as stream:  # noqa: PTH123 - a descriptor
        output = stream.read()
    return Ended(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output)


def _fork_trial(trial: Trial) -> tuple[int, int]:
    """The process, which leads a group, and the descriptor from which its result comes: "=" and the text."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        os.close(reader)
        try:
            result = trial.run()
        except BaseException:
            result = traceback.format_exc()
        os.write(writer, b"=" + (result or "").encode()[:_CHUNK])
        os._exit(0)
    os.close(writer)
    return pid, reader
