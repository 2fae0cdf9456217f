"""The threshold at which a model makes so many marks an image on mammograms that show no calcification.

Phantoms promise a number of false marks; real tissue of a given device has its own. Owns the choice, from mammograms
that nobody needs to have annotated.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mmgkeras.errors import InputError, InputFaultsError, counted
from mmgkeras.evaluation.operating_point import OperatingPoint
from mmgkeras.images import Input
from mmgkeras.inference.detection import Detection, detect
from mmgkeras.inference.marking import find_mammograms
from mmgkeras.overlay.pixel_runs import pixel_runs
from mmgkeras.progress import Track, untracked
from mmgkeras.savedmodel.detector import load_with_finer, read_detector
from mmgkeras.schema import probability_text

THRESHOLDS: Final = 1 / (1 + np.exp(-np.linspace(8, 0, 81)))
"""From which one is chosen, falling. None below 0.5: marks grow into one another there, which makes fewer of them."""
_ROUNDING: Final = 1e-9
"""0.29 marks an image on 100 are 29, though the product is a little less in floating point."""
_FEW_MARKS: Final = 10
"""With fewer than these, chance decides."""


@dataclass(frozen=True, slots=True)
class ChosenOnMammograms:
    """An operating point, and what it was chosen from.

    Attributes:
        operating_point: for marks an image.
        num_images: that were scored.
        num_marks: on them, at the threshold.
        notes: what must be known besides.
        skipped: why, by file, for those that could not be read.
    """

    operating_point: OperatingPoint
    num_images: int
    num_marks: int
    notes: tuple[str, ...] = ()
    skipped: dict[Path, str] = field(default_factory=dict)

    def text(self) -> str:
        """What it reaches, in one line."""
        rate = self.num_marks / self.num_images
        return (
            f"there it makes {counted(self.num_marks, 'mark')}, {rate:.2f} an image; on other mammograms it will differ"
        )


def choose_for_marks(
    model: Path, paths: Sequence[Path], *, per_image: float, spacing_mm: float | None = None, track: Track = untracked
) -> ChosenOnMammograms:
    """The lowest of `THRESHOLDS` from which on a model makes at most so many marks an image, marked as by `predict`.

    Rows of an images.csv whose pathology is other than "normal" are left out, and where any is called normal all others
    too; every mark on the rest counts as a false one.

    Args:
        model: a SavedModel's folder; the finer one beside it is asked where an image is as fine.
        paths: of image files, of folders of them, or of images.csv.
        per_image: marks, 0.001 or more.
        spacing_mm: edge of a pixel of all of them; None for what table or header say.
        track: called with the mammograms.

    Raises:
        InputError: if the model cannot be used.
        InputFaultsError: if no image can be read, or no threshold keeps to so few, with a line for each unread image.
    """
    classifier = load_with_finer(model, is_folded=True)
    found, passed_over = find_mammograms(paths)
    inputs, notes = _free_of_calcification(found), [*passed_over]
    if len(inputs) < len(found):
        notes.append(f"left out, not called normal: {len(found) - len(inputs):,} of {counted(len(found), 'mammogram')}")
    counts = np.zeros(len(THRESHOLDS), np.int64)
    skipped, num_unknown = {}, 0
    for one in track(inputs, "score mammograms"):
        try:
            single = one.read(laterality=None, spacing_mm=spacing_mm)
            counts += count_marks(detect([classifier], single.mammogram))
            num_unknown += single.mammogram.record.spacing_mm is None
            notes.extend(f"{one.path}: {note}" for note in single.notes)
        except InputError as error:
            skipped[one.path] = one.reason(error)
    num_images, unread = len(inputs) - len(skipped), [f"{path}: {reason}" for path, reason in skipped.items()]
    if not num_images:
        raise InputFaultsError(["no mammogram is left to choose a threshold from", *unread])
    place = place_within(counts, most=per_image * num_images)
    if place is None:
        rate = f"at {probability_text(THRESHOLDS[0])} there are {counts[0] / num_images:.2f}"
        raise InputFaultsError([f"no threshold gives at most {per_image:g} marks an image: {rate}", *unread])
    if per_image * num_images < _FEW_MARKS:
        few = f"{per_image:g} marks an image on {counted(num_images, 'mammogram')}"
        notes.append(
            f"{few} are so few marks that chance decides; give {counted(ceil(_FEW_MARKS / per_image), 'mammogram')}"
        )
    if place == len(THRESHOLDS) - 1:
        notes.append(f"no lower threshold than {THRESHOLDS[-1]:g} is tried, for marks grow into one another there")
    own_mm = classifier.metadata.spacing_mm
    if num_unknown and own_mm is not None:
        notes.append(f"the pixel size of {num_unknown} is not known, and taken for the model's, {own_mm:g} mm")
    if classifier.metadata.store_checksum != read_detector().metadata.store_checksum:
        notes.append("whether one of them is of a patient on whom the model is tested cannot be told")
    told = f"{counted(num_images, 'mammogram')} given as free of calcification"
    point = OperatingPoint(float(THRESHOLDS[place]), "marks_per_image", per_image, told)
    return ChosenOnMammograms(point, num_images, int(counts[place]), tuple(notes), skipped)


def _free_of_calcification(found: Sequence[Input]) -> list[Input]:
    """The mammograms that nothing speaks against: a table that calls some normal tells that the others are not."""
    tells = any(one.record is not None and one.record.is_called_normal for one in found)
    return [
        one
        for one in found
        if one.record is None or one.record.is_called_normal or (one.record.pathology is None and not tells)
    ]


def place_within(counts: NDArray[np.int64], *, most: float) -> int | None:
    """The place of the lowest of `THRESHOLDS` at and above which there are never more marks; None where there is none.

    Args:
        counts: (t,) marks at each of them.
        most: the number that may be reached.
    """
    places = np.flatnonzero(np.maximum.accumulate(counts) <= most + _ROUNDING)
    return int(places[-1]) if places.size else None


def count_marks(detection: Detection) -> NDArray[np.int64]:
    """(t,) the number of marks at each of `THRESHOLDS`."""
    mean = pixel_runs(detection.score_map, detection.activation).mean(detection.score_map)
    return np.array([ndimage.label(mean >= threshold)[1] for threshold in THRESHOLDS], np.int64)
