"""The same work on many things, by several workers, and what a killed call left. Knows nothing of the work.

Owns what workers are, and those of this machine: processes and threads. Those of a cluster are `ray_actors`'.
"""

import ctypes
import json
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from mmgkeras.errors import InputError
from mmgkeras.files import write_whole
from mmgkeras.progress import Track

_In = TypeVar("_In")
_Out = TypeVar("_Out")
_WAITING: Final = 2
"""Things handed out for each worker, so that neither it waits nor results pile up."""

_KEPT_BYTES: Final = {-1: 2**28, -3: 2**25}
"""By glibc's numbers: M_TRIM_THRESHOLD, what is kept at the end of the heap, and M_MMAP_THRESHOLD, up to which size."""


class Workers(Protocol):
    """Who does the same work on many things."""

    def map(
        self, work: Callable[[_In], _Out], items: Sequence[_In], *, label: str, track: Track, few: int = 0
    ) -> Iterator[_Out]:
        """What `work` gives for each item, in order; only a few more are begun than were asked for.

        Args:
            work: is done; it, the items and the results can be pickled where workers are other processes.
            items: that it is done on.
            label: what is done, in a few words.
            track: is called with the items.
            few: for so many items or fewer, no process of this machine is started.

        Raises:
            InputError: if a worker ended before its work was done.
        """


@dataclass(frozen=True, slots=True)
class Processes:
    """So many processes of this machine; one is the process that asks."""

    num: int = 1

    def map(
        self, work: Callable[[_In], _Out], items: Sequence[_In], *, label: str, track: Track, few: int = 0
    ) -> Iterator[_Out]:
        """As `Workers.map`."""
        if self.num == 1 or len(items) <= few:
            keep_freed_memory()
            yield from (work(item) for item in track(items, label))
            return
        # Not forked: the threads of the libraries would not come along.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.num, mp_context=context, initializer=_begin) as pool:
            yield from in_order(pool, work, items, num_waiting=_WAITING * self.num, label=label, track=track)


HERE: Final = Processes(1)


@dataclass(frozen=True, slots=True)
class Threads:
    """So many threads of this process."""

    num: int

    def map(
        self,
        work: Callable[[_In], _Out],
        items: Sequence[_In],
        *,
        label: str,
        track: Track,
        few: int = 0,  # noqa: ARG002 - the protocol's signature
    ) -> Iterator[_Out]:
        """As `Workers.map`."""
        with ThreadPoolExecutor(self.num) as pool:
            yield from in_order(pool, work, items, num_waiting=self.num, label=label, track=track)


def in_order(
    pool: Executor,
    work: Callable[[_In], _Out],
    items: Sequence[_In],
    *,
    num_waiting: int,
    label: str,
    track: Track,
) -> Iterator[_Out]:
    """What `work` gives for each item, in order, by a pool that holds `num_waiting` of them at a time.

    Raises:
        InputError: if the pool breaks.
    """
    waiting = iter(items)
    pending = deque(pool.submit(work, item) for item in islice(waiting, num_waiting))
    try:
        for _ in track(items, label):
            done = pending.popleft().result()
            pending.extend(pool.submit(work, item) for item in islice(waiting, 1))
            yield done
    except BrokenExecutor as error:
        raise InputError(f"{label}: a worker ended, of too little memory or killed: {error}") from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def kept(place: Path, source: Path, make: Callable[[], Any], *, is_synced: bool = True) -> Any:
    """The JSON value that `make` gives for a file, kept at `place`: read from there while the file is as it was.

    `is_synced` as of `write_whole`.
    """
    state = file_state(source)
    with suppress(OSError, ValueError, TypeError, LookupError):
        of, value = json.loads(place.read_bytes())
        if of == state:
            return value
    value = make()
    write_whole(place, json.dumps([state, value]).encode(), is_synced=is_synced)
    return value


def file_state(path: Path) -> list[int] | None:
    """What changes with a file's content: its size and its time; None where it cannot be told."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]


def keep_freed_memory() -> None:
    """Has the C library keep what this process frees, if it is glibc: one image needs the memory of the one before.

    Otherwise the system clears as many pages again for each image, a tenth of the time of `prepare`.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        for parameter, num_bytes in _KEPT_BYTES.items():
            libc.mallopt(parameter, num_bytes)


def _begin() -> None:
    """Is called in each process when it begins, before it loads what the work needs."""
    os.putenv("OPENBLAS_NUM_THREADS", "1")  # numpy's and SciPy's threads would spin on the cores of the others first
    keep_freed_memory()
    _end_with_parent()


def _end_with_parent() -> None:
    """Ends this worker when the process that started it is gone, also when that was killed and could not say so."""

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
