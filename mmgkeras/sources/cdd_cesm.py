"""CDD-CESM (Khaled et al. 2022), the data set of the paper: its low-energy images as images.csv and regions.csv.

1,003 low-energy mammograms (DM) of 326 patients, JPEG, 8 bits. The images stay where they are, unchanged.

Owns how its annotation files are understood; docs/data_sets.md tells it to the user:

- Patient, side and view come from the name, such as `P1_L_DM_MLO`. Subtracted images (CM) are passed over.
- The sheet "calcifications" of the workbook lists the images with calcification. The outlines drawn by hand have no
  class. They are kind "cluster" on images of that sheet whose tags name calcification and no text a mass, nodule,
  distortion or edema, and kind "other" everywhere else. A file of boxes, where given, replaces the outlines.
- "Normal" is an image with that tag and class, no outline and no row in the sheet. Annotation is never "complete".
"""

import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from mmgkeras.errors import InputError, shown
from mmgkeras.images.samples import pillow_faults
from mmgkeras.patches.region_masks import check_region, mask_region, region_mask
from mmgkeras.progress import Track, untracked
from mmgkeras.schema import ImageRecord, Kind, Region, Shape, fault_of_points
from mmgkeras.sources.data_set import ImportReport, import_files, relative_path, write_import
from mmgkeras.tables.rows import Table, finite, read_table, whole

_NAME: Final = re.compile(r"P(?P<patient>\d{1,6})_(?P<side>[LR])_(?P<modality>DM|CM)_(?P<view>CC|MLO)(?:_?\d)?")
"""Two names end in a number: P99_L_DM_MLO_2 and P281_L_DM_MLO2."""
_WORKBOOK: Final = "Radiology*manual*annotations.xlsx"
_OUTLINES: Final = "Radiology*hand*drawn*segmentations*.csv"
_COLUMNS: Final = ("Image_name", "Age", "BIRADS", "Findings", "Machine", "Pathology Classification/ Follow up")
_SHEETS: Final = {"all": (*_COLUMNS, "Tags", "Breast density (ACR)"), "calcifications": _COLUMNS}
_VIA: Final = ("#filename", "file_size", "region_shape_attributes")
_VIA_OTHERS: Final = ("file_attributes", "region_count", "region_id", "region_attributes")
_BOX: Final = ("ImageName", "Source", "Type", "xmin", "ymin", "xmax", "ymax", "pixx", "pixy")
_VIA_KEYS: Final = {
    "polygon": ("all_points_x", "all_points_y"),
    "polyline": ("all_points_x", "all_points_y"),
    "ellipse": ("cx", "cy", "rx", "ry"),
    "circle": ("cx", "cy", "r"),
    "point": ("cx", "cy"),
    "rect": ("x", "y", "width", "height"),
}
_OTHER_FINDING: Final = re.compile(r"\bmas|nodul|distort|edem", re.IGNORECASE)
"""Findings that were outlined beside the calcification or instead of it. "mas" is mass too; edema is thick skin."""
_SPACING_MM: Final = {"1": 0.1, "2": 0.07}
"""By machine: GE Senographe DS and Hologic Selenia Dimensions, of which no file says which image is whose."""
_REACH_PX: Final = 2_000
"""How far an outline may reach beyond its image."""

_Row = Mapping[str, str]


class _Drawn(NamedTuple):
    """An outline or box: where it stands, and what its image should be (size in bytes, or width and height)."""

    place: str
    shape: Shape
    points: tuple[tuple[float, float], ...]
    num_bytes: int | None = None
    size: tuple[int, int] | None = None


