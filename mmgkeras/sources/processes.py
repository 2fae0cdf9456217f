"""The same work on many things, in processes of their own. Knows nothing of the work."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from mmgkeras.errors import InputError
from mmgkeras.progress import Track

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def in_processes(
    work: Callable[[_In], _Out], items: Sequence[_In], *, num_workers: int, label: str, track: Track
) -> list[_Out]:
    """What `work` gives for each item, in order; by one worker here, by several in processes of their own.

    Raises:
        InputError: if a process of its own ended before its work was done.
    """
    if num_workers == 1:
        return [work(item) for item in track(items, label)]
    # Not forked: the threads of the libraries would not come along.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, mp_context=context, initializer=_end_with_parent) as pool:
        pending = [pool.submit(work, item) for item in items]
        try:
            return [job.result() for job in track(pending, label)]
        except BrokenProcessPool as error:
            raise InputError(f"{label}: one of {num_workers} processes ended: too little memory, or killed") from error


def _end_with_parent() -> None:
    """Ends this worker when the process that started it is gone, also when that was killed and could not say so."""

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
