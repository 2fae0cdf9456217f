"""The detector that comes with the package, as two SavedModels: exported on first use, kept in the user's cache.

One sees a mammogram at 0.2 mm a pixel; the other, the finer one, went on from its weights in smaller pixels and is
asked in its place where a mammogram is as fine. Owns where they are kept, and the thresholds that they bring along.
Their weights are `models.weights`'.
"""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Annotated, Any, Final, Protocol

import numpy as np
from pydantic import Field

from mmgkeras.config import ModelConfig
from mmgkeras.errors import InputError
from mmgkeras.evaluation.operating_point import OperatingPoint
from mmgkeras.files import atomic_folder, check_outputs
from mmgkeras.json_files import JsonModel, Sha256, read_json
from mmgkeras.models.network import build_network
from mmgkeras.models.weights import DETECTOR, DETECTOR_FOLDER, PROVENANCE, check_detector, load_detector
from mmgkeras.savedmodel.classifier import Classifier, load
from mmgkeras.savedmodel.export import add_version, export, new_version, next_version
from mmgkeras.savedmodel.metadata import METADATA_FILE, ModelMetadata, read_metadata

CACHE: Final = "~/.cache/mmgkeras"
MARKS_PER_IMAGE: Final = 0.5
"""False marks an image of the detector's own threshold."""
FINER: Final = "finer"
"""Beside the model `NAME/1`, `NAME-finer/1` may be one that went on from it in smaller pixels; inside the folder of the
detector's weights lie the weights of the finer one."""
DETECTOR_FINER: Final = f"{DETECTOR}-{FINER}"
"""The word for the finer one where a model is named."""
_SAME_PATCH: Final = 0.02
"""A finer model's patches are as large as its model's but for so much of them: pixels are whole."""


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


class WeightsRecord(JsonModel):
    """What lies beside weights.

    Attributes:
        weights_sha256: of the weights.
        model: of `ModelConfig`: what `build_network` needs.
        metadata: of the training.
        phantom: provenance of the phantoms that it learned from.
        level: was added to the log odds of what was trained.
    """

    weights_sha256: Sha256
    model: dict[str, Any]
    metadata: ModelMetadata
    phantom: dict[str, Any]
    level: float = 0.0


class DetectorRecord(WeightsRecord):
    """What lies beside the detector's.

    Attributes:
        false_marks: the thresholds, of rising numbers of false marks.
        judged_on: the phantoms on which they were counted.
    """

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


def read_finer(folder: Path = DETECTOR_FOLDER) -> WeightsRecord:
    """What the package says of the finer one; raises as `read_detector`."""
    check_detector(folder / FINER)
    return read_json(folder / FINER / PROVENANCE, WeightsRecord)


def model_folder(model: Path, *, cache: Path | None = None, weights: Path = DETECTOR_FOLDER) -> Path:
    """The folder of a SavedModel: `model` itself, or that of the detector or the finer one where that is its word.

    Both take uint8 and uint16: they are exported for uint16, and 8 bits are promoted, which is exact.

    Args:
        model: what the user named.
        cache: where the exported detector is kept; None for ~/.cache/mmgkeras.
        weights: the folder of the detector's weights.

    Raises:
        WeightsError: as `read_detector`.
        InputError: if it cannot be written.
    """
    if str(model) not in (DETECTOR, DETECTOR_FINER):
        return model
    record, finer = read_detector(weights), read_finer(weights)
    point = OperatingPoint(record.threshold(MARKS_PER_IMAGE), "given", None, record.judged_on)
    digest = hashlib.sha256(f"{record.model_dump_json()} {finer.model_dump_json()} {point}".encode()).hexdigest()
    place = _cache(cache) / f"{DETECTOR}-{digest[:16]}" / "1"
    _export(finer, finer_folder(place), weights=weights / FINER, point=point)
    _export(record, place, weights=weights, point=point)
    return place if str(model) == DETECTOR else finer_folder(place)


