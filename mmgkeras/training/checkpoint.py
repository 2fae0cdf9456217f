"""Where a training run stands, as one file: replaced whole, so that a kill leaves the old one or the new one.

Owns checkpoint.npz, and the thread in which it is written: the training waits for a copy of its state only. The file
holds numbers; nothing in it is run when it is read.
"""

import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from mmgkeras.errors import InputError
from mmgkeras.files import atomic_file
from mmgkeras.study.run_files import HISTORY_COLUMNS
from mmgkeras.training.history import EpochSamples, History

_VARIABLES: Final = ("model", "optimizer")
_DAMAGES: Final = (
    *(OSError, ValueError, EOFError, KeyError, TypeError, IndexError, OverflowError, MemoryError),
    *(RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, struct.error),
)
"""What numpy and zipfile raise on files that were changed by chance or on purpose."""


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


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A copy of where a run stands that later steps do not change."""

    arrays: dict[str, NDArray[Any]]

    @property
    def is_finite(self) -> bool:
        """Whether every weight and every moment of the optimizer is a number."""
        return all(np.isfinite(array).all() for name, array in self.arrays.items() if name.startswith(_VARIABLES))


def snapshot(progress: Progress, *, model: Sequence[Any], optimizer: Sequence[Any]) -> Snapshot:
    """Copies the present state to the host.

    Args:
        progress: what has been done.
        model: variables of the network, in a fixed order.
        optimizer: variables of the optimizer, in a fixed order.
    """
    arrays: dict[str, NDArray[Any]] = {
        "step": np.asarray(progress.step, np.int64),
        **progress.samples.arrays(),
        "history": progress.history.array(),
    }
    for name, variables in zip(_VARIABLES, (model, optimizer), strict=True):
        # A copy even where numpy is given TensorFlow's own memory.
        arrays |= {f"{name}/{number}": np.asarray(variable).copy() for number, variable in enumerate(variables)}
    return Snapshot(arrays)


def save_checkpoint(path: Path, saved: Snapshot) -> None:
    """Replaces the checkpoint, checkpoint.npz, by a snapshot.

    Raises:
        InputError: if the file cannot be written.
    """
    arrays: dict[str, Any] = saved.arrays
    with atomic_file(path, overwrite=True) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
        file.flush()
        os.fsync(file.fileno())


class BackgroundWriter:
    """Does one piece of writing at a time beside the training, in the order in which it was asked for.

    What went wrong is raised by the next call.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._last: Future[None] | None = None

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Waits for what was begun, and raises what went wrong with it where nothing else has."""
        self._thread.shutdown()
        if kind is None:
            self.wait()

    def do(self, write: Callable[[], None]) -> None:
        """Waits for the piece before, then begins with this one and returns."""
        self.wait()
        self._last = self._thread.submit(write)

    def wait(self) -> None:
        """Returns when everything is written."""
        last, self._last = self._last, None
        if last is not None:
            last.result()


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
    samples = EpochSamples.from_arrays(arrays)
    step, history = int(arrays["step"]), arrays["history"]
    if (
        step < 0
        or history.ndim != 2
        or history.shape[1] != len(HISTORY_COLUMNS)
        or not np.isfinite(history[:, :2]).all()
    ):
        raise ValueError(f"step {step} and a history of shape {history.shape} are none of a run")
    return Progress(step=step, samples=samples, history=History.from_array(history))


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