def import_cdd_cesm(
    source: Path, out: Path, *, boxes: Path | None = None, overwrite: bool = False, track: Track = untracked
) -> ImportReport:
    """Writes `out`/images.csv and `out`/regions.csv for the low-energy images below `source`.

    Args:
        source: folder with the images, the workbook of annotations and the VIA file of outlines, at any depth.
        out: data folder; image paths are written relative to it.
        boxes: CSV file of boxes (ImageName, Source, Type, xmin, ymin, xmax, ymax, pixx, pixy) whose rows of CESM and
            Calcification are taken instead of the outlines.
        overwrite: replace the two tables if they are there.
        track: shows progress over the images with outlines or boxes.

    Raises:
        InputError: if an annotation file is missing or cannot be read, no image is found, or a table exists or cannot
            be written.
    """
    with import_files(out, inputs=[source, *filter(None, [boxes])], overwrite=overwrite) as folder:
        skipped: list[str] = []
        notes = list(_NOTES)
        workbook = _only(source, _WORKBOOK)
        sheets = {sheet: _read_sheet(workbook, sheet, skipped=skipped, notes=notes) for sheet in _SHEETS}
        outlines = _read_outlines(_only(source, _OUTLINES), skipped=skipped, notes=notes)
        drawn = outlines if boxes is None else _read_boxes(boxes, skipped=skipped, notes=notes)
        files = _find_images(source, skipped=skipped)
        named = {**sheets["calcifications"], **sheets["all"]}
        usable = {name: files[name] for name in sorted(named.keys() & files.keys())}
        for text, names in (("is listed, but there is no such image", named), ("is outlined, but not listed", drawn)):
            known = files if names is named else named
            skipped += [f"{source}: {name} {text}" for name in sorted(names.keys() - known.keys())]
        skipped += [f"{files[name]}: has no row in {workbook.name}" for name in sorted(files.keys() - named.keys())]
        kinds: dict[str, Kind] = {
            name: "cluster" if boxes is not None or _is_calcification_alone(name, sheets) else "other"
            for name in usable
        }
        regions = _place(drawn, files=usable, kinds=kinds, skipped=skipped, notes=notes, track=track)
        clusters = {region.image_id for region in regions if region.kind == "cluster"}
        records = [
            _record(
                named[name],
                image_id=name,
                path=relative_path(path, out),
                is_partial=name in clusters,
                is_marked=name in outlines or name in drawn or name in sheets["calcifications"],
            )
            for name, path in usable.items()
        ]
        write_import(folder, name="CDD-CESM", records=records, regions=regions)
        notes += _counts(sheets, records=records, regions=regions)
        return ImportReport(len(records), len(regions), skipped=tuple(skipped), notes=tuple(notes))


_NOTES: Final = (
    "TCIA data usage policy: cite Khaled et al. 2022, doi 10.1038/s41597-022-01238-0 and 10.7937/29kw-ae92",
    "nobody marked every calcification: annotation is partial or none, unmarked patches are unknown",
    "spacing is inferred from the machine's number: 0.1 mm for machine 1, 0.07 mm for machine 2; no file says it",
)


def _only(source: Path, pattern: str) -> Path:
    """The one file of this pattern below `source`."""
    found = sorted(path for path in source.rglob(pattern) if path.is_file())
    if len(found) != 1:
        raise InputError(f"{source}: must hold one file {pattern}. Received: {len(found) or 'none'}")
    return found[0]


def _read_sheet(path: Path, sheet: str, *, skipped: list[str], notes: list[str]) -> dict[str, _Row]:
    """The rows of low-energy images by name, of one sheet."""
    faults = (OSError, ValueError, LookupError, TypeError, SyntaxError, EOFError, zipfile.BadZipFile)
    try:
        frame = pd.read_excel(path, sheet_name=sheet, dtype=str, keep_default_na=False, engine="openpyxl")
    except faults as error:
        raise InputError(f"{path}: sheet {sheet!r} cannot be read: {shown(str(error))}") from error
    if missing := [column for column in _SHEETS[sheet] if column not in frame.columns]:
        received = shown(", ".join(map(str, frame.columns)))
        raise InputError(
            f"{path}: sheet {sheet!r} must have the columns {', '.join(missing)} too. Received: {received}"
        )
    rows: dict[str, _Row] = {}
    num_subtracted = 0
    for number, values in enumerate(frame.to_dict("records"), start=2):
        row = {str(column): str(value).strip() for column, value in values.items()}
        name = row["Image_name"]
        match = _NAME.fullmatch(name)
        if match is None:
            rule = "an image must have a name such as P1_L_DM_MLO"
            skipped.append(f"{path}: sheet {sheet!r}, row {number}: {rule}. Received: {shown(name)}")
        elif match["modality"] == "CM":
            num_subtracted += 1
        elif name in rows:
            skipped.append(f"{path}: sheet {sheet!r}, row {number}: {name} must appear once")
        else:
            rows[name] = row
    if not rows:
        raise InputError(f"{path}: sheet {sheet!r} must list low-energy images such as P1_L_DM_MLO. Received: none")
    if num_subtracted:
        notes.append(f"{num_subtracted:,} rows of sheet {sheet!r} are of subtracted images and passed over")
    return rows


