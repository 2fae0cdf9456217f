"""The run folder: what a run is, whether one may go on, and where its model goes.

Owns the folder's beginning: it appears with config.toml and environment.json in it, whole; checkpoint.npz, history.csv
and tensorboard/ follow. What its files are called and hold is `study.run_files`'.
"""

import os
import platform
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mmgkeras import __version__
from mmgkeras.config import AT_EXPORT, NOT_OF_WEIGHTS, TRAINING_SECTIONS, Config, read_config, write_config
from mmgkeras.errors import InputError, shown
from mmgkeras.files import atomic_file, atomic_folder
from mmgkeras.savedmodel.export import check_path
from mmgkeras.study.run_files import CONFIG, IDENTITY, RUN_FILES, Environment, write_environment


def versions() -> dict[str, str]:
    """Of the programs that the weights depend on."""
    return {
        "mmgkeras": __version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }


def check_same_run(run: Path, environment: Environment, *, config: Config, asked: Environment) -> None:
    """Refuses to go on with a run of other settings, another fold or another store.

    Args:
        run: the run folder.
        environment: as read from it.
        config: asked for now.
        asked: what environment.json of a new run would say; its `IDENTITY` counts.

    Raises:
        InputError: naming the first difference.
    """
    before = read_config(run / CONFIG).model_dump()
    for section, values in config.model_dump(include=set(TRAINING_SECTIONS)).items():
        for key, value in values.items():
            if key not in (*NOT_OF_WEIGHTS, AT_EXPORT) and before[section][key] != value:
                raise InputError(
                    f"{run}: was begun with {section}.{key} = {shown(before[section][key])}. "
                    f"Received: {shown(value)}; "
                    "give that value, another folder or --overwrite"
                )
    for key in IDENTITY:
        old, new = getattr(environment, key), getattr(asked, key)
        if old != new:
            raise InputError(
                f"{run}: was begun with {key} = {old!r}. Received: {new!r}; give another folder or --overwrite"
            )


def create_run(run: Path, *, config: Config, environment: Environment) -> None:
    """Makes the run folder with its configuration and environment, in place of an empty folder or an earlier run.

    Raises:
        InputError: if it cannot be written.
    """
    with atomic_folder(run, overwrite=True, owned=RUN_FILES) as folder:
        write_config(config, folder / CONFIG)
        write_environment(folder, environment)


def record_share(run: Path, config: Config) -> None:
    """Writes the share of the initial weights that is exported into config.toml, where it says another.

    Raises:
        InputError: if it cannot be written.
    """
    begun = read_config(run / CONFIG)
    if getattr(begun.train, AT_EXPORT) != getattr(config.train, AT_EXPORT):
        train = begun.train.model_copy(update={AT_EXPORT: getattr(config.train, AT_EXPORT)})
        with atomic_file(run / CONFIG, overwrite=True) as temporary:
            write_config(begun.model_copy(update={"train": train}), temporary)


def check_writable(path: Path) -> None:
    """Refuses a place that nothing can be written to, before hours are spent on what is to go there.

    Raises:
        InputError: if the nearest folder that exists is not a folder or not writable, or as `check_path`.
    """
    place = path.absolute()
    check_path(place)
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise InputError(f"{path}: cannot be written: {place} is not a writable folder")
