"""The detector that comes with the package, as a SavedModel: exported on first use, kept in the user's cache.

Owns where it is kept, and the thresholds that it brings along. Its weights are `models.weights`'.
"""

import hashlib
from collections.abc import Callable
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
from mmgkeras.savedmodel.classifier import Classifier, load
from mmgkeras.savedmodel.export import export
from mmgkeras.savedmodel.metadata import ModelMetadata, read_metadata

CACHE: Final = "~/.cache/mmgkeras"
MARKS_PER_IMAGE: Final = 0.5
"""False marks an image of the detector's own threshold."""
FINER: Final = "finer"
"""Beside the folder of a model, that of the same network for smaller pixels."""
_TIMES: Final = 3, 2
"""So many pixels of the finer one lie where the detector has so many. Chosen on phantoms (docs/results.md)."""


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
    digest = hashlib.sha256(f"{record.model_dump_json()} {point} {_TIMES}".encode()).hexdigest()
    place = _cache(cache) / f"{DETECTOR}-{digest[:16]}" / "1"
    own = record.metadata.model_copy(update={"pixel_type": "uint16", "operating_point": point})

    def network_at(patch_px: int) -> Any:
        config = ModelConfig(**{**record.model, "weights": DETECTOR})
        network = build_network(config, patch_px=patch_px, pixel_type="uint16")
        load_detector(network, config, folder=weights)
        return network

    export_finer(place, own, network_at)
    _export(place, own, network_at)
    return place


def export_finer(folder: Path, metadata: ModelMetadata, network_at: Callable[[int], Any]) -> None:
    """Exports the detector for smaller pixels, its patches being as large in mm, beside its folder, if it is not there.

    Args:
        folder: of the detector.
        metadata: of it.
        network_at: gives its network for an edge of patches in pixels.

    Raises:
        InputError: if it cannot be written.
    """
    there, here = _TIMES
    assert metadata.spacing_mm is not None  # the detector knows it
    lengths = {name: getattr(metadata, name) * there // here for name in ("patch_px", "stride_px")}
    finer = metadata.model_copy(update={**lengths, "spacing_mm": metadata.spacing_mm * here / there})
    _export(finer_folder(folder), finer, network_at)


def load_with_finer(folder: Path, *, is_folded: bool = False) -> Classifier:
    """As `classifier.load`, with the finer model if there is one beside it: the same training for smaller pixels.

    Raises:
        InputError: as `load`.
    """
    classifier, finer = load(folder, is_folded=is_folded), finer_folder(folder)
    if finer.exists() and _is_finer(read_metadata(finer), classifier.metadata):
        classifier.finer = load(finer, is_folded=is_folded)
    return classifier


def finer_folder(folder: Path) -> Path:
    """Where the finer model of a model's folder lies, if it has one."""
    return folder.resolve().with_name(FINER)


def _is_finer(finer: ModelMetadata, own: ModelMetadata) -> bool:
    other = ("patch_px", "stride_px", "spacing_mm", "operating_point")
    is_same = finer.model_copy(update={name: getattr(own, name) for name in other}) == own
    return is_same and None not in (finer.spacing_mm, own.spacing_mm) and finer.spacing_mm < own.spacing_mm  # type: ignore[operator]


def _export(folder: Path, metadata: ModelMetadata, network_at: Callable[[int], Any]) -> None:
    if folder.exists():
        return
    try:
        export(network_at(metadata.patch_px), folder, metadata)
    except InputError:
        if not folder.exists():  # else another process was first
            raise


def _cache(cache: Path | None) -> Path:
    if cache is not None:
        return cache
    try:
        return Path(CACHE).expanduser()
    except RuntimeError as error:
        raise InputError("there is no home folder to keep the exported detector in; set HOME") from error
