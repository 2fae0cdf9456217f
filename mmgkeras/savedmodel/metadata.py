"""What a SavedModel says of itself: the patches it takes, and where it comes from.

Owns `assets.extra/mmgkeras.json` inside a SavedModel's folder. TF Serving ignores that file; everything here reads it.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from mmgkeras import __version__
from mmgkeras.errors import InputError
from mmgkeras.evaluation.metrics import THRESHOLD
from mmgkeras.evaluation.operating_point import KINDS, OperatingPoint

PixelType = Literal["uint8", "uint16"]

METADATA_FILE: Final = Path("assets.extra/mmgkeras.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A model that a training started from, and which patients it did not learn from.

    Attributes:
        store_checksum: of the patch store that it was trained on.
        fold: 1-based.
        test_patients_sha256: `patients_digest` of the fold's test patients.
        variables_sha256: of the file with its weights.
    """

    store_checksum: str
    fold: int
    test_patients_sha256: str
    variables_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMetadata:
    """What must be known to use a model as it was trained.

    Attributes:
        network: its name, such as "resnet18".
        patch_px: edge of a patch in pixels.
        stride_px: distance between neighbouring patches in pixels.
        pixel_type: of the patches it takes, "uint8" or "uint16".
        spacing_mm: length of a pixel's edge in the training store, None if unknown or mixed.
        fold: 1-based; the model never saw the patients of this fold's test subset.
        test_subset: the name of that subset, "A" for fold 1.
        test_patients_sha256: `patients_digest` of the patients in that subset when the model was trained.
        store_checksum: of the patch store it was trained on.
        mmgkeras_version: that exported it.
        config: every setting of the run, by section and key.
        operating_point: the threshold that the model brings along; None for the paper's own decision.
        started_from: the model whose weights the training began with, last, and before it those that it began with.
    """

    network: str
    patch_px: int
    stride_px: int
    pixel_type: PixelType
    spacing_mm: float | None
    fold: int
    test_subset: str
    test_patients_sha256: str
    store_checksum: str
    mmgkeras_version: str = __version__
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    operating_point: OperatingPoint | None = None
    started_from: tuple[Origin, ...] = ()

    @property
    def threshold(self) -> float:
        """A probability of at least this says calcification where nobody asks for another one."""
        return THRESHOLD if self.operating_point is None else self.operating_point.threshold


_JSON_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "network": (str,),
    "patch_px": (int,),
    "stride_px": (int,),
    "pixel_type": (str,),
    "spacing_mm": (int, float, type(None)),
    "fold": (int,),
    "test_subset": (str,),
    "test_patients_sha256": (str,),
    "store_checksum": (str,),
    "mmgkeras_version": (str,),
    "config": (dict,),
}
_OPERATING_POINT: Final = "operating_point"
_STARTED_FROM: Final = "started_from"
"""These two keys may be missing: models exported before they were there have none."""


def patients_digest(patient_ids: Iterable[str]) -> str:
    """The SHA-256, in hexadecimal, of a set of patients: shows that a subset was changed, names nobody."""
    return hashlib.sha256(json.dumps(sorted(set(patient_ids))).encode()).hexdigest()


def write_metadata(metadata: ModelMetadata, folder: Path) -> None:
    """Writes `assets.extra/mmgkeras.json` into a SavedModel's folder."""
    path = folder / METADATA_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dataclasses.asdict(metadata), indent=2) + "\n", encoding="utf-8")


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
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{folder}: holds no {METADATA_FILE}; only models exported by mmgkeras can be used") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path}: is not JSON: {error}") from error
    return _checked(values, path)


def _checked(values: Any, path: Path) -> ModelMetadata:
    """The metadata of a parsed file, each key there and of its type."""
    if not isinstance(values, dict):
        raise InputError(f"{path}: must hold an object. Received: {type(values).__name__}")
    missing = [key for key in _JSON_TYPES if key not in values]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; export the model again")
    for key, types in _JSON_TYPES.items():
        if not isinstance(values[key], types) or isinstance(values[key], bool):
            allowed = " or ".join("null" if kind is type(None) else kind.__name__ for kind in types)
            raise InputError(f"{path}: {key}: must be {allowed}. Received: {values[key]!r}")
    metadata = ModelMetadata(
        **{key: values[key] for key in _JSON_TYPES},
        operating_point=_operating_point(values.get(_OPERATING_POINT), path),
        started_from=_started_from(values.get(_STARTED_FROM, []), path),
    )
    if metadata.pixel_type not in ("uint8", "uint16"):
        raise InputError(f"{path}: pixel_type: must be uint8 or uint16. Received: {metadata.pixel_type!r}")
    if not 1 <= metadata.stride_px <= metadata.patch_px:
        received = f"{metadata.stride_px} and {metadata.patch_px}"
        raise InputError(f"{path}: needs 1 <= stride_px <= patch_px. Received: {received}")
    return metadata


def _operating_point(value: Any, path: Path) -> OperatingPoint | None:
    if value is None:
        return None
    try:
        threshold, kind, target, fitted_on = (value[key] for key in ("threshold", "kind", "target", "fitted_on"))
        is_right = 0 < threshold <= 1 and kind in KINDS and (target is None or target >= 0)
    except (TypeError, KeyError):
        is_right = False
    if not is_right:
        raise InputError(
            f"{path}: {_OPERATING_POINT}: must hold threshold above 0 and at most 1, kind ({', '.join(KINDS)}), "
            f"target and fitted_on, or be null. Received: {value!r}"
        )
    return OperatingPoint(float(threshold), kind, None if target is None else float(target), str(fitted_on))


def _started_from(values: Any, path: Path) -> tuple[Origin, ...]:
    try:
        return tuple(Origin(**value) for value in values)
    except TypeError as error:
        keys = ", ".join(field.name for field in dataclasses.fields(Origin))
        raise InputError(
            f"{path}: {_STARTED_FROM}: must be a list of objects with {keys}. Received: {values!r}"
        ) from error
