"""The jobs of a cross-validation: where each one's files lie, which are done, and the order in which they are run.

Owns crossval.json and done.json. What a job does is `job`'s.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from mmgkeras.config import Config
from mmgkeras.errors import InputError, MmgError
from mmgkeras.files import atomic_file, sha256_file

FORMAT_VERSION: Final = 1
CROSSVAL_JSON: Final = "crossval.json"
DONE_JSON: Final = "done.json"
MODEL_VERSION: Final = "1"
_NOT_DIGESTED: Final = "MODEL_CARD.md"


class JobCrashError(MmgError):
    """A job ended by something else than a fault in the user's input; the other jobs can go on."""


@dataclass(frozen=True, slots=True, order=True)
class FoldJob:
    """One network trained from one seed on one fold, from 1."""

    network: str
    seed: int
    fold: int

    @property
    def name(self) -> str:
        """As people and processes call it: NETWORK/seedS/foldK."""
        return f"{self.network}/seed{self.seed}/fold{self.fold}"

    @classmethod
    def of_name(cls, name: str) -> "FoldJob":
        """The inverse of `name`."""
        network, seed, fold = name.rsplit("/", 2)
        return cls(network, int(seed.removeprefix("seed")), int(fold.removeprefix("fold")))

    def folder(self, out: Path) -> Path:
        """Where its files lie in the folder of the cross-validation."""
        return out / self.name

    def model(self, out: Path) -> Path:
        """Its SavedModel."""
        return self.folder(out) / "model" / MODEL_VERSION


@dataclass(frozen=True, kw_only=True)
class Crossval:
    """What crossval.json says: everything that a job needs to know.

    Attributes:
        command: that wrote it last.
        created: when it was begun, ISO 8601.
        store_path, store_checksum, folds_sha256: the patch store, what it holds, and the digest of its folds.csv.
        data: the data folder that the store was made of; None if it is not there.
        folds, seeds: asked for so far, ascending.
        networks: the configuration of each network by its name, as plain values.
        versions: of the programs.
        hardware: in words, of every start.
        mmgkeras_version: that wrote it last.
    """

    command: str
    created: str
    store_path: Path
    store_checksum: str
    folds_sha256: str
    data: Path | None
    folds: tuple[int, ...]
    seeds: tuple[int, ...]
    networks: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, str]
    hardware: str
    mmgkeras_version: str

    def config(self, job: FoldJob) -> Config:
        """The configuration of a job: its network's, with its seed."""
        return Config.model_validate(self._values(job))

    def config_sha256(self, job: FoldJob) -> str:
        """The digest of what was written down for the job, so that keys of later versions do not change it."""
        return hashlib.sha256(json.dumps(self._values(job), sort_keys=True).encode()).hexdigest()

    def identity(self, job: FoldJob) -> dict[str, str]:
        """What must not change between two starts of a job."""
        return {
            "store_checksum": self.store_checksum,
            "folds_sha256": self.folds_sha256,
            "config_sha256": self.config_sha256(job),
        }

    def jobs(self) -> Iterator[FoldJob]:
        """All jobs: of the first seed and network first, fold by fold."""
        return all_jobs(self.networks, seeds=self.seeds, folds=self.folds)

    def _values(self, job: FoldJob) -> dict[str, Any]:
        values = dict(self.networks[job.network])
        return values | {"train": {**values.get("train", {}), "seed": job.seed}}


def all_jobs(networks: Iterable[str], *, seeds: Iterable[int], folds: Iterable[int]) -> Iterator[FoldJob]:
    """Every network's every fold from the first seed, then from the next."""
    names, numbers = list(networks), list(folds)
    return (FoldJob(network, seed, fold) for seed in seeds for network in names for fold in numbers)


def write_crossval(out: Path, crossval: Crossval) -> None:
    """Replaces crossval.json.

    Raises:
        InputError: if it cannot be written.
    """
    values = asdict(crossval)
    store = {"path": str(crossval.store_path), "checksum": crossval.store_checksum}
    values["store"] = store | {"folds_sha256": crossval.folds_sha256}
    values["data"] = None if crossval.data is None else str(crossval.data)
    values["networks"] = [{"name": name, "config": config} for name, config in crossval.networks.items()]
    values = {key: value for key, value in values.items() if key not in ("store_path", *_IN_STORE)}
    _write_json(out / CROSSVAL_JSON, {"format_version": FORMAT_VERSION, **values})


