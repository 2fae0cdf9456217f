"""Folds x networks x seeds as a queue that can be cut at any moment and goes on when it is started again.

Owns the order of the work, what becomes of the other jobs when one crashes, and the tables at the top of the folder.
What is refused is `request`'s, what a job does is `job`'s, and in which process it runs is the caller's choice.
"""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.config import Config
from mmgkeras.crossval.job import expected_files, run_job
from mmgkeras.crossval.request import (
    ask,
    check_configs,
    check_folds,
    check_jobs,
    find_data,
    remove_old,
    with_initial_models,
)
from mmgkeras.crossval.summary_table import JobRow, measure_job, write_rows
from mmgkeras.errors import InputError, MmgError
from mmgkeras.files import check_apart
from mmgkeras.inference.timing import open_source
from mmgkeras.locks import locks_output
from mmgkeras.patches.split import fold_patches
from mmgkeras.patches.store import PatchStore
from mmgkeras.progress import Track, silent, untracked
from mmgkeras.study.layout import (
    PREDICTIONS_CSV,
    RUN,
    SUMMARY_CSV,
    Crossval,
    FoldJob,
    all_jobs,
    is_done,
    write_crossval,
)
from mmgkeras.study.read import check_tested
from mmgkeras.study.run_files import HISTORY
from mmgkeras.tables import read_predictions, write_predictions
from mmgkeras.training import devices as device
from mmgkeras.training.run_folder import check_writable

Placement = Literal["mirrored", "per-gpu"]


class JobCrashError(MmgError):
    """A job ended by something else than a fault in the user's input; the other jobs can go on."""


