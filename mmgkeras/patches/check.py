"""A data folder read once: every image opened, every annotation placed, what is wrong and what is odd listed.

Owns the one pass over the images, which `prepare` also makes its store in, and what can be seen over several images
only. What one image's pixels say is `findings`'.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmgkeras import images, tables
from mmgkeras.config import PatchesConfig
from mmgkeras.errors import InputError
from mmgkeras.patches.findings import BLANK, SEVERITIES, SWAPPED, Finding, Severity, check_pixels, check_region_place
from mmgkeras.patches.labelling import Annotations, read_annotations, region_overlap
from mmgkeras.patches.likeness import image_hash, nearly_same
from mmgkeras.patches.region_masks import region_mask
from mmgkeras.patches.shards import pixel_sha256
from mmgkeras.progress import Track, untracked
from mmgkeras.schema import CALCIFICATION, Grid, ImageRecord, Mammogram, Side
from mmgkeras.sources.processes import in_processes

_SPACING_RATIO: Final = 1.2
"""Pixels whose edges differ by more than this show marks of unlike size."""
_SPACING_RANGE_MM: Final = (0.02, 0.5)
"""Of detectors and scanned films."""
_OUTLIER: Final = 3.0
"""A pixel size so many times the median, or its part, is probably an error."""


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


Use = Callable[[ReadImage, NDArray[np.int8]], Any]
"""What is made of an image without fault and of the labels of its patches."""


@dataclass(frozen=True, slots=True)
class DataFolder:
    """The tables of a data folder: rows without fault, and one line for each fault of the others."""

    data: Path
    records: list[ImageRecord]
    annotations: Annotations
    faults: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What one image told.

    Attributes:
        record: of the image.
        findings: on it.
        shape: (height, width); None if it could not be read, and all that follows is empty then.
        pixel_type: of the mammogram.
        side: where its chest wall is, by the pixels: "as told", "at the other edge" or "unclear".
        pixel_sha256, likeness: by which the same and nearly the same images are found.
        unplaced: ids of the cluster regions that lie in no positive patch.
        made: what `Use` gave; None if it was not called.
    """

    record: ImageRecord
    findings: tuple[Finding, ...]
    shape: tuple[int, int] | None = None
    pixel_type: str = ""
    side: str = ""
    pixel_sha256: str = ""
    likeness: str = ""
    unplaced: tuple[str, ...] = ()
    made: Any = None


@dataclass(slots=True)
class DataReport:
    """What a data folder holds.

    Attributes:
        folder: its tables.
        findings: everything to look at, by severity and in the order of the tables.
        pixel_types: number of images read for each of "uint8" and "uint16".
        sizes: number of images read for each (height, width) in pixels.
        sides: number of images read for each `Examined.side`.
        unplaced: (image_id, region_id) of each cluster region that lies in no positive patch.
        made: what `Use` made of each image for which it was called.
    """

    folder: DataFolder
    findings: list[Finding] = field(default_factory=list)
    pixel_types: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    sides: Counter[str] = field(default_factory=Counter)
    unplaced: list[tuple[str, str]] = field(default_factory=list)
    made: list[Any] = field(default_factory=list)

    @property
    def records(self) -> list[ImageRecord]:
        """Of the images that images.csv lists."""
        return self.folder.records

    @property
    def annotations(self) -> Annotations:
        """Of all images."""
        return self.folder.annotations

    def of(self, severity: Severity) -> list[Finding]:
        """The findings of one severity."""
        return [finding for finding in self.findings if finding.severity == severity]

    @property
    def faults(self) -> list[str]:
        """One line for each table row, annotation and image that cannot be used."""
        return list(map(str, self.of("fault")))

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


def read_folder(data: Path, config: PatchesConfig) -> DataFolder:
    """The tables of a folder with images.csv and, if there are annotations, labels.csv or regions.csv."""
    faults: list[str] = []
    records: list[ImageRecord] = []
    annotations = Annotations(data, config, "nothing")
    try:
        records = tables.read_images(data / "images.csv", faults=faults)
    except InputError as error:
        faults.extend(str(error).splitlines())
    try:
        annotations = read_annotations(data, config, faults=faults)
    except InputError as error:
        faults.extend(str(error).splitlines())
    return DataFolder(data, records, annotations, faults)


