"""A data folder to a patch store: the pass of `check` over its images, each divided, labelled and appended as it comes.

Owns what a store is made of and what its manifest says. Memory does not grow with the store.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras import __version__
from mmgkeras.config import PatchesConfig
from mmgkeras.errors import InputFaultsError, one_line
from mmgkeras.files import atomic_folder, check_apart, give, sha256_file, sync, sync_tree, write_whole
from mmgkeras.json_files import without_folders, write_json, written_path
from mmgkeras.locks import machine_start, output_lock, resumable_work, work_digest
from mmgkeras.patches.check import DataFolder, DataReport, check_folder, read_folder
from mmgkeras.patches.examine import Examined, ReadImage, file_stem
from mmgkeras.patches.manifest import FORMAT_VERSION, IMAGES, MANIFEST, PATCHES, sealed
from mmgkeras.patches.shards import ShardWriter
from mmgkeras.patches.store import STORE_FILES, PatchStore
from mmgkeras.patches.store_tables import (
    NATIVE_COLUMNS,
    OWN_PREFIX,
    PATCH_COLUMNS,
    STORE_IMAGE_COLUMNS,
    label_counts,
    spacing_facts,
)
from mmgkeras.processes import HERE, Workers, file_state
from mmgkeras.progress import Track, untracked
from mmgkeras.tables import image_fields
from mmgkeras.tables.cells import write_cells

_SPACING_RATIO: Final = 1.2
"""Pixels of one store whose edges differ by more than this are worth a note: marks look different in them."""

_NAMED_IMAGES: Final = 3
"""A note names so many; store.json or `check` has them all."""


def prepare(
    data: Path,
    store: Path,
    config: PatchesConfig,
    *,
    skip_bad: bool = False,
    overwrite: bool = False,
    workers: Workers = HERE,
    track: Track = untracked,
) -> PatchStore:
    """The store made of a data folder; it is whole or not there, and the same whoever the workers are.

    If it is killed, the same call goes on after the last image that it had finished, unless the machine was started
    anew meanwhile.

    Args:
        data: folder with images.csv and, if there are annotations, labels.csv or regions.csv; labels.csv wins.
        store: folder to make.
        config: how images are divided and patches labelled.
        skip_bad: leave out images with faults, and annotations of unknown images, and list them in store.json.
        overwrite: replace a store that is there, folds.csv included.
        workers: who reads the images and cuts them; the shards are written here.
        track: shows progress over the images.

    Raises:
        InputError: if images.csv cannot be read, the store exists or cannot be written, or no image is left.
        InputFaultsError: every fault of the tables; without `skip_bad` also every fault of images and annotations.
    """
    check_apart(store, [data])
    tables = read_folder(data, config)
    with (
        output_lock(store),
        resumable_work(store, digest=_digest(tables, config)) as work,
        atomic_folder(store, overwrite=overwrite, owned=STORE_FILES) as folder,
    ):
        if tables.faults:
            raise InputFaultsError(tables.faults)
        finished = _Finished()
        with finished, ShardWriter(work, patch_px=config.patch_px, when_full=finished.begin) as writer:
            contents = _Contents(writer, work, config=config)
            report = check_folder(
                tables,
                use=partial(_cut, work=work),
                each=contents.add,
                keep=work,
                workers=workers,
                track=track,
                label="reading images",
            )
        if report.faults and not skip_bad:
            raise InputFaultsError(report.faults)
        if not contents.images:
            raise InputFaultsError([*report.faults, f"{data / 'images.csv'}: no image is left to make a store of"])
        for shard in sorted(work.glob("patches-*.npy")):
            give(shard, folder / shard.name)
        _write(folder, data=data, config=config, contents=contents, report=report, finished=finished)
    return PatchStore.open(store)


def _digest(tables: DataFolder, config: PatchesConfig) -> str:
    """Of all that the work depends on: the tables, the images, and that the machine has run since.

    What is written for an image need not have reached the disk when the next one is read.
    """
    states = [file_state(tables.data / name) for name in ("images.csv", "regions.csv", "labels.csv")]
    states += [file_state(tables.data / record.path) for record in tables.records]
    return work_digest("prepare", tables.data.resolve(), config.model_dump_json(), machine_start(), states)


def _cut(image: ReadImage, labels: NDArray[np.int8], *, work: Path) -> dict[str, Any]:
    """Writes the patches of an image to a file of its own, and gives what else a store needs of it."""
    record, grid = image.mammogram.record, image.grid
    pixels = grid.cut(image.mammogram.pixels)
    write_whole(work / f"{file_stem(record)}.raw", pixels.data, is_synced=False)
    return {
        "pixel_type": str(pixels.dtype),
        "shape": labels.shape,
        "labels": labels.ravel().tolist(),
        "tissue": (image.breast.num_px(grid) / grid.patch_px**2).astype(np.float32).ravel().tolist(),
        "size": (grid.height, grid.width),
        "spacing_mm": record.spacing_mm,
        "native": (*image.shape, image.native_mm),
    }


class _Finished:
    """Brings full shards to the disk and hashes them while others are filled; later they would be read from there."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._shards: dict[str, Future[tuple[list[int] | None, str]]] = {}

    def __enter__(self) -> "_Finished":
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.shutdown(cancel_futures=any(exception))

    def begin(self, shard: Path) -> None:
        """Begins with a shard."""
        self._shards[shard.name] = self._thread.submit(_synced_digest, shard)

    def sha256(self, path: Path) -> str:
        """Of a file of the store: what was found before, unless the file has changed since."""
        before = self._shards.get(path.name)
        state, digest = before.result() if before else (None, "")
        return digest if state and state == file_state(path) else sha256_file(path)


