"""BMCD, the Breast Micro-Calcifications Dataset (Loizidou et al. 2021): pairs of mammograms with every mark drawn.

Owns how its files are understood; docs/data_sets.md tells it to the user:

- A folder such as `Suspicious_cases/7` is a patient, with `CC_recent.dcm`, `CC_prior.dcm`, `MLO_recent.dcm` and
  `MLO_prior.dcm`; one is called `CC_recemt`, and some pictures `MLO_reent_GT`. The side is told by the DICOM header.
- `CC_recent_GT.jpg` beside it is a picture of it with the marks in red. Each connected part of red is one mark; a
  picture of another size is brought to that of the image.
- Every calcification, benign ones too, was marked: annotation is "complete" where there is such a picture, else "none".
"""

import re
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from mmgkeras.errors import InputError
from mmgkeras.images import ImageFacts
from mmgkeras.images.samples import check_size, pillow_faults
from mmgkeras.patches.region_masks import mask_region, scaled_region
from mmgkeras.progress import Track
from mmgkeras.schema import ImageRecord
from mmgkeras.sources.data_set import ImportReport, find_images, only_file, read_all_facts

_FOLDER: Final = re.compile(r"(Normal|Suspicious)_cases", re.IGNORECASE)
_NAME: Final = re.compile(r"(?P<view>CC|MLO)_(?P<round>prior|rec?e[nm]t)", re.IGNORECASE)
_REDNESS: Final = 60
"""By so much of 255 red exceeds green and blue in a mark; gray exceeds them by none, and by little after JPEG."""
_NOTES: Final = (
    "CC BY 4.0: cite Loizidou et al. 2021, doi 10.5281/zenodo.5036062 and 10.1186/s41747-021-00238-w",
    "every calcification was marked: annotation is complete, an unmarked patch has none",
)


def read_bmcd(source: Path, report: ImportReport, track: Track) -> None:
    """Takes the images below `source`, which holds Normal_cases and Suspicious_cases.

    Raises:
        InputError: if no image is found.
    """
    report.notes += _NOTES
    files = find_images(source, report, name_of=_name_of, example="Suspicious_cases/1/CC_recent.dcm")
    facts = read_all_facts(files, report, track)
    for name in track(list(facts), "reading marks"):
        header = facts[name].header
        if header is None or header.laterality is None:
            report.skipped.append(f"{files[name]}: its header does not tell the breast")
            continue
        before = len(report.skipped)
        patient, view, which = name.rsplit("_", 2)
        with report.skipping(str(files[name])):
            picture = only_file(files[name].parent, f"{view}_{which[:2]}*_GT.jp*g")
            with report.skipping(str(picture)):
                _place_marks(name, picture, facts[name], report)
        report.records.append(
            ImageRecord(
                image_id=name,
                path=str(files[name]),
                patient_id=patient,
                laterality=header.laterality,
                view="CC" if view == "CC" else "MLO",
                annotation="complete" if len(report.skipped) == before else "none",
                spacing_mm=header.spacing_mm,
                vendor=header.vendor,
            )
        )
    report.count("images", report.images_of(), "400 images of 100 patients")
    marked = report.images_with("calcification")
    report.count("calcifications", f"{report.num_of_kind('calcification'):,} on {len(marked):,} images")


def _name_of(path: Path) -> str | None:
    """Such as suspicious7_CC_recent."""
    match, group = _NAME.fullmatch(path.stem), _FOLDER.fullmatch(path.parent.parent.name)
    if match is None or group is None:
        return None
    which = "prior" if match["round"].lower() == "prior" else "recent"
    return f"{group[1].lower()}{path.parent.name}_{match['view'].upper()}_{which}"


def _place_marks(name: str, picture: Path, facts: ImageFacts, report: ImportReport) -> None:
    """Takes each connected part of red as a calcification."""
    marks = _red(picture)
    size = (facts.height, facts.width)
    if marks.shape != size:
        report.notes.append(f"{picture}: of {marks.shape} rows and columns, is brought to the {size} of its image")
    parts, _ = ndimage.label(ndimage.binary_fill_holes(marks), structure=np.ones((3, 3)))
    for number, (rows, cols) in enumerate(ndimage.find_objects(parts), start=1):
        mask = parts[rows, cols] == number
        ids = {"image_id": name, "region_id": f"r{number}"}
        region = mask_region(**ids, kind="calcification", top=rows.start, left=cols.start, mask=mask)
        # Not the picture as a whole: at the size of a smaller image a mark of one pixel would be gone.
        report.place(scaled_region(region, shape=marks.shape, to=size), facts, source=str(picture))


def _red(picture: Path) -> NDArray[np.bool_]:
    """(H, W) where a picture is red.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        with pillow_faults(), Image.open(picture) as image:
            check_size(*image.size)
            colours = np.asarray(image.convert("RGB"), dtype=np.int16)
    except Image.DecompressionBombError as error:
        raise InputError(str(error)) from error
    return np.asarray(colours[..., 0] - colours[..., 1:].max(axis=2) >= _REDNESS)
