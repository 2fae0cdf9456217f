"""What a SavedModel says of itself: the patches it takes, and where it comes from.

Owns `assets.extra/mmgkeras.json` inside a SavedModel's folder. TF Serving ignores that file; everything here reads it.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, Field, model_validator

from mmgkeras import __version__
from mmgkeras.errors import InputError
from mmgkeras.evaluation.metrics import THRESHOLD
from mmgkeras.evaluation.operating_point import OperatingPoint
from mmgkeras.json_files import FoldNumber, JsonModel, PatchPx, Sha256, SpacingMm, Text, read_json, write_json
from mmgkeras.patches.split import read_store_folds
from mmgkeras.patches.store import FOLDS, PatchStore
from mmgkeras.schema import PixelType
from mmgkeras.study.run_files import Origin, SubsetLetter

METADATA_FILE: Final = Path("assets.extra/mmgkeras.json")


def _in_range(point: OperatingPoint) -> OperatingPoint:
    if not 0 < point.threshold <= 1 or (point.target is not None and point.target < 0):
        raise ValueError("must have a threshold above 0 and at most 1, and a target of at least 0 or none")
    return point


class Stopped(JsonModel):
    """Where a run stood that was exported before its end: after `step` of `num_steps` steps, of all `epochs`."""

    step: Annotated[int, Field(ge=1)]
    num_steps: Annotated[int, Field(ge=1)]
    epochs: Annotated[int, Field(ge=1)]

    def __str__(self) -> str:
        """Such as "stopped after epoch 3 of 10"."""
        done, rest = divmod(self.step * self.epochs, self.num_steps)
        if rest:
            return f"stopped in epoch {done + 1} of {self.epochs}, after {self.step:,} of {self.num_steps:,} steps"
        return f"stopped after epoch {done} of {self.epochs}"


class ModelMetadata(JsonModel):
    """What must be known to use a model as it was trained.

    Attributes:
        network: its name, such as "resnet18".
        patch_px: edge of a patch in pixels.
        stride_px: distance between neighbouring patches in pixels.
        pixel_type: of the patches it takes, "uint8" or "uint16".
        spacing_mm: length of a pixel's edge in the training store, the median of its images, None if unknown.
        fold: 1-based; the model never saw the patients of this fold's test subset.
        test_subset: the name of that subset, "A" for fold 1.
        test_patients_sha256: `patients_digest` of the patients in that subset when the model was trained.
        held_out_patients_sha256: `patients_digest` of the training patients held out, those of validation.csv; None
            where nobody was, and in models of earlier versions.
        store_checksum: of the patch store it was trained on.
        mmgkeras_version: that exported it.
        config: every setting of the run, by section and key.
        operating_point: the threshold that the model brings along; None for the paper's own decision.
        started_from: the model whose weights the training began with, last, and before it those that it began with.
        stopped: where its run stood, if it was exported before the end.
    """

    network: Annotated[Text, Field(min_length=1, max_length=200)]
    patch_px: PatchPx
    stride_px: PatchPx
    pixel_type: PixelType
    spacing_mm: SpacingMm | None
    fold: FoldNumber
    test_subset: SubsetLetter
    test_patients_sha256: Sha256
    held_out_patients_sha256: Sha256 | None = None
    store_checksum: Sha256
    mmgkeras_version: Text = __version__
    config: dict[str, dict[str, Any]] = Field(default_factory=dict)
    operating_point: Annotated[OperatingPoint, AfterValidator(_in_range)] | None = None
    started_from: tuple[Origin, ...] = ()
    stopped: Stopped | None = None

    @property
    def identity(self) -> dict[str, str]:
        """Which model it is, for a file of results."""
        return {"network": self.network, "store_checksum": self.store_checksum}

    @property
    def threshold(self) -> float:
        """A probability of at least this says calcification where nobody asks for another one."""
        return THRESHOLD if self.operating_point is None else self.operating_point.threshold

    @property
    def resamples_to_mm(self) -> float | None:
        """The pixel size that the images of its store were resampled to (`patches.spacing_mm`); None for none."""
        spacing_mm = self.config.get("patches", {}).get("spacing_mm")
        is_number = isinstance(spacing_mm, float) and spacing_mm > 0
        return spacing_mm if is_number else None

    @model_validator(mode="after")
    def _stride_leaves_nothing_out(self) -> Self:
        if self.stride_px > self.patch_px:
            raise ValueError(f"needs stride_px <= patch_px. Received: {self.stride_px} and {self.patch_px}")
        return self


def patients_digest(patient_ids: Iterable[str]) -> str:
    """The SHA-256, in hexadecimal, of a set of patients: shows that a subset was changed, names nobody."""
    return hashlib.sha256(json.dumps(sorted(set(patient_ids))).encode()).hexdigest()


def fold_digests(store: PatchStore) -> dict[int, str]:
    """`patients_digest` of the test patients of each fold of a store.

    Raises:
        InputError: as `read_store_folds`.
    """
    subsets = store.patches["patient_id"].map(read_store_folds(store))
    groups = store.patches["patient_id"].groupby(subsets)
    return {number: patients_digest(patients) for number, (_, patients) in enumerate(sorted(groups), start=1)}


def tested_fold(model: Path, metadata: ModelMetadata, store: PatchStore) -> int | None:
    """The fold of a store that tests the patients whom a model was not trained on; None where no fold does.

    The store may be another than that of the training, divided alike, such as one that was prepared anew.

    Raises:
        InputError: if it is that of the training, but was not split or was split anew; or its folds.csv cannot be used.
    """
    is_own = store.checksum == metadata.store_checksum
    digests = fold_digests(store) if is_own or (store.path / FOLDS).exists() else {}
    for fold, digest in digests.items():
        if digest == metadata.test_patients_sha256:
            return fold
    if is_own:
        raise InputError(
            f"{store.path}: was split anew since {model} was trained: test subset {metadata.test_subset} "
            "then held other patients; restore its folds.csv or train again"
        )
    return None


def write_metadata(metadata: ModelMetadata, folder: Path) -> None:
    """Writes `assets.extra/mmgkeras.json` into a SavedModel's folder."""
    write_json(folder / METADATA_FILE, metadata)


def read_metadata(folder: Path) -> ModelMetadata:
    """What a SavedModel's folder says of itself; keys of later versions are passed over.

    Raises:
        InputError: if the folder is no SavedModel, or its metadata is missing or damaged.
    """
    if not (folder / "saved_model.pb").is_file():
        raise InputError(
            f"{folder}: is no SavedModel, it holds no saved_model.pb; give a folder such as saved_models/NAME/1"
        )
    path = folder / METADATA_FILE
    if not path.exists():
        raise InputError(f"{folder}: holds no {METADATA_FILE}; only models exported by mmgkeras can be used")
    return read_json(path, ModelMetadata, hint="export the model again")
