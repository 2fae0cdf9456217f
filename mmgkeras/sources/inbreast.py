"""INbreast (Moreira et al. 2012): 410 digital mammograms whose calcifications were marked one by one.

Owns how its files are understood; docs/data_sets.md tells it to the user:

- The name of an image, `<number>_<patient key>_MG_<L|R>_<CC|ML>_ANON.dcm`, has patient and side; ML is MLO, and FB,
  of one image, is view "other". The table's own patient ids are removed.
- The XML file of its number is a property list of OsiriX: regions of points (x, y) in pixels. Those named Calcification
  are marks, Cluster are cluster regions, all others are kind "other".
- Every calcification was sought: annotation is "complete". An image of BI-RADS 1 has no finding and needs no XML file;
  where another has none, the file is missing, and annotation is "none".
"""

import plistlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from xml.parsers.expat import ExpatError

from mmgkeras.errors import InputError, shown
from mmgkeras.images import ImageFacts
from mmgkeras.progress import Track
from mmgkeras.schema import Annotation, ImageRecord, Kind, Region, Shape, View
from mmgkeras.sources.annotation_tables import Row, by_name, read_rows
from mmgkeras.sources.data_set import ImportReport, files_named, find_images, only_file, read_all_facts, with_rows

_NAME: Final = re.compile(r"(?P<number>\d+)_(?P<patient>[0-9a-f]+)_MG_(?P<side>[LR])_(?P<view>[A-Z]+)_ANON", re.I)
_VIEWS: Final[dict[str, View]] = {"CC": "CC", "ML": "MLO", "MLO": "MLO"}
_KINDS: Final[dict[str, Kind]] = {
    "calcification": "calcification",
    "calcifications": "calcification",
    "cluster": "cluster",
}
_POINT: Final = re.compile(r"\(\s*([-+.\deE]+)\s*,\s*([-+.\deE]+)\s*\)")
_DENSITIES: Final = {"1": "A", "2": "B", "3": "C", "4": "D"}
_NUMBER: Final = "File Name"
_MUSCLE: Final = "*_muscle.xml"
"""The files of the folder PectoralMuscle, beside AllXML."""
_FAULTS: Final = (
    plistlib.InvalidFileException,
    ExpatError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)
_NOTES: Final = (
    "for research, by agreement with its makers: cite Moreira et al. 2012, doi 10.1016/j.acra.2011.09.014",
    "every calcification was marked: annotation is complete, an unmarked patch has none",
)


def read_inbreast(source: Path, report: ImportReport, track: Track) -> None:
    """Takes the images below `source`, which holds INbreast.csv or INbreast.xls, the DICOM files and the XML files.

    Raises:
        InputError: if the table is missing or cannot be read, or no image or no XML file is found.
    """
    report.notes += _NOTES
    table = only_file(source, "INbreast.csv", "INbreast.xls", "INbreast.xlsx")
    listed = read_rows(table, (_NUMBER, "Bi-Rads", "ACR"), report=report)
    rows = by_name([row for row in listed if row[_NUMBER]], lambda row: _whole(row[_NUMBER]), report)
    if unnumbered := sum(not row[_NUMBER] for row in listed):
        report.notes.append(f"{table}: {unnumbered} lines of remarks, without a {_NUMBER}, are passed over")
    files = find_images(source, report, name_of=_number_of, example="20586908_6c613a14b80a8591_MG_R_CC_ANON.dcm")
    outlines: dict[str, list[Path]] = {}
    muscles = set(files_named(source, _MUSCLE))
    for path in files_named(source, "*.xml"):
        if path not in muscles:
            outlines.setdefault(path.stem, []).append(path)
    if muscles:
        report.notes.append(f"outlines of pectoral muscles, {_MUSCLE}, passed over: {len(muscles):,}")
    if not any(number.isdecimal() for number in outlines):
        rule = "must hold the XML files of the regions, such as AllXML/20586908.xml"
        raise InputError(f"{source}: {rule}. Received: none")
    unknown = [path for number, paths in outlines.items() if number not in files for path in paths]
    report.skipped += [f"{path}: belongs to no image" for path in unknown]
    usable = with_rows(files, {number: row.place for number, row in rows.items()}, report, table=table)
    facts = read_all_facts(usable, report, track)
    for number in track(list(facts), "reading outlines"):
        before = len(report.skipped)
        paths = outlines.get(number, [])
        if not paths and not _is_without_finding(rows[number]):
            rule = f"must have its regions in {number}.xml, or BI-RADS 1"
            report.skipped.append(f"{usable[number]}: {rule}. Received: BI-RADS {shown(rows[number]['Bi-Rads'])}")
        num_outlines = _place_regions(number, paths, facts[number], report)
        is_whole = len(report.skipped) == before
        annotation: Annotation = "complete" if is_whole else "partial" if paths else "none"
        report.records.append(
            _record(rows[number], usable[number], facts[number], annotation=annotation, num_outlines=num_outlines)
        )
    _count(report)


