"""What is asked of a cross-validation: checked before anything is written, and added to what was asked before.

Owns the refusals and what `--overwrite` removes.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from mmgkeras import __version__
from mmgkeras.config import NOT_OF_WEIGHTS, Config
from mmgkeras.errors import ConfigError, InputError, InputFaultsError, MmgError
from mmgkeras.files import sha256_file
from mmgkeras.inference.scoring import hardware
from mmgkeras.json_files import MAX_SEED, command_without_folders
from mmgkeras.models.backbones import find_backbone
from mmgkeras.models.weights import check_weights_file
from mmgkeras.patches.manifest import IMAGES
from mmgkeras.patches.split import fold_patches, read_store_folds
from mmgkeras.patches.store import FOLDS, PatchStore
from mmgkeras.savedmodel.initial_weights import check_initial_model, initial_model, with_initial_model
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION
from mmgkeras.study.layout import (
    CROSSVAL_JSON,
    JOB_FILES,
    JOB_FOLDERS,
    PREDICTIONS_CSV,
    RUN,
    Crossval,
    FoldJob,
    NetworkFacts,
    StoreFacts,
    check_network_name,
    read_crossval,
)
from mmgkeras.study.run_files import read_environment
from mmgkeras.training.fit import plan_training
from mmgkeras.training.run_folder import versions

_THEN: Final = "; then "


def check_folds(store: PatchStore, folds: Sequence[int] | None) -> tuple[int, ...]:
    """The folds asked for, ascending, each with both classes on both sides.

    Args:
        store: that was split.
        folds: from 1; None for all.

    Raises:
        InputError: if the store was not split or has no such fold.
        InputFaultsError: every class that is missing on a side of a fold.
    """
    path = store.path / FOLDS
    num_folds = len(set(read_store_folds(store).values()))
    numbers = tuple(range(1, num_folds + 1)) if folds is None else tuple(sorted(set(folds)))
    if not numbers:
        raise InputError(f"{path}: no fold was asked for; allowed: 1 to {num_folds}")
    labels, faults = store.patches["label"].to_numpy(), []
    for number in numbers:
        fold = fold_patches(store, number)
        for side, rows in (("test", fold.test), ("training", fold.train)):
            for label, kind in ((CALCIFICATION, "with"), (NO_CALCIFICATION, "without")):
                if not np.any(labels[rows] == label):
                    faults.append(
                        f"{path}: fold {number} has no {side} patch {kind} calcification; divide the patients anew "
                        "with mmgkeras split --overwrite, or leave the fold out with --folds"
                    )
    if faults:
        raise InputFaultsError(faults)
    return numbers


def check_configs(configs: Mapping[str, Config], *, seeds: Sequence[int], num_devices: int) -> None:
    """Refuses configurations that do not go with the seeds or the devices of a job, or whose network is not there.

    Raises:
        ConfigError: if so, a line for each fault.
    """
    if not configs or not seeds:
        raise ConfigError("a cross-validation needs at least one configuration and one seed")
    faults = [
        f"seeds: must be whole numbers from 0 to {MAX_SEED:,}. Received: {seed!r}"
        for seed in seeds
        if not (isinstance(seed, int) and 0 <= seed <= MAX_SEED)
    ]
    for name, config in configs.items():
        try:
            check_network_name(name)
        except ValueError as error:
            faults.append(str(error))
        try:
            find_backbone(config.model.network)
        except ConfigError as error:
            faults.append(f"{name}: {error}")
        if config.train.seed not in (0, *seeds):
            faults.append(
                f"{name}: train.seed: a cross-validation takes its seeds from --seeds. Received: {config.train.seed}"
            )
        if config.train.batch_size % num_devices:
            faults.append(
                f"{name}: train.batch_size: must be divisible by the number of devices, {num_devices}. "
                f"Received: {config.train.batch_size}"
            )
    if faults:
        raise ConfigError("\n".join(faults))


def with_initial_models(configs: Mapping[str, Config], *, note: Callable[[str], None]) -> dict[str, Config]:
    """The configurations with what their initial weights bring along; `note` gets a line for each key of each network.

    Raises:
        InputError: as `with_initial_model`.
        WeightsError: as `with_initial_model`.
    """
    resolved = {}
    for name, config in configs.items():
        resolved[name], remarks = with_initial_model(config)
        for remark in remarks:
            note(f"{name}: {remark}")
    return resolved


def check_jobs(store: PatchStore, asked: Crossval, *, jobs: Sequence[FoldJob], out: Path, overwrite: bool) -> None:
    """Refuses trainings that cannot be: too few patches to learn from, or an initial model that does not go with it.

    Raises:
        InputFaultsError: every fault of every job.
    """
    faults = []
    divisions = {fold: fold_patches(store, fold) for fold in {job.fold for job in jobs}}
    for job in jobs:
        config = asked.config(job)
        try:
            plan_training(store, divisions[job.fold], config=config)
            _check_initial_model(store, config, job=job, run=None if overwrite else job.folder(out) / RUN)
        except MmgError as error:
            faults += [f"{job.name}: {line}" for line in str(error).splitlines()]
    if faults:
        raise InputFaultsError(faults)


def _check_initial_model(store: PatchStore, config: Config, *, job: FoldJob, run: Path | None) -> None:
    """Refuses weights that are not there, and a model that does not go with a fold or is not that of the run begun."""
    folder = initial_model(config.model)
    if folder is None:
        check_weights_file(config.model)
        return
    origins = check_initial_model(folder, config=config, store=store, fold=job.fold)
    begun = None if run is None else read_environment(run)
    if begun is not None and begun.started_from != origins:
        raise InputError(f"was begun from another model than {folder} is now; give another folder or --overwrite")


def find_data(store: PatchStore, data: Path | None) -> Path | None:
    """The data folder to read images and regions from, absolute; None if the store's own is not where it was.

    Raises:
        InputError: if `data` is none.
    """
    if data is not None:
        if not (data / IMAGES).is_file():
            raise InputError(f"{data}: is no data folder, it has no {IMAGES}")
        return data.absolute()
    return _if_there(store.source)


def ask(
    store: PatchStore,
    *,
    out: Path,
    configs: Mapping[str, Config],
    folds: Sequence[int],
    seeds: Sequence[int],
    data: Path | None,
    command: str,
    overwrite: bool,
) -> Crossval:
    """What crossval.json is to say: what is asked for, added to what was before; writes nothing.

    Args:
        store: open.
        out: the folder of the cross-validation.
        configs: of each network by its name.
        folds: from 1.
        seeds: of the training.
        data: the data folder; None to keep the one that was known before.
        command: as typed.
        overwrite: what is asked for replaces what it contradicts.

    Raises:
        InputError: if the store or a configuration changed since, and `overwrite` is not set; or if the folder holds
            something else.
    """
    asked = Crossval(
        command=command_without_folders(command),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        store=StoreFacts(
            path=store.path.absolute(), checksum=store.checksum, folds_sha256=sha256_file(store.path / FOLDS)
        ),
        data=data,
        folds=tuple(folds),
        seeds=tuple(sorted(set(seeds))),
        networks=tuple(
            NetworkFacts(name=name, config=config.model_dump(mode="json")) for name, config in configs.items()
        ),
        versions=versions(),
        hardware=hardware(),
        mmgkeras_version=__version__,
    )
    before = read_crossval(out)
    if before is None or (overwrite and _is_other_store(before, asked)):
        return asked
    return _added(before, asked, configs=configs, out=out, overwrite=overwrite)


def _if_there(data: Path | None) -> Path | None:
    return data.absolute() if data is not None and (data / IMAGES).is_file() else None


def _is_other_store(before: Crossval, asked: Crossval) -> bool:
    return (before.store.checksum, before.store.folds_sha256) != (asked.store.checksum, asked.store.folds_sha256)


def _added(before: Crossval, asked: Crossval, *, configs: Mapping[str, Config], out: Path, overwrite: bool) -> Crossval:
    """What is asked for together with what was asked before."""
    place, again = out / CROSSVAL_JSON, "give another folder or --overwrite"
    for key, word in (("checksum", "store"), ("folds_sha256", f"{FOLDS} of the store")):
        if getattr(before.store, key) != getattr(asked.store, key):
            raise InputError(f"{place}: was begun on another {word} than {asked.store.path} is now; {again}")
    networks = {network.name: network for network in before.networks}
    for network in asked.networks:
        difference = _difference(before.configs.get(network.name), configs[network.name])
        if difference and not overwrite:
            raise InputError(f"{place}: {network.name} was begun with {difference}; {again}")
        # Else the values stay as they were first written, so that keys of later versions do not change their digest.
        if difference or network.name not in networks:
            networks[network.name] = network
    # What was timed before was not timed on the hardware of the last start.
    was_there_before = asked.hardware in before.hardware.split(_THEN)
    return asked.model_copy(
        update={
            "created": before.created,
            "data": asked.data or _if_there(before.data),
            "hardware": before.hardware if was_there_before else f"{before.hardware}{_THEN}{asked.hardware}",
            "folds": tuple(sorted({*before.folds, *asked.folds})),
            "seeds": tuple(sorted({*before.seeds, *asked.seeds})),
            "networks": tuple(networks.values()),
        }
    )


def _difference(before: Mapping[str, object] | None, config: Config) -> str | None:
    """The first key that another configuration was given for, but for the seed; None if there is none."""
    if before is None:
        return None
    old, new = Config.model_validate(before).model_dump(), config.model_dump()
    for section, values in new.items():
        for key, value in values.items():
            if old[section][key] != value and key not in NOT_OF_WEIGHTS and (section, key) != ("train", "seed"):
                return f"{section}.{key} = {old[section][key]!r}. Received: {value!r}"
    return None


def remove_old(out: Path, asked: Crossval, *, jobs: Sequence[FoldJob]) -> None:
    """Removes the files of what is to be done anew: `jobs`, networks of another configuration, all of another store.

    What else lies in their folders stays.

    Raises:
        InputError: if something of it cannot be removed, or lies elsewhere, behind a symbolic link.
    """
    before = read_crossval(out)
    if before is None:
        return
    is_other_store = _is_other_store(before, asked)
    changed = {name for name, values in before.configs.items() if is_other_store or asked.configs.get(name) != values}
    for job in dict.fromkeys([*(job for job in before.jobs() if job.network in changed), *jobs]):
        folder = job.folder(out)
        try:
            for place in (folder, folder.parent, folder.parent.parent):
                if place.is_symlink():
                    raise InputError(f"{place}: is a symbolic link; remove it yourself, or give another folder")
            # First what says that it is done: cut in the middle, the rest must not count as done.
            for name in JOB_FILES:
                (folder / name).unlink(missing_ok=True)
            for name in JOB_FOLDERS:
                if (folder / name).exists():
                    shutil.rmtree(folder / name)
            if job.network in changed:
                (folder.parent / PREDICTIONS_CSV).unlink(missing_ok=True)
            for place in (folder, folder.parent, folder.parent.parent):
                if place.is_dir() and not any(place.iterdir()):
                    place.rmdir()
        except OSError as error:
            raise InputError(f"{folder}: cannot be removed: {error.strerror or error}") from error
