"""A data folder to a patch store: every image is read once, divided, labelled and appended.

Owns the order of the work and the list of what is wrong with the data. Memory does not grow with the store.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras import __version__, images, tables
from mmgkeras.config import PatchesConfig
from mmgkeras.errors import InputError, InputFaultsError
from mmgkeras.files import atomic_folder, check_apart
from mmgkeras.locks import output_lock
from mmgkeras.patches import store as layout
from mmgkeras.patches.annotations import Annotations, read_annotations
from mmgkeras.patches.shards import ShardWriter, pixel_sha256
from mmgkeras.patches.store import PatchStore
from mmgkeras.progress import Track, untracked
from mmgkeras.schema import Grid, ImageRecord, Mammogram, Pixels

_SPACING_RATIO: Final = 1.2
"""Pixels of one store whose edges differ by more than this are worth a note: marks look different in them."""

_NAMED_IMAGES: Final = 3
"""A note names so many; store.json has them all."""


@dataclass(frozen=True, slots=True)
class _Contents:
    """What went into a store, and what did not."""

    images: list[tuple[object, ...]] = field(default_factory=list)
    patches: list[pd.DataFrame] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    turned: list[str] = field(default_factory=list)


def prepare(
    data: Path,
    store: Path,
    config: PatchesConfig,
    *,
    skip_bad: bool = False,
    overwrite: bool = False,
    track: Track = untracked,
) -> PatchStore:
    """The store made of a data folder; it is whole or not there.

    Args:
        data: folder with images.csv and, if there are annotations, labels.csv or regions.csv; labels.csv wins.
        store: folder to make.
        config: how images are divided and patches labelled.
        skip_bad: leave out images with faults, and annotations of unknown images, and list them in store.json.
        overwrite: replace a store that is there, folds.csv included.
        track: shows progress over the images.

    Raises:
        InputError: if images.csv cannot be read, the store exists or cannot be written, or no image is left.
        InputFaultsError: every fault of the tables; without `skip_bad` also every fault of images and annotations.
    """
    check_apart(store, [data])
    with output_lock(store), atomic_folder(store, overwrite=overwrite, owned=layout.STORE_FILES) as folder:
        records, annotations = _read_tables(data, config)
        unknown = annotations.faults_of_unknown_images({record.image_id for record in records})
        contents, faults = _Contents(), list(unknown)
        with ShardWriter(folder, patch_px=config.patch_px) as writer:
            for record in track(records, "reading images"):
                is_doomed = bool(faults) and not skip_bad
                image_faults = _add_image(
                    record,
                    data=data,
                    annotations=annotations,
                    writer=None if is_doomed else writer,
                    contents=contents,
                )
                faults.extend(image_faults)
                contents.skipped.extend({"image_id": record.image_id, "reason": fault} for fault in image_faults)
        if faults and not skip_bad:
            raise InputFaultsError(faults)
        if not contents.images:
            raise InputFaultsError([*faults, f"{data / 'images.csv'}: no image is left to make a store of"])
        _write(
            folder, data=data, config=config, annotations=annotations, writer=writer, contents=contents, rows=unknown
        )
    return PatchStore.open(store)


def _read_tables(data: Path, config: PatchesConfig) -> tuple[list[ImageRecord], Annotations]:
    """The records and annotations of a data folder; the faults of both tables come together."""
    try:
        records = tables.read_images(data / "images.csv")
    except InputError as error:
        faults = str(error).splitlines()
        try:
            read_annotations(data, config)
        except InputError as other:
            faults.extend(str(other).splitlines())
        raise InputFaultsError(faults) from error
    return records, read_annotations(data, config)


def _add_image(
    record: ImageRecord, *, data: Path, annotations: Annotations, writer: ShardWriter | None, contents: _Contents
) -> Sequence[str]:
    """Reads, divides, labels and appends one image; the faults for which it was left out, none if it was not.

    Without a writer, for no store will come of it, it is only checked.
    """
    try:
        mammogram = images.read(record, data)
    except InputError as error:
        return str(error).splitlines()
    config = annotations.config
    height, width = mammogram.pixels.shape
    stride_px = config.stride_px or config.patch_px
    grid = Grid(height, width, config.patch_px, stride_px, record.chest_wall_side)
    faults = annotations.faults(record.image_id, grid)
    if faults or writer is None:
        return faults
    labels = annotations.labels(record, grid)
    tissue = images.tissue_mask(mammogram.pixels)
    patches = grid.cut(mammogram.pixels)
    writer.append(cast(Pixels, patches.reshape(-1, config.patch_px, config.patch_px)))
    contents.patches.append(_patch_rows(record, labels=labels, tissue=_tissue_fractions(grid, tissue)))
    contents.images.append(_image_row(mammogram, grid))
    side = images.chest_wall_of_tissue(tissue)
    if side not in (None, record.chest_wall_side):
        contents.turned.append(record.image_id)
    return ()


def _tissue_fractions(grid: Grid, tissue: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(rows, cols) the part of each patch, padding included, that is breast."""
    return np.asarray(grid.cut(tissue).mean(axis=(2, 3), dtype=np.float64), dtype=np.float32)


