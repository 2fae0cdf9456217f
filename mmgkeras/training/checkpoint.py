"""Where a training run stands, as one file: replaced whole, so that a kill leaves the old one or the new one.

Owns checkpoint.npz. It holds numbers; nothing in it is run when it is read.
"""

import dataclasses
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmgkeras.errors import InputError
from mmgkeras.files import atomic_file
from mmgkeras.study.run_files import HISTORY_COLUMNS, EpochRow

_VARIABLES: Final = ("model", "optimizer")
_DAMAGES: Final = (
    *(OSError, ValueError, EOFError, KeyError, TypeError, IndexError, OverflowError, MemoryError),
    *(RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, struct.error),
)
"""What numpy and zipfile raise on files that were changed by chance or on purpose."""


SAMPLE: Final = np.dtype([("losses", np.float32), ("probabilities", np.float32), ("labels", np.int8)])
"""Of a sample: its cross-entropy without any L2 term, the probability of calcification, and the label."""


@dataclass
class Progress:
    """What has been done so far, apart from the weights.

    Attributes:
        step: number of steps done, of all epochs.
        samples: (n,) of `SAMPLE`, what the steps of the unfinished epoch gave in the order of the stream.
        history: a row for every finished epoch.
    """

    step: int = 0
    samples: NDArray[np.void] = field(default_factory=lambda: np.zeros(0, SAMPLE))
    history: list[EpochRow] = field(default_factory=list)


def snapshot(progress: Progress, *, model: Sequence[Any], optimizer: Sequence[Any]) -> dict[str, NDArray[Any]]:
    """The arrays of a checkpoint: a copy of the present state on the host, which later steps do not change.

    Args:
        progress: what has been done.
        model: variables of the network, in a fixed order.
        optimizer: variables of the optimizer, in a fixed order.
    """
    rows = [dataclasses.astuple(row) for row in progress.history]
    arrays = {
        "step": np.asarray(progress.step, np.int64),
        **{name: progress.samples[name].copy() for name in SAMPLE.names or ()},
        "history": np.asarray(rows, np.float64).reshape(len(rows), len(HISTORY_COLUMNS)),
    }
    for name, variables in zip(_VARIABLES, (model, optimizer), strict=True):
        # A copy even where numpy is given TensorFlow's own memory.
        arrays |= {f"{name}/{number}": np.asarray(variable).copy() for number, variable in enumerate(variables)}
    return arrays


def is_finite(arrays: Mapping[str, NDArray[Any]]) -> bool:
    """Whether every weight and every moment of the optimizer in a snapshot is a number."""
    return all(np.isfinite(array).all() for name, array in arrays.items() if name.startswith(_VARIABLES))


def save_checkpoint(path: Path, arrays: Mapping[str, Any]) -> None:
    """Replaces the checkpoint, checkpoint.npz, by a snapshot.

    Raises:
        InputError: if the file cannot be written.
    """
    with atomic_file(path, overwrite=True) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
        file.flush()
        os.fsync(file.fileno())


def load_checkpoint(path: Path, *, model: Sequence[Any], optimizer: Sequence[Any]) -> Progress:
    """Sets the variables to those of a checkpoint and gives the rest of it; a fresh start where there is no file.

    Raises:
        InputError: if the file is damaged, not finite or of another network; no variable is then changed.
    """
    if not path.exists():
        return Progress()
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        progress = _progress(arrays)
    except _DAMAGES as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise InputError(f"{path}: is no checkpoint or is damaged: {reason}; start again with --overwrite") from error
    for name, variables in zip(_VARIABLES, (model, optimizer), strict=True):
        _check(variables, arrays=arrays, prefix=name, path=path)
    for name, variables in zip(_VARIABLES, (model, optimizer), strict=True):
        for number, variable in enumerate(variables):
            variable.assign(arrays[f"{name}/{number}"])
    return progress


def _progress(arrays: Mapping[str, NDArray[Any]]) -> Progress:
    step, history = int(arrays["step"]), arrays["history"]
    samples = np.zeros(len(arrays["labels"]), SAMPLE)
    for name in SAMPLE.names or ():
        if (arrays[name].shape, arrays[name].dtype) != (samples.shape, SAMPLE[name]):
            raise ValueError("losses, probabilities and labels are not the columns of one table")
        samples[name] = arrays[name]
    has_columns = history.ndim == 2 and history.shape[1] == len(HISTORY_COLUMNS)
    if step < 0 or not has_columns or not np.isfinite(history[:, :2]).all():
        raise ValueError(f"step {step} and a history of shape {history.shape} are none of a run")
    return Progress(step, samples, [EpochRow(int(row[0]), int(row[1]), *row[2:]) for row in history.tolist()])


def _check(variables: Sequence[Any], *, arrays: Mapping[str, NDArray[Any]], prefix: str, path: Path) -> None:
    saved = {name for name in arrays if name.startswith(f"{prefix}/")}
    if saved != {f"{prefix}/{number}" for number in range(len(variables))}:
        raise InputError(f"{path}: holds another network: {len(saved)} {prefix} variables, needed {len(variables)}")
    for number, variable in enumerate(variables):
        value = arrays[f"{prefix}/{number}"]
        if (shape := tuple(variable.shape)) != value.shape:
            raise InputError(f"{path}: holds another network: {variable.path} has shape {value.shape}, needed {shape}")
        if value.dtype.kind not in "fiu" or not np.isfinite(value).all():
            raise InputError(f"{path}: {variable.path} must hold finite numbers; start again with --overwrite")
