"""The epochs of a run: step after step, with checkpoints, history and events in the order that makes a kill harmless.

Events of a step are flushed before the checkpoint of that step, and history.csv is written from the checkpoint's
content after it. So what is on disk beyond the checkpoint is dropped and made again, and nothing before it is missing.
When a checkpoint is taken depends on the clock; what the steps compute does not.
"""

import time
from collections.abc import Callable
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
from mmgkeras.pipeline.batches import Gatherable, training_batches
from mmgkeras.pipeline.epoch import EpochPlan
from mmgkeras.progress import Track
from mmgkeras.schema import CALCIFICATION
from mmgkeras.study.run_files import CHECKPOINT, HISTORY, TENSORBOARD, EpochRow, write_history
from mmgkeras.training.checkpoint import BackgroundWriter, Progress, Snapshot, save_checkpoint, snapshot
from mmgkeras.training.history import Discrimination, EpochSamples, discrimination
from mmgkeras.training.step import Output, fetch_samples, make_scorer, make_train_step, score_patches
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
        patch_labels: (all patches of the store,) int8.
        plan: the training set and its order.
        validation: (n,) places of patches held out; may be empty.
        strategy: under which the following were made.
        network: raw patches to logits.
        model: the same weights behind the augmentation.
        optimizer: built.
        train: the configuration's section.
        augmentation: the configuration's section.
    """

    run: Path
    store: Gatherable
    patch_labels: NDArray[np.int8]
    plan: EpochPlan
    validation: NDArray[np.int64]
    strategy: tf.distribute.Strategy
    network: keras.Model
    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    train: TrainConfig
    augmentation: AugmentationConfig

    @property
    def num_steps(self) -> int:
        """Of all epochs."""
        return self.train.epochs * self.plan.steps_per_epoch

    def learning_rate(self, step: int) -> float:
        """Of the step with this number, from 0."""
        return float(self.optimizer._learning_rate(step))

    def snapshot(self, progress: Progress) -> Snapshot:
        """A copy of the present state.

        Raises:
            ConfigError: if a weight is not finite.
        """
        taken = snapshot(progress, model=self.network.variables, optimizer=self.optimizer.variables)
        if not taken.is_finite:
            raise self.divergence(progress.step)
        return taken

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
            setup.store, setup.plan, first_step=progress.step, last_step=setup.num_steps, pieces_per_batch=num_replicas
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
    with Monitor(setup.run / TENSORBOARD) as monitor, BackgroundWriter() as writer:
        saver = _Saver(setup, monitor=monitor, writer=writer)
        if progress.step == 0:
            monitor.picture("augmented_patches", _augmented_sample(setup), step=0)
        while progress.step < setup.num_steps:
            _run_epoch(setup, progress, next_step=lambda: train_step(iterator), saver=saver, track=track)
            row = _close_epoch(setup, progress, score=score, saver=saver)
            report(row)


@dataclass
class _Clock:
    """Patches per second since the last reading, and of the epoch as far as this process ran it."""

    started: float
    first_step: int

    def rate(self, *, step: int, batch_size: int) -> float:
        elapsed = time.perf_counter() - self.started
        return (step - self.first_step) * batch_size / max(elapsed, 1e-9)


class _Saver:
    """Takes checkpoints: events first, then, beside the training, the checkpoint and what follows from it."""

    def __init__(self, setup: TrainingSetup, *, monitor: Monitor, writer: BackgroundWriter) -> None:
        self.monitor = monitor
        self._setup = setup
        self._writer = writer
        self._last = time.monotonic()

    def is_due(self, step: int) -> bool:
        """Whether an unfinished epoch is to be saved after this number of steps."""
        steps, minutes = self._setup.train.checkpoint_steps, self._setup.train.checkpoint_minutes
        return (steps is not None and step % steps == 0) or time.monotonic() >= self._last + 60 * minutes

    def save(self, progress: Progress, *, is_epoch_end: bool = False) -> None:
        """Replaces the checkpoint, and at the end of an epoch history.csv; returns before they are written."""
        self.monitor.flush()
        taken, rows = self._setup.snapshot(progress), list(progress.history.rows)

        def write() -> None:
            save_checkpoint(self._setup.run / CHECKPOINT, taken)
            if is_epoch_end:
                write_history(rows, self._setup.run / HISTORY)

        self._writer.do(write)
        self._last = time.monotonic()


def _run_epoch(
    setup: TrainingSetup, progress: Progress, *, next_step: Callable[[], Output], saver: _Saver, track: Track
) -> None:
    """Does the remaining steps of the epoch that `progress` is in; its last step is logged but not yet saved."""
    per_epoch, batch_size = setup.plan.steps_per_epoch, setup.plan.batch_size
    epoch = progress.step // per_epoch
    first, end = epoch * per_epoch, (epoch + 1) * per_epoch
    clock = window_clock = _Clock(time.perf_counter(), progress.step)
    pending: list[Output] = []
    for number in track(range(progress.step, end), f"epoch {epoch + 1} of {setup.train.epochs}"):
        pending.append(next_step())
        done = number + 1
        is_point = (done - first) % LOG_STEPS == 0 or done == end
        is_save = saver.is_due(done) and done < end
        if not is_point and not is_save:
            continue
        progress.samples = progress.samples.extended(fetch_samples(setup.strategy, pending))
        progress.step = done
        pending.clear()
        loss = progress.samples.last(LOG_STEPS * batch_size).loss
        if not loss <= LARGEST_LOSS:  # NaN is not
            raise setup.divergence(done, what=f"the loss of its last steps is {loss:.3g}")
        if is_point:
            window = progress.samples.last(((done - first - 1) % LOG_STEPS + 1) * batch_size)
            rate = window_clock.rate(step=done, batch_size=batch_size)
            saver.monitor.scalars(_window_scalars(setup, window, step=done, rate=rate), step=done)
            window_clock = _Clock(time.perf_counter(), done)
        if is_save:
            saver.save(progress)
    progress.epoch_rate = clock.rate(step=end, batch_size=batch_size)


def _window_scalars(setup: TrainingSetup, window: EpochSamples, *, step: int, rate: float) -> dict[str, float]:
    metrics = discrimination(window.labels, window.probabilities)
    return {
        "loss": window.loss,
        "learning_rate": setup.learning_rate(step - 1),
        "patches_per_second": rate,
        **_named("", metrics),
    }


def _close_epoch(setup: TrainingSetup, progress: Progress, *, score: Callable[[Any], Any], saver: _Saver) -> EpochRow:
    """Writes the epoch's metrics: events, then the checkpoint, then history.csv."""
    monitor = saver.monitor
    samples, step = progress.samples, progress.step
    metrics = discrimination(samples.labels, samples.probabilities)
    validation = _validate(setup, score)
    row = EpochRow(
        epoch=step // setup.plan.steps_per_epoch,
        step=step,
        learning_rate=setup.learning_rate(step - 1),
        loss=samples.loss,
        patches_per_second=progress.epoch_rate,
        **_named("", metrics),
        **(_named("validation_", validation) if validation else {}),
    )
    monitor.scalars({"epoch/loss": row.loss, **_named("epoch/", metrics)}, step=step)
    monitor.picture("epoch/confusion", confusion_picture(metrics.confusion), step=step)
    if validation:
        monitor.scalars(_named("validation/", validation), step=step)
        monitor.picture("validation/confusion", confusion_picture(validation.confusion), step=step)
    progress.history.rows.append(row)
    progress.samples = EpochSamples()
    saver.save(progress, is_epoch_end=True)
    return row


def _validate(setup: TrainingSetup, score: Callable[[Any], Any]) -> Discrimination | None:
    if not len(setup.validation):
        return None
    probabilities = score_patches(score, setup.store, setup.validation, batch_size=setup.plan.batch_size)
    if not np.isfinite(probabilities).all():
        raise setup.divergence(int(setup.optimizer.iterations))
    return discrimination(setup.patch_labels[setup.validation] == CALCIFICATION, probabilities)


def _named(prefix: str, metrics: Discrimination) -> dict[str, float]:
    return {f"{prefix}{name}": getattr(metrics, name) for name in ("auc", "sensitivity", "specificity")}


def _augmented_sample(setup: TrainingSetup) -> NDArray[np.uint8]:
    """The first patches of the first batch as the network sees them."""
    patches, ops, _ = setup.plan.locate(np.asarray(setup.plan.ids(0))[: SAMPLE_ROWS * SAMPLE_COLS])
    pixels = setup.store.gather(patches)
    augmented = Augment(intensities=setup.augmentation.intensities)(pixels, ops)
    return patch_sheet(np.asarray(augmented), maximum=int(np.iinfo(pixels.dtype).max))