def check_folder(
    folder: DataFolder,
    *,
    use: Use | None = None,
    model_mm: float | None = None,
    num_workers: int = 1,
    track: Track = untracked,
    label: str = "checking images",
) -> DataReport:
    """Reads every image and annotation of a data folder and says what is wrong and what is odd.

    Args:
        folder: what `read_folder` gave.
        use: called with each image without fault and the labels of its patches, in the process that read it.
        model_mm: edge of a pixel of a model that is to be used on the images.
        num_workers: processes.
        track: shows progress over the images.
        label: what `track` is told.

    Raises:
        InputError: if a process ended before its work was done.
    """
    report = DataReport(folder, [_placed(fault, "fault", "table") for fault in folder.faults])
    report.findings.extend(_of_tables(folder))
    work = partial(_examine, data=folder.data, config=folder.annotations.config, use=use)
    tasks = [(record, folder.annotations.only(record.image_id)) for record in folder.records]
    examined = []
    if not tasks:
        track = untracked
    for one in in_processes(work, tasks, num_workers=num_workers, label=label, track=track):
        report.findings.extend(one.findings)
        report.unplaced.extend((one.record.image_id, region_id) for region_id in one.unplaced)
        if one.shape is not None:
            report.sizes[one.shape] += 1
            report.pixel_types[one.pixel_type] += 1
            report.sides[one.side] += 1
        if one.made is not None:
            report.made.append(one.made)
        examined.append(replace(one, findings=(), made=None))
    report.findings.extend(_same_images(examined))
    report.findings.extend(_pixel_sizes(folder.records, model_mm=model_mm))
    if len(report.pixel_types) > 1:
        what = "8-bit and deeper images are mixed: a store promotes the 8-bit ones x257"
        report.findings.append(Finding("note", "mixed depths", what))
    _tell_lines(report)
    return report


def _examine(task: tuple[ImageRecord, Annotations], *, data: Path, config: PatchesConfig, use: Use | None) -> Examined:
    """Reads one image and holds it against its row and its annotations."""
    record, annotations = task
    try:
        native = images.read(record, data)
    except InputError as error:
        lines = str(error).splitlines()
        return Examined(record=record, findings=tuple(_placed(line, "fault", "image", record) for line in lines))
    image = _divided(native, config=config)
    faults = annotations.faults(record.image_id, image.grid, shape=image.shape)
    findings = [_placed(fault, "fault", "annotation", record) for fault in faults]
    findings += check_pixels(image.mammogram.pixels, record=record, tissue=image.tissue, chest_wall=image.chest_wall)
    unplaced, made = [], None
    if faults and image.shape == image.tissue.shape:
        places = (
            check_region_place(region, tissue=image.tissue) for region in annotations.regions.get(record.image_id, ())
        )
        findings += [place for place in places if place is not None and place.kind == SWAPPED]
    elif not faults:
        remarks = annotations.remarks(record.image_id, shape=image.shape)
        findings += [_placed(remark, "note", "region beyond the image", record) for remark in remarks]
        findings += _of_annotations(record, annotations, image)
        labels = annotations.labels(record, image.grid, shape=image.shape)
        for region_id, part in _unplaced(annotations, image, labels):
            what = f"cluster region {region_id} lies in no positive patch; a patch holds at most {part:.0%} of it"
            findings.append(_on(record, "note", "no positive patch", what))
            unplaced.append(region_id)
        made = None if use is None else use(image, labels)
    wall = image.chest_wall
    side = "unclear" if wall is None else "as told" if wall == record.chest_wall_side else "at the other edge"
    return Examined(
        record=record,
        findings=tuple(findings),
        shape=image.shape,
        pixel_type=str(native.pixels.dtype),
        side=side,
        pixel_sha256=image.pixel_sha256,
        likeness="" if any(finding.kind == BLANK for finding in findings) else image_hash(native.pixels),
        unplaced=tuple(unplaced),
        made=made,
    )


def _divided(native: Mammogram, *, config: PatchesConfig) -> ReadImage:
    record = native.record
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


def _of_tables(folder: DataFolder) -> Iterator[Finding]:
    """What the tables alone tell."""
    for what in ("patient", "image"):
        for group in tables.look_alikes(getattr(record, f"{what}_id") for record in folder.records):
            ids = ", ".join(map(ascii, group))
            told = f"{what} ids {ids} differ only in Unicode form, case, width or invisible characters"
            yield Finding("warning", "ids that look alike", told)
    yield from (Finding("note", "annotation files", note) for note in folder.annotations.notes)
    if not folder.faults:  # otherwise the rows may only be faulty
        unknown = folder.annotations.faults_of_unknown_images({record.image_id for record in folder.records})
        yield from (_placed(fault, "fault", "unknown image") for fault in unknown)


def _of_annotations(record: ImageRecord, annotations: Annotations, image: ReadImage) -> Iterator[Finding]:
    """What is odd of the annotations of one image that all fit into it."""
    regions = annotations.regions_on(record.image_id, image.grid, shape=image.shape)
    yield from (found for region in regions if (found := check_region_place(region, tissue=image.tissue)))
    listed = annotations.patch_labels.get(record.image_id)
    num_marks = sum(region.kind != "other" for region in regions)
    num_marks += 0 if listed is None else int((listed["label"] == CALCIFICATION).sum())
    if record.is_called_normal and num_marks:
        what = f"is called normal, but has {num_marks} regions or patches of calcification"
        yield _on(record, "warning", "called normal", what)
    if "calc" in (record.pathology or "").casefold() and not num_marks and annotations.read_from != "nothing":
        what = f"pathology is {record.pathology!a}, but no calcification is marked"
        yield _on(record, "warning", "called calcified", what)