def _find_images(source: Path, *, skipped: list[str]) -> dict[str, Path]:
    """The low-energy images by name, at any depth below `source`."""
    files: dict[str, Path] = {}
    twice = set()
    for path in sorted(source.rglob("P*_DM_*")):
        name = path.stem.strip()
        if path.suffix.lower() not in (".jpg", ".jpeg", ".png") or not _NAME.fullmatch(name):
            continue
        if files.setdefault(name, path) != path:
            twice.add(name)
            skipped.append(f"{path}: {name} must be there once. Received: {files[name]} too; neither is used")
    if not files:
        raise InputError(f"{source}: must hold low-energy images such as P1_L_DM_MLO.jpg. Received: none")
    return {name: path for name, path in files.items() if name not in twice}


def _read_outlines(path: Path, *, skipped: list[str], notes: list[str]) -> dict[str, list[_Drawn]]:
    """The outlines of low-energy images by name, from VIA's CSV."""
    table = read_table(path, required=_VIA, optional=_VIA_OTHERS)
    outlines: dict[str, list[_Drawn]] = {}
    num_subtracted = 0
    for row, line in _rows_and_lines(table):
        match = _NAME.fullmatch(name := Path(row["#filename"]).stem.strip())
        if match is None:
            rule = "an image must have a name such as P1_L_DM_MLO.jpg"
            skipped.append(f"{path}:{line}: {rule}. Received: {shown(row['#filename'])}")
        elif match["modality"] == "CM":
            num_subtracted += 1
        else:
            try:
                shape, points = _via_shape(row["region_shape_attributes"])
            except InputError as error:
                skipped.append(f"{path}:{line}: {error}")
                continue
            drawn = _Drawn(f"{path}:{line}", shape, points, num_bytes=whole(row["file_size"]))
            outlines.setdefault(name, []).append(drawn)
    if num_subtracted:
        notes.append(f"{num_subtracted:,} outlines are on subtracted images and passed over")
    return outlines


def _via_shape(text: str) -> tuple[Shape, tuple[tuple[float, float], ...]]:
    """Shape and points, in (row, col) order, of VIA's region_shape_attributes; a polyline is taken as closed.

    Raises:
        InputError: for anything else than VIA's shapes with finite numbers.
    """
    allowed = ", ".join(_VIA_KEYS)
    try:
        values: dict[str, Any] = json.loads(text)
        name = values.pop("name")
        numbers = {key: np.atleast_1d(np.asarray(values.pop(key), dtype=np.float64)) for key in _VIA_KEYS[name]}
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"a shape must be one of {allowed}, with its numbers. Received: {shown(text)}") from error
    if not all(np.isfinite(number).all() and number.ndim == 1 for number in numbers.values()):
        raise InputError(f"a shape must have finite numbers. Received: {shown(text)}")
    if values.pop("theta", 0):
        raise InputError(f"an ellipse must not be turned. Received: {shown(text)}")
    parts = list(numbers.values())
    if len({part.size for part in parts}) > 1:
        raise InputError(f"a {name} must have as many x as y. Received: {shown(text)}")
    cols, rows = parts[0], parts[1]
    if name in ("polygon", "polyline"):
        if fault := fault_of_points("polygon", rows.size):
            raise InputError(fault)
        return "polygon", tuple(zip(rows.tolist(), cols.tolist(), strict=True))
    if name == "rect":
        return "box", ((rows[0], cols[0]), (rows[0] + parts[3][0], cols[0] + parts[2][0]))
    centre = (float(rows[0]), float(cols[0]))
    if name == "point":
        return "point", (centre,)
    return name, (centre, (float(parts[-1][0]), float(parts[2][0])))


