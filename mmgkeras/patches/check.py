"""A data folder read once: every image opened, every annotation placed, what is wrong and what is odd listed.

Owns the one pass over the images, which `prepare` also makes its store in, and the difference between a fault (the
image or annotation cannot be used) and a remark (it can, but look).
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmgkeras import images, tables
from mmgkeras.config import PatchesConfig
from mmgkeras.errors import InputError, InputFaultsError
from mmgkeras.patches.labelling import Annotations, read_annotations, region_overlap
from mmgkeras.patches.region_masks import region_mask
from mmgkeras.patches.shards import pixel_sha256
from mmgkeras.progress import Track, untracked
from mmgkeras.schema import CALCIFICATION, Grid, ImageRecord, Mammogram, Side


@dataclass(frozen=True, slots=True)
class ReadImage:
    """A mammogram at the pixel size asked for and how it divides.

    Attributes:
        mammogram: resampled, or as read.
        shape, native_mm: (height, width) and pixel size of the image as it is.
        grid: of the mammogram.
        tissue: (height, width) of the mammogram, its breast.
        chest_wall: by its pixels.
        pixel_sha256: of the image as it is.
    """

    mammogram: Mammogram
    shape: tuple[int, int]
    native_mm: float | None
    grid: Grid
    tissue: NDArray[np.bool_]
    chest_wall: Side | None
    pixel_sha256: str


@dataclass(slots=True)
class DataReport:
    """What a data folder holds.

    Attributes:
        records: the images that images.csv lists.
        annotations: of all of them.
        num_read: images that could be read.
        pixel_types: number of images read for each of "uint8" and "uint16".
        sizes: number of images read for each (height, width) in pixels.
        sides: number of images read whose chest wall is, by the pixels, "as told", "at the other edge" or "unclear".
        remarks: one line for each oddity.
        unknown: one line for each annotation of an image that is not listed.
        image_faults: (image_id, line) for each image, or annotation of it, that cannot be used.
        unplaced: (image_id, region_id) of each cluster region that lies in no positive patch.
    """

    records: list[ImageRecord]
    annotations: Annotations
    pixel_types: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    sides: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    image_faults: list[tuple[str, str]] = field(default_factory=list)
    unplaced: list[tuple[str, str]] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """One line for each annotation and image that cannot be used."""
        return [*self.unknown, *(fault for _, fault in self.image_faults)]

    @property
    def num_read(self) -> int:
        """Number of images that could be read."""
        return sum(self.sizes.values())

    @property
    def num_patients(self) -> int:
        """Of all listed images."""
        return len({record.patient_id for record in self.records})

    @property
    def num_annotations(self) -> int:
        """Number of regions, or of rows of labels.csv."""
        regions, labels = self.annotations.regions.values(), self.annotations.patch_labels.values()
        return sum(map(len, regions)) + sum(map(len, labels))


def check_data(
    data: Path,
    config: PatchesConfig,
    *,
    use: Callable[[ReadImage, NDArray[np.int8], DataReport], None] | None = None,
    track: Track = untracked,
    label: str = "checking images",
) -> DataReport:
    """Reads every image and annotation of a data folder and says what is wrong and what is odd.

    Args:
        data: folder with images.csv and, if there are annotations, labels.csv or regions.csv.
        config: how images will be divided; rows of labels.csv are places in that division.
        use: called with each image without fault, the labels of its patches, and what was found so far.
        track: shows progress over the images.
        label: what `track` is told.

    Raises:
        InputFaultsError: every fault of the tables in themselves.
    """
    records, annotations = _read_tables(data, config)
    report = DataReport(records, annotations, remarks=list(annotations.notes))
    for what in ("patient", "image"):
        for group in tables.look_alikes(getattr(record, f"{what}_id") for record in records):
            ids = ", ".join(map(ascii, group))
            report.remarks.append(f"{what} ids {ids} differ only in Unicode form, case, width or invisible characters")
    report.unknown = annotations.faults_of_unknown_images({record.image_id for record in records})
    first_with: dict[str, ImageRecord] = {}
    for record in track(records, label):
        try:
            image = _read(record, data=data, config=config)
        except InputError as error:
            report.image_faults.extend((record.image_id, line) for line in str(error).splitlines())
            continue
        faults = annotations.faults(record.image_id, image.grid, shape=image.shape)
        report.image_faults.extend((record.image_id, fault) for fault in faults)
        _count(image, report=report, first=first_with.setdefault(image.pixel_sha256, record))
        if faults:
            continue
        report.remarks.extend(annotations.remarks(record.image_id, shape=image.shape))
        labels = annotations.labels(record, image.grid, shape=image.shape)
        _note_unplaced(image, labels, report=report)
        if use is not None:
            use(image, labels, report)
    if len(report.pixel_types) > 1:
        report.remarks.append("8-bit and deeper images are mixed: a store promotes the 8-bit ones x257")
    return report


def _read_tables(data: Path, config: PatchesConfig) -> tuple[list[ImageRecord], Annotations]:
    """The records and annotations of a data folder; the faults of both tables come together."""
    try:
        records = tables.read_images(data / "images.csv")
    except InputError as error:
        faults = str(error).splitlines()
        try:
            read_annotations(data, config)
        except InputError as other:
            faults.extend(str(other).splitlines())
        raise InputFaultsError(faults) from error
    return records, read_annotations(data, config)


def _read(record: ImageRecord, *, data: Path, config: PatchesConfig) -> ReadImage:
    native = images.read(record, data)
    mammogram = images.at_spacing(native, config.spacing_mm)
    height, width = mammogram.pixels.shape
    tissue = images.tissue_mask(mammogram.pixels)
    return ReadImage(
        mammogram=mammogram,
        shape=(native.pixels.shape[0], native.pixels.shape[1]),
        native_mm=record.spacing_mm,
        grid=Grid(height, width, config.patch_px, config.stride_px or config.patch_px, record.chest_wall_side),
        tissue=tissue,
        chest_wall=images.estimate_chest_wall(tissue),
        pixel_sha256=pixel_sha256(native.pixels),
    )


def _note_unplaced(image: ReadImage, labels: NDArray[np.int8], *, report: DataReport) -> None:
    """Remarks on each cluster region of an image that touches no positive patch, such as one on the corner of four."""
    for region in report.annotations.regions_on(image.mammogram.record.image_id, image.grid, shape=image.shape):
        if region.kind != "cluster":  # an individual mark makes its patch positive, and "other" is no calcification
            continue
        covered = region_mask(region, height=image.grid.height, width=image.grid.width)
        rows, cols, overlap_px = region_overlap(image.grid, covered)
        if not (labels[np.ix_(rows, cols)][overlap_px > 0] == CALCIFICATION).any():
            report.unplaced.append((region.image_id, region.region_id))
            report.remarks.append(
                f"image {region.image_id}: cluster region {region.region_id} lies in no positive patch; a patch holds "
                f"at most {overlap_px.max() / covered.mask.sum():.0%} of it"
            )


def _count(image: ReadImage, *, report: DataReport, first: ImageRecord) -> None:
    """Counts an image that could be read, and remarks on what is odd; `first` is the first one of equal pixels."""
    record = image.mammogram.record
    report.sizes[image.shape] += 1
    report.pixel_types[str(image.mammogram.pixels.dtype)] += 1
    if image.chest_wall is None:
        report.sides["unclear"] += 1
    elif image.chest_wall == record.chest_wall_side:
        report.sides["as told"] += 1
    else:
        report.sides["at the other edge"] += 1
        source = "chest_wall" if record.chest_wall else f"standard hanging of laterality {record.laterality}"
        report.remarks.append(
            f"image {record.image_id}: by the pixels the chest wall is {image.chest_wall}, by {source} "
            f"{record.chest_wall_side}"
        )
    if first.image_id != record.image_id:
        is_same = first.patient_id == record.patient_id
        whose = "the same patient" if is_same else "another patient: keep them in one fold"
        report.remarks.append(f"image {record.image_id}: has the same pixels as {first.image_id}, of {whose}")
    marked = [region for region in report.annotations.regions.get(record.image_id, ()) if region.kind != "other"]
    if record.is_called_normal and marked:
        report.remarks.append(
            f"image {record.image_id}: is called normal, but has {len(marked)} regions of calcification"
        )
