"""From a patch store to a trained, exported network: the one entry point of training.

Checks everything that can be checked before the first step, opens the run folder or goes on with one, trains, and
exports. The test subset is divided off here and never read.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmgkeras.config import AT_EXPORT, NOT_OF_WEIGHTS, TRAINING_SECTIONS, Config, ModelConfig, PatchesConfig
from mmgkeras.errors import ConfigError, InputError, shown
from mmgkeras.files import check_apart
from mmgkeras.locks import locks_output
from mmgkeras.models.augmentation import NEGATIVE_OPS, num_positive_ops
from mmgkeras.models.network import build_network, training_model, training_normalisation
from mmgkeras.models.optimizer import make_optimizer
from mmgkeras.patches.split import Fold, fold_patches, hold_out_patients, read_store_folds
from mmgkeras.patches.store import FOLDS, PatchStore
from mmgkeras.pipeline.epoch import EpochPlan
from mmgkeras.pipeline.pixel_statistics import pixel_statistics
from mmgkeras.pipeline.sample_insertion import Insertion
from mmgkeras.progress import Track, silent, untracked
from mmgkeras.savedmodel.export import next_version
from mmgkeras.savedmodel.initial_weights import (
    check_initial_model,
    initial_model,
    is_whole_network,
    load_initial_weights,
    with_initial_model,
)
from mmgkeras.savedmodel.metadata import patients_digest, read_metadata
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION
from mmgkeras.study.run_files import (
    CHECKPOINT,
    HISTORY,
    TENSORBOARD,
    Environment,
    RunCounts,
    RunStart,
    read_environment,
    write_environment,
    write_history,
)
from mmgkeras.training import devices as device
from mmgkeras.training import run_folder
from mmgkeras.training.checkpoint import Progress, load_checkpoint
from mmgkeras.training.export_run import export_run, store_watched, used_settings
from mmgkeras.training.fast_layers import with_fast_layers
from mmgkeras.training.loop import Report, TrainingSetup, run_epochs
from mmgkeras.training.tensorboard_log import drop_later_events


@dataclass(frozen=True, slots=True)
class Fitted:
    """What came of a call.

    Attributes:
        model: the exported model's folder, `<export>/<version>`.
        was_finished: whether the run was finished before and nothing was done.
        is_stopped: whether the model is of a run that has not come to its end.
    """

    model: Path
    was_finished: bool = False
    is_stopped: bool = False


@locks_output("run")
def fit(
    store: Path,
    *,
    fold: int,
    config: Config,
    run: Path,
    export: Path,
    devices: str | None = None,
    overwrite: bool = False,
    stop: bool = False,
    track: Track = untracked,
    report: Report = silent,
    note: Callable[[str], None] = silent,
) -> Fitted:
    """Trains a network on all subsets but the fold's own and exports it; goes on where an interrupted run stopped.

    Changes the state of the process: seeds, determinism and, for several processor devices, TensorFlow's devices.

    Args:
        store: a patch store with folds.csv.
        fold: from 1; fold 1 leaves out subset A.
        config: what to train and how; its sections augmentation, model and train are used.
        run: the run folder, new or of the same run interrupted. A finished run is left as it is.
        export: the model's folder, `saved_models/<name>`; the version below it is the next free number when the run
            begins. A run that goes on or has finished, given another folder than before, exports there.
        devices: see `devices.choose_devices`.
        overwrite: begin again in place of an earlier run.
        stop: train no further: export what the last checkpoint of an unfinished run holds, as a model that says so. The
            run stays unfinished; without `stop` it goes on, and its end becomes another version.
        track: shows progress.
        report: called with the row of every epoch that ends.
        note: called with a line for each key of the network that its initial weights decide, and where a trained run
            is only exported.

    Raises:
        InputError: for a store, fold, run or device that cannot be used, one line each, before anything is written.
        ConfigError: for a network or patch size that cannot be built.
        WeightsError: if the initial weights cannot be had.
    """
    check_apart(run, [store])
    check_apart(export, [store])
    patch_store = PatchStore.open(store, verify=True)
    division = fold_patches(patch_store, fold)
    config, remarks = with_initial_model(_as_prepared(config, patch_store))
    for remark in remarks:
        note(remark)
    plan, validation, insertion = plan_training(patch_store, division, config=config)
    names = device.choose_devices(devices)
    if plan.batch_size % len(names):
        raise InputError(
            f"train.batch_size: must be divisible by the number of devices, {len(names)}. Received: {plan.batch_size}"
        )
    model = export / str(next_version(export))
    asked = _describe(patch_store, division, plan=plan, validation=validation, seed=config.train.seed, export=model)
    environment, is_new = _go_on(run, asked, config=config, export=export, overwrite=overwrite)
    if environment.is_finished:
        return Fitted(environment.export, was_finished=True)
    needs_initial_weights = is_new or not (run / CHECKPOINT).exists()
    if stop and needs_initial_weights:
        raise InputError(f"{run}: has no checkpoint yet, so that there is nothing to export")
    if needs_initial_weights or config.train.initial_share:
        environment = _with_initial_model(
            environment, is_new=is_new, run=run, config=config, store=patch_store, fold=fold
        )
    for place in (run, export):
        run_folder.check_writable(place)
    device.set_arithmetic(config.train)
    with device.graph_rewriting(config.train, devices=names):
        setup = _set_up(
            run, patch_store, config=config, plan=plan, validation=validation, insertion=insertion, devices=names
        )
        if needs_initial_weights:
            _initialise(setup, config.model, track=track)
        if is_new:
            run_folder.create_run(run, config=config, environment=environment)
        progress = _restore(setup)
        if progress.step >= setup.num_steps:
            note(f"{run}: is trained to its end; its model is exported from {CHECKPOINT} without training")
        if not stop:
            start = RunStart(step=progress.step, devices=tuple(names), versions=run_folder.versions())
            environment = environment.model_copy(update={"starts": (*environment.starts, start)})
            write_environment(run, environment)
            with store_watched(patch_store, environment):
                run_epochs(setup, progress, track=track, report=report)
    run_folder.record_share(run, config)
    with store_watched(patch_store, environment):
        model = export_run(setup, progress.step, config=config, environment=environment, track=track)
    return Fitted(model, is_stopped=progress.step < setup.num_steps)


def _as_prepared(config: Config, store: PatchStore) -> Config:
    """The configuration with the keys of [patches] and [split] as the store was made, whatever was asked for."""
    labels = store.manifest.labels
    patches = PatchesConfig(
        patch_px=store.patch_px,
        stride_px=store.stride_px,
        spacing_mm=store.manifest.grid.spacing_mm,
        cluster_fraction=labels.cluster_fraction,
        min_marks=labels.min_marks,
        label_source=labels.label_source,
    )
    split = config.split.model_copy(update={"num_subsets": len(set(read_store_folds(store).values()))})
    return config.model_copy(update={"patches": patches, "split": split})


def _go_on(run: Path, asked: Environment, *, config: Config, export: Path, overwrite: bool) -> tuple[Environment, bool]:
    """The environment to go on with, of the run that was begun or the new one asked for, and whether the run is new.

    A finished run whose model or history.csv is gone, whose model is wanted in another folder, or whose model's place
    another run's has taken, has its end to do again.

    Raises:
        InputError: if the run is another, or its end cannot be done again because its checkpoint is gone.
    """
    # Read also where it is to be overwritten: a folder that is no run is refused either way.
    earlier = read_environment(run)
    if earlier is None or overwrite:
        return asked, True
    run_folder.check_same_run(run, earlier, config=config, asked=asked)
    is_there = earlier.export.parent.resolve() == export.resolve()
    model = export / earlier.export.name if is_there else asked.export
    is_whole = model.exists() and _is_of_run(model, earlier, config) and (run / HISTORY).exists()
    if earlier.is_finished and not is_whole and not (run / CHECKPOINT).exists():
        raise InputError(
            f"{run}: has finished, but cannot be exported to {model.parent} without its {CHECKPOINT}, which is gone; "
            "--overwrite trains again"
        )
    is_finished = earlier.is_finished and is_whole
    return earlier.model_copy(update={"export": model, "is_finished": is_finished}), False


def _is_of_run(model: Path, run: Environment, config: Config) -> bool:
    """Whether a model is that of a run, with the share of its initial weights that is asked for."""
    metadata, used = read_metadata(model), used_settings(config)
    share = metadata.config.get("train", {}).get(AT_EXPORT, 0.0)
    return (
        all(getattr(metadata, key) == getattr(run, key) for key in ("fold", "test_patients_sha256", "store_checksum"))
        and share == config.train.initial_share
        and all(
            used[section].get(key, value) == value  # keys of other versions are passed over
            for section in TRAINING_SECTIONS
            for key, value in metadata.config.get(section, {}).items()
            if key not in NOT_OF_WEIGHTS
        )
    )


def plan_training(
    store: PatchStore, division: Fold, *, config: Config
) -> tuple[EpochPlan, NDArray[np.int64], Insertion | None]:
    """What is learned from, the places of the patches held out, and what puts calcifications into negatives.

    Raises:
        InputError: if a class is missing in what is learned from, if it fills no batch, or if too few patients are
            there to hold some out; or as `Insertion`.
        ConfigError: for a share of initial weights where these are of no whole network.
    """
    if config.train.initial_share and not is_whole_network(config.model):
        raise ConfigError(
            "train.initial_share: needs model.weights of a whole network: the detector or the folder of an exported "
            f"model. Received: {shown(config.model.weights)}"
        )
    part, seed = config.train.validation_patients, config.train.seed
    learned, validation = hold_out_patients(store, division.train, part=part, seed=seed)
    labels = store.patches["label"].to_numpy()[learned]
    has_tissue = store.patches["tissue"].to_numpy()[learned] >= config.augmentation.min_negative_tissue
    positives, ratio = learned[labels == CALCIFICATION], config.augmentation.negatives_per_positive
    negatives = learned[(labels == NO_CALCIFICATION) & has_tissue]
    for places, kind in ((positives, "with"), (negatives, "without")):
        if not len(places):
            raise InputError(
                f"{store.path / FOLDS}: fold {division.number} has no patch {kind} calcification to train on; divide "
                "the patients anew with mmgkeras split --overwrite, or train another fold"
            )
    plan = EpochPlan(
        positives=positives,
        negatives=negatives,
        num_positive_ops=num_positive_ops(config.augmentation),
        negative_ops=NEGATIVE_OPS,
        batch_size=config.train.batch_size,
        seed=seed,
        num_drawn_negatives=None if ratio is None else round(ratio * len(positives)),
        scheme=config.augmentation.scheme,
        shuffle=config.train.shuffle,
    )
    inserted = config.augmentation.insertion
    return plan, validation, Insertion(store, inserted, seed) if inserted else None


def _describe(
    store: PatchStore, division: Fold, *, plan: EpochPlan, validation: NDArray[np.int64], seed: int, export: Path
) -> Environment:
    """What environment.json says of a new run: counts and digests, no patient."""
    test_patients = store.patches["patient_id"].to_numpy()[division.test]
    digest = hashlib.sha256(np.concatenate([division.train, [-1], validation]).astype("<i8").tobytes())
    return Environment(
        fold=division.number,
        test_subset=division.test_subset,
        test_patients_sha256=patients_digest(test_patients),
        store_checksum=store.checksum,
        training_patches_sha256=digest.hexdigest(),
        seed=seed,
        leak_guard=division.proof,
        counts=RunCounts(
            positives=len(plan.positives),
            negatives=len(plan.negatives),
            validation=len(validation),
            augmented_positives=plan.num_positive_samples,
            augmented_negatives=plan.num_negative_samples,
            steps_per_epoch=plan.steps_per_epoch,
        ),
        export=export,
    )


def _with_initial_model(
    environment: Environment, *, is_new: bool, run: Path, config: Config, store: PatchStore, fold: int
) -> Environment:
    """The environment with the exported model of the initial weights, which must be the one it was begun with."""
    folder = initial_model(config.model)
    if folder is None:
        return environment
    origins = check_initial_model(folder, config=config, store=store, fold=fold)
    if not is_new and environment.started_from != origins:
        raise InputError(
            f"{run}: was begun from another model than {folder} is now; give another folder or --overwrite"
        )
    return environment.model_copy(update={"started_from": origins})


def _initialise(setup: TrainingSetup, config: ModelConfig, *, track: Track) -> None:
    """Gives the network its initial weights and, if it normalises by the training patches, their statistics."""
    load_initial_weights(setup.network, config)
    layer = training_normalisation(setup.network)
    if layer is not None:  # whatever its weights came with
        intensities = setup.augmentation.intensities
        mean, deviation = pixel_statistics(setup.store, setup.plan, intensities=intensities, track=track)
        layer.set_statistics(mean=mean, deviation=deviation)


def _set_up(
    run: Path,
    store: PatchStore,
    *,
    config: Config,
    plan: EpochPlan,
    validation: NDArray[np.int64],
    insertion: Insertion | None,
    devices: list[str],
) -> TrainingSetup:
    """The network with random weights, behind the augmentation, with its optimizer, on the devices."""
    strategy = device.open_strategy(devices)
    with strategy.scope():
        plain = build_network(
            config.model,
            patch_px=store.patch_px,
            pixel_type=store.pixel_type,
            precision=device.network_precision(config.train, devices=devices),
        )
        network = with_fast_layers(plain, on_processor=device.on_processor(devices))
        model = training_model(network, config.augmentation)
        optimizer = make_optimizer(config.train, steps_per_epoch=plan.steps_per_epoch)
        optimizer.build(model.trainable_variables)
    return TrainingSetup(
        run=run,
        store=store,
        plan=plan,
        validation=validation,
        strategy=strategy,
        network=network,
        model=model,
        optimizer=optimizer,
        train=config.train,
        augmentation=config.augmentation,
        insertion=insertion,
    )


def _restore(setup: TrainingSetup) -> Progress:
    """Where the run stands; what is on disk beyond that is dropped."""
    checkpoint = setup.run / CHECKPOINT
    progress = load_checkpoint(checkpoint, model=setup.network.variables, optimizer=setup.optimizer.variables)
    # Without a checkpoint the first step comes again, and with it the events of step 0.
    drop_later_events(setup.run / TENSORBOARD, last_step=progress.step or -1)
    if progress.step:
        write_history(progress.history, setup.run / HISTORY)
    return progress
