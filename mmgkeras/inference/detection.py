"""A mammogram at the model's own pixel size, what the model says of its breast, and the marks that come of it.

Owns what a mark is for a reader: a connected part of the breast where the mean probability of the patches that cover
it reaches the threshold, as it is drawn.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mmgkeras.images import at_spacing, breast_alone
from mmgkeras.overlay.marks import enlarge, stitch_cells
from mmgkeras.savedmodel.classifier import Classifier
from mmgkeras.schema import ActivationMap, Mammogram, ScoreMap


@dataclass(frozen=True, slots=True)
class Detection:
    """What a model says of a mammogram.

    Attributes:
        score_map: on a grid of the mammogram at the model's pixel size, 0 where there is no breast.
        activation: of the patches; None where the model has none.
        resampled_to_mm: the model's pixel size where the mammogram had another; None where it was taken as it is.
    """

    score_map: ScoreMap
    activation: ActivationMap | None
    resampled_to_mm: float | None


@dataclass(frozen=True, slots=True)
class Mark:
    """One mark, in pixels of the image as stored.

    Attributes:
        probability: the highest in the mark.
        row, col: its most suspicious place: the peak of the class activation, or the middle of the highest part.
        top, left, bottom, right: the box around it, bottom and right exclusive.
        area_px: its area.
    """

    probability: float
    row: float
    col: float
    top: int
    left: int
    bottom: int
    right: int
    area_px: int


def detect(classifier: Classifier, mammogram: Mammogram, *, stride_px: int | None = None) -> Detection:
    """Scores the breast of a mammogram.

    Where mammogram and model both know their pixel size and these differ, the mammogram is resampled by area to the
    model's. What lies outside the breast, lettering and markers, is dimmed to the background before scoring, and
    patches without any breast have probability 0.

    Args:
        classifier: that scores.
        mammogram: of any size.
        stride_px: distance between neighbouring patches, in pixels of the model; None for the model's.

    Raises:
        InputError: as `Classifier.score`.
    """
    resampled = at_spacing(mammogram, classifier.metadata.spacing_mm)
    resampled_to_mm = None if resampled is mammogram else resampled.record.spacing_mm
    pixels, breast = breast_alone(resampled.pixels)
    seen = Mammogram(pixels, mammogram.record)
    activation = None
    if classifier.can_localise:
        score_map, activation = classifier.localise_mammogram(seen, stride_px=stride_px)
    else:
        score_map = classifier.score(seen, stride_px=stride_px)
    return Detection(on_breast(score_map, breast), activation, resampled_to_mm)


def on_breast(score_map: ScoreMap, breast: NDArray[np.bool_]) -> ScoreMap:
    """The same scores with marks on the breast (height, width) alone, and 0 for patches that hold none of it."""
    holds_breast = score_map.grid.cut(breast).any(axis=(2, 3))
    probabilities = np.where(holds_breast, score_map.probabilities, np.float32(0))
    return replace(score_map, probabilities=probabilities, breast=breast)


def find_marks(detection: Detection, *, threshold: float, shape: tuple[int, int]) -> list[Mark]:
    """The marks on an image of this shape (H, W), the most probable first."""
    _, numbered = _numbered_marks(detection, threshold=threshold, shape=shape)
    return [mark for _, mark in numbered]


def mark_map(detection: Detection, *, threshold: float, shape: tuple[int, int]) -> NDArray[np.uint16]:
    """(H, W) which mark each pixel belongs to: from 1 its place in `find_marks`, 0 where there is none.

    Each mark has a pixel at least, also where the image is coarser than what the model saw.
    """
    parts, numbered = _numbered_marks(detection, threshold=threshold, shape=shape)
    places = np.zeros(len(numbered) + 1, dtype=np.uint16)
    places[[number for number, _ in numbered]] = np.arange(1, len(numbered) + 1)
    pixels = enlarge(places[parts], shape)
    for place, (_, mark) in enumerate(numbered, start=1):
        if not (pixels == place).any():
            pixels[round(mark.row), round(mark.col)] = place
    return pixels


def _numbered_marks(
    detection: Detection, *, threshold: float, shape: tuple[int, int]
) -> tuple[NDArray[np.int32], list[tuple[int, Mark]]]:
    """(height, width) the connected parts of the model's image by number, and the mark of each, as in `find_marks`."""
    grid = detection.score_map.grid
    mean = detection.score_map.stitch()
    parts, count = ndimage.label(mean >= threshold)
    inside = mean if detection.activation is None else stitch_cells(grid, detection.activation)
    down, across = shape[0] / grid.height, shape[1] / grid.width
    marks = []
    for number, (rows, cols) in enumerate(ndimage.find_objects(parts, max_label=count), start=1):
        is_part = parts[rows, cols] == number
        row, col = _peak(np.where(is_part, inside[rows, cols], -np.inf))
        mark = Mark(
            probability=float(mean[rows, cols][is_part].max()),
            row=round((rows.start + row + 0.5) * down - 0.5, 1),
            col=round((cols.start + col + 0.5) * across - 0.5, 1),
            top=round(rows.start * down),
            left=round(cols.start * across),
            bottom=round(rows.stop * down),
            right=round(cols.stop * across),
            area_px=round(int(is_part.sum()) * down * across),
        )
        marks.append((number, mark))
    return parts, sorted(marks, key=lambda pair: (-pair[1].probability, pair[1].top, pair[1].left))


def _peak(values: NDArray[np.floating]) -> tuple[float, float]:
    """The middle of the first connected part of pixels that are as high as the highest."""
    peaks, _ = ndimage.label(values == values.max())
    rows, cols = np.nonzero(peaks == 1)
    return float(rows.mean()), float(cols.mean())
