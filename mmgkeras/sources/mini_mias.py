"""The mini-MIAS database (Suckling et al. 1994), for research.

322 film mammograms, 1024 x 1024 pixels of 200 um, 8 bits; Info.txt is a page of prose and then one row for each
abnormality. The films stay where they are, unchanged; images.csv refers to them. For research use only, as the
database's Licence.txt says.

Owns how Info.txt is understood:

- Patients are pairs of films (1 and 2, 3 and 4, ...), all MLO.
- Laterality follows the lead markers on the films: odd is left, even is right; Info.txt's note 1 has it the other way.
  The films are stored mirrored, the chest wall at the right edge on odd ones and at the left on even ones, so
  `chest_wall` is given.
- A CALC row is a circle around a cluster: kind "cluster". x and y count from the bottom left: row = 1024 - y. Rows
  without a place, and places in the film's background, give no region.
- Annotation is "partial" with a region and "none" without. Films of class NORM have pathology "normal", so that
  `label_source = "assumed"` may take their patches as free of calcification; all others have class and severity, such
  as "CALC B", and their unmarked patches stay unknown. Rows of other classes give no region.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from mmgkeras.errors import InputError
from mmgkeras.images import read_pixels, tissue_mask
from mmgkeras.patches.region_masks import region_mask
from mmgkeras.progress import Track
from mmgkeras.schema import ImageRecord, Region
from mmgkeras.sources.data_set import ImportReport, find_images, only_file

SPACING_MM: Final = 0.2
SIZE_PX: Final = 1024

_TISSUES: Final = {"F": "fatty", "G": "fatty-glandular", "D": "dense-glandular"}
_CLASSES: Final = ("CALC", "CIRC", "SPIC", "MISC", "ARCH", "ASYM", "NORM")
_DARKEST_BREAST: Final = 0.3
"""A circle darker than this part of the breast's median is background: two have 0.02 and 0.09, all others over 0.7."""
_FILM: Final = re.compile(r"mdb\d{3}")
_REFERENCE: Final = re.compile(r"mdb\d")
_ROW: Final = re.compile(
    r"(?P<image_id>mdb(?P<number>\d{3}))\s+(?P<tissue>[FGD])\s+(?P<finding>[A-Z]{4})(?:\s+(?P<severity>[BM]))?"
    r"(?:\s+(?P<x>\d+)\s+(?P<y>\d+)\s+(?P<radius>\d+)|\s+\*NOTE\s+3\*)?"
)


_Row = tuple[int, re.Match[str]]
"""The line of a row of Info.txt, and its groups; x, y, radius in pixels from the bottom left, None without a place."""


def read_mini_mias(source: Path, report: ImportReport, track: Track) -> None:
    """Takes the images below `source`, which holds Info.txt and the films mdb001.pgm to mdb322.pgm.

    Raises:
        InputError: if an annotation file is missing or cannot be read, or no image is found.
    """
    report.notes += _NOTES
    findings = _read_info(only_file(source, "Info.txt"), report)
    films = find_images(source, report, name_of=_name_of, example="mdb001.pgm")
    for image_id in sorted(findings.keys() - films.keys()):
        report.skipped.append(f"{source}: {image_id} is listed in Info.txt, but {image_id}.pgm is missing")
    for image_id in sorted(films.keys() - findings.keys()):
        report.skipped.append(f"{films[image_id]}: has no row in Info.txt")
    usable = {image_id: findings[image_id] for image_id in sorted(findings.keys() & films.keys())}
    _place_clusters(usable, films=films, report=report, track=track)
    located = report.images_with("cluster")
    report.records += [
        _record(rows, path=films[image_id], is_located=image_id in located) for image_id, rows in usable.items()
    ]
    _count(report, usable)


_NOTES: Final = (
    "research use only: see Licence.txt of the database",
    "laterality is that of the lead markers, odd = left and even = right; Info.txt's note 1 says the opposite",
    "films are stored mirrored and left so: chest_wall is right on odd films, left on even ones",
    "circles are around clusters, and nobody marked every calcification: annotation is partial or none",
)


def _name_of(path: Path) -> str | None:
    return path.stem.lower() if path.suffix.lower() == ".pgm" and _FILM.fullmatch(path.stem.lower()) else None


