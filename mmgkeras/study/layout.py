"""The folder of a cross-validation: where the files of each job lie, and what crossval.json and done.json hold.

    crossval.json   what was asked for: store, configurations, folds, seeds
    summary.csv     metrics of the folds that are done
    NETWORK/seedS/  predictions.csv, of all folds, and of each fold K
        foldK/      run/, model/1/, predictions.csv, timing.csv, shortcut.csv, pointing.csv, validation.csv; done.json

Owns both JSON files, reader beside writer, and when a job is done. Jobs are run in `crossval`, read in `study.read`.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from mmgkeras.config import Config
from mmgkeras.errors import InputError, InputFaultsError, shown
from mmgkeras.files import files_below, is_nobodys, sha256_file
from mmgkeras.json_files import (
    FilePath,
    FoldNumber,
    JsonModel,
    Seed,
    Sha256,
    Text,
    read_json,
    read_path,
    validated,
    write_json,
    written_path,
)
from mmgkeras.study.run_files import CHECKPOINT, HISTORY

CROSSVAL_JSON: Final = "crossval.json"
DONE_JSON: Final = "done.json"
SUMMARY_CSV: Final = "summary.csv"
RUN: Final = "run"
LOG: Final = "log.txt"
PREDICTIONS_CSV: Final = "predictions.csv"
VALIDATION_CSV: Final = "validation.csv"
TIMING_CSV: Final = "timing.csv"
SHORTCUT_CSV: Final = "shortcut.csv"
POINTING_CSV: Final = "pointing.csv"
RUN_HISTORY: Final = f"{RUN}/{HISTORY}"
_DIGESTED: Final = (VALIDATION_CSV, TIMING_CSV, SHORTCUT_CSV, POINTING_CSV, RUN_HISTORY)
"""Tables that nobody adds to; predictions.csv, which may get columns of the user's, is compared with the store."""
_MODEL: Final = "model"
_MODEL_VERSION: Final = "1"
JOB_FILES: Final = (DONE_JSON, PREDICTIONS_CSV, VALIDATION_CSV, TIMING_CSV, SHORTCUT_CSV, POINTING_CSV, LOG)
JOB_FOLDERS: Final = (RUN, _MODEL)
"""All that a job makes in its folder, done.json first."""
_NOT_DIGESTED: Final = "MODEL_CARD.md"
_NAME: Final = re.compile(r"[^/\\.\x00-\x1f\x7f-\x9f\ud800-\udfff][^/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]{0,199}")
_AGAIN: Final = "give --overwrite to do it again"


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
        return self.folder(out) / _MODEL / _MODEL_VERSION


def check_network_name(name: str) -> str:
    """The name of a network, which is also that of its folder.

    Raises:
        ValueError: if it would be another folder's, or none.
    """
    if not _NAME.fullmatch(name) or name in (CROSSVAL_JSON, SUMMARY_CSV):
        rule = "a network's name must be that of one folder, without slashes and without a dot at its beginning"
        raise ValueError(f"{rule}. Received: {shown(name)}")
    return name


class StoreFacts(JsonModel):
    """The patch store of a cross-validation, what it holds, and the digest of its folds.csv."""

    path: FilePath
    checksum: Sha256
    folds_sha256: Sha256


class NetworkFacts(JsonModel):
    """One network's name, and its configuration as plain values, as they were first written."""

    name: Annotated[str, AfterValidator(check_network_name)]
    config: dict[str, Any]


class Crossval(JsonModel):
    """What crossval.json says: everything that a job needs to know.

    Attributes:
        command: that wrote it last.
        created: when it was begun, ISO 8601.
        store: the patch store.
        data: the data folder that the store was made of; None if it is not there.
        folds, seeds: asked for so far, ascending.
        networks: asked for so far.
        versions: of the programs.
        hardware: in words, of every start.
        mmgkeras_version: that wrote it last.
    """

    format_version: Literal[1] = 1
    command: Text
    created: Text
    store: StoreFacts
    data: FilePath | None
    folds: Annotated[tuple[FoldNumber, ...], Field(min_length=1)]
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    networks: Annotated[tuple[NetworkFacts, ...], Field(min_length=1)]
    versions: dict[str, Text]
    hardware: Text
    mmgkeras_version: Text

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """The plain values of each network's configuration by its name."""
        return {network.name: network.config for network in self.networks}

    def config(self, job: FoldJob) -> Config:
        """The configuration of a job: its network's, with its seed."""
        return Config.model_validate(self._values(job))

    def identity(self, job: FoldJob) -> dict[str, str]:
        """What must not change between two starts of a job.

        The configuration's digest is of what was written down, so that keys of later versions do not change it.
        """
        config = hashlib.sha256(json.dumps(self._values(job), sort_keys=True).encode()).hexdigest()
        store = {"store_checksum": self.store.checksum, "folds_sha256": self.store.folds_sha256}
        return store | {"config_sha256": config}

    def jobs(self) -> Iterator[FoldJob]:
        """All jobs: of the first seed and network first, fold by fold."""
        return all_jobs([network.name for network in self.networks], seeds=self.seeds, folds=self.folds)

    def _values(self, job: FoldJob) -> dict[str, Any]:
        values = self.configs[job.network]
        return values | {"train": {**values.get("train", {}), "seed": job.seed}}


