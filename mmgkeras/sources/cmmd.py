"""CMMD, the Chinese Mammography Database (Cui et al. 2021): digital mammograms whose findings are told by breast.

Owns how its files are understood; docs/data_sets.md tells it to the user:

- A row of CMMD_clinicaldata_revision.xlsx is a breast (ID1, LeftRight) and says calcification, mass or both, and benign
  or malignant by biopsy. Nothing says where: there are no regions, and annotation is "none" everywhere.
- Patient, side and view come from the DICOM header. Breasts without a row are taken, with an unknown pathology.
"""

from collections import Counter
from pathlib import Path
from typing import Final

from mmgkeras.images import ImageFacts
from mmgkeras.progress import Track
from mmgkeras.schema import ImageRecord
from mmgkeras.sources.annotation_tables import Row, by_name, read_rows
from mmgkeras.sources.data_set import ImportReport, find_images, only_file, read_all_facts
from mmgkeras.tables.rows import finite

_COLUMNS: Final = ("ID1", "LeftRight", "Age", "abnormality", "classification")
_ABNORMALITIES: Final = {"calcification": "calcification", "mass": "mass", "both": "calcification and mass"}
_WORDS: Final[dict[str, dict[str, str]]] = {
    "LeftRight": {"L": "L", "R": "R"},
    "abnormality": _ABNORMALITIES,
    "classification": {"Benign": "Benign", "Malignant": "Malignant"},
}
_NOTES: Final = (
    "CC BY 4.0: cite Cui et al. 2021, doi 10.7937/tcia.eqde-4b16",
    "findings are told by breast and have no place: annotation is none, every patch is unknown",
)


def read_cmmd(source: Path, report: ImportReport, track: Track) -> None:
    """Takes the images below `source`, which holds CMMD_clinicaldata_revision.xlsx and the DICOM files.

    Raises:
        InputError: if an annotation file is missing or cannot be read, or no image is found.
    """
    report.notes += _NOTES
    table = only_file(source, "CMMD_clinicaldata_revision.xlsx", "CMMD_clinicaldata*.csv")
    listed = []
    for row in read_rows(table, _COLUMNS, report=report):
        with report.skipping(row.place):
            for column, words in _WORDS.items():
                row.one_of(column, words)
            listed.append(row)
    rows = by_name(listed, lambda row: f"{row['ID1']}_{row['LeftRight']}", report)
    files = find_images(source, report, name_of=str, example="D1-0001/.../1-1.dcm")
    facts = read_all_facts(files, report, track)
    _take(report, files=files, facts=facts, rows=rows)
    seen = {f"{record.patient_id}_{record.laterality}" for record in report.records}
    report.skipped += [f"{row.place}: there is no image of {name}" for name, row in rows.items() if name not in seen]
    _count(report, rows)


def _take(report: ImportReport, *, files: dict[str, Path], facts: dict[str, ImageFacts], rows: dict[str, Row]) -> None:
    """The images whose header tells patient, side and view."""
    numbers = Counter[str]()
    unlisted = 0
    for name, fact in facts.items():
        header = fact.header
        if header is None or not header.patient or header.laterality is None or header.view is None:
            report.skipped.append(f"{name}: its header does not tell patient, side and view")
            continue
        row = rows.get(f"{header.patient}_{header.laterality}")
        unlisted += row is None
        stem = f"{header.patient}_{header.laterality}_{header.view}"
        numbers[stem] += 1
        report.records.append(
            ImageRecord(
                image_id=stem if numbers[stem] == 1 else f"{stem}_{numbers[stem]}",
                path=str(files[name]),
                patient_id=header.patient,
                laterality=header.laterality,
                view=header.view,
                annotation="none",
                spacing_mm=header.spacing_mm,
                age=finite(row["Age"]) if row else None,
                pathology=f"{row['classification']}: {_ABNORMALITIES[row['abnormality']]}" if row else None,
                vendor=header.vendor,
            )
        )
    if unlisted:
        report.notes.append(
            f"{unlisted:,} images are of breasts without a row in the table: their pathology is unknown"
        )


def _count(report: ImportReport, rows: dict[str, Row]) -> None:
    report.count("images", report.images_of(), "5,202 images of 1,775 patients")
    listed = f"{len(rows):,} of {len({row['ID1'] for row in rows.values()}):,} patients"
    report.count("breasts with a row", listed, "1,872 of 1,775 patients")
    for word, meaning in _ABNORMALITIES.items():
        breasts = [row for row in rows.values() if row["abnormality"] == word]
        malignant = sum(row["classification"] == "Malignant" for row in breasts)
        report.count(f"breasts with {meaning}", f"{len(breasts):,}, {malignant:,} of them malignant")
