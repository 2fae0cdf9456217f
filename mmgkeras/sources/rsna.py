"""The screening mammograms of RSNA's 2022 challenge: 54,706 images whose breasts are told to have cancer or not.

Owns how train.csv is understood; docs/data_sets.md tells it to the user:

- A row is an image: site, patient, side, view, age, cancer, BI-RADS (of one site), implant, density. Nothing says where
  or whether there is calcification: there are no regions, and annotation is "none" everywhere.
- "Normal" is a breast of BI-RADS 1 without cancer and without implant.
- AT, the axillary tail, is view "other".
"""

from pathlib import Path
from typing import Final

from mmgkeras.images import ImageFacts
from mmgkeras.progress import Track
from mmgkeras.schema import VIEWS, ImageRecord, View
from mmgkeras.sources.annotation_tables import SIDES, Row, by_name, read_rows
from mmgkeras.sources.data_set import ImportReport, find_images, only_file, read_all_facts, with_rows
from mmgkeras.tables.rows import finite

_COLUMNS: Final = ("patient_id", "image_id", "laterality", "view", "age", "cancer", "BIRADS", "implant", "density")
_VIEWS: Final[dict[str, View]] = {**{view: view for view in VIEWS}, "AT": "other"}
_YES_OR_NO: Final = {"0": "no", "1": "yes"}
_NOTES: Final = (
    "for research, by the rules of the challenge: rsna-breast-cancer-detection on Kaggle",
    "nothing says whether there is calcification: annotation is none, every patch is unknown",
)


def read_rsna(source: Path, report: ImportReport, track: Track) -> None:
    """Takes the images below `source`, which holds train.csv and train_images/<patient>/<image>.dcm.

    Raises:
        InputError: if an annotation file is missing or cannot be read, or no image is found.
    """
    report.notes += _NOTES
    table = only_file(source, "train.csv")
    listed = read_rows(table, _COLUMNS, report=report)
    rows = by_name(listed, lambda row: f"{row['patient_id']}/{row['image_id']}", report)
    files = find_images(source, report, name_of=_name_of, example="train_images/PATIENT/IMAGE.dcm")
    unlisted = files.keys() - rows.keys()
    if unlisted:
        report.notes.append(f"images without a row in {table.name}, passed over: {len(unlisted):,}")
    files = {name: path for name, path in files.items() if name not in unlisted}
    usable = with_rows(files, {name: row.place for name, row in rows.items()}, report, table=table)
    facts = read_all_facts(usable, report, track)
    for name, fact in facts.items():
        with report.skipping(rows[name].place):
            report.records.append(_record(rows[name], usable[name], fact))
    _count(report, rows)


def _name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def _record(row: Row, path: Path, facts: ImageFacts) -> ImageRecord:
    has_cancer, has_implant = row.one_of("cancer", _YES_OR_NO) == "yes", row.one_of("implant", _YES_OR_NO) == "yes"
    birads = row["BIRADS"].removesuffix(".0")
    is_normal = birads == "1" and not has_cancer and not has_implant
    findings = ["cancer"] * has_cancer + ["implant"] * has_implant
    return ImageRecord(
        image_id=row["image_id"],
        path=str(path),
        patient_id=row["patient_id"],
        laterality=row.one_of("laterality", SIDES),
        view=row.one_of("view", _VIEWS),
        annotation="none",
        spacing_mm=facts.spacing_mm,
        density=row["density"] or None,
        birads=birads or None,
        age=finite(row["age"]),
        pathology="normal" if is_normal else "; ".join(findings) or None,
        vendor=facts.vendor,
    )


def _count(report: ImportReport, rows: dict[str, Row]) -> None:
    report.count("images", report.images_of(), "54,706 images of 11,913 patients")
    with_cancer = sum(row["cancer"] == "1" for row in rows.values())
    report.count("rows of breasts with cancer", f"{with_cancer:,}", "1,158")
    report.count("called normal", f"{report.num_normal:,} images")
