"""CDD-CESM (Khaled et al. 2022), the data set of the paper: its low-energy images.

1,003 low-energy mammograms (DM) of 326 patients, JPEG, 8 bits. The images stay where they are, unchanged.

Owns how its annotation files are understood; docs/data_sets.md tells it to the user:

- Patient, side and view come from the name, such as `P1_L_DM_MLO`. Subtracted images (CM) are passed over.
- The sheet "calcifications" of the workbook lists the images with calcification. The outlines drawn by hand have no
  class. They are kind "cluster" on images of that sheet whose tags name calcification and no text a mass, nodule,
  distortion or edema, and kind "other" everywhere else. A file of boxes, where given, replaces the outlines.
- "Normal" is an image with that tag and class, no outline and no row in the sheet. Annotation is never "complete".
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from mmgkeras.config import PatchesConfig
from mmgkeras.errors import InputError, counted, shown
from mmgkeras.images import ImageFacts
from mmgkeras.patches.labelling import label_patches
from mmgkeras.progress import Track
from mmgkeras.schema import CALCIFICATION, UNKNOWN, Grid, ImageRecord, Kind, Region, Shape
from mmgkeras.sources.annotation_tables import Row, by_name, read_rows
from mmgkeras.sources.data_set import (
    ImportReport,
    find_images,
    only_file,
    read_all_facts,
)
from mmgkeras.sources.via import Points, via_shape
from mmgkeras.tables.rows import finite, whole

_NAME: Final = re.compile(r"(?P<patient>P\d{1,6})_(?P<side>[LR])_(?P<modality>DM|CM)_(?P<view>CC|MLO)(?:_?\d)?")
"""Two names end in a number: P99_L_DM_MLO_2 and P281_L_DM_MLO2."""
_WORKBOOK: Final = "Radiology*manual*annotations.xlsx"
_OUTLINES: Final = "Radiology*hand*drawn*segmentations*.csv"
_COLUMNS: Final = ("Image_name", "Age", "BIRADS", "Findings", "Machine", "Pathology Classification/ Follow up")
_SHEETS: Final = {"all": (*_COLUMNS, "Tags", "Breast density (ACR)"), "calcifications": _COLUMNS}
_VIA: Final = ("#filename", "file_size", "region_shape_attributes")
_BOX: Final = ("ImageName", "Source", "Type", "xmin", "ymin", "xmax", "ymax", "pixx", "pixy")
_OTHER_FINDING: Final = re.compile(r"\bmas|nodul|distort|edem", re.IGNORECASE)
"""Findings that were outlined beside the calcification or instead of it. "mas" is mass too; edema is thick skin."""
_SPACING_MM: Final = {"1": 0.1, "2": 0.07}
"""By machine: GE Senographe DS and Hologic Selenia Dimensions, of which no file says which image is whose."""
_ORIENTATIONS: Final = (("R", "CC"), ("R", "MLO"), ("L", "CC"), ("L", "MLO"))
"""The columns of the paper's Table 1."""
_Sheets = Mapping[str, Mapping[str, Row]]


class _Drawn(NamedTuple):
    """An outline or box: where it stands, and what its image should be (size in bytes, or width and height)."""

    place: str
    shape: Shape
    points: Points
    num_bytes: int | None = None
    size: tuple[int, int] | None = None


def read_cdd_cesm(source: Path, report: ImportReport, track: Track, *, boxes: Path | None = None) -> None:
    """Takes the low-energy images below `source`.

    Args:
        source: folder with the images, the workbook of annotations and the VIA file of outlines, at any depth.
        report: is filled.
        track: shows progress.
        boxes: CSV file of boxes (ImageName, Source, Type, xmin, ymin, xmax, ymax, pixx, pixy) whose rows of CESM and
            Calcification are taken instead of the outlines.

    Raises:
        InputError: if an annotation file is missing or cannot be read, or no image is found.
    """
    report.notes += _NOTES
    workbook = only_file(source, _WORKBOOK)
    sheets = {sheet: _read_sheet(workbook, sheet, report=report) for sheet in _SHEETS}
    outlines = _read_outlines(only_file(source, _OUTLINES), report=report)
    drawn = outlines if boxes is None else _read_boxes(boxes, report=report)
    files = find_images(source, report, name_of=_name_of, example="P1_L_DM_MLO.jpg")
    named = {**sheets["calcifications"], **sheets["all"]}
    for text, names in (("is listed, but there is no such image", named), ("is outlined, but not listed", drawn)):
        known = files if names is named else named
        report.skipped += [f"{source}: {name} {text}" for name in sorted(names.keys() - known.keys())]
    report.skipped += [f"{files[name]}: has no row in {workbook.name}" for name in sorted(files.keys() - named)]
    usable = {name: files[name] for name in sorted(named.keys() & files.keys())}
    facts = read_all_facts(usable, report, track)
    is_boxed = boxes is not None
    for name in sorted(drawn.keys() & facts.keys()):
        kind: Kind = "cluster" if is_boxed or _is_calcification_alone(name, sheets) else "other"
        _place(drawn[name], name=name, kind=kind, facts=facts[name], report=report)
    _note_resized(drawn, usable, report)
    clusters = report.images_with("cluster")
    for name in facts:
        is_marked = name in outlines or name in drawn or name in sheets["calcifications"]
        row = named[name]
        report.records.append(
            _record(row, name=name, path=usable[name], is_partial=name in clusters, is_marked=is_marked)
        )
    _count(report, sheets=sheets, facts=facts)


