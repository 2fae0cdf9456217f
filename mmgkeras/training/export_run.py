"""The end of a run: batch-norm recalibration, export, and the note that it is finished.

All of it follows from the last checkpoint, so that a run killed here comes to the same model when it is started again.

The batch norm of the finished network gets the statistics over what it was trained on, as MATLAB takes them. Keras'
moving averages hold what the last few batches of a changing network gave; after a short training they still hold much
of their initial values.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mmgkeras.config import TRAINING_SECTIONS, Config
from mmgkeras.errors import InputError
from mmgkeras.models.network import batch_norm_layers, build_network, training_model
from mmgkeras.patches.store import PatchStore
from mmgkeras.pipeline.batches import training_batches
from mmgkeras.progress import Track
from mmgkeras.savedmodel.export import export, next_version
from mmgkeras.savedmodel.initial_weights import load_initial_weights
from mmgkeras.savedmodel.metadata import ModelMetadata, Stopped, patients_digest, read_metadata
from mmgkeras.study.run_files import Environment, write_environment
from mmgkeras.training.fast_layers import with_fast_layers
from mmgkeras.training.loop import TrainingSetup


def export_run(setup: TrainingSetup, step: int, *, config: Config, environment: Environment, track: Track) -> Path:
    """Exports the network in float32, its batch norm recalibrated, and marks the run as finished if all steps are done.

    Args:
        setup: with the network as it is after a step.
        step: the number of steps done.
        config: the run's configuration.
        environment: the run's; `export` in it says where the model goes, and moves to the next free version where
            another run's model came there first.
        track: shows the progress of the batch-norm recalibration.

    Returns:
        The model's folder, `<name>/<version>`.

    Raises:
        InputError: if the model cannot be written, or the store is no longer what the run was begun with.
        ConfigError: if the training diverged.
    """
    store = setup.store
    network = _float32_copy(setup.network, config=config, store=store)
    if config.train.ema_momentum and step >= setup.num_steps:
        for variable, average in zip(network.trainable_variables, setup.optimizer.averages(), strict=True):
            variable.assign(np.asarray(average))
    if config.train.initial_share:
        _average_with_initial(network, config=config, store=store)
    if config.train.batch_norm_recalibration:
        recalibrate_batch_norm(training_model(network, config.augmentation), _first_epoch(setup, track=track))
    if not all(np.isfinite(value).all() for value in network.get_weights()):
        raise setup.divergence(step)
    _check_store(store, environment)
    held_out = store.patches["patient_id"].to_numpy()[setup.validation]
    metadata = ModelMetadata(
        network=config.model.network,
        patch_px=store.patch_px,
        stride_px=store.stride_px,
        pixel_type=store.pixel_type,
        spacing_mm=store.spacing_mm,
        fold=environment.fold,
        test_subset=environment.test_subset,
        test_patients_sha256=environment.test_patients_sha256,
        held_out_patients_sha256=patients_digest(held_out) if len(held_out) else None,
        store_checksum=store.checksum,
        config=used_settings(config),
        started_from=environment.started_from,
        stopped=None
        if step >= setup.num_steps
        else Stopped(step=step, num_steps=setup.num_steps, epochs=setup.train.epochs),
    )
    path = environment.export
    if path.exists() and read_metadata(path) != metadata:
        path = path.with_name(str(next_version(path.parent)))
        environment = environment.model_copy(update={"export": path})
        write_environment(setup.run, environment)
    # A model that is there and says the same of itself is this run's, exported before it was killed.
    if not path.exists():
        export(network, path, metadata)
    write_environment(setup.run, environment.model_copy(update={"is_finished": step >= setup.num_steps}))
    return path


def used_settings(config: Config) -> dict[str, Any]:
    """The keys that made the store, its folds and the model; the seed of the folds is not among what a store tells."""
    shown = config.model.model_copy(update={"weights": _named(config.model.weights)})
    return config.model_copy(update={"model": shown}).model_dump(
        mode="json", include={"patches", "split", *TRAINING_SECTIONS}, exclude={"split": {"seed"}}
    )


def _named(weights: str) -> str:
    """Initial weights without the folders that only this machine has: the file, or NAME/VERSION of a model."""
    path = Path(weights)
    if not path.is_absolute() and path.parts[:1] not in (("..",), ("~",)):
        return weights
    return Path(*path.parts[-2:] if path.name.isdecimal() else path.parts[-1:]).as_posix()


@contextmanager
def store_watched(store: PatchStore, environment: Environment) -> Iterator[None]:
    """Says of an error inside TensorFlow that the store was changed, where that is the reason.

    Raises:
        InputError: if it was.
    """
    try:
        yield
    except tf.errors.OpError:
        _check_store(store, environment)
        raise


def _check_store(store: PatchStore, environment: Environment) -> None:
    """Refuses a store whose files were changed while they were trained on: the model would claim its checksum."""
    try:
        checksum = PatchStore.open(store.path, verify=True).checksum
    except InputError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{store.path}: was changed while it was trained on, nothing is exported: {reason}") from error
    if checksum != environment.store_checksum:
        raise InputError(f"{store.path}: was replaced while it was trained on, nothing is exported")


def _float32_copy(network: keras.Model, *, config: Config, store: PatchStore) -> keras.Model:
    """The same network on one device and outside any strategy."""
    copy = _built(config, store=store)
    for target, source in zip(copy.variables, network.variables, strict=True):
        target.assign(np.asarray(source))
    return copy


def _built(config: Config, *, store: PatchStore) -> keras.Model:
    """The network in float32 with random weights."""
    model = config.model.model_copy(update={"synchronized_batch_norm": False})
    plain = build_network(model, patch_px=store.patch_px, pixel_type=store.pixel_type)
    return with_fast_layers(plain, on_processor=False)  # convolutions are only faster where they learn


def _average_with_initial(network: keras.Model, *, config: Config, store: PatchStore) -> None:
    """Moves what a network has learned, batch-norm statistics too, toward its initial weights, in place."""
    initial, share = _built(config, store=store), config.train.initial_share
    load_initial_weights(initial, config.model)
    moving = {id(value) for layer in batch_norm_layers(network) for value in layer.non_trainable_variables}
    for variable, start in zip(network.variables, initial.variables, strict=True):
        if variable.trainable or id(variable) in moving:
            variable.assign((1 - share) * np.asarray(variable) + share * np.asarray(start))


def _first_epoch(setup: TrainingSetup, *, track: Track) -> Iterator[Any]:
    """The inputs of one epoch, balanced and augmented: with other parts of positives the statistics would be others.

    Taken over the patches as they are, of which few are positive, they gave about the same AUC on the phantom, but at a
    probability of 0.5 a sensitivity and specificity of 0.81 and 0.56 in place of 0.57 and 0.84.
    """
    steps = range(setup.plan.steps_per_epoch)
    stream = iter(
        training_batches(setup.store, setup.plan, first_step=0, last_step=len(steps), insertion=setup.insertion)
    )
    for _ in track(steps, "batch-norm recalibration"):
        yield next(stream)[0]


def recalibrate_batch_norm(model: keras.Model, batches: Iterable[Any]) -> None:
    """Sets mean and variance of every batch normalisation to those of its inputs over all batches.

    While they are gathered, each layer normalises with the statistics of its batch, as in training. With mean m and
    variance v of a batch of n patches, the mean is sum(n m) / sum(n), and the variance sum(n (v + m m)) / sum(n) less
    the square of that mean, both in float64: exact for batches of unequal sizes.

    Args:
        model: in float32 and made outside any strategy. Its layers are changed: use a copy that is then only exported.
        batches: what `model` takes, n patches at a time, shuffled, no batch much smaller than the others.
    """
    layers = batch_norm_layers(model)
    if not layers:
        return
    for layer in layers:
        layer.momentum = 0.0  # the moving statistics become those of the batch
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0

    def moments_of(batch: Any) -> Any:
        model(batch, training=True)
        moments = (
            (tf.cast(layer.moving_mean, tf.float64), tf.cast(layer.moving_variance, tf.float64)) for layer in layers
        )
        return [tf.stack([mean, variance + mean * mean]) for mean, variance in moments]

    statistics = tf.function(moments_of, jit_compile=False)
    sums = [np.zeros((2, *layer.moving_mean.shape)) for layer in layers]
    num_patches = 0
    for batch in batches:
        size = int(keras.tree.flatten(batch)[0].shape[0])
        num_patches += size
        for total, part in zip(sums, statistics(batch), strict=True):
            total[...] += size * part.numpy()
    for layer, total in zip(layers, sums, strict=True):
        mean, mean_square = total / num_patches
        layer.moving_mean.assign(mean.astype(np.float32))
        layer.moving_variance.assign(np.maximum(mean_square - mean * mean, 0).astype(np.float32))