def read_crossval(out: Path) -> Crossval | None:
    """What crossval.json of a folder says; None where there is no folder, or an empty one.

    Raises:
        InputError: if the folder holds something else, or the file is damaged or of another version.
    """
    path = out / CROSSVAL_JSON
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    values = _read_json(path)
    if values is None:
        raise InputError(f"{out}: is no folder of a cross-validation, it has no {CROSSVAL_JSON}; name another place")
    if values.get("format_version") != FORMAT_VERSION:
        received = values.get("format_version")
        raise InputError(f"{path}: format_version must be {FORMAT_VERSION}. Received: {received!r}")
    try:
        crossval = Crossval(
            store_path=Path(values["store"]["path"]),
            store_checksum=values["store"]["checksum"],
            folds_sha256=values["store"]["folds_sha256"],
            data=None if values["data"] is None else Path(values["data"]),
            folds=tuple(values["folds"]),
            seeds=tuple(values["seeds"]),
            networks={network["name"]: network["config"] for network in values["networks"]},
            **{key: values[key] for key in ("command", "created", "versions", "hardware", "mmgkeras_version")},
        )
        for config in crossval.networks.values():
            Config.model_validate(config)
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: is damaged, {error} is missing or wrong; name another place") from error
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        raise InputError(
            f"{path}: {place}: {fault['msg']}. Received: {fault['input']!r}; name another place"
        ) from error
    return crossval


def is_done(out: Path, job: FoldJob, *, crossval: Crossval, files: Sequence[str]) -> bool:
    """Whether a job was finished as it is asked for now, and all its files are still there.

    Args:
        out: the folder of the cross-validation.
        job: which.
        crossval: what is asked for.
        files: names that its folder must hold, unless done.json says why one was left out.

    Raises:
        InputError: if it was finished with another store or configuration, or its model was changed since.
    """
    path = job.folder(out) / DONE_JSON
    done = _read_json(path)
    if done is None:
        return False
    if crossval.data is not None and done.get("has_data") is False:
        return False  # of the time only the inference was measured
    again = "give --overwrite to do it again"
    for key, value in crossval.identity(job).items():
        if done.get(key) != value:
            raise InputError(f"{path}: was done with another {key}: {done.get(key)}. Received: {value}; {again}")
    model = job.model(out)
    if not model.is_dir():
        return False
    if done.get("model_sha256") != model_sha256(model):
        raise InputError(f"{model}: is not the model that the fold was done with, its digest differs; {again}")
    return all(name in done.get("skipped", {}) or (job.folder(out) / name).exists() for name in files)


def write_done(out: Path, job: FoldJob, *, crossval: Crossval, skipped: Mapping[str, str]) -> None:
    """Writes done.json, the last file of a job; `skipped` says why a file that others have was left out.

    `has_data` in it says whether the data folder was there, to be read from.
    """
    values = {
        **crossval.identity(job),
        "model_sha256": model_sha256(job.model(out)),
        "has_data": crossval.data is not None,
        "skipped": dict(skipped),
    }
    _write_json(job.folder(out) / DONE_JSON, values)


def model_sha256(model: Path) -> str:
    """The SHA-256 of a SavedModel's files and their names, but for its card."""
    digest = hashlib.sha256()
    for path in sorted(model.rglob("*")):
        if path.is_file() and path.name != _NOT_DIGESTED:
            digest.update(f"{path.relative_to(model).as_posix()} {sha256_file(path)}\n".encode())
    return digest.hexdigest()


Launch = Callable[[FoldJob, str], None]
"""Runs a job on devices such as "GPU:0,GPU:1"; raises JobCrashError where the other jobs can go on without it."""


def run_queue(
    jobs: Sequence[FoldJob], *, slots: Sequence[str], launch: Launch, finished: Callable[[FoldJob], None]
) -> dict[FoldJob, str]:
    """Runs jobs in order, one at a time in each slot; a slot that is free takes the next.

    Args:
        jobs: in the order in which they are begun.
        slots: devices of each; several slots work in as many threads, one in the caller's.
        launch: runs a job in a slot.
        finished: called with each job that ended well, one at a time.

    Returns:
        What crashed, and how.

    Raises:
        MmgError: the first fault of a job that is no crash; jobs that had begun in other slots are waited for, no
            others are begun.
    """
    waiting, lock, stop = iter(jobs), threading.Lock(), threading.Event()
    crashed: dict[FoldJob, str] = {}

    def work(slot: str) -> None:
        while not stop.is_set():
            with lock:
                job = next(waiting, None)
            if job is None:
                return
            try:
                launch(job, slot)
                with lock:
                    finished(job)
            except JobCrashError as error:
                crashed[job] = str(error)
                continue
            except BaseException:
                stop.set()
                raise

    if len(slots) == 1:
        work(slots[0])
        return crashed
    with ThreadPoolExecutor(len(slots)) as pool:
        try:
            for future in [pool.submit(work, slot) for slot in slots]:
                future.result()
        except BaseException:
            stop.set()
            raise
    return crashed


_IN_STORE: Final = ("store_checksum", "folds_sha256")


def _read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file; None where there is no file.

    Raises:
        InputError: if it cannot be read or holds no object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path}: is damaged: {error}; give --overwrite to begin again") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: is damaged, it holds no object; give --overwrite to begin again")
    return values


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    with atomic_file(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