_NOTES: Final = (
    "TCIA data usage policy: cite Khaled et al. 2022, doi 10.1038/s41597-022-01238-0 and 10.7937/29kw-ae92",
    "nobody marked every calcification: annotation is partial or none, unmarked patches are unknown",
    "spacing is inferred from the machine's number: 0.1 mm for machine 1, 0.07 mm for machine 2; no file says it",
)


def _name_of(path: Path) -> str | None:
    """The name of a low-energy image; five end in a blank."""
    match = _NAME.fullmatch(path.stem.strip())
    return match.string if match and match["modality"] == "DM" else None


def _read_sheet(path: Path, sheet: str, *, report: ImportReport) -> dict[str, Row]:
    """The rows of low-energy images by name, of one sheet."""
    rows: list[Row] = []
    num_subtracted = 0
    for row in read_rows(path, _SHEETS[sheet], report=report, sheet=sheet):
        name = row["Image_name"]
        match = _NAME.fullmatch(name)
        if match is None:
            rule = "an image must have a name such as P1_L_DM_MLO"
            report.skipped.append(f"{row.place}: {rule}. Received: {shown(name)}")
        elif match["modality"] == "CM":
            num_subtracted += 1
        else:
            rows.append(row)
    if not rows:
        raise InputError(f"{path}: sheet {sheet!r} must list low-energy images such as P1_L_DM_MLO. Received: none")
    if num_subtracted:
        report.notes.append(f"rows of sheet {sheet!r} of subtracted images, passed over: {num_subtracted:,}")
    return by_name(rows, lambda row: row["Image_name"], report)


def _read_outlines(path: Path, *, report: ImportReport) -> dict[str, list[_Drawn]]:
    """The outlines of low-energy images by name, from VIA's CSV."""
    outlines: dict[str, list[_Drawn]] = {}
    num_subtracted = 0
    for row in read_rows(path, _VIA, report=report):
        match = _NAME.fullmatch(name := Path(row["#filename"]).stem.strip())
        if match is None:
            rule = "an image must have a name such as P1_L_DM_MLO.jpg"
            report.skipped.append(f"{row.place}: {rule}. Received: {shown(row['#filename'])}")
        elif match["modality"] == "CM":
            num_subtracted += 1
        else:
            found = outlines.setdefault(name, [])  # of an outline at fault too: its image is not free
            with report.skipping(row.place):
                found.append(_Drawn(row.place, *via_shape(row["region_shape_attributes"]), whole(row["file_size"])))
    if num_subtracted:
        report.notes.append(f"{num_subtracted:,} outlines are on subtracted images and passed over")
    return outlines


def _read_boxes(path: Path, *, report: ImportReport) -> dict[str, list[_Drawn]]:
    """The calcification boxes of CDD-CESM's images by name."""
    boxes: dict[str, list[_Drawn]] = {}
    others = 0
    for row in read_rows(path, _BOX, report=report):
        if (row["Source"], row["Type"]) != ("CESM", "Calcification"):
            others += 1
            continue
        with report.skipping(row.place):
            if not _NAME.fullmatch(name := row["ImageName"]):
                raise InputError(f"ImageName must be a name such as P1_L_DM_MLO. Received: {shown(name)}")
            found = boxes.setdefault(name, [])
            left, top, right, bottom, width, height = (row.number(column) for column in _BOX[3:])
            corners = ((top, left), (bottom, right))
            found.append(_Drawn(row.place, "box", corners, size=(int(width), int(height))))
    report.notes.append(f"{path}: {others:,} boxes of other findings or data sets are passed over")
    return boxes


def _is_calcification_alone(name: str, sheets: _Sheets) -> bool:
    """Whether the outlines on an image can be taken for calcification."""
    listed, calcified = (sheets[sheet].get(name) for sheet in _SHEETS)
    if listed is None or calcified is None or "calcif" not in listed["Tags"].lower():
        return False
    return not _OTHER_FINDING.search(" ".join([listed["Tags"], listed["Findings"], calcified["Findings"]]))


