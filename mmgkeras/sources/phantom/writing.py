"""The phantom as a data folder: images.csv, regions.csv, images, and the twins.

Owns files; what is on the images is drawn by the other modules.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmgkeras import files, tables
from mmgkeras.config import PhantomConfig
from mmgkeras.errors import InputError
from mmgkeras.locks import output_lock
from mmgkeras.processes import Processes
from mmgkeras.progress import Track, untracked
from mmgkeras.schema import ImageRecord, Pixels, Region
from mmgkeras.sources.phantom.cases import Exposure, plan_exposures
from mmgkeras.sources.phantom.exposure import PLAIN_PHANTOM, make_image

GENERATOR_VERSION: Final = 2
"""Goes up whenever equal settings no longer give equal images. Version 1 gave the plain ones of version 2."""
PROVENANCE: Final = "phantom.json"
"""What the images were made by and their checksum, so that a network's training data can be proven."""
SPACING_RANGE_MM: Final = (0.05, 1.0)
VENDOR: Final = "phantom"
TWINS: Final = "twins"
"""Name of the folder, within the phantom's, of the same images without calcifications."""
_TABLES_AND_IMAGES: Final = ("images.csv", "regions.csv", "images/*.png")
_OWNED: Final = (PROVENANCE, *_TABLES_AND_IMAGES, *(f"{TWINS}/{name}" for name in _TABLES_AND_IMAGES))

_Written = tuple[list[Region], str]
"""The truth of an image and the SHA-256 of its pixels."""


def write_phantom(
    folder: Path,
    *,
    num_patients: int,
    seed: int,
    spacing_mm: float | Sequence[float] = 0.1,
    bits: Literal[8, 16] = 8,
    config: PhantomConfig = PLAIN_PHANTOM,
    has_twins: bool = False,
    num_workers: int = 1,
    overwrite: bool = False,
    track: Track = untracked,
) -> tuple[int, list[Region]]:
    """Writes a data folder of phantom images with their exact truth, and its twins; how many images, and the truth.

    Every image depends on the seed, its patient's number, the pixel size and the configuration alone: neither on
    `num_patients` nor on `num_workers`, the number of processes. Of several pixel sizes the patients have one each, in
    turn.

    Raises:
        InputError: if the folder exists and `overwrite` is not set, or cannot be written; if `spacing_mm` is out of
            range.
    """
    sizes_mm = tuple(spacing_mm) if isinstance(spacing_mm, Sequence) else (spacing_mm,)
    low, high = SPACING_RANGE_MM
    if not sizes_mm or not all(low <= size_mm <= high for size_mm in sizes_mm):
        raise InputError(f"{folder}: spacing_mm of a phantom must be {low} to {high}. Received: {spacing_mm}")
    exposures = plan_exposures(num_patients=num_patients, seed=seed)
    tasks = [(exposure, sizes_mm[(exposure.patient.number - 1) % len(sizes_mm)]) for exposure in exposures]
    with output_lock(folder), files.atomic_folder(folder, overwrite=overwrite, owned=_OWNED) as temporary:
        places = [temporary, temporary / TWINS] if has_twins else [temporary]
        for place in places:
            (place / "images").mkdir(parents=True)
        write = partial(_write_image, places=places, bits=bits, config=config)
        made = [*Processes(num_workers).map(write, tasks, label="phantom images", track=track)]
        regions = [region for found, _ in made for region in found]
        records = [image_record(exposure, spacing_mm=size_mm) for exposure, size_mm in tasks]
        for place in places:
            tables.write_images(place / "images.csv", records)
            tables.write_regions(place / "regions.csv", regions if place == temporary else [])
        provenance = {
            "generator_version": GENERATOR_VERSION,
            "seed": seed,
            "patients": num_patients,
            "spacing_mm": spacing_mm,
            "bits": bits,
            "phantom": config.model_dump(mode="json"),
            "first_image_sha256": made[0][1],
            "pixels_sha256": hashlib.sha256("".join(digest for _, digest in made).encode()).hexdigest(),
            "regions_sha256": files.sha256_file(temporary / "regions.csv"),
        }
        (temporary / PROVENANCE).write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
    return len(exposures), regions


def quantized(gray: NDArray[np.float32], *, bits: Literal[8, 16]) -> Pixels:
    """(H, W) uint8 or uint16 over the type's full range, of gray values 0 to 1."""
    if bits == 8:
        return np.round(gray * np.float32(255)).astype(np.uint8)
    return np.round(gray.astype(np.float64) * 65535).astype(np.uint16)


def _write_image(
    task: tuple[Exposure, float], *, places: list[Path], bits: Literal[8, 16], config: PhantomConfig
) -> _Written:
    """Writes an image of a pixel size to the first place, its twin to the second if there is one; truth and digest."""
    exposure, spacing_mm = task
    image = make_image(exposure, spacing_mm=spacing_mm, config=config)
    pixels = [quantized(gray, bits=bits) for gray in (image.pixels, image.twin)[: len(places)]]
    for place, values in zip(places, pixels, strict=True):
        Image.fromarray(values).save(place / _path(exposure), compress_level=3)
    return image.regions, hashlib.sha256(pixels[0].tobytes()).hexdigest()


def _path(exposure: Exposure) -> str:
    return f"images/{exposure.image_id}.png"


def image_record(exposure: Exposure, *, spacing_mm: float) -> ImageRecord:
    """The row of images.csv of an exposure."""
    return ImageRecord(
        image_id=exposure.image_id,
        path=_path(exposure),
        patient_id=exposure.patient.patient_id,
        laterality=exposure.laterality,
        view=exposure.view,
        annotation="complete",
        spacing_mm=spacing_mm,
        density=exposure.patient.density,
        age=exposure.patient.age,
        vendor=VENDOR,
    )
