"""The phantom as a data folder: images.csv, regions.csv, images, and the twins.

Owns files and parallel work; what is on the images is drawn by the other modules.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmgkeras import files, tables
from mmgkeras.errors import InputError
from mmgkeras.progress import Track, untracked
from mmgkeras.schema import ImageRecord, Pixels, Region
from mmgkeras.sources.phantom.cases import Exposure, plan_exposures
from mmgkeras.sources.phantom.exposure import make_image

SPACING_RANGE_MM: Final = (0.05, 1.0)
VENDOR: Final = "phantom"
TWINS: Final = "twins"
"""Name of the folder, within the phantom's, of the same images without calcifications."""


@dataclass(frozen=True, slots=True)
class PhantomSummary:
    """How much was written."""

    num_patients: int
    num_images: int
    num_calcifications: int
    num_clusters: int


def write_phantom(
    folder: Path,
    *,
    num_patients: int,
    seed: int,
    spacing_mm: float = 0.1,
    bits: Literal[8, 16] = 8,
    has_twins: bool = False,
    num_workers: int = 2,
    overwrite: bool = False,
    track: Track = untracked,
) -> PhantomSummary:
    """Writes a data folder of phantom images with their exact truth, and its twins if asked to.

    Every image depends on the seed, its patient's number and the pixel size alone: neither on `num_patients` nor on
    `num_workers`.

    Raises:
        InputError: if the folder exists and `overwrite` is not set, or cannot be written; if `spacing_mm` is out of
            range.
    """
    if not SPACING_RANGE_MM[0] <= spacing_mm <= SPACING_RANGE_MM[1]:
        low, high = SPACING_RANGE_MM
        raise InputError(f"{folder}: spacing_mm of a phantom must be {low} to {high}. Received: {spacing_mm}")
    exposures = plan_exposures(num_patients=num_patients, seed=seed)
    with files.atomic_folder(folder, overwrite=overwrite) as temporary:
        places = [temporary, temporary / TWINS] if has_twins else [temporary]
        for place in places:
            (place / "images").mkdir(parents=True)

        def work(exposure: Exposure) -> list[Region]:
            return _write_image(exposure, places, spacing_mm=spacing_mm, bits=bits)

        with ThreadPoolExecutor(num_workers) as pool:
            pending = [pool.submit(work, exposure) for exposure in exposures]
            regions = [region for job in track(pending, "phantom images") for region in job.result()]
        for place in places:
            tables.write_images(
                place / "images.csv", [image_record(exposure, spacing_mm=spacing_mm) for exposure in exposures]
            )
        tables.write_regions(temporary / "regions.csv", regions)
        if has_twins:
            tables.write_regions(temporary / TWINS / "regions.csv", [])
    kinds = [region.kind for region in regions]
    return PhantomSummary(
        num_patients=num_patients,
        num_images=len(exposures),
        num_calcifications=kinds.count("calcification"),
        num_clusters=kinds.count("cluster"),
    )


def quantized(grey: NDArray[np.float32], *, bits: Literal[8, 16]) -> Pixels:
    """(H, W) uint8 or uint16 over the type's full range, of grey values 0 to 1."""
    if bits == 8:
        return np.round(grey * np.float32(255)).astype(np.uint8)
    return np.round(grey.astype(np.float64) * 65535).astype(np.uint16)


def _write_image(exposure: Exposure, places: list[Path], *, spacing_mm: float, bits: Literal[8, 16]) -> list[Region]:
    """Writes the image to the first place and its twin to the second, if there is one; gives the truth."""
    image = make_image(exposure, spacing_mm=spacing_mm)
    for place, grey in zip(places, (image.pixels, image.twin), strict=False):
        Image.fromarray(quantized(grey, bits=bits)).save(place / _path(exposure), compress_level=3)
    return image.regions


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