def _patch_rows(record: ImageRecord, *, labels: NDArray[np.int8], tissue: NDArray[np.float32]) -> pd.DataFrame:
    rows, cols = np.indices(labels.shape)
    values = (record.image_id, record.patient_id, rows.ravel(), cols.ravel(), labels.ravel(), tissue.ravel())
    return pd.DataFrame(dict(zip(layout.PATCH_COLUMNS, values, strict=True)))


def _image_row(mammogram: Mammogram, grid: Grid) -> tuple[object, ...]:
    record = mammogram.record
    size = (grid.height, grid.width, grid.chest_wall, grid.stride_px)
    return (*tables.image_values(record), *size, pixel_sha256(mammogram.pixels), grid.rows * grid.cols)


def _write(
    folder: Path,
    *,
    data: Path,
    config: PatchesConfig,
    annotations: Annotations,
    writer: ShardWriter,
    contents: _Contents,
    rows: Sequence[str],
) -> None:
    """Writes the tables and, last, the manifest."""
    patches = pd.concat(contents.patches, ignore_index=True)
    frame = pd.DataFrame(contents.images, columns=list(layout.STORE_IMAGE_COLUMNS))
    patches.to_csv(folder / layout.PATCHES, index=False, lineterminator="\n")
    frame.to_csv(folder / layout.IMAGES, index=False, lineterminator="\n")
    files = {path.name: layout.describe_file(path) for path in sorted(folder.iterdir())}
    manifest: dict[str, Any] = {
        "format_version": layout.FORMAT_VERSION,
        "mmgkeras_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": str(data),
        "grid": {"patch_px": config.patch_px, "stride_px": config.stride_px or config.patch_px},
        "labels": {
            "read_from": annotations.read_from,
            "envelope_fraction": config.cluster_fraction,
            "label_source": config.label_source,
        },
        "pixel_type": str(writer.dtype),
        "patches_per_shard": writer.patches_per_shard,
        "counts": _counts(frame, patches),
        "spacing_mm": _spacing(frame),
        "skipped_images": [_without_folder(skipped, data) for skipped in contents.skipped],
        "skipped_annotations": [row.replace(f"{data}/", "") for row in rows],
        "chest_wall_differs": contents.turned,
        "files": files,
    }
    manifest["notes"] = [*annotations.notes, *_notes(manifest)]
    manifest["checksum"] = layout.manifest_checksum(manifest)
    (folder / layout.MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _counts(frame: pd.DataFrame, patches: pd.DataFrame) -> dict[str, int]:
    labels = patches["label"]
    return {
        "images": len(frame),
        "patients": int(frame["patient_id"].nunique()),
        "patches": len(patches),
        "positive": int((labels == 1).sum()),
        "negative": int((labels == 0).sum()),
        "unknown": int((labels == -1).sum()),
    }


def _spacing(frame: pd.DataFrame) -> dict[str, Any]:
    """Median, least and greatest pixel edge in mm, None where no image tells it, and how many do not."""
    known = pd.to_numeric(frame["spacing_mm"]).dropna()
    statistics = {"median": known.median(), "min": known.min(), "max": known.max()}
    return {
        **{name: float(value) if len(known) else None for name, value in statistics.items()},
        "num_unknown": len(frame) - len(known),
    }


def _notes(manifest: dict[str, Any]) -> list[str]:
    """What is no fault but should be known."""
    notes = []
    spacing = manifest["spacing_mm"]
    if spacing["median"] is not None and spacing["max"] > _SPACING_RATIO * spacing["min"]:
        notes.append(f"pixels differ in size by over 20 %: {spacing['min']:g} to {spacing['max']:g} mm")
    turned = manifest["chest_wall_differs"]
    if turned:
        names = ", ".join([*turned[:_NAMED_IMAGES], "..."] if len(turned) > _NAMED_IMAGES else turned)
        part = f"{len(turned):,} of {manifest['counts']['images']:,}"
        notes.append(f"the pixels put the chest wall at the other edge in {part} images: {names}")
    return notes


def _without_folder(skipped: dict[str, str], data: Path) -> dict[str, str]:
    """The same with paths relative to the data folder, so that equal data give an equal checksum."""
    return {**skipped, "reason": skipped["reason"].replace(f"{data}/", "")}
