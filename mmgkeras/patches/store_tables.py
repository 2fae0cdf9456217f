"""patches.csv and images.csv of a patch store, held against each other and against store.json.

Owns their columns and rules. They are written by `prepare` alone, so that a fault in one means that the store is to be
prepared again; they are read by pandas, for a store may have millions of patches.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from mmgkeras.errors import InputError, shown
from mmgkeras.json_files import CONTROL
from mmgkeras.patches.manifest import StoreManifest
from mmgkeras.schema import ANNOTATIONS, CALCIFICATION, LATERALITIES, NO_CALCIFICATION, SIDES, UNKNOWN, VIEWS, Grid
from mmgkeras.tables.cells import from_cells
from mmgkeras.tables.data_tables import IMAGE_COLUMNS, REQUIRED

_OF_GRID: Final = ("height", "width", "chest_wall_side", "stride_px", "pixel_sha256", "num_patches")
STORE_IMAGE_COLUMNS: Final = (*IMAGE_COLUMNS, *_OF_GRID)
NATIVE_COLUMNS: Final = ("native_height", "native_width", "native_spacing_mm")
"""Of the image before it was resampled; in stores with `patches.spacing_mm` alone."""
OWN_PREFIX: Final = "own_"
"""Begins, in a store, the names of further columns that the data folder's images.csv has."""
PATCH_COLUMNS: Final = ("image_id", "patient_id", "row", "col", "label", "tissue")

_AGAIN: Final = "prepare the store again"
_OPTIONAL: Final = IMAGE_COLUMNS[len(REQUIRED) :]
_PATCH_TYPES: Final = dict(zip(PATCH_COLUMNS, ("str", "str", "int64", "int64", "int8", "float32"), strict=True))
_IMAGE_TYPES: Final = (
    dict.fromkeys(STORE_IMAGE_COLUMNS, "str")
    | dict.fromkeys(("spacing_mm", "age"), "float64")
    | dict.fromkeys(("height", "width", "stride_px", "num_patches"), "int64")
)
_NATIVE_TYPES: Final = dict(zip(NATIVE_COLUMNS, ("int64", "int64", "float64"), strict=True))
_ALLOWED: Final[Mapping[str, tuple[str, ...]]] = {
    "laterality": LATERALITIES,
    "view": VIEWS,
    "annotation": ANNOTATIONS,
    "chest_wall": SIDES,
    "chest_wall_side": SIDES,
}
_MAX_EDGE_PX: Final = 10**6
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def read_store_images(path: Path, manifest: StoreManifest) -> pd.DataFrame:
    """One row for each image: texts str, spacing_mm and age float64, sizes int64; NaN where empty.

    Where the store was resampled it has `NATIVE_COLUMNS` too.

    Raises:
        InputError: if the file cannot be read, a field breaks its rule, or the images are not those of store.json.
    """
    is_resampled = manifest.grid.spacing_mm is not None
    types = _IMAGE_TYPES | (_NATIVE_TYPES if is_resampled else {})
    images = _read(path, types=types, na_values={name: [""] for name in (*_OPTIONAL, "native_spacing_mm")})
    for name in images.columns:
        if types.get(name, "str") == "str":
            _check(path, images, name, _text_is_right(images[name], name=name))
    native = NATIVE_COLUMNS if is_resampled else ()
    for name, high in (("spacing_mm", 100), ("age", 150), *((name, 100) for name in native[2:])):
        values = images[name]
        _check(path, images, name, values.isna() | ((values > 0) & (values <= high)))
    for name in ("height", "width", *native[:2]):
        _check(path, images, name, images[name].between(1, _MAX_EDGE_PX))
    _check(path, images, "image_id", ~images["image_id"].duplicated())
    _check(path, images, "stride_px", images["stride_px"] == manifest.grid.stride_px)
    grids = grids_of(images, manifest)
    _check(path, images, "num_patches", images["num_patches"] == [grid.rows * grid.cols for grid in grids])
    counts, found = manifest.counts, spacing_facts(images["spacing_mm"])
    told = [getattr(manifest.spacing_mm, name) for name in found]
    spacings = np.array([told, list(found.values())], np.float64)  # NaN for None
    same_spacing = np.allclose(spacings[0], spacings[1], rtol=1e-6, atol=0, equal_nan=True)
    if (counts.images, counts.patients) != (len(images), images["patient_id"].nunique()) or not same_spacing:
        raise InputError(f"{path}: holds other images than store.json counts; {_AGAIN}")
    return images