def _place(drawn: Sequence[_Drawn], *, name: str, kind: Kind, facts: ImageFacts, report: ImportReport) -> None:
    size = (facts.width, facts.height)
    for number, one in enumerate(drawn, start=1):
        if one.size not in (None, size):
            rule = f"{name} must be of {one.size} columns and rows. Received: {size}"
            report.skipped.append(f"{one.place}: {rule}")
            continue
        report.place(Region(name, f"r{number}", kind, one.shape, one.points), facts, source=one.place)


def _note_resized(drawn: Mapping[str, Sequence[_Drawn]], files: Mapping[str, Path], report: ImportReport) -> None:
    resized = sum(
        outlines[0].num_bytes not in (None, files[name].stat().st_size)
        for name, outlines in drawn.items()
        if outlines and name in files
    )
    if resized:
        text = f"{resized} images have another size in bytes than when their outlines were drawn"
        report.notes.append(f"{text}: outlines are misplaced if these are not the data set's own files")


def _record(row: Row, *, name: str, path: Path, is_partial: bool, is_marked: bool) -> ImageRecord:
    match = _NAME.fullmatch(name)
    assert match is not None  # _read_sheet took no other
    density = row.values.get("Breast density (ACR)", row.values.get("ACR", "_"))
    tags = row.values.get("Tags", "")
    pathology = row["Pathology Classification/ Follow up"]
    is_normal = pathology.lower() == tags.lower() == "normal" and not is_marked
    if pathology.lower() == "normal" and not is_normal:
        pathology = f"Normal, but marked or tagged: {tags}"
    return ImageRecord(
        image_id=name,
        path=str(path),
        patient_id=match["patient"],
        laterality="L" if match["side"] == "L" else "R",
        view="CC" if match["view"] == "CC" else "MLO",
        annotation="partial" if is_partial else "none",
        spacing_mm=_SPACING_MM.get(row["Machine"]),
        density=None if density in ("", "_") else density,
        birads=row["BIRADS"] or None,
        age=finite(row["Age"]),
        pathology=pathology or None,
    )


def _count(report: ImportReport, *, sheets: _Sheets, facts: Mapping[str, ImageFacts]) -> None:
    """Our numbers, the paper's Tables 1 and 3 among them, beside those that are printed."""
    calcified, clusters = set(sheets["calcifications"]), report.images_with("cluster")
    sakaida = "Sakaida et al.: 212 images of 81 patients, and not which"
    report.count("low-energy images", report.images_of(), "1,003 images of 326 patients")
    report.count("sheet 'calcifications'", _images_of(calcified), f"238 images; {sakaida}")
    report.count("with regions of calcification", _images_of(clusters))
    report.count("regions of calcification", f"{report.num_of_kind('cluster'):,}")
    report.count("regions that may be something else, kind other", f"{report.num_of_kind('other'):,}")
    report.count("called normal", f"{report.num_normal:,} images")
    for what, names in (("sheet 'calcifications'", calcified), ("with regions of calcification", clusters)):
        table = _by_orientation(names)
        report.count(f"Table 1, R CC, R MLO, L CC, L MLO: {what}", table, "Sakaida et al.: 53, 51, 52, 56")
    labels = Counter[int]()
    for name in clusters:
        labels.update(_patch_labels(name, report, facts[name]))
    report.count("Table 3, patches with calcification", f"{labels[CALCIFICATION]:,}", "Sakaida et al.: 1,029")
    report.count("Table 3, patches without", f"none; {labels[UNKNOWN]:,} unknown", "Sakaida et al.: 14,020")
    if doubtful := sorted(calcified & report.images_with("other")):
        text = "carrying regions that may be something else"
        report.notes.append(
            f"{counted(len(doubtful), 'image')} of sheet 'calcifications' {text}: {', '.join(doubtful)}"
        )


def _images_of(names: set[str]) -> str:
    """How many images of how many patients."""
    num_patients = len({name.partition("_")[0] for name in names})
    return f"{counted(len(names), 'image')} of {counted(num_patients, 'patient')}"


def _by_orientation(names: set[str]) -> str:
    """How many images of each column of Table 1."""
    matches = [match for name in names if (match := _NAME.fullmatch(name))]
    counts = Counter((match["side"], match["view"]) for match in matches)
    return ", ".join(str(counts[orientation]) for orientation in _ORIENTATIONS)


def _patch_labels(name: str, report: ImportReport, facts: ImageFacts) -> list[int]:
    """The labels of an image's patches by the paper's division."""
    record = next(record for record in report.records if record.image_id == name)
    regions = [region for region in report.regions if region.image_id == name]
    config = PatchesConfig()
    grid = Grid(facts.height, facts.width, config.patch_px, config.patch_px, record.chest_wall_side)
    return [int(label) for label in label_patches(grid, regions, record=record, config=config).ravel()]