class Done(JsonModel):
    """What done.json, the last file of a job, says.

    Attributes:
        store_checksum, folds_sha256, config_sha256: what the job was done with.
        model_sha256: `model_sha256` of what came of it.
        has_data: the data folder was there, to be read from.
        skipped: why a file that other jobs have was left out, by its name.
        tables_sha256: of its other tables than predictions.csv, by their names; empty in earlier versions.
    """

    store_checksum: Sha256
    folds_sha256: Sha256
    config_sha256: Sha256
    model_sha256: Sha256
    has_data: bool = True
    skipped: dict[str, Text] = Field(default_factory=dict)
    tables_sha256: dict[str, Sha256] = Field(default_factory=dict)


def all_jobs(networks: Iterable[str], *, seeds: Iterable[int], folds: Iterable[int]) -> Iterator[FoldJob]:
    """Every network's every fold from the first seed, then from the next."""
    names, numbers = list(networks), list(folds)
    return (FoldJob(network, seed, fold) for seed in seeds for network in names for fold in numbers)


def read_crossval(out: Path) -> Crossval | None:
    """What crossval.json of a folder says; None where there is no folder, or an empty one.

    Raises:
        InputError: if the folder holds something else, or the file is damaged or of another version.
    """
    path, hint = out / CROSSVAL_JSON, "name another place"
    if not out.exists() or (out.is_dir() and all(map(is_nobodys, out.iterdir()))):
        return None
    if not path.exists():
        raise InputError(f"{out}: is not the folder of a cross-validation: it has no {CROSSVAL_JSON}; {hint}")
    crossval = read_json(path, Crossval, hint=hint)
    store = crossval.store.model_copy(update={"path": read_path(crossval.store.path, out)})
    data = None if crossval.data is None else read_path(crossval.data, out)
    crossval = crossval.model_copy(update={"store": store, "data": data})
    for key, values in (("folds", crossval.folds), ("seeds", crossval.seeds), ("networks", list(crossval.configs))):
        if len(set(values)) < len(getattr(crossval, key)):
            raise InputError(f"{path}: {key}: must name each once. Received: {shown(values)}; {hint}")
    for network in crossval.networks:
        validated(Config, network.config, place=f"{path}: config of {network.name}", hint=hint)
    return crossval


def write_crossval(out: Path, crossval: Crossval) -> None:
    """Replaces crossval.json; places in it are relative to the folder.

    Raises:
        InputError: if it cannot be written.
    """
    store = crossval.store.model_copy(update={"path": written_path(crossval.store.path, out)})
    data = None if crossval.data is None else written_path(crossval.data, out)
    write_json(out / CROSSVAL_JSON, crossval.model_copy(update={"store": store, "data": data}))


def read_done(out: Path, job: FoldJob) -> Done | None:
    """What done.json of a job says; None where there is none.

    Raises:
        InputError: if it is damaged.
    """
    path = job.folder(out) / DONE_JSON
    return read_json(path, Done, hint=_AGAIN) if path.exists() else None


def write_done(out: Path, job: FoldJob, *, crossval: Crossval, skipped: Mapping[str, str]) -> None:
    """Writes done.json; `skipped` says why a file that others have was left out.

    Raises:
        InputError: if it cannot be written.
    """
    model = model_sha256(job.model(out))
    has_data = crossval.data is not None
    folder = job.folder(out)
    done = Done(
        **crossval.identity(job),
        model_sha256=model,
        has_data=has_data,
        skipped=dict(skipped),
        tables_sha256={name: sha256_file(folder / name) for name in _DIGESTED if (folder / name).exists()},
    )
    write_json(folder / DONE_JSON, done)


def changed_tables(folder: Path, done: Done) -> list[str]:
    """A line for each table in a job's folder that is there, but not as it was when the job was done."""
    return [
        f"{folder / name}: is not as it was when the fold was done, its digest differs; remove it, and crossval makes "
        "it again"
        for name, digest in done.tables_sha256.items()
        if (folder / name).exists() and sha256_file(folder / name) != digest
    ]


def is_done(out: Path, job: FoldJob, *, crossval: Crossval, files: Sequence[str]) -> bool:
    """Whether a job was finished as it is asked for now, and all its files are still there.

    Args:
        out: the folder of the cross-validation.
        job: which.
        crossval: what is asked for.
        files: names that its folder must hold, unless done.json says why one was left out.

    Raises:
        InputError: if it was finished with another store or configuration, its model was changed since, or its
            history.csv is gone for good.
        InputFaultsError: every table that was changed since.
    """
    done = read_done(out, job)
    if done is None or (crossval.data is not None and not done.has_data):
        return False  # without data only the inference was timed
    for key, value in crossval.identity(job).items():
        if (before := getattr(done, key)) != value:
            path = job.folder(out) / DONE_JSON
            raise InputError(f"{path}: was done with another {key}: {before}. Received: {value}; {_AGAIN}")
    model = job.model(out)
    if not model.is_dir():
        return False
    if done.model_sha256 != model_sha256(model):
        raise InputError(f"{model}: is not the model that the fold was done with, its digest differs; {_AGAIN}")
    if faults := changed_tables(job.folder(out), done):
        raise InputFaultsError(faults)
    history = job.folder(out) / RUN_HISTORY
    if not history.exists() and not history.with_name(CHECKPOINT).exists():
        raise InputError(
            f"{history}: is missing, though the fold is done, and so is {CHECKPOINT} to make it of; {_AGAIN}"
        )
    return all(name in done.skipped or (job.folder(out) / name).exists() for name in files)


def model_sha256(model: Path) -> str:
    """The SHA-256 of a SavedModel's files and their names, but for its card."""
    digest = hashlib.sha256()
    for path in files_below(model):
        if path.name != _NOT_DIGESTED:
            digest.update(f"{path.relative_to(model).as_posix()} {sha256_file(path)}\n".encode())
    return digest.hexdigest()
