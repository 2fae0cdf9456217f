"""CBIS-DDSM (Lee et al. 2017): scanned films whose abnormalities are calcifications or masses, each with a mask.

Owns how its files are understood; docs/data_sets.md tells it to the user:

- A row of a case list is an abnormality of a film; the first folder of its paths, such as `Calc-Test_P_00038_LEFT_CC`
  and `Calc-Test_P_00038_LEFT_CC_1`, names the film and its mask. Files are found by that name, in their path or as
  Patient ID, or by their series; the file names within the paths are those of no download.
- 71 films are in the lists of calcifications and of masses, and are one image here. Patients are those of the lists.
- The mask of a calcification is a cluster region, that of a mass is kind "other". A folder holds mask and crop, which
  the lists mix up: the mask is the one that is black and white.
- Only abnormalities that were biopsied or followed were marked: annotation is "partial" with a cluster region and
  "none" without. No film is normal.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmgkeras.errors import InputError, shown
from mmgkeras.images import read_facts, read_pixels
from mmgkeras.patches.region_masks import mask_region
from mmgkeras.progress import Track
from mmgkeras.schema import ImageRecord, Kind, Region
from mmgkeras.sources.annotation_tables import Row, read_rows
from mmgkeras.sources.data_set import (
    ImportReport,
    at_size,
    files_named,
    image_files,
    in_all_processes,
    read_all_facts,
)

_FILM: Final = re.compile(r"(?:Calc|Mass)-(?:Test|Training)_(?P<film>P_\d{5}_(?:LEFT|RIGHT)_(?:CC|MLO))")
_FOLDER: Final = re.compile(rf"{_FILM.pattern}(?:_\d+)?")
_SERIES: Final = re.compile(r"1(?:\.\d+){6,}")
_LISTS: Final = "*_case_description_*_set.csv"
_COLUMNS: Final = (
    "patient_id",
    "left or right breast",
    "image view",
    "abnormality id",
    "abnormality type",
    "assessment",
    "pathology",
    "image file path",
    "ROI mask file path",
)
_DENSITIES: Final = {"1": "A", "2": "B", "3": "C", "4": "D"}
_KINDS: Final[dict[str, Kind]] = {"calcification": "cluster", "mass": "other"}
_MOST_GRAY: Final = 0.01
"""A mask is black and white but for this part of its pixels, as JPEG may leave it."""
_FEW: Final = 40
"""Masks that are read before other processes have started."""
_NOTES: Final = (
    "CC BY 3.0: cite Lee et al. 2017, doi 10.1038/sdata.2017.177 and 10.7937/K9/TCIA.2016.7O02S9CY",
    "nobody marked every calcification: annotation is partial or none, unmarked patches are unknown",
    "the pixel size of the films is not told; four scanners made them, of 0.042 to 0.05 mm",
)


class _Mask(NamedTuple):
    """The files of which one is the mask of an abnormality, and what its region becomes on a film of this size."""

    paths: Sequence[Path]
    film: str
    region_id: str
    kind: Kind
    size: tuple[int, int]


def read_cbis_ddsm(source: Path, report: ImportReport, track: Track) -> None:
    """Takes the films below `source`, which holds the case lists (CSV) and the images, as DICOM, PNG or JPEG.

    Raises:
        InputError: if no case list is there or one cannot be read, or no image is found.
    """
    report.notes += _NOTES
    films = _read_lists(source, report)
    files = _index(source, track)
    paths = {film: path for film, rows in films.items() if (path := _film_of(film, rows, files, report))}
    facts = read_all_facts(paths, report, track)
    placed: list[tuple[Row, _Mask]] = []
    for film, rows in films.items():
        for row in rows:
            if film in facts:
                kind, region_id = _KINDS[row["abnormality type"]], f"{row['abnormality type']}{row['abnormality id']}"
                paths_of_mask = _found(row["ROI mask file path"], files)
                placed.append((row, _Mask(paths_of_mask, film, region_id, kind, facts[film][:2])))
            else:
                report.skipped.append(f"{row.place}: there is no image {film} that can be read")
    masks = [mask for _, mask in placed]
    regions = in_all_processes(_read_mask, masks, label="reading masks", few=_FEW, track=track)
    for (row, mask), found in zip(placed, regions, strict=True):
        if isinstance(found, str):
            report.skipped.append(f"{row.place}: {found}")
            continue
        region, is_scaled = found
        report.place(region, facts[mask.film], source=row.place)
        if is_scaled:
            report.notes.append(f"{row.place}: the mask of {mask.region_id} is brought to the size of {mask.film}")
    clusters = report.images_with("cluster")
    report.records += [_record(film, films[film], paths[film], is_partial=film in clusters) for film in facts]
    _count(report, films)


def _read_lists(source: Path, report: ImportReport) -> dict[str, list[Row]]:
    """The abnormalities of each film, calcifications first."""
    lists = files_named(source, _LISTS)
    if not lists:
        raise InputError(f"{source}: must hold case lists {_LISTS}. Received: none")
    rows = [row for path in lists for row in read_rows(path, _COLUMNS, report=report)]
    films: dict[str, list[Row]] = {}
    seen: dict[str, set[tuple[str, str]]] = {}
    for row in sorted(rows, key=lambda row: row["abnormality type"]):
        with report.skipping(row.place):
            row.one_of("abnormality type", _KINDS)
            match = _FILM.fullmatch(row["image file path"].partition("/")[0])
            if match is None:
                rule = "image file path must begin with a folder such as Calc-Test_P_00038_LEFT_CC"
                raise InputError(f"{rule}. Received: {shown(row['image file path'])}")
            film = match["film"]
            number = row["abnormality type"], row["abnormality id"]
            if number in seen.setdefault(film, set()):  # as where a list is there twice
                raise InputError(f"{number[0]} {number[1]} of {film} must appear once")
            seen[film].add(number)
            films.setdefault(film, []).append(row)
    return films


def _index(source: Path, track: Track) -> dict[str, list[Path]]:
    """The image files by the folder of the case lists that they belong to, and by their series."""
    files: dict[str, list[Path]] = {}
    paths = image_files(source)
    if not paths:
        raise InputError(f"{source}: must hold images such as Calc-Test_P_00038_LEFT_CC/.../1-1.dcm. Received: none")
    for path in track(paths, "finding images"):
        parts = path.relative_to(source).parts[:-1]
        names = {part for part in parts if _FOLDER.fullmatch(part) or _SERIES.fullmatch(part)}
        for name in names or _patient_ids(path):
            files.setdefault(name, []).append(path)
    return files


def _patient_ids(path: Path) -> set[str]:
    """The folder of the case lists that a file belongs to by its header, if it is DICOM of this data set."""
    with suppress(InputError):
        header = read_facts(path).header
        if header and _FOLDER.fullmatch(header.patient):
            return {header.patient}
    return set()


def _found(listed: str, files: Mapping[str, Sequence[Path]]) -> Sequence[Path]:
    """The files of a path of the case lists, FOLDER/STUDY/SERIES/FILE."""
    folder, *others = listed.split("/")
    return files.get(folder) or files.get(others[1] if len(others) > 1 else "") or ()


def _film_of(film: str, rows: Iterable[Row], files: Mapping[str, Sequence[Path]], report: ImportReport) -> Path | None:
    """The film's image, of the first of its rows that has one."""
    for row in rows:
        found = _found(row["image file path"], files)
        if len(found) > 1:
            report.skipped.append(f"{row.place}: {film} must be there once. Received: {found[0]} and {found[1]}")
        elif found:
            return found[0]
    return None