def read_store_patches(path: Path, manifest: StoreManifest, *, images: pd.DataFrame) -> pd.DataFrame:
    """One row for each patch: ids str, row and col int64, label int8, tissue float32.

    Raises:
        InputError: if the file cannot be read, a field breaks its rule, or the patches are not all those of the images'
            grids in their order, or not those that store.json counts.
    """
    patches = _read(path, types=_PATCH_TYPES)
    num_patches = images["num_patches"].to_numpy()
    if not len(patches) == num_patches.sum() == manifest.counts.patches:
        rule = f"{manifest.counts.patches:,} rows, as store.json says, and {num_patches.sum():,} by images.csv"
        raise InputError(f"{path}: must have {rule}. Received: {len(patches):,}; {_AGAIN}")
    image = np.repeat(np.arange(len(images)), num_patches)
    place = np.arange(len(patches)) - np.repeat(np.cumsum(num_patches) - num_patches, num_patches)
    cols = np.array([grid.cols for grid in grids_of(images, manifest)], np.int64)[image]
    for name in ("image_id", "patient_id"):
        _check(path, patches, name, patches[name].to_numpy() == images[name].to_numpy()[image])
    _check(path, patches, "row", patches["row"].to_numpy() == place // cols)
    _check(path, patches, "col", patches["col"].to_numpy() == place % cols)
    _check(path, patches, "label", patches["label"].isin((CALCIFICATION, NO_CALCIFICATION, UNKNOWN)))
    _check(path, patches, "tissue", patches["tissue"].between(0, 1))
    if (counted := label_counts(patches["label"])) != {name: getattr(manifest.counts, name) for name in counted}:
        raise InputError(f"{path}: holds other labels than store.json counts. Received: {shown(counted)}; {_AGAIN}")
    return patches


def label_counts(labels: "pd.Series[Any]") -> dict[str, int]:
    """How many patches are positive, negative and unknown."""
    kinds = {"positive": CALCIFICATION, "negative": NO_CALCIFICATION, "unknown": UNKNOWN}
    return {name: int((labels == label).sum()) for name, label in kinds.items()}


def spacing_facts(spacing_mm: "pd.Series[float]") -> dict[str, Any]:
    """Median, least and greatest pixel edge in mm, None where no image tells it, and how many do not."""
    known = spacing_mm.dropna()
    facts = {"median": known.median(), "min": known.min(), "max": known.max()}
    told = {name: float(value) if len(known) else None for name, value in facts.items()}
    return {**told, "num_unknown": len(spacing_mm) - len(known)}


def _read(
    path: Path, *, types: Mapping[str, str], na_values: Mapping[str, Sequence[str]] | None = None
) -> pd.DataFrame:
    try:
        with np.errstate(all="ignore"):  # numbers that no type holds; what becomes of them is checked
            frame = pd.read_csv(
                path, dtype=defaultdict(lambda: "str", types), keep_default_na=False, na_values=na_values
            )
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, OverflowError, MemoryError) as error:
        raise InputError(f"{path}: is no such table: {str(error).splitlines()[0]}; {_AGAIN}") from error
    named = list(frame.columns)
    own = [name for name in named if name.startswith(OWN_PREFIX)]
    if named != [*types, *own] or not isinstance(frame.index, pd.RangeIndex):
        raise InputError(f"{path}: must have the columns {', '.join(types)}. Received: {shown(named)}; {_AGAIN}")
    return from_cells(frame)


def _text_is_right(column: "pd.Series[Any]", *, name: str) -> list[bool]:
    is_optional = name in _OPTIONAL or name.startswith(OWN_PREFIX)
    allowed = _ALLOWED.get(name)

    def is_right(text: object) -> bool:
        if not isinstance(text, str):
            return is_optional
        if allowed is not None:
            return text in allowed
        if name == "pixel_sha256":
            return _SHA256.fullmatch(text) is not None
        if is_optional:
            return CONTROL.search(re.sub(r"[\t\n\r]", "", text)) is None
        return text == text.strip() != "" and CONTROL.search(text) is None

    return [is_right(text) for text in column]


def grids_of(images: pd.DataFrame, manifest: StoreManifest) -> list[Grid]:
    """How each image was divided."""
    edges = zip(*(images[name].tolist() for name in ("height", "width", "chest_wall_side")), strict=True)
    grid = manifest.grid
    return [Grid(height, width, grid.patch_px, grid.stride_px, side) for height, width, side in edges]


def _check(path: Path, frame: pd.DataFrame, name: str, is_right: Any) -> None:
    """Refuses a table for the first row whose field is wrong."""
    wrong = np.flatnonzero(~np.asarray(is_right, dtype=np.bool_))
    if wrong.size:
        received = frame[name].iloc[wrong[0]]
        raise InputError(f"{path}: row {wrong[0] + 1}: {name} is wrong. Received: {shown(received)}; {_AGAIN}")
