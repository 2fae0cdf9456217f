"""VinDr-Mammo (Nguyen et al. 2023): 20,000 digital mammograms of 5,000 exams, with boxes around suspicious findings.

Owns how its files are understood; docs/data_sets.md tells it to the user:

- A row of finding_annotations.csv is a box, or an image without one. A box that is of suspicious calcification alone is
  a cluster region; a box of anything else, or of calcification in a mass too, is kind "other".
- Only findings of BI-RADS 3 and more were marked: annotation is "partial" with a cluster region and "none" without.
- "Normal" is an image of a breast of BI-RADS 1 without a box. BI-RADS 2 may have benign calcification.
- Patients are not told; an exam stands for one.
"""

import ast
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Final

from mmgkeras.errors import InputError, shown
from mmgkeras.images import ImageFacts
from mmgkeras.progress import Track
from mmgkeras.schema import ImageRecord, Kind, Region, View
from mmgkeras.sources.annotation_tables import SIDES, Row, read_rows
from mmgkeras.sources.data_set import ImportReport, find_images, only_file, read_all_facts, with_rows

_FINDING: Final = ("study_id", "image_id", "laterality", "view_position", "height", "width", "breast_birads")
_BOX: Final = ("xmin", "ymin", "xmax", "ymax")
_COLUMNS: Final = (*_FINDING, "breast_density", "finding_categories", *_BOX)
_CALCIFICATION: Final = "Suspicious Calcification"
_NONE: Final = "No Finding"
_VIEWS: Final[dict[str, View]] = {"CC": "CC", "MLO": "MLO"}
_NOTES: Final = (
    "PhysioNet's restricted license: cite Nguyen et al. 2023, doi 10.1038/s41597-023-02100-7",
    "patients are not told: an exam (study) stands for one, so that a woman with two exams may be in two subsets",
    "nobody marked every calcification: annotation is partial or none, unmarked patches are unknown",
)


def read_vindr_mammo(source: Path, report: ImportReport, track: Track) -> None:
    """Takes the images below `source`, which holds finding_annotations.csv and images/<study>/<image>.dicom.

    Raises:
        InputError: if an annotation file is missing or cannot be read, or no image is found.
    """
    report.notes += _NOTES
    table = only_file(source, "finding_annotations.csv")
    rows: dict[str, list[Row]] = {}
    for row in read_rows(table, _COLUMNS, report=report):
        rows.setdefault(row["image_id"], []).append(row)
    files = find_images(source, report, name_of=lambda path: path.stem, example="images/STUDY/IMAGE.dicom")
    usable = with_rows(files, {name: found[0].place for name, found in rows.items()}, report, table=table)
    counts = Counter[str]()
    for name, facts in read_all_facts(usable, report, track).items():
        boxes = Counter[str]()
        before = len(report.skipped)
        for number, row in enumerate(rows[name], start=1):
            with report.skipping(row.place):
                boxes += _place_box(row, f"r{number}", facts, report)
        counts += boxes
        is_free = not boxes["boxes"] and len(report.skipped) == before
        with report.skipping(rows[name][0].place):
            report.records.append(_record(rows[name][0], usable[name], facts, is_free=is_free))
    clusters = report.images_with("cluster")
    report.records[:] = [
        replace(record, annotation="partial") if record.image_id in clusters else record for record in report.records
    ]
    _count(report, counts)


def _place_box(row: Row, region_id: str, facts: ImageFacts, report: ImportReport) -> Counter[str]:
    """Takes the box of a row, if it has one; counts it."""
    categories = _categories(row)
    if categories == {_NONE}:
        return Counter()
    told = (row.number("height"), row.number("width"))
    if told != (facts.height, facts.width):
        raise InputError(f"the image must have {told[0]:g} rows and {told[1]:g} columns. Received: {facts[:2]}")
    left, top, right, bottom = (row.number(column) for column in _BOX)
    kind: Kind = "cluster" if categories == {_CALCIFICATION} else "other"
    region = Region(row["image_id"], region_id, kind, "box", ((top, left), (bottom, right)))
    report.place(region, facts, source=row.place)
    return Counter(boxes=1, calcified=_CALCIFICATION in categories)


def _categories(row: Row) -> set[str]:
    """The findings of a row, from a list as Python writes it."""
    try:
        categories = ast.literal_eval(row["finding_categories"])
        if isinstance(categories, list) and categories and all(isinstance(one, str) for one in categories):
            return set(categories)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    received = shown(row["finding_categories"])
    raise InputError(f"finding_categories must be a list such as ['Mass']. Received: {received}")


def _record(row: Row, path: Path, facts: ImageFacts, *, is_free: bool) -> ImageRecord:
    birads = row["breast_birads"].removeprefix("BI-RADS ").strip()
    return ImageRecord(
        image_id=row["image_id"],
        path=str(path),
        patient_id=row["study_id"],
        laterality=row.one_of("laterality", SIDES),
        view=row.one_of("view_position", _VIEWS),
        annotation="none",
        spacing_mm=facts.spacing_mm,
        density=row["breast_density"].removeprefix("DENSITY ").strip() or None,
        birads=birads or None,
        pathology="normal" if birads == "1" and is_free else None,
        vendor=facts.vendor,
    )


def _count(report: ImportReport, counts: Counter[str]) -> None:
    report.count("images", report.images_of(patient="exam"), "20,000 images of 5,000 exams")
    report.count("boxes", f"{counts['boxes']:,}", "2,254")
    report.count("boxes of suspicious calcification", f"{counts['calcified']:,}", "543")
    report.count(
        "of calcification alone, kind cluster",
        f"{report.num_of_kind('cluster'):,} on {len(report.images_with('cluster')):,} images",
    )
    report.count("called normal", f"{report.num_normal:,} images")