def load_with_finer(folder: Path, *, is_folded: bool = False, finer: Path | None = None) -> Classifier:
    """As `classifier.load`, with the finer model if there is one that went on from it.

    Args:
        folder: of the model.
        is_folded: as of `load`.
        finer: where the finer model lies, if there is one; None for `finer_folder`.

    Raises:
        InputError: as `load`.
    """
    classifier, place = load(folder, is_folded=is_folded), finer or finer_folder(folder)
    if _finer_metadata(place, classifier.metadata) is not None:
        classifier.finer = load(place, is_folded=is_folded)
    return classifier


def finer_metadata(folder: Path, own: ModelMetadata) -> ModelMetadata | None:
    """Of the finer model beside a model's folder, if there is one; another folder of that name is left alone.

    Raises:
        InputError: as `read_metadata`.
    """
    return _finer_metadata(finer_folder(folder), own)


def _finer_metadata(place: Path, own: ModelMetadata) -> ModelMetadata | None:
    finer = read_metadata(place) if (place / METADATA_FILE).is_file() else None
    return finer if finer is not None and _is_finer(finer, own) else None


def finer_folder(folder: Path) -> Path:
    """Where the finer model of a model's folder lies, if it has one."""
    place = Path(os.path.realpath(folder))  # which does not raise for a loop of links
    return place.parent.parent / f"{place.parent.name}-{FINER}" / place.name


def check_new_version(model: Path, *, export: Path | None) -> Path:
    """The folder of the model that `add_version_with_finer` is to copy; refuses early what that would refuse.

    Args:
        model: a SavedModel's folder, or "detector".
        export: as of `add_version`.

    Raises:
        InputError: if a version cannot go there.
    """
    folder = model_folder(model)
    if folder != model and export is None:
        raise InputError(f"{model}: comes with the package; say with --export where the new version goes")
    check_outputs([new_version(folder, export=export)])
    return folder


def add_version_with_finer(model: Path, operating_point: OperatingPoint, *, export: Path | None = None) -> Path:
    """As `export.add_version`; the finer model beside it, if there is one, is copied into the same version of its own.

    Raises:
        InputError: as `add_version`.
    """
    if finer_metadata(model, read_metadata(model)) is None:
        return add_version(model, operating_point, export=export)
    place = finer_folder(model if export is None else export / "1").parent
    version = new_version(model, export=export, least=next_version(place)).name
    with atomic_folder(place / version) as folder:  # first, for a model that lacked it would read fine images alone
        shutil.copytree(finer_folder(model), folder, dirs_exist_ok=True)
    return add_version(model, operating_point, export=export, least=int(version))


class Division(Protocol):
    """How a model divides a mammogram, as in `ModelMetadata`."""

    @property
    def patch_px(self) -> int:
        """Edge of a patch."""

    @property
    def spacing_mm(self) -> float | None:
        """Edge of a pixel; None for unknown."""


def is_finer_division(finer: Division, own: Division) -> bool:
    """Whether one model has patches as large as another's, of smaller pixels."""
    if finer.spacing_mm is None or own.spacing_mm is None:
        return False
    as_large = finer.spacing_mm * finer.patch_px / (own.spacing_mm * own.patch_px)
    return finer.spacing_mm < own.spacing_mm and abs(as_large - 1) < _SAME_PATCH


def _is_finer(finer: ModelMetadata, own: ModelMetadata) -> bool:
    went_on = bool(finer.started_from) and finer.started_from[-1].store_checksum == own.store_checksum
    return went_on and is_finer_division(finer, own)


def _export(record: WeightsRecord, folder: Path, *, weights: Path, point: OperatingPoint) -> None:
    """Exports a network for uint16 and with a threshold, if it is not there."""
    if folder.exists():
        return
    metadata = record.metadata.model_copy(update={"pixel_type": "uint16", "operating_point": point})
    config = ModelConfig(**{**record.model, "weights": DETECTOR})
    network = build_network(config, patch_px=metadata.patch_px, pixel_type=metadata.pixel_type)
    load_detector(network, config, folder=weights)
    try:
        export(network, folder, metadata)
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
