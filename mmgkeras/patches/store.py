"""The patch store as others use it: a folder of raw pixels, labels and provenance that was checked when opened.

    store.json         format, grid, pixel type, counts, sizes and SHA-256 of the files, what was skipped, provenance
    images.csv         the images that went in, with their size, grid and a digest of their pixels
    patches.csv        image_id, patient_id, row, col, label, tissue: one row for each patch, in the order of the shards
    patches-NNNNN.npy  (N, P, P, 1) uint8 or uint16, as stored in the images; padding is 0
    folds.csv          the subset of each patient, once `split` has written it

Owns the format and its checks; `prepare` writes it, `split` adds folds.csv.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.errors import InputError, InputFaultsError
from mmgkeras.files import sha256_file
from mmgkeras.patches.shards import ShardReader
from mmgkeras.schema import Grid, Pixels, Side
from mmgkeras.tables import IMAGE_COLUMNS
from mmgkeras.tables.cells import from_cells

FORMAT_VERSION: Final = 1
MANIFEST: Final = "store.json"
IMAGES: Final = "images.csv"
PATCHES: Final = "patches.csv"
FOLDS: Final = "folds.csv"
STORE_FILES: Final = (MANIFEST, IMAGES, PATCHES, FOLDS, "patches-*.npy")
"""Patterns of all files of a store, the one that makes it one first."""
STORE_IMAGE_COLUMNS: Final = (
    *IMAGE_COLUMNS,
    "height",
    "width",
    "chest_wall_side",
    "stride_px",
    "pixel_sha256",
    "num_patches",
)
PATCH_COLUMNS: Final = ("image_id", "patient_id", "row", "col", "label", "tissue")
PROVENANCE: Final = ("created", "source", "mmgkeras_version")
"""Keys of the manifest that say how the store came to be and not what is in it; its checksum leaves them out."""

_REQUIRED_TEXT: Final = ("image_id", "path", "patient_id", "laterality", "view", "annotation")
_NUMBERS: Final = {"spacing_mm": "float64", "age": "float64", "height": "int64", "width": "int64"} | {
    "stride_px": "int64",
    "num_patches": "int64",
}


@dataclass(frozen=True)
class PatchStore:
    """An open store.

    Attributes:
        path: of its folder.
        manifest: what store.json says.
        patches: one row for each patch, in the order of `gather`: image_id and patient_id str, row and col int64 in
            the image's grid, label int8 of 1, 0, -1, tissue float32, the part of the patch that is breast.
        images: one row for each image: the columns of images.csv (str; spacing_mm and age float64; NaN where empty),
            height, width, chest_wall_side, stride_px, pixel_sha256, num_patches.
    """

    path: Path
    manifest: Mapping[str, Any]
    patches: pd.DataFrame
    images: pd.DataFrame

    @classmethod
    def open(cls, path: Path, *, verify: bool = False) -> "PatchStore":
        """The store in a folder, its tables checked in full; its shards by size, or in full with `verify`.

        Raises:
            InputError: if there is no store, or it was written in another format.
            InputFaultsError: every file that is missing or not as it was written.
        """
        manifest = _read_manifest(path)
        faults = [
            fault
            for name, file in manifest["files"].items()
            if (fault := _file_fault(path / name, file, verify=verify or name in (IMAGES, PATCHES)))
        ]
        if faults:
            raise InputFaultsError(faults)
        return cls(path=path, manifest=manifest, patches=_read_patches(path), images=_read_images(path))

    @property
    def patch_px(self) -> int:
        """The edge of a patch in pixels."""
        return int(self.manifest["grid"]["patch_px"])

    @property
    def stride_px(self) -> int:
        """The distance between neighbouring patches in pixels."""
        return int(self.manifest["grid"]["stride_px"])

    @property
    def pixel_type(self) -> str:
        """The numpy name of the type of every pixel: uint8 or uint16."""
        return str(self.manifest["pixel_type"])

    @property
    def spacing_mm(self) -> float | None:
        """The median length of a pixel's edge over the images that tell it; None if none does."""
        spacing = self.manifest["spacing_mm"]["median"]
        return None if spacing is None else float(spacing)

    @property
    def checksum(self) -> str:
        """The SHA-256 of what the store holds: equal for stores made of the same data in the same way."""
        return str(self.manifest["checksum"])

    @property
    def num_bytes(self) -> int:
        """The size of all files that hold data."""
        return sum(int(file["bytes"]) for file in self.manifest["files"].values())

    def grid(self, image_id: str) -> Grid:
        """How one image was divided.

        Raises:
            KeyError: if the store has no such image.
        """
        height, width, side = self._grids[image_id]
        return Grid(height, width, self.patch_px, self.stride_px, side)

    def gather(self, indices: NDArray[np.integer], *, out: Pixels | None = None) -> Pixels:
        """(n, P, P, 1) raw pixels of the patches `indices` (n,), rows of `patches`, in the order asked for.

        They are put into `out` where it is given: an array of that shape and of the store's type, C-contiguous.

        Raises:
            IndexError: for an index below 0 or beyond the last patch.
        """
        return self._shards.gather(indices, out=out)

    @cached_property
    def _shards(self) -> ShardReader:
        names = sorted(name for name in self.manifest["files"] if name.endswith(".npy"))
        return ShardReader(
            [self.path / name for name in names], patches_per_shard=int(self.manifest["patches_per_shard"])
        )

    @cached_property
    def _grids(self) -> dict[str, tuple[int, int, Side]]:
        columns = (self.images[name].tolist() for name in ("image_id", "height", "width", "chest_wall_side"))
        return {image_id: (height, width, side) for image_id, height, width, side in zip(*columns, strict=True)}


