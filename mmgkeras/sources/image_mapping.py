"""The mapping of `import table`: a TOML file that says what the names and words of anyone's images mean.

Owns its keys and what is refused of them; docs/data_sets.md explains it. `mapped_table` imports by it.
"""

import difflib
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from mmgkeras.errors import InputError, InputFaultsError, shown
from mmgkeras.json_files import Text, describe_fault, read_limited
from mmgkeras.schema import Kind, Shape
from mmgkeras.tables import IMAGE_COLUMNS

OF_HEADERS: Final = ("patient", "laterality", "view", "spacing_mm", "vendor")
"""What a DICOM header tells of an image."""
OF_FILES: Final = ("file", "folder", *(f"dicom_{name}" for name in OF_HEADERS))
"""What may stand in {} for any image."""
_T = TypeVar("_T")
_MAX_BYTES: Final = 64 * 1024
_COLUMNS: Final = tuple(name for name in IMAGE_COLUMNS if name != "path")


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"must be a regular expression: {error}") from error
    if taken := [name for name in re.compile(text).groupindex if name in OF_FILES]:
        raise ValueError(f"must have no group of a name that stands for the file. Received: {taken[0]}")
    return text


def _glob(text: str) -> str:
    try:
        list(Path(os.devnull).glob(text))
    except (NotImplementedError, ValueError, IndexError) as error:
        raise ValueError("must be a pattern of paths below DIR, in which ** stands for whole folders alone") from error
    return text


def _columns(values: dict[str, _T]) -> dict[str, _T]:
    if unknown := [name for name in values if name not in _COLUMNS]:
        raise ValueError(f"must have columns of images.csv: {', '.join(_COLUMNS)}. Received: {shown(unknown[0])}")
    return values


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class CsvColumns(_Section):
    """Which columns of a CSV file have a region: its image, its label, and one of the shapes."""

    image: Text
    label: Text | None = None
    box: list[Text] = Field(default=[], min_length=4, max_length=4)
    circle: list[Text] = Field(default=[], min_length=3, max_length=3)
    point: list[Text] = Field(default=[], min_length=2, max_length=2)

    @property
    def shapes(self) -> dict[Shape, list[str]]:
        """The columns of each shape that was given."""
        told: dict[Shape, list[str]] = {"box": self.box, "circle": self.circle, "point": self.point}
        return {shape: columns for shape, columns in told.items() if columns}


class ImageMapping(_Section):
    """A mapping: which files are images and annotations, and what their names and words mean."""

    images: Annotated[Text, AfterValidator(_glob)] = "**/*"
    pattern: Annotated[Text, AfterValidator(_pattern)] = ""
    table: Text | None = None
    table_image: Text | None = None
    annotations: Annotated[Text, AfterValidator(_glob)] | None = None
    format: Literal["csv", "coco", "yolo", "voc", "labelme", "via"] | None = None
    image: Annotated[dict[str, Text], AfterValidator(_columns)]
    words: Annotated[dict[str, dict[str, Text]], AfterValidator(_columns)] = {}
    kinds: dict[str, Kind] = {}
    csv: CsvColumns | None = None


def read_mapping(path: Path) -> ImageMapping:
    """The mapping of a TOML file.

    Raises:
        InputError: if it cannot be read or is not TOML.
        InputFaultsError: for unknown keys, and values that are not allowed.
    """
    try:
        values = tomllib.loads(read_limited(path, max_bytes=_MAX_BYTES).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not TOML: {error}") from error
    try:
        mapping = ImageMapping.model_validate(values)
    except ValidationError as error:
        raise InputFaultsError([f"{path}: {_line(fault)}" for fault in error.errors()]) from error
    faults = [f"image.{name} is missing" for name in ("patient_id", "annotation") if name not in mapping.image]
    if (mapping.annotations is None) != (mapping.format is None):
        faults.append("annotations and format must be given together")
    if (mapping.table is None) != (mapping.table_image is None):
        faults.append("table and table_image must be given together")
    if mapping.format == "csv" and mapping.csv is None:
        faults.append("csv is missing: format csv needs the columns of image and box, circle or point")
    if mapping.format == "csv" and mapping.csv is not None and len(mapping.csv.shapes) != 1:
        faults.append(
            f"csv must have one of box, circle and point. Received: {', '.join(mapping.csv.shapes) or 'none'}"
        )
    if faults:
        raise InputFaultsError([f"{path}: {fault}" for fault in faults])
    return mapping


def _line(fault: ErrorDetails) -> str:
    """What is wrong with a key; for an unknown one, which is nearest."""
    if fault["type"] != "extra_forbidden":
        return describe_fault(fault)
    *parents, key = map(str, fault["loc"])
    fields = list((CsvColumns if parents else ImageMapping).model_fields)
    near = difflib.get_close_matches(key, fields, n=1)
    hint = f"did you mean {near[0]}?" if near else f"allowed: {', '.join(fields)}"
    return f"{'.'.join([*parents, key])}: no such key; {hint}"
