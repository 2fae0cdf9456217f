"""The same work on many things, in processes of their own, and what a killed call left. Knows nothing of the work."""

import json
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

from mmgkeras.errors import InputError
from mmgkeras.files import write_whole
from mmgkeras.progress import Track

_In = TypeVar("_In")
_Out = TypeVar("_Out")
_WAITING: Final = 2
"""Things handed out for each process, so that neither it waits nor results pile up."""


def in_processes(
    work: Callable[[_In], _Out], items: Sequence[_In], *, num_workers: int, label: str, track: Track
) -> Iterator[_Out]:
    """What `work` gives for each item, in order; by one worker here, by several in processes of their own.

    Raises:
        InputError: if a process of its own ended before its work was done.
    """
    if num_workers == 1:
        yield from (work(item) for item in track(items, label))
        return
    # Not forked: the threads of the libraries would not come along.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, mp_context=context, initializer=_end_with_parent) as pool:
        waiting = iter(items)
        pending = deque(pool.submit(work, item) for item in islice(waiting, _WAITING * num_workers))
        try:
            for _ in track(items, label):
                done = pending.popleft().result()
                pending.extend(pool.submit(work, item) for item in islice(waiting, 1))
                yield done
        except BrokenProcessPool as error:
            raise InputError(f"{label}: one of {num_workers} processes ended: too little memory, or killed") from error
        finally:
            pool.shutdown(cancel_futures=True)


def kept(place: Path, source: Path, make: Callable[[], Any]) -> Any:
    """The JSON value that `make` gives for a file, kept at `place`: read from there while the file is as it was."""
    state = file_state(source)
    with suppress(OSError, ValueError, TypeError, LookupError):
        of, value = json.loads(place.read_bytes())
        if of == state:
            return value
    value = make()
    write_whole(place, json.dumps([state, value]).encode())
    return value


def file_state(path: Path) -> list[int] | None:
    """What changes with a file's content: its size and its time; None where it cannot be told."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]


def _end_with_parent() -> None:
    """Ends this worker when the process that started it is gone, also when that was killed and could not say so."""

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