def _unplaced(annotations: Annotations, image: ReadImage, labels: NDArray[np.int8]) -> Iterator[tuple[str, float]]:
    """Each cluster region that touches no positive patch, and the largest part of it in one: on the corner of four."""
    for region in annotations.regions_on(image.mammogram.record.image_id, image.grid, shape=image.shape):
        if region.kind != "cluster":  # an individual mark makes its patch positive, and "other" is no calcification
            continue
        covered = region_mask(region, height=image.grid.height, width=image.grid.width)
        rows, cols, overlap_px = region_overlap(image.grid, covered)
        if not (labels[np.ix_(rows, cols)][overlap_px > 0] == CALCIFICATION).any():
            yield region.region_id, float(overlap_px.max() / covered.mask.sum())


def _same_images(examined: Sequence[Examined]) -> Iterator[Finding]:
    """Images whose pixels are those of an earlier one, or nearly."""
    read = [one for one in examined if one.shape is not None]
    first_with: dict[str, ImageRecord] = {}
    for one in read:
        first = first_with.setdefault(one.pixel_sha256, one.record)
        if first is not one.record:
            yield _on(one.record, "warning", "same pixels", f"has the same pixels as {_whose(one.record, first)}")
    distinct = [one for one in read if first_with[one.pixel_sha256] is one.record and one.likeness]
    for place, other, is_mirrored in nearly_same([one.likeness for one in distinct]):
        first, second = distinct[place].record, distinct[other].record
        severity: Severity = "note" if first.patient_id == second.patient_id else "warning"
        mirrored = ", mirrored" if is_mirrored else ""
        what = f"is nearly the same{mirrored} as {_whose(second, first)}"
        yield _on(second, severity, "nearly the same pixels", what)


def _whose(record: ImageRecord, first: ImageRecord) -> str:
    is_same = first.patient_id == record.patient_id
    return f"{first.image_id}, of {'the same patient' if is_same else 'another patient: keep them in one fold'}"


def _pixel_sizes(records: Sequence[ImageRecord], *, model_mm: float | None) -> Iterator[Finding]:
    """What is odd of the pixel sizes of all images, and beside a model's."""
    known = [record.spacing_mm for record in records if record.spacing_mm is not None]
    if len(known) < len(records):
        what = f"spacing_mm is missing for {len(records) - len(known):,} of {len(records):,} images"
        yield Finding("note", "pixel size", what)
    if not known:
        return
    least, most = _SPACING_RANGE_MM
    if usual := [mm for mm in known if least <= mm <= most]:
        median = float(np.median(usual))
        least, most = max(least, median / _OUTLIER), min(most, median * _OUTLIER)
    for record in records:
        mm = record.spacing_mm
        if mm is not None and not least <= mm <= most:
            what = f"spacing_mm is {mm:g}; by the other images it should be from {least:.3g} to {most:.3g}"
            yield _on(record, "warning", "pixel size", what)
    usual = [mm for mm in known if least <= mm <= most]
    if usual and max(usual) > _SPACING_RATIO * min(usual):
        what = f"pixels differ in size by over 20 %: {min(usual):g} to {max(usual):g} mm"
        yield Finding("note", "pixel size", what)
    unlike = [mm for mm in known if model_mm is not None and not 1 / _SPACING_RATIO <= mm / model_mm <= _SPACING_RATIO]
    if unlike:
        part = f"{len(unlike):,} of {len(records):,} images"
        what = f"{part} have pixels of {min(unlike):g} to {max(unlike):g} mm, the model {model_mm:g} mm"
        yield Finding("warning", "pixel size of the model", f"{what}: prepare with patches.spacing_mm={model_mm:g}")


def _placed(line: str, severity: Severity, kind: str, record: ImageRecord | None = None) -> Finding:
    """The finding of a line that begins with its place."""
    place, _, what = line.partition(": ")
    return Finding(severity, kind, what, place, None if record is None else record.image_id)


def _on(record: ImageRecord, severity: Severity, kind: str, what: str) -> Finding:
    return Finding(severity, kind, f"image {record.image_id}: {what}", image_id=record.image_id)


def _tell_lines(report: DataReport) -> None:
    """Gives each finding on an image its line of images.csv, and orders all by severity."""
    path = report.folder.data / "images.csv"
    lines: dict[str, int] = {}
    if any(finding.image_id and not finding.place for finding in report.findings):
        lines = {key[0]: line for key, line in tables.line_numbers(path, ("image_id",)).items()}
    placed: Iterable[Finding] = (
        replace(finding, place=f"{path}:{lines[finding.image_id]}")
        if finding.image_id in lines and not finding.place
        else finding
        for finding in report.findings
    )
    report.findings = sorted(placed, key=lambda finding: SEVERITIES.index(finding.severity))
