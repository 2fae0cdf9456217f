"""The patch store as others use it: a folder of raw pixels, labels and provenance that was checked when opened.

    store.json         format, grid, pixel type, counts, sizes and SHA-256 of the files, what was skipped, provenance
    images.csv         the images that went in, with their size, grid and a digest of their pixels
    patches.csv        image_id, patient_id, row, col, label, tissue: one row for each patch, in the order of the shards
    patches-NNNNN.npy  (N, P, P, 1) uint8 or uint16, as stored in the images; padding is 0
    folds.csv          the subset of each patient, once `split` has written it

Owns the format and its checks; `prepare` writes it, `split` adds folds.csv.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.errors import InputError, InputFaultsError
from mmgkeras.files import sha256_file
from mmgkeras.json_files import read_json, read_path
from mmgkeras.patches.manifest import IMAGES, MANIFEST, PATCHES, FileFacts, StoreManifest
from mmgkeras.patches.region_masks import scaled_region
from mmgkeras.patches.shards import ShardReader
from mmgkeras.patches.store_tables import OWN_PREFIX, grids_of, read_store_images, read_store_patches
from mmgkeras.schema import Grid, Pixels, PixelType, Region
from mmgkeras.tables import read_regions

FOLDS: Final = "folds.csv"
STORE_FILES: Final = (MANIFEST, IMAGES, PATCHES, FOLDS, "patches-*.npy")
"""Patterns of all files of a store, the one that makes it one first."""


@dataclass(frozen=True)
class PatchStore:
    """An open store.

    Attributes:
        path: of its folder.
        manifest: what store.json says.
        patches: one row for each patch, in the order of `gather`: image_id and patient_id str, row and col int64 in
            the image's grid, label int8 of 1, 0, -1, tissue float32, the part of the patch that is breast.
        images: one row for each image: the columns of images.csv (str; spacing_mm and age float64; NaN where empty),
            height, width, chest_wall_side, stride_px, pixel_sha256, num_patches; where they were resampled also their
            native_height, native_width and native_spacing_mm, which was the image's own.
    """

    path: Path
    manifest: StoreManifest
    patches: pd.DataFrame
    images: pd.DataFrame

    @classmethod
    def open(cls, path: Path, *, verify: bool = False) -> "PatchStore":
        """The store in a folder, its tables checked in full; its shards by size, or in full with `verify`.

        Raises:
            InputError: if there is no store, or it was written in another format.
            InputFaultsError: every file that is missing or not as it was written.
        """
        if not (path / MANIFEST).exists():
            raise InputError(f"{path}: is not a patch store: it has no {MANIFEST}; mmgkeras prepare makes one")
        manifest = read_json(path / MANIFEST, StoreManifest, hint="prepare the store again")
        faults = [
            fault
            for name, file in manifest.files.items()
            if (fault := _file_fault(path / name, file, verify=verify or name in (IMAGES, PATCHES)))
        ]
        if faults:
            raise InputFaultsError(faults)
        images = read_store_images(path / IMAGES, manifest)
        patches = read_store_patches(path / PATCHES, manifest, images=images)
        store = cls(path=path, manifest=manifest, patches=patches, images=images)
        store._shards  # noqa: B018 - maps them and so checks their headers
        return store

    @property
    def patch_px(self) -> int:
        """The edge of a patch in pixels."""
        return self.manifest.grid.patch_px

    @property
    def stride_px(self) -> int:
        """The distance between neighbouring patches in pixels."""
        return self.manifest.grid.stride_px

    @property
    def pixel_type(self) -> PixelType:
        """The numpy name of the type of every pixel: uint8 or uint16."""
        return self.manifest.pixel_type

    @property
    def spacing_mm(self) -> float | None:
        """The median length of a pixel's edge over the images that tell it; None if none does."""
        return self.manifest.spacing_mm.median

    @property
    def own_columns(self) -> dict[str, "pd.Series[str]"]:
        """Each further column of images.csv by its name there: the text of each image_id, "" where it is empty."""
        images = self.images.set_index("image_id")
        own = [name for name in images.columns if name.startswith(OWN_PREFIX)]
        return {name.removeprefix(OWN_PREFIX): images[name].fillna("") for name in own}

    @property
    def checksum(self) -> str:
        """The SHA-256 of what the store holds: equal for stores made of the same data in the same way."""
        return self.manifest.checksum

    @property
    def source(self) -> Path:
        """The data folder that it was made of; it need not be there any more."""
        return read_path(self.manifest.source, self.path)

    @property
    def num_bytes(self) -> int:
        """The size of all files that hold data."""
        return sum(file.bytes for file in self.manifest.files.values())

    def grid(self, image_id: str) -> Grid:
        """How one image was divided.

        Raises:
            KeyError: if the store has no such image.
        """
        return self._grids[image_id]

    def native_shape(self, image_id: str) -> tuple[int, int]:
        """(height, width) of an image before it was resampled; as divided if it was not.

        Raises:
            KeyError: if the store has no such image.
        """
        return self._native_shapes[image_id]

    def read_regions(self, path: Path) -> list[Region]:
        """The regions of a regions.csv in pixels of the store's images; those of other images stay as they are.

        Raises:
            InputError: if the file cannot be read.
            InputFaultsError: every fault in it, and every region that cannot be drawn on its image.
        """
        placed, faults = [], []
        lines: dict[tuple[str, str], int] = {}
        for region in read_regions(path, lines=lines):
            grid = self._grids.get(region.image_id)
            if grid is None:
                placed.append(region)
                continue
            try:
                shape = self.native_shape(region.image_id)
                placed.append(scaled_region(region, shape=shape, to=(grid.height, grid.width)))
            except InputError as error:
                faults.append(f"{path}:{lines[region.image_id, region.region_id]}: {error}")
        if faults:
            raise InputFaultsError(faults)
        return placed

    def gather(self, indices: NDArray[np.integer], *, out: Pixels | None = None) -> Pixels:
        """(n, P, P, 1) raw pixels of the patches `indices` (n,), rows of `patches`, in the order asked for.

        They are put into `out` where it is given: an array of that shape and of the store's type, C-contiguous.

        Raises:
            IndexError: for an index below 0 or beyond the last patch.
            InputError: if a shard was cut or taken away meanwhile.
        """
        return self._shards.gather(indices, out=out)

    @cached_property
    def _grids(self) -> dict[str, Grid]:
        return dict(zip(self.images["image_id"], grids_of(self.images, self.manifest), strict=True))

    @cached_property
    def _native_shapes(self) -> dict[str, tuple[int, int]]:
        prefix = "" if self.manifest.grid.spacing_mm is None else "native_"
        shapes = zip(*(self.images[prefix + name].tolist() for name in ("height", "width")), strict=True)
        return dict(zip(self.images["image_id"], shapes, strict=True))

    @cached_property
    def _shards(self) -> ShardReader:
        return ShardReader(
            [self.path / name for name in self.manifest.shards],
            patches_per_shard=self.manifest.patches_per_shard,
            shape=(self.manifest.counts.patches, self.patch_px, self.patch_px, 1),
            pixel_type=self.pixel_type,
        )


def _file_fault(path: Path, file: FileFacts, *, verify: bool) -> str | None:
    try:
        size = path.stat().st_size
        if size != file.bytes:
            return f"{path}: must have {file.bytes:,} bytes, as store.json says. Received: {size:,}"
        if verify and sha256_file(path) != file.sha256:
            return f"{path}: is not as it was written, its checksum differs; prepare the store again"
    except OSError as error:
        return f"{path}: cannot be read: {error.strerror or error}"
    return None
