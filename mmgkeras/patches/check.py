"""A data folder read once: every image opened, every annotation placed, what is wrong and what is odd listed.

Owns the one pass over the images, which `prepare` also makes its store in, and what can be seen over several images
only. What one image's pixels say is `findings`'.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from mmgkeras import tables
from mmgkeras.config import PatchesConfig
from mmgkeras.errors import InputError, counted, shown
from mmgkeras.patches.examine import Examined, Use, examine_kept, on_image, placed
from mmgkeras.patches.findings import SEVERITIES, Finding, Severity
from mmgkeras.patches.labelling import Annotations, read_annotations
from mmgkeras.patches.likeness import nearly_same
from mmgkeras.processes import HERE, Workers
from mmgkeras.progress import Track, untracked
from mmgkeras.schema import ImageRecord

_FEW_IMAGES: Final = 10
"""For these, starting processes takes longer than it saves."""
_SPACING_RATIO: Final = 1.2
"""Pixels whose edges differ by more than this show marks of unlike size."""
_SPACING_RANGE_MM: Final = (0.02, 0.5)
"""Of detectors and scanned films."""
_SHORTENED: Final = re.compile(r"\d([.,]\d+)?[eE]\+\d+")
_OUTLIER: Final = 3.0
"""A pixel size so many times the median, or its part, is probably an error."""


@dataclass(frozen=True, slots=True)
class DataFolder:
    """The tables of a data folder: rows without fault, and one line for each fault of the others."""

    data: Path
    records: list[ImageRecord]
    annotations: Annotations
    faults: list[str]


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
    """

    folder: DataFolder
    findings: list[Finding] = field(default_factory=list)
    pixel_types: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    sides: Counter[str] = field(default_factory=Counter)
    unplaced: list[tuple[str, str]] = field(default_factory=list)

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
    """The tables of a folder with images.csv and, if there are annotations, labels.csv or regions.csv.

    Raises:
        InputError: if there is no images.csv.
    """
    if not (data / "images.csv").exists():
        raise InputError(f"{data}: is not a data folder: it has no images.csv; mmgkeras import makes one")
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
    each: Callable[[Examined], None] | None = None,
    model_mm: float | None = None,
    keep: Path | None = None,
    workers: Workers = HERE,
    track: Track = untracked,
    label: str = "checking images",
) -> DataReport:
    """Reads every image and annotation of a data folder and says what is wrong and what is odd.

    Args:
        folder: what `read_folder` gave.
        use: called with each image without fault and the labels of its patches, in the process that read it.
        each: called here, in the order of the table, with what each call of `use` made.
        model_mm: edge of a pixel of a model that is to be used on the images.
        keep: a folder for what is told of each image, of which a later call reads what is there.
        workers: who reads the images.
        track: shows progress over the images.
        label: what `track` is told.

    Raises:
        InputError: as `Workers.map`.
    """
    report = DataReport(folder, [placed(fault, "fault", "table", path=folder.data) for fault in folder.faults])
    report.findings.extend(_of_tables(folder))
    work = partial(examine_kept, data=folder.data, config=folder.annotations.config, use=use, keep=keep)
    tasks = [(record, folder.annotations.only(record.image_id)) for record in folder.records]
    examined = []
    track = track if tasks else untracked
    for one in workers.map(work, tasks, label=label, track=track, few=_FEW_IMAGES):
        report.findings.extend(one.findings)
        report.unplaced.extend((one.record.image_id, region_id) for region_id in one.unplaced)
        if one.shape is not None:
            report.sizes[one.shape] += 1
            report.pixel_types[one.pixel_type] += 1
            report.sides[one.side] += 1
        if one.made is not None and each is not None:
            each(one)
        examined.append(replace(one, findings=(), made=None))
    report.findings.extend(_same_images(examined))
    report.findings.extend(_pixel_sizes(folder.records, model_mm=model_mm))
    if num_lossy := sum(one.is_lossy for one in examined):
        part = f"{num_lossy:,} of {counted(len(folder.records), 'image')}"
        text = "where pixels are as coarse as 0.2 mm, it may have hidden small calcifications"
        what = f"JPEG, or TIFF or DICOM of lossy compression: {part}; {text}"
        report.findings.append(Finding("note", "compressed with loss", what))
    if len(report.pixel_types) > 1:
        what = "8-bit and deeper images are mixed: a store promotes the 8-bit ones x257"
        report.findings.append(Finding("note", "mixed depths", what))
    _tell_lines(report)
    return report


