"""How long a model takes for one mammogram: reading, dividing, inference and drawing apart (paper, 3.4.2).

The paper's processing time is the inference of all patches of a mammogram; the other parts are what a reader waits for
besides. Owns what is timed; scoring a store is `scoring`'s, and timing.csv is `study.run_files`'.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from mmgkeras import images
from mmgkeras.errors import InputError
from mmgkeras.overlay.draw import draw
from mmgkeras.patches.shards import promote
from mmgkeras.patches.store import PatchStore
from mmgkeras.savedmodel.classifier import Classifier
from mmgkeras.schema import Grid, ImageRecord, Mammogram, Pixels, ScoreMap
from mmgkeras.tables import read_images

Source = tuple[Path, dict[str, ImageRecord]]
"""The data folder that a store was made of, and its images by their image_id."""


def open_source(data: Path, image_ids: Sequence[str]) -> Source:
    """The folder with the records of the images.

    Raises:
        InputError: if images.csv cannot be read or lists not all of them.
    """
    path = data / "images.csv"
    records = {record.image_id: record for record in read_images(path)}
    for image_id in image_ids:
        if image_id not in records:
            raise InputError(f"{path}: lists no image {image_id}; give the data folder that the store was made of")
    return data, records


def classify_timed(
    classifier: Classifier, patches: Pixels, *, store: PatchStore, image_id: str, source: Source | None
) -> tuple[NDArray[np.float32], dict[str, float]]:
    """The probabilities (n,) of an image's patches (n, P, P, 1) in the store, and the seconds that each part took.

    Without a source only the inference is timed. With one, all patches of the image's grid must be given; the file is
    read from wherever it is, the system's cache included, and drawing makes the picture at native resolution and saves
    nothing.

    Raises:
        InputError: if the image of the data folder cannot be read, or is not that of the store, or the model's answers
            are no probabilities.
    """
    if source is None:
        return _inferred(classifier, patches, image_id=image_id)
    grid, (data, records) = store.grid(image_id), source
    start = time.perf_counter()
    mammogram = images.read(records[image_id], data)
    read_s = time.perf_counter() - start
    divide_s = _divided(mammogram, patches, grid=grid, store=store, data=data)
    probability, seconds = _inferred(classifier, patches, image_id=image_id)
    start = time.perf_counter()
    draw(mammogram, ScoreMap(image_id, grid, probability.reshape(grid.rows, grid.cols)))
    return probability, {"read_s": read_s, "divide_s": divide_s, **seconds, "draw_s": time.perf_counter() - start}


def _inferred(
    classifier: Classifier, patches: Pixels, *, image_id: str
) -> tuple[NDArray[np.float32], dict[str, float]]:
    start = time.perf_counter()
    try:
        probability = classifier.classify(patches)
    except InputError as error:
        raise InputError(f"image {image_id}: {error}") from error
    return probability, {"infer_s": time.perf_counter() - start}


def _divided(mammogram: Mammogram, patches: Pixels, *, grid: Grid, store: PatchStore, data: Path) -> float:
    """The seconds that dividing a mammogram takes, resampling included; refuses one that is not what the store has."""
    start = time.perf_counter()
    resampled = images.at_spacing(mammogram, store.manifest.grid.spacing_mm)
    shape = resampled.pixels.shape
    if shape == (grid.height, grid.width):
        cut = cast(Pixels, grid.cut(resampled.pixels).reshape(-1, grid.patch_px, grid.patch_px, 1))
        seconds = time.perf_counter() - start
        if np.array_equal(promote(cut) if store.pixel_type == "uint16" else cut, patches):
            return seconds
    raise InputError(
        f"{data}: is not the data folder of {store.path}: image {mammogram.record.image_id} has {shape[0]} x "
        f"{shape[1]} pixels, in the store {grid.height} x {grid.width}, or other gray values"
    )
