"""The detector that comes with the package, as a SavedModel: exported on first use, kept in the user's cache.

Owns where it is kept, and the thresholds that it brings along. Its weights are `models.weights`'.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field

from mmgkeras.config import ModelConfig
from mmgkeras.errors import InputError
from mmgkeras.evaluation.operating_point import OperatingPoint
from mmgkeras.json_files import JsonModel, Sha256, read_json
from mmgkeras.models.network import build_network
from mmgkeras.models.weights import DETECTOR, DETECTOR_FOLDER, PROVENANCE, check_detector, load_detector
from mmgkeras.savedmodel.export import export
from mmgkeras.savedmodel.metadata import ModelMetadata

CACHE: Final = "~/.cache/mmgkeras"
MARKS_PER_IMAGE: Final = 0.5
"""False marks an image of the detector's own threshold."""


class FalseMarks(JsonModel):
    """How many false marks an image of unseen phantoms has at a threshold, and the part of the findings that it finds.

    Attributes:
        per_image: false marks, on the breast.
        threshold: the lowest with no more.
        sensitivity: of the findings: cluster regions, and marks that lie in none.
        cluster_sensitivity: of the cluster regions alone.
    """

    per_image: Annotated[float, Field(gt=0)]
    threshold: Annotated[float, Field(gt=0, le=1)]
    sensitivity: Annotated[float, Field(ge=0, le=1)]
    cluster_sensitivity: Annotated[float, Field(ge=0, le=1)]


class DetectorRecord(JsonModel):
    """What lies beside the weights.

    Attributes:
        weights_sha256: of the weights.
        model: of `ModelConfig`: what `build_network` needs.
        metadata: of the training.
        phantom: provenance of the phantoms that it learned from.
        false_marks: the thresholds, of rising numbers of false marks.
        judged_on: the phantoms on which they were counted.
    """

    weights_sha256: Sha256
    model: dict[str, Any]
    metadata: ModelMetadata
    phantom: dict[str, Any]
    false_marks: Annotated[tuple[FalseMarks, ...], Field(min_length=2)]
    judged_on: str

    def threshold(self, per_image: float) -> float:
        """The threshold for a number of false marks an image, between those counted by their log odds."""
        numbers = [point.per_image for point in self.false_marks]
        thresholds = np.clip([point.threshold for point in self.false_marks], 1e-6, 1 - 1e-6)
        odds = np.interp(np.log(per_image), np.log(numbers), np.log(thresholds / (1 - thresholds)))
        return float(1 / (1 + np.exp(-odds)))


def read_detector(folder: Path = DETECTOR_FOLDER) -> DetectorRecord:
    """What the package says of its detector.

    Raises:
        WeightsError: if the weights are not there or not those that the record describes.
        InputError: if the record is damaged.
    """
    check_detector(folder)
    return read_json(folder / PROVENANCE, DetectorRecord)


def model_folder(model: Path, *, cache: Path | None = None, weights: Path = DETECTOR_FOLDER) -> Path:
    """The folder of a SavedModel: `model` itself, or the detector's where that is the word "detector".

    The detector takes uint8 and uint16: it is exported for uint16, and 8 bits are promoted, which is exact.

    Args:
        model: what the user named.
        cache: where the exported detector is kept; None for ~/.cache/mmgkeras.
        weights: the folder of the detector's weights.

    Raises:
        WeightsError: as `read_detector`.
        InputError: if it cannot be written.
    """
    if str(model) != DETECTOR:
        return model
    record = read_detector(weights)
    point = OperatingPoint(record.threshold(MARKS_PER_IMAGE), "given", None, record.judged_on)
    digest = hashlib.sha256(f"{record.model_dump_json()} {point}".encode()).hexdigest()
    place = _cache(cache) / f"{DETECTOR}-{digest[:16]}" / "1"
    if not place.exists():
        config = ModelConfig(**{**record.model, "weights": DETECTOR})
        network = build_network(config, patch_px=record.metadata.patch_px, pixel_type="uint16")
        load_detector(network, config, folder=weights)
        metadata = record.metadata.model_copy(update={"pixel_type": "uint16", "operating_point": point})
        try:
            export(network, place, metadata)
        except InputError:
            if not place.exists():  # else another process was first
                raise
    return place


def _cache(cache: Path | None) -> Path:
    if cache is not None:
        return cache
    try:
        return Path(CACHE).expanduser()
    except RuntimeError as error:
        raise InputError("there is no home folder to keep the exported detector in; set HOME") from error