def _read_mask(mask: _Mask) -> tuple[Region, bool] | str:
    """The region of a mask, and whether it had to be brought to the size of the film; or what is wrong."""
    for path in mask.paths:
        try:
            pixels = read_pixels(path)
        except InputError as error:
            return str(error)
        largest = int(np.iinfo(pixels.dtype).max)
        is_gray = (pixels > largest // 8) & (pixels < largest - largest // 8)
        covered = pixels > largest // 2
        if is_gray.mean() < _MOST_GRAY and covered.any():
            is_scaled = covered.shape != mask.size
            region = _region(mask, at_size(covered, mask.size) if is_scaled else covered)
            return (region, is_scaled) if region else f"{path}: has no pixel left at the size of the film"
    names = ", ".join(path.name for path in mask.paths) or "no file"
    return f"{mask.film} must have a mask, black and white, of {mask.region_id}. Received: {names}"


def _region(mask: _Mask, covered: NDArray[np.bool_]) -> Region | None:
    rows, cols = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
    if not rows.size:
        return None
    window = covered[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    ids = {"image_id": mask.film, "region_id": mask.region_id}
    return mask_region(**ids, kind=mask.kind, top=int(rows[0]), left=int(cols[0]), mask=window)


def _record(film: str, rows: Sequence[Row], path: Path, *, is_partial: bool) -> ImageRecord:
    first = rows[0]
    side, view = film.split("_")[2:]
    density = first.values.get("breast density") or first.values.get("breast_density", "")
    return ImageRecord(
        image_id=film,
        path=str(path),
        patient_id="_".join(film.split("_")[:2]),
        laterality="L" if side == "LEFT" else "R",
        view="CC" if view == "CC" else "MLO",
        annotation="partial" if is_partial else "none",
        density=_DENSITIES.get(density),
        birads="; ".join(sorted({row["assessment"] for row in rows})),
        pathology="; ".join(sorted({f"{row['abnormality type']} {row['pathology']}" for row in rows})),
    )


def _count(report: ImportReport, films: Mapping[str, Sequence[Row]]) -> None:
    rows = [row for found in films.values() for row in found]
    report.count("films", report.images_of(), "3,103 (71 in both lists) of 1,566 patients")
    report.count("rows of the lists", f"{len(rows):,} on {len(films):,} films", "3,568")
    for kind, cases, benign, malignant in (("calcification", 753, 664, 381), ("mass", 891, 522, 448)):
        own = [row for row in rows if row["abnormality type"] == kind]
        found = {
            (row["patient_id"], row["left or right breast"], row["abnormality id"], row["pathology"] == "MALIGNANT")
            for row in own
        }
        num_malignant = sum(is_malignant for *_, is_malignant in found)
        report.count(f"patients with {kind}", f"{len({row['patient_id'] for row in own}):,}", f"{cases:,}")
        ours = f"{len(found) - num_malignant:,}, {num_malignant:,}"
        report.count(f"{kind}: benign, malignant abnormalities", ours, f"{benign:,}, {malignant:,}")
    report.count(
        "cluster regions", f"{report.num_of_kind('cluster'):,} on {len(report.images_with('cluster')):,} films"
    )
    report.count("regions of kind other", f"{report.num_of_kind('other'):,}")