def _synced_digest(path: Path) -> tuple[list[int] | None, str]:
    """The state of a file before it was hashed, and its SHA-256; it is on the disk then."""
    sync(path)
    return file_state(path), sha256_file(path)


class _Contents:
    """What goes into a store: the patches of each image into the shards, rows of the tables and remarks at the end."""

    def __init__(self, writer: ShardWriter, work: Path, *, config: PatchesConfig) -> None:
        self.writer = writer
        self.config = config
        self.images: list[tuple[object, ...]] = []
        self.own: list[dict[str, str]] = []
        self.patches: list[tuple[NDArray[Any], ...]] = []
        self.turned: list[str] = []
        self.of_unknown_size: list[str] = []
        self.num_normal = 0
        self._work = work

    @property
    def resamples(self) -> bool:
        """Whether the images were brought to one pixel size."""
        return self.config.spacing_mm is not None

    def add(self, one: Examined) -> None:
        """Appends an image that was cut; its file goes once its patches are in the shards."""
        record, made = one.record, one.made
        rows, cols = np.indices(made["shape"])
        self.num_normal += record.is_called_normal
        labels = np.array(made["labels"], np.int8)
        part = self._work / f"{file_stem(record)}.raw"
        if not self.writer.pass_by(labels.size, pixel_type=made["pixel_type"]):
            edge = self.config.patch_px
            self.writer.append(np.memmap(part, made["pixel_type"], mode="r").reshape(-1, edge, edge))
        part.unlink(missing_ok=True)
        self.patches.append((rows.ravel(), cols.ravel(), labels, np.array(made["tissue"], np.float32)))
        stride_px = self.config.stride_px or self.config.patch_px
        grid = (*made["size"], record.chest_wall_side, stride_px, one.pixel_sha256, labels.size)
        fields = image_fields(replace(record, spacing_mm=made["spacing_mm"]))
        self.images.append((*fields, *grid, *(made["native"] if self.resamples else ())))
        self.own.append({f"{OWN_PREFIX}{name}": text for name, text in record.own})
        if self.resamples and made["native"][2] is None:
            self.of_unknown_size.append(record.image_id)
        if one.side == "at the other edge":
            self.turned.append(record.image_id)