def _read_info(path: Path, report: ImportReport) -> dict[str, list[_Row]]:
    """The findings of each film; a row that breaks the format is listed as skipped."""
    try:
        lines = path.read_text(encoding="latin-1").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    findings: dict[str, list[_Row]] = {}
    for number, text in enumerate(lines, start=1):
        if not _REFERENCE.match(text.strip()):
            continue
        match = _ROW.fullmatch(text.strip())
        if match is None or match["finding"] not in _CLASSES:
            rule = "a row must hold reference, tissue (F, G, D), class, severity (B, M) and x, y, radius"
            report.skipped.append(f"{path}:{number}: {rule}. Received: {text.strip()!r}")
            continue
        findings.setdefault(match["image_id"], []).append((number, match))
    if not findings:
        raise InputError(f"{path}: must hold rows such as 'mdb001 G CIRC B 535 425 197'. Received: {len(lines)} others")
    return findings


def _record(rows: Sequence[_Row], *, path: Path, is_located: bool) -> ImageRecord:
    first = rows[0][1]
    number = int(first["number"])
    is_odd = number % 2 == 1
    pair = number if is_odd else number - 1
    findings = sorted({" ".join(filter(None, row.group("finding", "severity"))) for _, row in rows})
    return ImageRecord(
        image_id=first["image_id"],
        path=str(path),
        patient_id=f"mdb{pair:03d}-{pair + 1:03d}",
        laterality="L" if is_odd else "R",
        view="MLO",
        annotation="partial" if is_located else "none",
        chest_wall="right" if is_odd else "left",
        spacing_mm=SPACING_MM,
        density=_TISSUES[first["tissue"]],
        pathology="normal" if findings == ["NORM"] else "; ".join(findings),
    )


def _place_clusters(
    findings: Mapping[str, Sequence[_Row]], *, films: Mapping[str, Path], report: ImportReport, track: Track
) -> None:
    """Takes the circles around clusters, with a note on each CALC row that gives none."""
    calcified = {
        image_id: [(line, row) for line, row in rows if row["finding"] == "CALC"] for image_id, rows in findings.items()
    }
    placed = [image_id for image_id, rows in calcified.items() if any(row["x"] for _, row in rows)]
    report.notes += [
        f"{image_id}: calcification without a place; unmarked patches are unknown"
        for image_id, rows in calcified.items()
        for _, row in rows
        if not row["x"]
    ]
    for image_id in track(placed, "placing clusters"):
        try:
            circles = _circles(calcified[image_id], path=films[image_id])
        except InputError as error:
            report.skipped.append(str(error))
            continue
        report.regions += [circle for circle, is_on_breast in circles if is_on_breast]
        for row, col in (circle.points[0] for circle, is_on_breast in circles if not is_on_breast):
            place = f"the cluster at row {row:g}, column {col:g}"
            report.notes.append(f"{image_id}: {place} lies in the background; it is not used")


def _count(report: ImportReport, findings: Mapping[str, Sequence[_Row]]) -> None:
    """Our numbers beside those of Info.txt."""
    calcified = [rows for rows in findings.values() if any(row["finding"] == "CALC" for _, row in rows)]
    num_normal = report.num_normal
    report.count("films", report.images_of(), "322")
    report.count("films with calcification", f"{len(calcified)}", "25")
    report.count("with a usable place", f"{len(report.images_with('cluster'))} films, {len(report.regions)} circles")
    report.count("called normal", f"{num_normal}", "207")


def _circles(rows: Sequence[_Row], *, path: Path) -> list[tuple[Region, bool]]:
    """One film's placed clusters, from x, y of the bottom left to row, column of the top left.

    And whether each is as bright as breast, by medians: some places lie outside it or at its very edge.

    Raises:
        InputError: if a circle has no radius or its centre is not on the film, or the film cannot be read or is not of
            the size for which Info.txt's places hold.
    """
    circles = []
    for number, (line, row) in enumerate(rows, start=1):
        if not row["x"]:
            continue
        x, y, radius = (float(value) for value in row.group("x", "y", "radius"))
        circle = Region(row["image_id"], f"c{number}", "cluster", "circle", ((SIZE_PX - y, x), (radius, radius)))
        try:
            circles.append((circle, region_mask(circle, height=SIZE_PX, width=SIZE_PX)))
        except InputError as error:
            raise InputError(f"Info.txt:{line}: {error}") from error
    pixels = read_pixels(path)
    if pixels.shape != (SIZE_PX, SIZE_PX):
        height, width = pixels.shape
        raise InputError(f"{path}: a film must be of {SIZE_PX} x {SIZE_PX} pixels. Received: {height} x {width}")
    breast = tissue_mask(pixels)
    least = _DARKEST_BREAST * np.median(pixels[breast]) if breast.any() else np.inf
    return [(circle, bool(np.median(pixels[covered.window][covered.mask]) >= least)) for circle, covered in circles]
