"""Where a training run stands, as one file: replaced whole, so that a kill leaves the old one or the new one.

Owns checkpoint.npz. It holds numbers only; nothing in it is run when it is read.
"""

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgkeras.errors import InputError
from mmgkeras.files import atomic_file
from mmgkeras.training.history import EpochSamples, History

Arrays = list[NDArray[Any]]


@dataclass
class Progress:
    """What has been done so far, apart from the weights.

    Attributes:
        step: number of steps done, of all epochs.
        samples: what the steps of the unfinished epoch gave.
        history: a row for every finished epoch.
        epoch_rate: patches per second of the epoch just run; not kept.
    """

    step: int = 0
    samples: EpochSamples = field(default_factory=EpochSamples)
    history: History = field(default_factory=History)
    epoch_rate: float = 0.0


def save_checkpoint(path: Path, *, progress: Progress, model: Sequence[Any], optimizer: Sequence[Any]) -> None:
    """Replaces the checkpoint by the present state.

    Args:
        path: checkpoint.npz.
        progress: what has been done.
        model: variables of the network, in a fixed order.
        optimizer: variables of the optimizer, in a fixed order.

    Raises:
        InputError: if the file cannot be written.
    """
    arrays: dict[str, Any] = {
        "step": np.int64(progress.step),
        **progress.samples.arrays(),
        "history": progress.history.array(),
    }
    for name, variables in (("model", model), ("optimizer", optimizer)):
        arrays |= {f"{name}/{number}": np.asarray(variable) for number, variable in enumerate(variables)}
    with atomic_file(path, overwrite=True) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
        file.flush()
        os.fsync(file.fileno())


def load_checkpoint(path: Path, *, model: Sequence[Any], optimizer: Sequence[Any]) -> Progress:
    """Sets the variables to those of a checkpoint and gives the rest of it; a fresh start where there is no file.

    Raises:
        InputError: if the file is damaged or of another network.
    """
    if not path.exists():
        return Progress()
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: is no checkpoint or is damaged: {error}; start again with --overwrite") from error
    for name, variables in (("model", model), ("optimizer", optimizer)):
        _assign(variables, arrays=arrays, prefix=name, path=path)
    samples, history = EpochSamples.from_arrays(arrays), History.from_array(arrays["history"])
    return Progress(step=int(arrays["step"]), samples=samples, history=history)


def _assign(variables: Sequence[Any], *, arrays: dict[str, NDArray[Any]], prefix: str, path: Path) -> None:
    num_saved = sum(name.startswith(f"{prefix}/") for name in arrays)
    if num_saved != len(variables):
        raise InputError(f"{path}: holds another network: {num_saved} {prefix} variables, needed {len(variables)}")
    for number, variable in enumerate(variables):
        value = arrays[f"{prefix}/{number}"]
        if (shape := tuple(variable.shape)) != value.shape:
            raise InputError(f"{path}: holds another network: {variable.path} has shape {value.shape}, needed {shape}")
        variable.assign(value)
