"""The run folder: what a run is, whether one may go on, and where its model goes.

Owns config.toml and environment.json. The folder appears with both in it, whole; checkpoint.npz, history.csv and
tensorboard/ follow. No patient and no image is named in any of them.
"""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf

from mmgkeras import __version__
from mmgkeras.config import Config, read_config, write_config
from mmgkeras.errors import InputError
from mmgkeras.files import atomic_file, atomic_folder

CONFIG: Final = "config.toml"
ENVIRONMENT: Final = "environment.json"
CHECKPOINT: Final = "checkpoint.npz"
HISTORY: Final = "history.csv"
TENSORBOARD: Final = "tensorboard"
RUN_FILES: Final = (ENVIRONMENT, CONFIG, CHECKPOINT, HISTORY, f"{TENSORBOARD}/*")
"""Patterns of all files of a run, the one that makes it one first."""

IDENTITY: Final = ("fold", "test_patients_sha256", "store_checksum", "training_patches_sha256")
"""Keys of environment.json that, with the configuration, make two runs the same run."""


def versions() -> dict[str, str]:
    """Of the programs that the weights depend on."""
    return {
        "mmgkeras": __version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }


def read_environment(run: Path) -> dict[str, Any] | None:
    """What environment.json of a run says; None where there is no run: no folder, or an empty one.

    Raises:
        InputError: if the folder holds something else, or the file is damaged.
    """
    path = run / ENVIRONMENT
    try:
        if not run.exists() or (run.is_dir() and not any(run.iterdir())):
            return None
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{run}: is not a run folder, it has no {ENVIRONMENT}; name another place") from error
    except ValueError as error:
        raise InputError(f"{path}: is damaged: {error}; name another place for the run") from error
    if not isinstance(values, dict) or "is_finished" not in values:
        raise InputError(f"{path}: is not that of a run; name another place")
    return values


def check_same_run(run: Path, environment: Mapping[str, Any], *, config: Config, identity: Mapping[str, Any]) -> None:
    """Refuses to go on with a run of other settings, another fold or another store.

    Args:
        run: the run folder.
        environment: as read from it.
        config: asked for now.
        identity: the keys `IDENTITY`, as they are now.

    Raises:
        InputError: naming the first difference.
    """
    before = read_config(run / CONFIG).model_dump()
    for section, values in config.model_dump().items():
        for key, value in values.items():
            if before[section][key] != value:
                raise InputError(
                    f"{run}: was begun with {section}.{key} = {before[section][key]!r}. Received: {value!r}; "
                    "give that value, another folder or --overwrite"
                )
    for key in IDENTITY:
        if environment.get(key) != identity[key]:
            raise InputError(
                f"{run}: was begun with {key} = {environment.get(key)!r}. Received: {identity[key]!r}; "
                "give another folder or --overwrite"
            )


def create_run(run: Path, *, config: Config, environment: Mapping[str, Any]) -> None:
    """Makes the run folder with its configuration and environment, in place of an empty folder or an earlier run.

    Raises:
        InputError: if it cannot be written.
    """
    with atomic_folder(run, overwrite=True, owned=RUN_FILES) as folder:
        write_config(config, folder / CONFIG)
        (folder / ENVIRONMENT).write_text(_json(environment), encoding="utf-8")


def write_environment(run: Path, environment: Mapping[str, Any]) -> None:
    """Replaces environment.json.

    Raises:
        InputError: if it cannot be written.
    """
    with atomic_file(run / ENVIRONMENT, overwrite=True) as temporary:
        temporary.write_text(_json(environment), encoding="utf-8")


def check_writable(path: Path) -> None:
    """Refuses a place that nothing can be written to, before hours are spent on what is to go there.

    Raises:
        InputError: if the nearest folder that exists is not a folder or not writable.
    """
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise InputError(f"{path}: cannot be written: {place} is not a writable folder")


def _json(environment: Mapping[str, Any]) -> str:
    return json.dumps(environment, indent=2) + "\n"
