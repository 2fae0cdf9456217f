"""Code in a process of its own, that may be killed, or that says how much memory it asks the system for."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
FEW_PAGES: Final = 0.1 * 30_000_000 / resource.getpagesize()
"""A tenth of what `pages_of_an_image` fills."""
T = TypeVar("T")


def names_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


class KilledActor:
    """A `Track` that kills an actor of this process' Ray cluster before the item of a number is asked for."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.killed = 0

    def __call__(self, items: Sequence[T], label: str) -> Iterable[T]:
        for number, item in enumerate(items):
            if number == self.number:
                self.killed = next(pid for pid in descendants(os.getpid()) if is_actor(pid))
                os.kill(self.killed, signal.SIGKILL)
            yield item


def pages_of_an_image(_: object) -> int:
    """The number of pages that the system gives for 30 MB of this process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    del [np.ones(5_000_000, np.uint8) for _ in range(6)][:]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            yield child
            yield from descendants(child)


def is_actor(pid: int) -> bool:
    return (Path(f"/proc/{pid}") / "cmdline").read_bytes().startswith(b"ray::_Actor")


def run(code: str, root: Path, *, kill_at: int | None = None) -> subprocess.CompletedProcess[str]:
    """Runs code in a new process, killed before its file-system call with that number; prints how many there were."""
    program = f"""
import sys
from pathlib import Path
from typing import TypeVar
from benchmarks.campaign.interrupt import Calls, die
from mmgkeras.files import atomic_file, atomic_files, atomic_folder
from mmgkeras.locks import output_lock, resumable_work
root = Path({str(root)!r})
calls = Calls(root, at={kill_at}, act=die)
{code}
print(calls.num)
"""
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
