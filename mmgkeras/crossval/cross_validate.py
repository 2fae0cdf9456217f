"""Folds x networks x seeds as a queue that can be cut at any moment and goes on when it is started again.

Owns the order of the work and the tables at the top of the folder. What is refused is `request`'s, what a job
does is `job`'s, and in which process it runs is the caller's choice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from mmgkeras.config import Config
from mmgkeras.crossval.job import expected_files, run_job
from mmgkeras.crossval.queue import Launch, run_queue
from mmgkeras.crossval.request import ask, check_configs, check_folds, check_initial_models, find_data, remove_old
from mmgkeras.crossval.summary_table import JobRow, measure_job, write_rows
from mmgkeras.errors import InputError
from mmgkeras.files import check_apart
from mmgkeras.locks import locks_output
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
from mmgkeras.study.run_files import HISTORY
from mmgkeras.tables import read_predictions, write_predictions
from mmgkeras.training import devices as device
from mmgkeras.training.run_folder import check_writable

Placement = Literal["mirrored", "per-gpu"]


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
    for name, config in configs.items():
        if config.patches.patch_px != opened.patch_px:
            note(
                f"{name}: patches.patch_px = {config.patches.patch_px} has no effect: {store} has {opened.patch_px} px"
            )
    if asked.data is None:
        note(f"the data folder of {store} is not there: inference alone is timed, nothing is pointed at; give --data")
    jobs = list(all_jobs(configs, seeds=sorted(set(seeds)), folds=numbers))
    check_initial_models(opened, configs, jobs=jobs, out=out, overwrite=overwrite)
    check_writable(out)
    if overwrite:
        remove_old(out, asked, jobs=jobs)
    book = _Book(out, asked, report)
    book.open()
    left = [job for job in jobs if job not in book.rows]
    write_crossval(out, asked)
    run = launch or (lambda job, slot: run_job(out, job, devices=slot, track=track))
    slots = [",".join(names)] if placement == "mirrored" else names
    crashed = run_queue(left, slots=slots, launch=run, finished=book.add)
    for job, reason in crashed.items():
        raise InputError(
            f"{out}: {len(crashed)} of {len(jobs)} folds are not done, the same command without --overwrite goes on; "
            f"{job.name}: {reason}"
        )
    return Crossvalidated(rows=[book.rows[job] for job in jobs], num_done_before=len(jobs) - len(left))


@dataclass
class _Book:
    """What is done, and the tables that say so.

    Attributes:
        out: the folder of the cross-validation.
        asked: what crossval.json says.
        report: called with all rows whenever there is another.
        rows: of the jobs that are done.
    """

    out: Path
    asked: Crossval
    report: Callable[[Sequence[JobRow]], None]
    rows: dict[FoldJob, JobRow] = field(default_factory=dict)

    def open(self) -> None:
        """Finds the jobs that were done before, writes the tables of them."""
        for job in self.asked.jobs():
            files = expected_files(self.asked.config(job), data=self.asked.data)
            if is_done(self.out, job, crossval=self.asked, files=files):
                self.rows[job] = self._measured(job)
        self._write()

    def add(self, job: FoldJob) -> None:
        """Takes in a job that has just ended."""
        self.rows[job] = self._measured(job)
        self._write()

    def _measured(self, job: FoldJob) -> JobRow:
        folder, batch_size = job.folder(self.out), self.asked.config(job).train.batch_size
        return measure_job(
            job, predictions=folder / PREDICTIONS_CSV, history=folder / RUN / HISTORY, batch_size=batch_size
        )

    def _write(self) -> None:
        """Writes summary.csv, and the out-of-fold predictions of each network and seed of which every fold is done."""
        ordered = [self.rows[job] for job in self.asked.jobs() if job in self.rows]
        for network in self.asked.configs:
            for seed in self.asked.seeds:
                self._write_predictions([FoldJob(network, seed, fold) for fold in self.asked.folds])
        if ordered:
            write_rows(self.out / SUMMARY_CSV, ordered)
            self.report(ordered)
        else:
            (self.out / SUMMARY_CSV).unlink(missing_ok=True)

    def _write_predictions(self, jobs: Sequence[FoldJob]) -> None:
        path = jobs[0].folder(self.out).parent / PREDICTIONS_CSV
        if not all(job in self.rows for job in jobs):
            path.unlink(missing_ok=True)
            return
        parts = [job.folder(self.out) / PREDICTIONS_CSV for job in jobs]
        if not path.exists() or path.stat().st_mtime < max(part.stat().st_mtime for part in parts):
            frames = [read_predictions(part) for part in parts]
            write_predictions(path, pd.concat(frames, ignore_index=True), overwrite=True)
