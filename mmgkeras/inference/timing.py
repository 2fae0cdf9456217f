"""How long a model takes for each mammogram: reading, dividing, inference and drawing apart (paper, 3.4.2).

Owns timing.csv. The paper's processing time is the inference of all patches of a mammogram; the other parts are what a
reader waits for besides.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pandas as pd

from mmgkeras import images
from mmgkeras.errors import InputError
from mmgkeras.files import atomic_file
from mmgkeras.overlay.draw import draw
from mmgkeras.patches.store import PatchStore
from mmgkeras.progress import Track, untracked
from mmgkeras.savedmodel.classifier import Classifier, load
from mmgkeras.schema import Grid, ImageRecord, Pixels, ScoreMap
from mmgkeras.tables import read_images
from mmgkeras.tables.cells import to_cells

TIMING_COLUMNS: Final = ("image_id", "num_patches", "is_cold", "read_s", "divide_s", "infer_s", "draw_s")


def time_mammograms(
    model: Path,
    store: PatchStore,
    *,
    image_ids: Sequence[str],
    data: Path | None = None,
    track: Track = untracked,
) -> pd.DataFrame:
    """Seconds for each mammogram, and before them those of the first one straight after the model was loaded.

    Args:
        model: a SavedModel's folder. It is loaded anew, so that the first run is cold.
        store: which images were divided how; without `data` also their pixels.
        image_ids: of the store, in the order of the work.
        data: the data folder with the image files. Without it only the inference is measured.
        track: called with the image_ids.

    Returns:
        Columns TIMING_COLUMNS: is_cold is 1 in the first row, of the first image, which comes again warm, and 0 in all
        others; seconds are NaN where not measured. Reading is from wherever the file is, the system's cache included;
        drawing makes the picture at native resolution and saves nothing.

    Raises:
        InputError: if the model, the data folder or an image of it cannot be used.
    """
    if not image_ids:
        return pd.DataFrame(columns=list(TIMING_COLUMNS))
    records = None if data is None else _records(data, image_ids)
    places = store.patches.groupby("image_id", sort=False).indices
    classifier = load(model)

    def timed(image_id: str) -> dict[str, Any]:
        if records is None or data is None:
            patches = store.gather(np.asarray(places[image_id]))
            return {"num_patches": len(patches), "infer_s": _inference(classifier, patches)[1]}
        return _timed_whole(classifier, store, record=records[image_id], data=data)

    rows = [{"image_id": image_ids[0], "is_cold": 1, **timed(image_ids[0])}]
    rows += [{"image_id": image_id, "is_cold": 0, **timed(image_id)} for image_id in track(image_ids, "time")]
    return pd.DataFrame(rows, columns=list(TIMING_COLUMNS))


def write_timing(path: Path, frame: pd.DataFrame, *, overwrite: bool = False) -> None:
    """Writes timing.csv; what was not measured is an empty field.

    Raises:
        InputError: if the file exists and `overwrite` is not set, or cannot be written.
    """
    with atomic_file(path, overwrite=overwrite) as temporary:
        to_cells(frame).to_csv(
            temporary, columns=list(TIMING_COLUMNS), index=False, float_format="%.6f", lineterminator="\n"
        )


def _timed_whole(classifier: Classifier, store: PatchStore, *, record: ImageRecord, data: Path) -> dict[str, Any]:
    """Every part of one mammogram's way from its file to its picture."""
    start = time.perf_counter()
    mammogram = images.read(record, data)
    read = time.perf_counter()
    height, width = mammogram.pixels.shape
    expected = store.grid(record.image_id)
    if (height, width) != (expected.height, expected.width):
        raise InputError(
            f"{data}: is not the data folder of {store.path}: image {record.image_id} has {height} x {width} pixels, "
            f"in the store {expected.height} x {expected.width}"
        )
    divided = time.perf_counter()
    grid = Grid(height, width, store.patch_px, store.stride_px, mammogram.record.chest_wall_side)
    patches = cast(Pixels, grid.cut(mammogram.pixels).reshape(-1, store.patch_px, store.patch_px, 1))
    divide_s = time.perf_counter() - divided
    probabilities, infer_s = _inference(classifier, patches)
    start_drawing = time.perf_counter()
    draw(mammogram, ScoreMap(record.image_id, grid, probabilities.reshape(grid.rows, grid.cols)))
    return {
        "num_patches": len(patches),
        "read_s": read - start,
        "divide_s": divide_s,
        "infer_s": infer_s,
        "draw_s": time.perf_counter() - start_drawing,
    }


def _inference(classifier: Classifier, patches: Pixels) -> tuple[Any, float]:
    start = time.perf_counter()
    probabilities = classifier.classify(patches)
    return probabilities, time.perf_counter() - start


def _records(data: Path, image_ids: Sequence[str]) -> dict[str, ImageRecord]:
    """The records of the images, each there."""
    path = data / "images.csv"
    records = {record.image_id: record for record in read_images(path)}
    for image_id in image_ids:
        if image_id not in records:
            raise InputError(f"{path}: lists no image {image_id}; give the data folder that the store was made of")
    return records