def _number_of(path: Path) -> str | None:
    match = _NAME.fullmatch(path.stem)
    return match["number"] if match else None


def _whole(text: str) -> str:
    """A number as a spreadsheet may have written it."""
    return text.removesuffix(".0")


def _is_without_finding(row: Row) -> bool:
    return _whole(row["Bi-Rads"]) == "1"


def _place_regions(number: str, paths: Sequence[Path], facts: ImageFacts, report: ImportReport) -> int:
    """How many regions an image's XML file has; those that can be drawn are taken."""
    if not paths:
        return 0
    path, *others = paths
    if others:
        report.skipped.append(f"{others[0]}: {number}.xml must be there once. Received: {path} too; neither is used")
        return 0
    try:
        with path.open("rb") as file:
            regions: list[dict[str, Any]] = list(plistlib.load(file)["Images"][0]["ROIs"])
    except _FAULTS as error:
        report.skipped.append(f"{path}: is no property list with Images and ROIs: {shown(str(error))}")
        return 0
    for index, region in enumerate(regions, start=1):
        place = f"{path}: ROI {index}"
        with report.skipping(place):
            kind, shape, points = _region(region)
            report.place(Region(number, f"r{index}", kind, shape, points), facts, source=place)
    return len(regions)


def _region(values: dict[str, Any]) -> tuple[Kind, Shape, tuple[tuple[float, float], ...]]:
    """Kind, shape and points (row, col) of a region; two points are the corners of a box."""
    try:
        matches = [_POINT.fullmatch(text) for text in values["Point_px"]]
        points = tuple((float(match[2]), float(match[1])) for match in matches if match)
        name = str(values["Name"]).strip().lower()
        is_whole = len(points) == len(matches) == values["NumberOfPoints"] and points
    except (TypeError, ValueError, LookupError) as error:
        raise InputError(f"must have Name, NumberOfPoints and Point_px. Received: {shown(values)}") from error
    if not is_whole:
        raise InputError(f"must have as many points (x, y) as NumberOfPoints says. Received: {shown(values)}")
    shapes: dict[int, Shape] = {1: "point", 2: "box"}
    return _KINDS.get(name, "other"), shapes.get(len(points), "polygon"), points


def _record(row: Row, path: Path, facts: ImageFacts, *, annotation: Annotation, num_outlines: int) -> ImageRecord:
    match = _NAME.fullmatch(path.stem)
    assert match is not None  # find_images took no other
    birads = _whole(row["Bi-Rads"])
    return ImageRecord(
        image_id=match["number"],
        path=str(path),
        patient_id=match["patient"],
        laterality="L" if match["side"].upper() == "L" else "R",
        view=_VIEWS.get(match["view"].upper(), "other"),
        annotation=annotation,
        spacing_mm=facts.spacing_mm,
        density=_DENSITIES.get(_whole(row["ACR"])),
        birads=birads or None,
        pathology="normal" if _is_without_finding(row) and not num_outlines and annotation == "complete" else None,
        vendor=facts.vendor,
    )


def _count(report: ImportReport) -> None:
    report.count("images", report.images_of(), "410 images of 115 cases")
    printed_numbers: dict[Kind, str] = {"calcification": "6,880 on 299 images", "cluster": "27 on 21 images"}
    for kind, printed in printed_numbers.items():
        report.count(
            f"regions of kind {kind}",
            f"{report.num_of_kind(kind):,} on {len(report.images_with(kind)):,} images",
            printed,
        )
    report.count("regions of kind other", f"{report.num_of_kind('other'):,}")
    report.count("called normal", f"{report.num_normal:,} images")
