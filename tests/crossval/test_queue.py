"""The queue of a cross-validation: which device a job gets, what goes on and what ends when one fails."""

import threading

import pytest

from mmgkeras.config import Config, TrainConfig
from mmgkeras.crossval.cross_validate import JobCrashError, crossval, run_queue
from mmgkeras.crossval.job import run_job
from mmgkeras.errors import InputError
from mmgkeras.study.layout import FoldJob

CONFIGS = {"small": Config(), "large": Config(train=TrainConfig(epochs=3))}
PATIENCE_S = 3600
"""Only a test that fails waits for it."""


def test_other_jobs_go_on_when_one_crashes_and_it_is_said_at_the_end(quadrant_store, trained, tmp_path) -> None:
    out = tmp_path / "out"

    def launch(job: FoldJob, devices: str) -> None:
        if job == FoldJob("small", 0, 2):
            raise JobCrashError("its process was killed by signal 9")
        run_job(out, job)

    rule = r"out: 1 of 4 folds are not done, .*; small/seed0/fold2: its process was killed by signal 9$"
    with pytest.raises(InputError, match=rule):
        crossval(quadrant_store, configs=CONFIGS, out=out, launch=launch)
    assert len(trained) == 3
    assert crossval(quadrant_store, configs=CONFIGS, out=out).num_done_before == 3


def test_a_fault_ends_the_queue(quadrant_store, trained, tmp_path) -> None:
    begun: list[FoldJob] = []

    def launch(job: FoldJob, devices: str) -> None:
        begun.append(job)
        raise InputError("model.weights: no such file")

    with pytest.raises(InputError, match="no such file"):
        crossval(quadrant_store, configs=CONFIGS, out=tmp_path / "out", launch=launch)
    assert len(begun) == 1


def test_one_job_at_a_time_runs_on_each_gpu(quadrant_store, trained, tmp_path, monkeypatch) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr("mmgkeras.training.devices.choose_devices", lambda text: ["GPU:0", "GPU:1"])
    both, lock, began = threading.Barrier(2, timeout=PATIENCE_S), threading.Lock(), []

    def launch(job: FoldJob, devices: str) -> None:
        both.wait()  # passes only if the other slot has a job as well
        with lock:
            began.append(devices)
            run_job(out, job)

    crossval(quadrant_store, configs=CONFIGS, out=out, placement="per-gpu", launch=launch)
    assert sorted(began) == ["GPU:0", "GPU:0", "GPU:1", "GPU:1"]
    assert crossval(quadrant_store, configs=CONFIGS, out=out).num_done_before == 4


def test_a_job_on_each_gpu_needs_processes(quadrant_store, tmp_path) -> None:
    with pytest.raises(ValueError, match="Placement per-gpu needs a launch that starts processes"):
        crossval(quadrant_store, configs=CONFIGS, out=tmp_path / "out", placement="per-gpu")


def test_a_mirrored_job_gets_all_devices(quadrant_store, trained, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("mmgkeras.training.devices.choose_devices", lambda text: ["GPU:0", "GPU:1"])
    began: list[str] = []

    def launch(job: FoldJob, devices: str) -> None:
        began.append(devices)
        run_job(tmp_path / "out", job)

    crossval(quadrant_store, configs={"small": Config()}, out=tmp_path / "out", folds=(1,), launch=launch)
    assert began == ["GPU:0,GPU:1"]


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> list[threading.Event]:
    """The event by which a queue tells its slots to begin nothing more, once the queue is made."""
    events, make = [], threading.Event

    def remembered() -> threading.Event:
        events.append(make())
        return events[-1]

    monkeypatch.setattr("mmgkeras.crossval.cross_validate.threading.Event", remembered)
    return events


@pytest.mark.parametrize("fails_in", ["training", "results"])
def test_a_fault_in_one_slot_begins_nothing_more_in_the_other(stops: list[threading.Event], fails_in: str) -> None:
    jobs = [FoldJob("small", 0, fold) for fold in range(1, 6)]
    both, begun = threading.Barrier(2, timeout=PATIENCE_S), []

    def launch(job: FoldJob, devices: str) -> None:
        begun.append(job)
        if job.fold <= 2:
            both.wait()
        if job.fold != 1:
            assert stops[0].wait(PATIENCE_S)
        elif fails_in == "training":
            raise InputError("fold 1")

    def finished(job: FoldJob) -> None:
        if job.fold == 1:
            raise InputError("fold 1")

    with pytest.raises(InputError, match="fold 1"):
        run_queue(jobs, slots=["GPU:0", "GPU:1"], launch=launch, finished=finished)
    assert begun == jobs[:2] or begun == jobs[1::-1]
