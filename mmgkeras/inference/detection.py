"""A mammogram at the model's own pixel size, what the model says of its breast, and the marks that come of it.

Owns what a mark is for a reader: a connected part of the breast where the mean probability of the patches that cover
it reaches the threshold, as it is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mmgkeras.errors import InputError
from mmgkeras.images import at_spacing, breast_alone
from mmgkeras.overlay.marks import enlarge, stitch_cells
from mmgkeras.schema import ActivationMap, Grid, Mammogram, Pixels, ScoreMap


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


class ScoringModel(Protocol):
    """What can score a mammogram: a `Classifier`, or a `ServerModel`."""

    @property
    def metadata(self) -> "ScoringMetadata":
        """What must be known to use it."""

    @property
    def identity(self) -> dict[str, str]:
        """Which model it is, for a file of results."""

    def scan(self, mammogram: Mammogram, *, stride_px: int | None = None) -> tuple[ScoreMap, ActivationMap | None]:
        """The probability of every patch, and their class activation where the model has it."""


class ScoringMetadata(Protocol):
    """Of a `ScoringModel`, as in `ModelMetadata`."""

    @property
    def patch_px(self) -> int:
        """Edge of a patch."""

    @property
    def stride_px(self) -> int:
        """Distance between neighbouring patches."""

    @property
    def spacing_mm(self) -> float | None:
        """Edge of a pixel; None for unknown."""

    @property
    def threshold(self) -> float:
        """A probability of at least this is marked."""


def check_alike(models: Sequence[ScoringModel]) -> None:
    """Refuses models whose answers cannot be averaged.

    Raises:
        InputError: if they divide or resample a mammogram differently.
    """
    for name in ("patch_px", "stride_px", "spacing_mm"):
        values = {getattr(model.metadata, name) for model in models}
        if len(values) > 1:
            told = ", ".join(map(str, sorted(values, key=str)))
            raise InputError(f"models can be averaged only if they have the same {name}. Received: {told}")


def detect(models: Sequence[ScoringModel], mammogram: Mammogram, *, stride_px: int | None = None) -> Detection:
    """Scores the breast of a mammogram by one model, or by the mean of several.

    Where mammogram and model both know their pixel size and these differ, the mammogram is resampled by area to the
    model's. What lies outside the breast, lettering and markers, is dimmed to the background before scoring; patches
    without any breast have probability 0, and what no patch with breast needs is not scored.

    Args:
        models: that score, at least one; alike, see `check_alike`.
        mammogram: of any size.
        stride_px: distance between neighbouring patches, in pixels of the model; None for the model's.

    Raises:
        InputError: as `Classifier.score`.
    """
    metadata = models[0].metadata
    resampled = at_spacing(mammogram, metadata.spacing_mm)
    resampled_to_mm = None if resampled is mammogram else resampled.record.spacing_mm
    pixels, breast = breast_alone(resampled.pixels)
    height, width = pixels.shape
    stride = min(stride_px or metadata.stride_px, metadata.patch_px)  # a longer one is refused by the model
    grid = Grid(height, width, metadata.patch_px, stride, mammogram.record.chest_wall_side)
    pixels = _needed(pixels, breast, grid)
    answers = [model.scan(Mammogram(pixels, mammogram.record), stride_px=stride_px) for model in models]
    probabilities = np.stack([scores.probabilities for scores, _ in answers]).mean(axis=0, dtype=np.float32)
    score_map = replace(answers[0][0], probabilities=probabilities)
    return Detection(on_breast(score_map, breast), _mean_activation([map_ for _, map_ in answers]), resampled_to_mm)


def _needed(pixels: Pixels, breast: NDArray[np.bool_], grid: Grid) -> Pixels:
    """The pixels, zero where no patch with breast covers them, so that blank patches can be passed over."""
    holds_breast = grid.cut(breast).any(axis=(2, 3))
    return cast(Pixels, np.where(grid.stitch(np.asarray(holds_breast, np.float32)) > 0, pixels, pixels.dtype.type(0)))


def _mean_activation(maps: Sequence[ActivationMap | None]) -> ActivationMap | None:
    """The mean of the activations of several models; None where they are not of the same cells."""
    first, *others = maps
    known = [other for other in others if other is not None and first is not None]
    if first is None or len(known) < len(others):
        return None
    if any(not np.array_equal(first.centres_px, other.centres_px) for other in known):
        return None
    values = np.stack([first.values, *(other.values for other in known)]).mean(axis=0, dtype=np.float32)
    return ActivationMap(values, first.centres_px)


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
    inside = mean if detection.activation is None or not count else stitch_cells(grid, detection.activation)
    down, across = shape[0] / grid.height, shape[1] / grid.width
    marks = []
    for number, (rows, cols) in enumerate(ndimage.find_objects(parts, max_label=count), start=1):
        is_part = parts[rows, cols] == number
        row, col = _peak(np.where(is_part, inside[rows, cols], -np.inf))
        mark = Mark(
            probability=round(float(mean[rows, cols][is_part].max()), 6),
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