def _of_tables(folder: DataFolder) -> Iterator[Finding]:
    """What the tables alone tell."""
    for what in ("patient", "image"):
        for group in tables.look_alikes(getattr(record, f"{what}_id") for record in folder.records):
            ids = ", ".join(map(ascii, group))
            told = f"{what} ids {ids} differ only in Unicode form, case, width, invisible characters or leading zeros"
            yield Finding("warning", "ids that look alike", told)
    patients = dict.fromkeys(record.patient_id for record in folder.records)
    for kind, is_so, text in (
        ("shortened ids", _SHORTENED.fullmatch, "are numbers that a spreadsheet shortened"),
        ("ids that say nothing", tables.says_nothing, "stand for a patient who is not known"),
    ):
        if found := ", ".join(filter(is_so, patients)):
            what = f"patient ids {text}, so that several patients may be one: {shown(found)}"
            yield Finding("warning", kind, what)
    yield from (Finding("note", "annotation files", note) for note in folder.annotations.notes)
    if not folder.faults:  # otherwise the rows may only be faulty
        unknown = folder.annotations.faults_of_unknown_images({record.image_id for record in folder.records})
        yield from (placed(fault, "fault", "unknown image", path=folder.data) for fault in unknown)


def _same_images(examined: Sequence[Examined]) -> Iterator[Finding]:
    """Images whose pixels are those of an earlier one, or nearly."""
    read = [one for one in examined if one.shape is not None]
    first_with: dict[str, ImageRecord] = {}
    for one in read:
        first = first_with.setdefault(one.pixel_sha256, one.record)
        if first is not one.record:
            yield on_image(one.record, "warning", "same pixels", f"has the same pixels as {_whose(one.record, first)}")
    told: set[tuple[int, Severity]] = set()
    distinct = [one for one in read if first_with[one.pixel_sha256] is one.record and one.likeness]
    for place, other, is_mirrored in nearly_same([one.likeness for one in distinct]):
        first, second = distinct[place].record, distinct[other].record
        severity: Severity = "note" if first.patient_id == second.patient_id else "warning"
        if (other, severity) in told:  # a hundred of one kind would make thousands of pairs
            continue
        told.add((other, severity))
        mirrored = ", mirrored" if is_mirrored else ""
        what = f"is nearly the same{mirrored} as {_whose(second, first)}"
        yield on_image(second, severity, "nearly the same pixels", what)


def _whose(record: ImageRecord, first: ImageRecord) -> str:
    is_same = first.patient_id == record.patient_id
    return f"{first.image_id}, of {'the same patient' if is_same else 'another patient: keep them in one fold'}"


def _pixel_sizes(records: Sequence[ImageRecord], *, model_mm: float | None) -> Iterator[Finding]:
    """What is odd of the pixel sizes of all images, and beside a model's."""
    known = [record.spacing_mm for record in records if record.spacing_mm is not None]
    if len(known) < len(records):
        what = f"spacing_mm is missing for {len(records) - len(known):,} of {counted(len(records), 'image')}"
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
            yield on_image(record, "warning", "pixel size", what)
    usual = [mm for mm in known if least <= mm <= most]
    if usual and max(usual) > _SPACING_RATIO * min(usual):
        what = f"pixels differ in size by over 20 %: {min(usual):g} to {max(usual):g} mm"
        yield Finding("note", "pixel size", what)
    unlike = [mm for mm in known if model_mm is not None and not 1 / _SPACING_RATIO <= mm / model_mm <= _SPACING_RATIO]
    if unlike:
        part = f"{len(unlike):,} of {counted(len(records), 'image')}"
        what = f"pixels of {min(unlike):g} to {max(unlike):g} mm in {part}, the model {model_mm:g} mm"
        yield Finding("warning", "pixel size of the model", f"{what}: prepare with patches.spacing_mm={model_mm:g}")


def _tell_lines(report: DataReport) -> None:
    """Gives each finding on an image that has no place its line of images.csv, and orders all by severity."""
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
