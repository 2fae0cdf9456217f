"""Whether a data folder can be used: every image read, every annotation placed, what is odd told beside what is wrong.

Owns the difference between a fault (the image or annotation cannot be used) and a remark (it can, but look).
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from mmgkeras import images, tables
from mmgkeras.config import PatchesConfig
from mmgkeras.errors import InputError
from mmgkeras.patches.annotations import Annotations, read_annotations
from mmgkeras.patches.shards import pixel_sha256
from mmgkeras.progress import Track, untracked
from mmgkeras.schema import Grid, ImageRecord, Mammogram, Side


@dataclass(frozen=True, slots=True)
class DataReport:
    """What a data folder holds.

    Attributes:
        num_images: listed in images.csv; num_read of them can be used.
        num_patients: of all listed images.
        num_annotations: regions, or rows of labels.csv.
        annotations: number of images for each word of the column annotation.
        pixel_types: number of images read for each of "uint8" and "uint16".
        sizes: number of images read for each (height, width) in pixels.
        sides: number of images read whose chest wall is, by the pixels, "as told", "at the other edge" or "unclear".
        remarks: one line for each oddity.
        faults: one line for each image or annotation that cannot be used.
    """

    num_images: int
    num_read: int
    num_patients: int
    num_annotations: int
    annotations: Counter[str]
    pixel_types: Counter[str]
    sizes: Counter[tuple[int, int]]
    sides: Counter[str]
    remarks: tuple[str, ...]
    faults: tuple[str, ...]


@dataclass(slots=True)
class _Findings:
    pixel_types: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    sides: Counter[str] = field(default_factory=Counter)
    first_with: dict[str, ImageRecord] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def check_data(data: Path, config: PatchesConfig, *, track: Track = untracked) -> DataReport:
    """Reads every image and annotation of a data folder and says what is wrong and what is odd.

    Args:
        data: folder with images.csv and, if there are annotations, labels.csv or regions.csv.
        config: how images will be divided; rows of labels.csv are places in that division.
        track: shows progress over the images.

    Raises:
        InputError: if a table cannot be read.
        InputFaultsError: every fault of a table in itself.
    """
    records = tables.read_images(data / "images.csv")
    annotations = read_annotations(data, config)
    found = _Findings(remarks=list(annotations.notes))
    found.faults.extend(annotations.faults_of_unknown_images({record.image_id for record in records}))
    for record in track(records, "checking images"):
        _check_image(record, data=data, annotations=annotations, found=found)
    if len(found.pixel_types) > 1:
        found.remarks.append("8-bit and deeper images are mixed: a store promotes the 8-bit ones x257")
    return DataReport(
        num_images=len(records),
        num_read=sum(found.sizes.values()),
        num_patients=len({record.patient_id for record in records}),
        num_annotations=sum(map(len, annotations.regions.values())) + sum(map(len, annotations.patch_labels.values())),
        annotations=Counter(record.annotation for record in records),
        pixel_types=found.pixel_types,
        sizes=found.sizes,
        sides=found.sides,
        remarks=tuple(found.remarks),
        faults=tuple(found.faults),
    )


def _check_image(record: ImageRecord, *, data: Path, annotations: Annotations, found: _Findings) -> None:
    try:
        mammogram = images.read(record, data)
    except InputError as error:
        found.faults.append(str(error))
        return
    height, width = mammogram.pixels.shape
    config = annotations.config
    grid = Grid(height, width, config.patch_px, config.stride_px or config.patch_px, record.chest_wall_side)
    found.faults.extend(annotations.faults(record.image_id, grid))
    found.sizes[height, width] += 1
    found.pixel_types[str(mammogram.pixels.dtype)] += 1
    _check_side(mammogram, estimated=images.estimate_chest_wall(mammogram.pixels), found=found)
    _check_identical(mammogram, found=found)
    marked = [region.kind for region in annotations.regions.get(record.image_id, ()) if region.kind != "other"]
    if record.is_called_normal and marked:
        found.remarks.append(
            f"image {record.image_id}: is called normal, but has {len(marked)} regions of calcification"
        )


def _check_side(mammogram: Mammogram, *, estimated: Side | None, found: _Findings) -> None:
    record = mammogram.record
    if estimated is None:
        found.sides["unclear"] += 1
        return
    if estimated == record.chest_wall_side:
        found.sides["as told"] += 1
        return
    found.sides["at the other edge"] += 1
    source = "chest_wall" if record.chest_wall else f"standard hanging of laterality {record.laterality}"
    found.remarks.append(
        f"image {record.image_id}: by the pixels the chest wall is {estimated}, by {source} {record.chest_wall_side}"
    )


def _check_identical(mammogram: Mammogram, *, found: _Findings) -> None:
    record = mammogram.record
    first = found.first_with.setdefault(pixel_sha256(mammogram.pixels), record)
    if first is not record:
        whose = (
            "the same patient" if first.patient_id == record.patient_id else "another patient: keep them in one fold"
        )
        found.remarks.append(f"image {record.image_id}: has the same pixels as {first.image_id}, of {whose}")
