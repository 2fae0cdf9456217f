"""store.json: what a patch store says of itself, checked key by key when it is read.

Owns the format and the checksum over it. That the tables and shards agree with it is `store`'s to check.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from mmgkeras.json_files import Count, FilePath, JsonModel, PatchPx, Sha256, SpacingMm, Text, values_in_unicode
from mmgkeras.locks import STORE_FILE
from mmgkeras.patches.labelling import ReadFrom
from mmgkeras.patches.shards import shard_name

FORMAT_VERSION: Final = 1
MANIFEST: Final = STORE_FILE
IMAGES: Final = "images.csv"
PATCHES: Final = "patches.csv"
PROVENANCE: Final = ("created", "source", "mmgkeras_version")
"""Keys that say how the store came to be and not what is in it; its checksum leaves them out."""


class _Part(JsonModel):
    """An object within store.json; unknown keys are kept, for the checksum is over them too."""

    model_config = ConfigDict(extra="allow")


class GridSettings(_Part):
    """How every image of the store was divided, in pixels, and the pixel size that it was resampled to before."""

    patch_px: PatchPx
    stride_px: PatchPx
    spacing_mm: SpacingMm | None = None

    @model_serializer(mode="wrap")
    def _as_before_there_was_a_spacing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the pixel size where there is none: checksums of such stores stay what they were."""
        return {name: value for name, value in handler(self).items() if value is not None}


class LabelSettings(_Part):
    """How the patches were labelled: the file read, and the settings of `PatchesConfig`."""

    read_from: ReadFrom
    cluster_fraction: Annotated[float, Field(gt=0, le=1, alias="envelope_fraction")]
    label_source: Literal["annotated", "assumed"]
    min_marks: Annotated[int, Field(ge=1, le=1000)] = 1

    @model_serializer(mode="wrap")
    def _as_before_marks_were_counted(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the number of marks where one is enough: checksums of such stores stay what they were."""
        return {name: value for name, value in handler(self).items() if (name, value) != ("min_marks", 1)}


class Counts(_Part):
    """How many images, patients and patches the store holds; positive, negative and unknown count patches."""

    images: Annotated[int, Field(ge=1, le=10**9)]
    patients: Annotated[int, Field(ge=1, le=10**9)]
    patches: Annotated[int, Field(ge=1, le=10**12)]
    positive: Count
    negative: Count
    unknown: Count


class Spacing(_Part):
    """The edge of a pixel in mm over the images that tell it, None where none does, and how many do not."""

    median: SpacingMm | None
    min: SpacingMm | None
    max: SpacingMm | None
    num_unknown: Count


class SkippedImage(_Part):
    """An image that was left out, and why."""

    image_id: Text
    reason: Text


class FileFacts(_Part):
    """The size of a file in bytes, and its SHA-256."""

    bytes: Count
    sha256: Sha256


class StoreManifest(_Part):
    """What store.json says."""

    format_version: Literal[1]
    mmgkeras_version: Text
    created: Text
    source: FilePath
    grid: GridSettings
    labels: LabelSettings
    pixel_type: Literal["uint8", "uint16"]
    patches_per_shard: Annotated[int, Field(ge=1, le=2**31)]
    counts: Counts
    spacing_mm: Spacing
    skipped_images: tuple[SkippedImage, ...]
    skipped_annotations: tuple[Text, ...]
    chest_wall_differs: tuple[Text, ...]
    files: dict[str, FileFacts]
    notes: tuple[Text, ...]
    checksum: str

    @property
    def shards(self) -> tuple[str, ...]:
        """The names of the files with the pixels, in the order of the patches."""
        return tuple(shard_name(number) for number in range(-(-self.counts.patches // self.patches_per_shard)))

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.checksum != manifest_checksum(self.model_dump(mode="json", by_alias=True)):
            raise ValueError("is not as it was written, its checksum differs")
        if self.grid.stride_px > self.grid.patch_px:
            raise ValueError(f"grid: needs stride_px <= patch_px. Received: {self.grid.stride_px}")
        counts = self.counts
        if counts.positive + counts.negative + counts.unknown != counts.patches:
            raise ValueError(f"counts: positive, negative and unknown must add up to {counts.patches:,} patches")
        num_shards = -(-counts.patches // self.patches_per_shard)
        if len(self.files) != num_shards + 2 or set(self.files) != {IMAGES, PATCHES, *self.shards}:
            raise ValueError(f"files: must name {IMAGES}, {PATCHES} and {num_shards:,} shards from {shard_name(0)} on")
        return self


def manifest_checksum(manifest: Mapping[str, Any]) -> str:
    """The SHA-256 of the manifest without its provenance and without the checksum itself, in a canonical form."""
    content = {key: value for key, value in manifest.items() if key not in (*PROVENANCE, "checksum")}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(values: Mapping[str, Any]) -> StoreManifest:
    """The manifest of these values, with its checksum."""
    values = values_in_unicode(values)
    return StoreManifest.model_validate_json(json.dumps({**values, "checksum": manifest_checksum(values)}))