def _read_boxes(path: Path, *, skipped: list[str], notes: list[str]) -> dict[str, list[_Drawn]]:
    """The calcification boxes of CDD-CESM's images by name."""
    table = read_table(path, required=_BOX, optional=("set",))
    boxes: dict[str, list[_Drawn]] = {}
    others = 0
    for row, line in _rows_and_lines(table):
        if (row["Source"], row["Type"]) != ("CESM", "Calcification"):
            others += 1
            continue
        name = row["ImageName"].strip()
        numbers = [finite(row[column]) for column in _BOX[3:]]
        if not _NAME.fullmatch(name) or None in numbers:
            rule = "a box must have an ImageName such as P1_L_DM_MLO, and finite numbers"
            skipped.append(f"{path}:{line}: {rule}. Received: {shown(', '.join(row.values()))}")
            continue
        left, top, right, bottom, width, height = (number or 0.0 for number in numbers)
        drawn = _Drawn(f"{path}:{line}", "box", ((top, left), (bottom, right)), size=(int(width), int(height)))
        boxes.setdefault(name, []).append(drawn)
    notes.append(f"{path}: {others:,} boxes of other findings or data sets are passed over")
    return boxes


def _rows_and_lines(table: Table) -> list[tuple[dict[str, str], int]]:
    return [
        (dict(zip(table.columns, row, strict=True)), line) for row, line in zip(table.rows, table.lines, strict=True)
    ]


def _is_calcification_alone(name: str, sheets: Mapping[str, Mapping[str, _Row]]) -> bool:
    """Whether the outlines on an image can be taken for calcification."""
    listed, calcified = (sheets[sheet].get(name) for sheet in _SHEETS)
    if listed is None or calcified is None or "calcif" not in listed["Tags"].lower():
        return False
    return not _OTHER_FINDING.search(" ".join([listed["Tags"], listed["Findings"], calcified["Findings"]]))


def _place(
    drawn: Mapping[str, Sequence[_Drawn]],
    *,
    files: Mapping[str, Path],
    kinds: Mapping[str, Kind],
    skipped: list[str],
    notes: list[str],
    track: Track,
) -> list[Region]:
    """The regions on the images that are there, cut at their edges; what is at fault goes to `skipped`."""
    regions: list[Region] = []
    num_resized = 0
    for name in track(sorted(drawn.keys() & files.keys()), "placing outlines"):
        path = files[name]
        try:
            with pillow_faults(), Image.open(path) as image:
                width, height = image.size
        except InputError as error:
            skipped.append(f"{path}: {error}")
            continue
        num_resized += drawn[name][0].num_bytes not in (None, path.stat().st_size)
        for number, one in enumerate(drawn[name], start=1):
            region = Region(name, f"r{number}", kinds[name], one.shape, one.points)
            try:
                if one.size not in (None, (width, height)):
                    raise InputError(f"{name} must be of {one.size} columns and rows. Received: {(width, height)}")
                placed = _clipped(region, height=height, width=width)
            except InputError as error:
                skipped.append(f"{one.place}: {error}")
                continue
            if placed is not region:
                notes.append(f"{one.place}: {name}, region r{number} reaches beyond the image and is cut at its edge")
            regions.append(placed)
    if num_resized:
        text = f"{num_resized} images have another size in bytes than when their outlines were drawn"
        notes.append(f"{text}: outlines are misplaced if these are not the data set's own files")
    return regions