Launch = Callable[[FoldJob, str], None]
"""Runs a job on devices such as "GPU:0,GPU:1"; raises JobCrashError where the other jobs can go on without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossvalidated:
    """What `crossval` gives back: every job asked for that is done, and how many had been done before."""

    rows: Sequence[JobRow]
    num_done_before: int


@locks_output("out")
def crossval(
    store: Path,
    *,
    configs: Mapping[str, Config],
    out: Path,
    folds: Sequence[int] | None = None,
    seeds: Sequence[int] = (0,),
    placement: Placement = "mirrored",
    devices: str | None = None,
    overwrite: bool = False,
    data: Path | None = None,
    command: str = "",
    launch: Launch | None = None,
    track: Track = untracked,
    report: Callable[[Sequence[JobRow]], None] = silent,
    note: Callable[[str], None] = silent,
) -> Crossvalidated:
    """Trains and measures networks on every fold; skips jobs that are done, goes on with those that were cut.

    Args:
        store: a patch store with folds.csv.
        configs: the configuration of each network by its name; their train.seed is replaced by each of `seeds`.
        out: the folder of the cross-validation, new or begun before with the same store and configurations. Further
            networks, folds and seeds may be added to one.
        folds: from 1; None for all of the store.
        seeds: of the training.
        placement: "mirrored" runs one job at a time on all devices, "per-gpu" one on each.
        devices: see `devices.choose_devices`.
        overwrite: do the jobs anew. What was made with another configuration or on another store goes altogether.
        data: the data folder that the store was made of, for the timing and the pointing game; None for the place that
            the store remembers, if it is still there.
        command: written down.
        launch: runs a job on devices, usually in a process of its own; None for this process, which takes the state
            that `fit` gives it. Placement "per-gpu" needs one.
        track: shows progress of jobs in this process.
        report: called with the rows of all jobs that are done, at the start and whenever another is.
        note: called with lines that the user should read.

    Raises:
        InputError: for a store, fold, seed, folder or device that cannot be used, one line each, before anything is
            written; later for a fault in a job, or at the end if jobs crashed.
        ConfigError: if a configuration does not go with the others or with the devices.
        ValueError: for placement "per-gpu" without `launch`.
    """
    if placement == "per-gpu" and launch is None:
        raise ValueError("Placement per-gpu needs a launch that starts processes.")
    check_apart(out, [store] if data is None else [store, data])
    names = device.choose_devices(devices)
    check_configs(configs, seeds=seeds, num_devices=len(names) if placement == "mirrored" else 1)
    configs = with_initial_models(configs, note=note)
    opened, out = PatchStore.open(store, verify=True), out.absolute()
    numbers = check_folds(opened, folds)
    asked = ask(
        opened,
        out=out,
        configs=configs,
        folds=numbers,
        seeds=seeds,
        data=find_data(opened, data),
        command=command,
        overwrite=overwrite,
    )
    if asked.data is not None:
        open_source(asked.data, opened.images["image_id"].tolist())  # before hours are spent on the first training
    for name, config in configs.items():
        if "patch_px" in config.patches.model_fields_set and config.patches.patch_px != opened.patch_px:
            note(
                f"{name}: patches.patch_px = {config.patches.patch_px} has no effect: {store} has {opened.patch_px} px"
            )
    if asked.data is None:
        note(f"the data folder of {store} is not there: inference alone is timed, nothing is pointed at; give --data")
    jobs = list(all_jobs(configs, seeds=sorted(set(seeds)), folds=numbers))
    check_jobs(opened, asked, jobs=jobs, out=out, overwrite=overwrite)
    check_writable(out)
    if overwrite:
        remove_old(out, asked, jobs=jobs)
    tested = {fold: fold_patches(opened, fold).test for fold in asked.folds}
    rows: dict[FoldJob, JobRow] = {}

    def take_in(done: Sequence[FoldJob]) -> None:
        rows.update((job, _measured(out, job, asked=asked, store=opened, tested=tested[job.fold])) for job in done)
        if ordered := _write_tables(out, rows, asked=asked):
            report(ordered)

    expected = {job: expected_files(asked.config(job), data=asked.data) for job in asked.jobs()}
    take_in([job for job, files in expected.items() if is_done(out, job, crossval=asked, files=files)])
    left = [job for job in jobs if job not in rows]
    write_crossval(out, asked)
    run = launch or (lambda job, slot: run_job(out, job, devices=slot, track=track))
    slots = [",".join(names)] if placement == "mirrored" else names
    crashed = run_queue(left, slots=slots, launch=run, finished=lambda job: take_in([job]))
    for job, reason in crashed.items():
        raise InputError(
            f"{out}: {len(crashed)} of {len(jobs)} folds are not done, the same command without --overwrite goes on; "
            f"{job.name}: {reason}"
        )
    return Crossvalidated(rows=[rows[job] for job in jobs], num_done_before=len(jobs) - len(left))


def _measured(out: Path, job: FoldJob, *, asked: Crossval, store: PatchStore, tested: NDArray[np.integer]) -> JobRow:
    folder, batch_size = job.folder(out), asked.config(job).train.batch_size
    predictions = read_predictions(folder / PREDICTIONS_CSV)
    check_tested(predictions, path=folder / PREDICTIONS_CSV, store=store, tested=tested)
    return measure_job(job, predictions=predictions, history=folder / RUN / HISTORY, batch_size=batch_size)


def _write_tables(out: Path, rows: Mapping[FoldJob, JobRow], *, asked: Crossval) -> list[JobRow]:
    """Writes summary.csv of the jobs that are done, and the predictions of each network and seed whose folds all are.

    Returns:
        The rows in the order of the jobs.
    """
    for network in asked.configs:
        for seed in asked.seeds:
            _write_predictions(out, [FoldJob(network, seed, fold) for fold in asked.folds], done=rows)
    ordered = [rows[job] for job in asked.jobs() if job in rows]
    if ordered:
        write_rows(out / SUMMARY_CSV, ordered)
    else:
        (out / SUMMARY_CSV).unlink(missing_ok=True)
    return ordered


def _write_predictions(out: Path, jobs: Sequence[FoldJob], *, done: Collection[FoldJob]) -> None:
    path = jobs[0].folder(out).parent / PREDICTIONS_CSV
    if not all(job in done for job in jobs):
        path.unlink(missing_ok=True)
        return
    parts = [job.folder(out) / PREDICTIONS_CSV for job in jobs]
    if not path.exists() or path.stat().st_mtime < max(part.stat().st_mtime for part in parts):
        frames = [read_predictions(part) for part in parts]
        # A column of the user's, or a baseline of another version, that not all folds have is left out.
        write_predictions(path, pd.concat(frames, join="inner", ignore_index=True), overwrite=True)


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