def describe_file(path: Path) -> dict[str, Any]:
    """What the manifest says of a file: its size in bytes and its SHA-256."""
    return {"bytes": path.stat().st_size, "sha256": sha256_file(path)}


def manifest_checksum(manifest: Mapping[str, Any]) -> str:
    """The SHA-256 of the manifest without its provenance and without the checksum itself, in a canonical form."""
    content = {key: value for key, value in manifest.items() if key not in (*PROVENANCE, "checksum")}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _read_manifest(path: Path) -> dict[str, Any]:
    place = path / MANIFEST
    try:
        manifest = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: is not a patch store: it has no {MANIFEST}; mmgkeras prepare makes one") from error
    except OSError as error:
        raise InputError(f"{place}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{place}: is damaged; prepare the store again. Received: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format_version") != FORMAT_VERSION:
        received = manifest.get("format_version") if isinstance(manifest, dict) else manifest
        raise InputError(f"{place}: format_version must be {FORMAT_VERSION}. Received: {received!r}")
    if manifest.get("checksum") != manifest_checksum(manifest):
        raise InputError(f"{place}: is not as it was written, its checksum differs; prepare the store again")
    return manifest


def _file_fault(path: Path, file: Mapping[str, Any], *, verify: bool) -> str | None:
    try:
        size = path.stat().st_size
        if size != file["bytes"]:
            return f"{path}: must have {file['bytes']:,} bytes, as store.json says. Received: {size:,}"
        if verify and sha256_file(path) != file["sha256"]:
            return f"{path}: is not as it was written, its checksum differs; prepare the store again"
    except OSError as error:
        return f"{path}: cannot be read: {error.strerror or error}"
    return None


def _read_patches(path: Path) -> pd.DataFrame:
    types = {"image_id": "str", "patient_id": "str", "row": "int64", "col": "int64", "label": "int8"}
    return from_cells(pd.read_csv(path / PATCHES, dtype={**types, "tissue": "float32"}, keep_default_na=False))


def _read_images(path: Path) -> pd.DataFrame:
    types = {name: _NUMBERS.get(name, "str") for name in STORE_IMAGE_COLUMNS}
    empty = {name: [""] for name in IMAGE_COLUMNS if name not in _REQUIRED_TEXT}
    return from_cells(pd.read_csv(path / IMAGES, dtype=types, keep_default_na=False, na_values=empty))
