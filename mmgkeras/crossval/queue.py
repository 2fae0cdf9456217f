"""The order in which the jobs of a cross-validation are run, and on which devices.

Owns what becomes of the others when one crashes. What a job does is `job`'s.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from mmgkeras.errors import MmgError
from mmgkeras.study.layout import FoldJob


class JobCrashError(MmgError):
    """A job ended by something else than a fault in the user's input; the other jobs can go on."""


Launch = Callable[[FoldJob, str], None]
"""Runs a job on devices such as "GPU:0,GPU:1"; raises JobCrashError where the other jobs can go on without it."""


def run_queue(
    jobs: Sequence[FoldJob], *, slots: Sequence[str], launch: Launch, finished: Callable[[FoldJob], None]
) -> dict[FoldJob, str]:
    """Runs jobs in order, one at a time in each slot; a slot that is free takes the next.

    Args:
        jobs: in the order in which they are begun.
        slots: devices of each; several slots work in as many threads, one in the caller's.
        launch: runs a job in a slot.
        finished: called with each job that ended well, one at a time.

    Returns:
        What crashed, and how.

    Raises:
        MmgError: the first fault of a job that is no crash; jobs that had begun in other slots are waited for, no
            others are begun.
    """
    waiting, lock, stop = iter(jobs), threading.Lock(), threading.Event()
    crashed: dict[FoldJob, str] = {}

    def work(slot: str) -> None:
        while not stop.is_set():
            with lock:
                job = next(waiting, None)
            if job is None:
                return
            try:
                launch(job, slot)
                with lock:
                    finished(job)
            except JobCrashError as error:
                crashed[job] = str(error)
                continue
            except BaseException:
                stop.set()
                raise

    if len(slots) == 1:
        work(slots[0])
        return crashed
    with ThreadPoolExecutor(len(slots)) as pool:
        try:
            for future in [pool.submit(work, slot) for slot in slots]:
                future.result()
        except BaseException:
            stop.set()
            raise
    return crashed
