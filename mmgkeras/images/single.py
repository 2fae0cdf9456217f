"""An image file that no table describes: which breast it shows, and at which edge its chest wall lies.

Owns the order in which that is found: what the user says, a DICOM header, the file's name, the pixels.
"""

import math
import re
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Final, Literal

import numpy as np

from mmgkeras.errors import InputError
from mmgkeras.images.dicom_facts import Header
from mmgkeras.images.reader import read_with_header
from mmgkeras.images.samples import is_narrow
from mmgkeras.images.tissue import Breast, estimate_chest_wall, find_breast
from mmgkeras.schema import LATERALITIES, VIEWS, ImageRecord, Laterality, Mammogram, Pixels, Side, View

SideFrom = Literal["the option", "the table", "the header", "the name", "the pixels"]

_VIEWS: Final = tuple(view for view in VIEWS if view.isupper())
_WORDS: Final = re.compile(r"[A-Za-z]+")
_SAYS: Final = re.compile(rf"(L|LEFT|R|RIGHT)?({'|'.join(_VIEWS)})?")


@dataclass(frozen=True, slots=True)
class Single:
    """A mammogram from a file alone.

    Attributes:
        mammogram: its image_id and patient_id are the file's name without suffix, its annotation "none".
        side_from: where the laterality was found.
        hangs_mirrored: whether the pixels show the chest wall at the edge that is not the standard one.
        notes: where the header says something twice and differently, or the image looks inverted or dark, and so on.
        breast: where it lies; None where it was not sought.
    """

    mammogram: Mammogram
    side_from: SideFrom
    hangs_mirrored: bool
    notes: tuple[str, ...] = ()
    breast: Breast | None = None


def read_single(
    path: Path, *, laterality: Laterality | None = None, view: View | None = None, spacing_mm: float | None = None
) -> Single:
    """The mammogram of one file.

    Args:
        path: of a file that `read_pixels` takes.
        laterality: the breast; None for what a DICOM header says, else the name (`p7_L_CC`, `RMLO`, `left`), else the
            pixels.
        view: the projection; None for what the header says, else the name, else "other".
        spacing_mm: edge of a pixel; None for what the header says, else unknown.

    Raises:
        InputError: as `read_pixels`, if neither header, name nor pixels tell the side, and for an argument of another
            value.
    """
    if laterality not in (None, *LATERALITIES):
        raise InputError(f"laterality: must be one of {', '.join(LATERALITIES)}. Received: {laterality!r}")
    if view not in (None, *VIEWS):
        raise InputError(f"view: must be one of {', '.join(VIEWS)}. Received: {view!r}")
    if spacing_mm is not None and not (isinstance(spacing_mm, Real) and 0 < spacing_mm < math.inf):
        raise InputError(f"spacing_mm: must be a number above 0. Received: {spacing_mm!r}")
    pixels, header = read_with_header(path)
    told = header.laterality if header else None
    named, named_view = side_and_view(path.stem)
    breast = find_breast(pixels)
    wall, notes = find_chest_wall(breast, header)
    side_from: SideFrom = (
        "the option" if laterality else "the header" if told else "the name" if named else "the pixels"
    )
    side = laterality or told or named or (None if wall is None else "R" if wall == "right" else "L")
    if side is None:
        raise InputError(f"{path}: neither its name nor its pixels tell which breast it shows; give laterality, L or R")
    hangs_mirrored = wall is not None and wall != ("right" if side == "R" else "left")
    record = ImageRecord(
        image_id=path.stem,
        path=str(path),
        patient_id=path.stem,
        laterality=side,
        view=view or (header.view if header else None) or named_view,
        annotation="none",
        chest_wall=wall if hangs_mirrored else None,
        spacing_mm=float(spacing_mm) if spacing_mm else (header.spacing_mm if header else None),
        vendor=header.vendor if header else None,
    )
    notes = (*header.notes, *notes) if header else notes
    return Single(Mammogram(pixels, record), side_from, hangs_mirrored, (*notes, *gray_notes(pixels, breast)), breast)


def gray_notes(pixels: Pixels, breast: Breast) -> tuple[str, ...]:
    """A note for each way in which gray values (H, W) are probably not those of a mammogram in display polarity."""
    notes = []
    if breast.looks_inverted:
        notes.append("looks inverted: most of it is as bright as its brightest part; bright must be dense")
    if is_narrow(pixels):
        notes.append(
            f"its largest value is {pixels.max()} of {np.iinfo(pixels.dtype).max}: marks are missed in gray values "
            "that use a quarter of their range or less; scale them, as those of 12 or 14 bits in a file of 16"
        )
    return tuple(notes)


def find_chest_wall(breast: Breast, header: Header | None) -> tuple[Side | None, tuple[str, ...]]:
    """Where the chest wall lies by the breast, else by Patient Orientation; a note where the two disagree."""
    seen = estimate_chest_wall(breast)
    told = header.chest_wall if header else None
    if told == "top" or told == "bottom":  # noqa: PLR1714 - narrows the type
        return seen, (f"lies on its side: by Patient Orientation the chest wall is at the {told} edge",)
    if seen and told and seen != told:
        return seen, (f"the chest wall lies at the {seen} edge by the pixels, {told} by Patient Orientation",)
    return seen or told, ()


def side_and_view(stem: str) -> tuple[Laterality | None, View]:
    """What a file's name says: the breast where one word of it does, or all that do agree, and the view, else "other".

    Words are runs of letters: L, R, left, right, alone or joined to a view as in `LCC` and `RMLO`.
    """
    sides: set[Laterality] = set()
    views: list[View] = []
    for word in _WORDS.findall(stem):
        matched = _SAYS.fullmatch(word.upper())
        if matched is None:
            continue
        if matched[1]:
            sides.add("L" if matched[1].startswith("L") else "R")
        views += [view for view in _VIEWS if view == matched[2]]
    return (sides.pop() if len(sides) == 1 else None), (views[0] if views else "other")