def _clipped(region: Region, *, height: int, width: int) -> Region:
    """The region itself if it lies in the image, else the mask of its pixels in the image.

    Raises:
        InputError: if none of it lies in the image, or it cannot be drawn on any.
    """
    name = f"image {region.image_id}, region {region.region_id}"
    rows, cols = np.array(region.points).T
    has_axes = region.shape in ("circle", "ellipse")
    if has_axes:
        rows, cols = ([values[0] - values[1], values[0] + values[1]] for values in (rows, cols))
    top, left = (int(np.floor(min(np.min(values), 0))) for values in (rows, cols))
    tall, wide = (int(np.ceil(max(np.max(values) + 1, size))) for values, size in ((rows, height), (cols, width)))
    if max(-top, -left, tall - height, wide - width) > _REACH_PX:
        raise InputError(f"{name}: lies far beyond the image")
    if (top, left, tall, wide) == (0, 0, height, width):
        check_region(region, height=height, width=width)
        return region
    moved = tuple(
        (row, col) if has_axes and number else (row - top, col - left)
        for number, (row, col) in enumerate(region.points)
    )
    entire = replace(region, points=moved)
    covered = region_mask(entire, height=tall - top, width=wide - left)
    first_row, first_col = covered.top + top, covered.left + left
    inside = covered.mask[
        max(-first_row, 0) : max(height - first_row, 0), max(-first_col, 0) : max(width - first_col, 0)
    ]
    if not inside.any():
        raise InputError(f"{name}: must overlap the image of {height} rows and {width} columns. Received: none of it")
    top, left = max(first_row, 0), max(first_col, 0)
    ids = {"image_id": region.image_id, "region_id": region.region_id}
    return mask_region(**ids, kind=region.kind, top=top, left=left, mask=inside)


def _record(row: _Row, *, image_id: str, path: str, is_partial: bool, is_marked: bool) -> ImageRecord:
    match = _NAME.fullmatch(image_id)
    assert match is not None  # _read_sheet took no other
    density = row.get("Breast density (ACR)", row.get("ACR", "_"))
    tags = row.get("Tags", "")
    pathology = row["Pathology Classification/ Follow up"]
    is_normal = pathology.lower() == tags.lower() == "normal" and not is_marked
    if pathology.lower() == "normal" and not is_normal:
        pathology = f"Normal, but marked or tagged: {tags}"
    return ImageRecord(
        image_id=image_id,
        path=path,
        patient_id=f"P{match['patient']}",
        laterality="L" if match["side"] == "L" else "R",
        view="CC" if match["view"] == "CC" else "MLO",
        annotation="partial" if is_partial else "none",
        spacing_mm=_SPACING_MM.get(row["Machine"]),
        density=None if density in ("", "_") else density,
        birads=row["BIRADS"] or None,
        age=finite(row["Age"]),
        pathology=pathology or None,
    )


def _counts(
    sheets: Mapping[str, Mapping[str, _Row]], *, records: Sequence[ImageRecord], regions: Sequence[Region]
) -> list[str]:
    """Our counts beside those that are printed."""

    def of(names: set[str]) -> str:
        return f"{len(names):,} images of {len({name.split('_')[0] for name in names})} patients"

    calcified = set(sheets["calcifications"])
    clusters = {region.image_id for region in regions if region.kind == "cluster"}
    num_others = sum(region.kind == "other" for region in regions)
    return [
        f"low-energy images: {of({record.image_id for record in records})}; the data set has 1,003 of 326",
        f"sheet 'calcifications': {of(calcified)}; the data set has 240 of 106 (its paper says 238 images), "
        "Sakaida et al. used 212 of 81 and do not say which",
        f"with regions of calcification: {of(clusters)}, {len(regions) - num_others:,} regions",
        f"regions that may be something else, kind other: {num_others:,}",
        f"called normal: {sum(record.is_called_normal for record in records):,} images",
    ]