def _write(
    folder: Path, *, data: Path, config: PatchesConfig, contents: _Contents, report: DataReport, finished: _Finished
) -> None:
    """Writes the tables and, last, the manifest; paths in it are relative, to the data folder or to the store."""
    columns = [*STORE_IMAGE_COLUMNS, *(NATIVE_COLUMNS if contents.resamples else ())]
    frame = pd.DataFrame(contents.images, columns=columns).join(pd.DataFrame(contents.own, dtype="str"))
    whose = (np.repeat(frame[name].to_numpy(), frame["num_patches"]) for name in PATCH_COLUMNS[:2])
    own = map(np.concatenate, zip(*contents.patches, strict=True))
    patches = pd.DataFrame(dict(zip(PATCH_COLUMNS, (*whose, *own), strict=True)))
    write_cells(patches, folder / PATCHES)
    write_cells(frame, folder / IMAGES)
    written = sorted(folder.iterdir())
    with ThreadPoolExecutor() as threads:  # which work at once: hashing lets go of the interpreter's lock
        on_disk = threads.submit(sync_tree, folder)
        digests = list(threads.map(finished.sha256, written))
        on_disk.result()
    manifest: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "mmgkeras_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": written_path(data, folder).as_posix(),
        "grid": {
            "patch_px": config.patch_px,
            "stride_px": config.stride_px or config.patch_px,
            **({"spacing_mm": config.spacing_mm} if contents.resamples else {}),
        },
        "labels": {
            "read_from": report.annotations.read_from,
            "envelope_fraction": config.cluster_fraction,
            "label_source": config.label_source,
            **({"min_marks": config.min_marks} if config.min_marks > 1 else {}),
        },
        "pixel_type": str(contents.writer.dtype),
        "patches_per_shard": contents.writer.patches_per_shard,
        "counts": {
            "images": len(frame),
            "patients": int(frame["patient_id"].nunique()),
            "patches": len(patches),
            **label_counts(patches["label"]),
        },
        "spacing_mm": spacing_facts(pd.to_numeric(frame["spacing_mm"])),
        "skipped_images": [
            {"image_id": fault.image_id, "reason": without_folders(str(fault).replace(one_line(f"{data}/"), ""))}
            for fault in report.of("fault")
            if fault.image_id is not None
        ],
        "skipped_annotations": [
            without_folders(str(fault).replace(one_line(f"{data}/"), ""))
            for fault in report.of("fault")
            if fault.image_id is None
        ],
        "chest_wall_differs": contents.turned,
        "files": {
            path.name: {"bytes": path.stat().st_size, "sha256": digest}
            for path, digest in zip(written, digests, strict=True)
        },
    }
    manifest["notes"] = [*report.annotations.notes, *_notes(manifest, contents, report)]
    write_json(folder / MANIFEST, sealed(manifest))


def _notes(manifest: dict[str, Any], contents: _Contents, report: DataReport) -> list[str]:
    """What is no fault but should be known; its words count in the store's checksum, so they stay as they are."""
    notes = []
    spacing = manifest["spacing_mm"]
    if spacing["median"] is not None and spacing["max"] > _SPACING_RATIO * spacing["min"]:
        notes.append(f"pixels differ in size by over 20 %: {spacing['min']:g} to {spacing['max']:g} mm")
    num_images = manifest["counts"]["images"]
    if not manifest["counts"]["negative"]:
        text = "no patch is negative, so no network can be trained: no image has the annotation 'complete'"
        if contents.num_normal and contents.config.label_source == "annotated":
            text += f"; with patches.label_source = 'assumed' {contents.num_normal:,} called normal count as free"
        notes.append(text)
    if contents.turned:
        part = f"{len(contents.turned):,} of {num_images:,}"
        notes.append(f"the pixels put the chest wall at the other edge in {part} images: {_named(contents.turned)}")
    if contents.of_unknown_size:
        part = f"{len(contents.of_unknown_size):,} of {num_images:,}"
        notes.append(f"{part} images have no spacing_mm and were not resampled: {_named(contents.of_unknown_size)}")
    if report.unplaced:
        names = [f"{region_id} of {image_id}" for image_id, region_id in report.unplaced]
        notes.append(f"{len(names):,} cluster regions lie in no positive patch: {_named(names)}")
    return notes


def _named(names: Sequence[str]) -> str:
    return ", ".join([*names[:_NAMED_IMAGES], "..."] if len(names) > _NAMED_IMAGES else names)
