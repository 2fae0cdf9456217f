"""The epochs of a run: step after step, with checkpoints, history and events in the order that makes a kill harmless.

Events of a step are flushed before the checkpoint of that step, and history.csv is written from the checkpoint's
content after it. So what is on disk beyond the checkpoint is dropped and made again, and nothing before it is missing.
When a checkpoint is taken depends on the clock; what the steps compute does not.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mmgkeras.config import AugmentationConfig, TrainConfig
from mmgkeras.errors import ConfigError
from mmgkeras.models.augmentation import Augment
from mmgkeras.patches.store import PatchStore
from mmgkeras.pipeline.batches import training_batches
from mmgkeras.pipeline.epoch import EpochPlan
from mmgkeras.pipeline.sample_insertion import Insertion
from mmgkeras.progress import Track
from mmgkeras.schema import CALCIFICATION
from mmgkeras.study.run_files import CHECKPOINT, HISTORY, TENSORBOARD, EpochRow, write_history
from mmgkeras.training.checkpoint import SAMPLE, Progress, is_finite, save_checkpoint, snapshot
from mmgkeras.training.step import Output, discrimination, fetch_samples, make_scorer, make_train_step, score_patches
from mmgkeras.training.tensorboard_log import SAMPLE_COLS, SAMPLE_ROWS, Monitor, confusion_picture, patch_sheet

LOG_STEPS: Final = 10
"""Steps between two points of the curves, and between two waits for the devices."""
LARGEST_LOSS: Final = 87.3
"""Minus the logarithm of the smallest normal float32: on average surer of what is wrong than a probability can say."""

Report = Callable[[EpochRow], None]


@dataclass(frozen=True, eq=False)
class TrainingSetup:
    """Everything that the epochs need.

    Attributes:
        run: the run folder.
        store: where the pixels are.
        plan: the training set and its order.
        validation: (n,) places of patches held out; may be empty.
        strategy: under which the following were made.
        network: raw patches to logits.
        model: the same weights behind the augmentation.
        optimizer: built.
        train: the configuration's section.
        augmentation: the configuration's section.
        insertion: what puts calcifications into negatives, if anything does.
    """

    run: Path
    store: PatchStore
    plan: EpochPlan
    validation: NDArray[np.int64]
    strategy: tf.distribute.Strategy
    network: keras.Model
    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    train: TrainConfig
    augmentation: AugmentationConfig
    insertion: Insertion | None

    @property
    def num_steps(self) -> int:
        """Of all epochs."""
        return self.train.epochs * self.plan.steps_per_epoch

    def learning_rate(self, step: int) -> float:
        """Of the step with this number, from 0."""
        return float(self.optimizer._learning_rate(step))

    def divergence(self, step: int, *, what: str = "a weight or an answer is not finite") -> ConfigError:
        """What is raised where the loss is beyond reason, or a weight no longer a number."""
        return ConfigError(
            f"train.learning_rate: {self.run} diverged by step {step} of {self.num_steps}: {what}; give a lower rate "
            f"and another folder or --overwrite. Received: {self.train.learning_rate:g}"
        )


def run_epochs(setup: TrainingSetup, progress: Progress, *, track: Track, report: Report) -> None:
    """Trains from where `progress` stands to the end of the last epoch; `report` gets each finished epoch's row.

    Raises:
        ConfigError: if the training diverges; the last good checkpoint is kept.
        InputError: if something cannot be written.
    """
    if progress.step >= setup.num_steps:
        return
    num_replicas = setup.strategy.num_replicas_in_sync

    def stream(_: tf.distribute.InputContext) -> Any:
        return training_batches(
            setup.store,
            setup.plan,
            first_step=progress.step,
            last_step=setup.num_steps,
            pieces_per_batch=num_replicas,
            insertion=setup.insertion,
        )

    # Elements go to the replicas in turn, so consecutive pieces of one batch make one step.
    iterator = iter(setup.strategy.distribute_datasets_from_function(stream))
    train_step = make_train_step(
        setup.strategy,
        model=setup.model,
        optimizer=setup.optimizer,
        batch_size=setup.plan.batch_size,
        jit_compile=setup.train.jit_compile,
    )
    score = make_scorer(setup.network)
    with Monitor(setup.run / TENSORBOARD) as monitor, ThreadPoolExecutor(1, "checkpoint") as thread:
        saver = _Saver(setup, monitor=monitor, thread=thread)
        if progress.step == 0:
            monitor.picture("augmented_patches", _augmented_sample(setup), step=0)
        while progress.step < setup.num_steps:
            rate = _run_epoch(setup, progress, next_step=lambda: train_step(iterator), saver=saver, track=track)
            report(_close_epoch(setup, progress, rate=rate, score=score, saver=saver))
        saver.wait()


class _Saver:
    """Takes checkpoints: events first, then, beside the training, the checkpoint and what follows from it.

    The training waits for a copy of its state only. What went wrong with the writing is raised by the next call.
    """

    def __init__(self, setup: TrainingSetup, *, monitor: Monitor, thread: ThreadPoolExecutor) -> None:
        self.monitor = monitor
        self._setup = setup
        self._thread = thread
        self._written: Future[None] | None = None
        self._last = time.monotonic()

    def is_due(self, step: int) -> bool:
        """Whether an unfinished epoch is to be saved after this number of steps."""
        steps, minutes = self._setup.train.checkpoint_steps, self._setup.train.checkpoint_minutes
        return (steps is not None and step % steps == 0) or time.monotonic() >= self._last + 60 * minutes

    def save(self, progress: Progress, *, is_epoch_end: bool = False) -> None:
        """Replaces the checkpoint, and at the end of an epoch history.csv; returns before they are written.

        Raises:
            ConfigError: if a weight is not finite.
        """
        self.monitor.flush()
        setup, rows = self._setup, list(progress.history)
        taken = snapshot(progress, model=setup.network.variables, optimizer=setup.optimizer.variables)
        if not is_finite(taken):
            raise setup.divergence(progress.step)

        def write() -> None:
            save_checkpoint(setup.run / CHECKPOINT, taken)
            if is_epoch_end:
                write_history(rows, setup.run / HISTORY)

        self.wait()
        self._written = self._thread.submit(write)
        self._last = time.monotonic()

    def wait(self) -> None:
        """Returns when everything is written."""
        if self._written is not None:
            self._written.result()


def _run_epoch(
    setup: TrainingSetup, progress: Progress, *, next_step: Callable[[], Output], saver: _Saver, track: Track
) -> float:
    """Does the remaining steps of the epoch that `progress` is in; its last step is logged but not yet saved.

    Returns:
        Patches per second, of the epoch as far as this process ran it.
    """
    per_epoch, batch_size = setup.plan.steps_per_epoch, setup.plan.batch_size
    epoch = progress.step // per_epoch
    first, end = epoch * per_epoch, (epoch + 1) * per_epoch
    start = window_start = (time.perf_counter(), progress.step)

    def rate(since: tuple[float, int]) -> float:
        return (progress.step - since[1]) * batch_size / max(time.perf_counter() - since[0], 1e-9)

    pending: list[Output] = []
    for number in track(range(progress.step, end), f"epoch {epoch + 1} of {setup.train.epochs}"):
        pending.append(next_step())
        done = number + 1
        is_point = (done - first) % LOG_STEPS == 0 or done == end
        is_save = saver.is_due(done) and done < end
        if not is_point and not is_save:
            continue
        progress.samples = np.concatenate([progress.samples, fetch_samples(setup.strategy, pending)])
        progress.step = done
        pending.clear()
        loss = _loss(progress.samples[-LOG_STEPS * batch_size :])
        if not loss <= LARGEST_LOSS:  # NaN is not
            raise setup.divergence(done, what=f"the loss of its last steps is {loss:.3g}")
        if is_point:
            window = progress.samples[-((done - first - 1) % LOG_STEPS + 1) * batch_size :]
            curves = {
                "loss": _loss(window),
                "learning_rate": setup.learning_rate(done - 1),
                "patches_per_second": rate(window_start),
                **discrimination(window["labels"], window["probabilities"])[0],
            }
            saver.monitor.scalars(curves, step=done)
            window_start = (time.perf_counter(), done)
        if is_save:
            saver.save(progress)
    return rate(start)


def _loss(samples: NDArray[np.void]) -> float:
    return float(np.mean(samples["losses"], dtype=np.float64))


def _close_epoch(
    setup: TrainingSetup, progress: Progress, *, rate: float, score: Callable[[Any], Any], saver: _Saver
) -> EpochRow:
    """Writes the epoch's metrics: events, then the checkpoint, then history.csv."""
    samples, step, monitor = progress.samples, progress.step, saver.monitor
    metrics, confusion = discrimination(samples["labels"], samples["probabilities"])
    loss = _loss(samples)
    monitor.scalars({"epoch/loss": loss, **_named("epoch/", metrics)}, step=step)
    monitor.picture("epoch/confusion", confusion_picture(confusion), step=step)
    held_out: dict[str, float] = {}
    if len(setup.validation):
        held_out, confusion = _validate(setup, score)
        monitor.scalars(_named("validation/", held_out), step=step)
        monitor.picture("validation/confusion", confusion_picture(confusion), step=step)
    row = EpochRow(
        epoch=step // setup.plan.steps_per_epoch,
        step=step,
        learning_rate=setup.learning_rate(step - 1),
        loss=loss,
        patches_per_second=rate,
        **metrics,
        **_named("validation_", held_out),
    )
    progress.history.append(row)
    progress.samples = np.zeros(0, SAMPLE)
    saver.save(progress, is_epoch_end=True)
    return row


def _validate(setup: TrainingSetup, score: Callable[[Any], Any]) -> tuple[dict[str, float], NDArray[np.int64]]:
    probabilities = score_patches(score, setup.store, setup.validation, batch_size=setup.plan.batch_size)
    if not np.isfinite(probabilities).all():
        raise setup.divergence(int(setup.optimizer.iterations))
    labels = setup.store.patches["label"].to_numpy()[setup.validation]
    return discrimination(labels == CALCIFICATION, probabilities)


def _named(prefix: str, metrics: Mapping[str, float]) -> dict[str, float]:
    return {prefix + name: value for name, value in metrics.items()}


def _augmented_sample(setup: TrainingSetup) -> NDArray[np.uint8]:
    """The first patches of the first batch as the network sees them."""
    patches, ops, labels = setup.plan.locate(np.asarray(setup.plan.ids(0))[: SAMPLE_ROWS * SAMPLE_COLS])
    pixels = setup.store.gather(patches)
    if setup.insertion is not None:
        setup.insertion.apply(pixels, labels, patches=patches, first_sample=0)
    augmented = Augment(intensities=setup.augmentation.intensities)(pixels, ops)
    return patch_sheet(np.asarray(augmented), maximum=int(np.iinfo(pixels.dtype).max))
