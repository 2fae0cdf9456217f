"""A mammogram at the model's own pixel size, what the model says of its breast, and the marks that come of it.

Owns what a mark is for a reader: a connected part of the breast where the mean probability of the patches that cover
it reaches the threshold, as it is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mmgkeras.errors import InputError
from mmgkeras.images import Breast, at_spacing, breast_alone, find_breast
from mmgkeras.overlay.marks import enlarge, pixel_edge
from mmgkeras.overlay.pixel_runs import pixel_runs, smoothed_cells
from mmgkeras.schema import ActivationMap, Grid, Mammogram, ScoreMap

_AS_FINE: Final = 1.1
"""An image is as fine as a model whose pixels are smaller by a tenth at most."""
_PEAK_DECIMALS: Final = 4
"""Smoothed activations that are equal so far have one peak: sums of equal numbers differ in their last digits."""


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
        row, col: its most suspicious place: the peak of the class activation, smoothed, or the middle of the highest
            part.
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


@dataclass(frozen=True, slots=True)
class Detected:
    """What was found in a mammogram.

    Attributes:
        marks: the most probable first.
        threshold: that they reach.
        detection: what they were made of.
    """

    marks: tuple[Mark, ...]
    threshold: float
    detection: Detection


class ScoringModel(Protocol):
    """What can score a mammogram: a `Classifier`, or a `ServerModel`."""

    @property
    def metadata(self) -> "ScoringMetadata":
        """What must be known to use it."""

    @property
    def finer(self) -> "ScoringModel | None":
        """The model that is asked in its place about mammograms with pixels as small as its own; None for none."""

    def scan(
        self, mammogram: Mammogram, *, stride_px: int | None = None, chosen: NDArray[np.bool_] | None = None
    ) -> tuple[ScoreMap, ActivationMap | None]:
        """The probability of every patch, and their class activation where the model has it.

        Of patches (rows, cols) that are not chosen the probability is 0, and the activation means nothing.
        """


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


def check_alike(models: Sequence[ScoringMetadata]) -> None:
    """Refuses models whose answers cannot be averaged.

    Raises:
        InputError: if they divide or resample a mammogram differently.
    """
    for name in ("patch_px", "stride_px", "spacing_mm"):
        values = {getattr(model, name) for model in models}
        if len(values) > 1:
            told = ", ".join(map(str, sorted(values, key=str)))
            raise InputError(f"models can be averaged only if they have the same {name}. Received: {told}")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A mammogram as models see it.

    Attributes:
        models: that are to be asked.
        mammogram: at their pixel size, nothing beside the breast brighter than the background.
        breast: (height, width) of it, where the breast is.
        holds_breast: (rows, cols) the patches with some of it.
        stride_px: distance between neighbouring patches.
        resampled_to_mm: the models' pixel size where the mammogram had another; None where it was taken as it is.
    """

    models: Sequence[ScoringModel]
    mammogram: Mammogram
    breast: NDArray[np.bool_]
    holds_breast: NDArray[np.bool_]
    stride_px: int
    resampled_to_mm: float | None


def check_threshold(threshold: float | None) -> None:
    """Refuses a probability from which on nothing or everything would be marked; None is the model's own.

    Raises:
        InputError: if so.
    """
    if threshold is not None and not (isinstance(threshold, Real) and 0 < threshold <= 1):
        raise InputError(f"threshold: must be above 0 and at most 1. Received: {threshold!r}")


def detect(models: Sequence[ScoringModel], mammogram: Mammogram, *, stride_px: int | None = None) -> Detection:
    """Scores the breast of a mammogram by one model, or by the mean of several.

    Where the models have a finer one and the mammogram is as fine, the finer ones are asked. Where mammogram and model
    both know their pixel size and these differ, the mammogram is resampled by area to the model's. What lies outside
    the breast, lettering and markers, is dimmed to the background before scoring; patches without any breast are not
    scored and have probability 0.

    Args:
        models: that score, at least one; alike, see `check_alike`.
        mammogram: of any size.
        stride_px: distance between neighbouring patches, in pixels of the models given; None for the model's.

    Raises:
        InputError: as `Classifier.score`.
    """
    return score(prepare(mammogram, models, stride_px=stride_px))


def prepare(
    mammogram: Mammogram,
    models: Sequence[ScoringModel],
    *,
    stride_px: int | None = None,
    breast: Breast | None = None,
) -> Prepared:
    """What `detect` does before any model is asked.

    Args:
        mammogram: as read.
        models: as of `detect`.
        stride_px: as of `detect`.
        breast: of the mammogram, where it was found already.
    """
    asked = _fitting(models, mammogram.record.spacing_mm)
    given, metadata = models[0].metadata, asked[0].metadata
    seen = at_spacing(mammogram, metadata.spacing_mm)
    if breast is None or seen is not mammogram:
        breast = find_breast(seen.pixels)
    height, width = seen.pixels.shape
    stride = metadata.stride_px if stride_px is None else max(1, stride_px * metadata.patch_px // given.patch_px)
    whole = min(stride, metadata.patch_px)  # a longer one is refused by the model
    grid = Grid(height, width, metadata.patch_px, whole, mammogram.record.chest_wall_side)
    return Prepared(
        models=asked,
        mammogram=Mammogram(breast_alone(seen.pixels, breast), mammogram.record),
        breast=breast.mask,
        holds_breast=breast.num_px(grid) > 0,
        stride_px=stride,
        resampled_to_mm=None if seen is mammogram else seen.record.spacing_mm,
    )


def _fitting(models: Sequence[ScoringModel], own_mm: float | None) -> Sequence[ScoringModel]:
    """The finer ones of the models, if each has one, all are alike, and the mammogram is as fine; else themselves."""
    finer = [model.finer for model in models if model.finer is not None]
    sizes = {(one.metadata.patch_px, one.metadata.stride_px, one.metadata.spacing_mm) for one in finer}
    if own_mm is None or len(finer) < len(models) or len(sizes) > 1:
        return models
    return finer if own_mm <= _AS_FINE * (finer[0].metadata.spacing_mm or 0) else models


def score(prepared: Prepared) -> Detection:
    """What `detect` does with a prepared mammogram.

    Raises:
        InputError: as `detect`.
    """
    answers = [
        model.scan(prepared.mammogram, stride_px=prepared.stride_px, chosen=prepared.holds_breast)
        for model in prepared.models
    ]
    probabilities = np.stack([scores.probabilities for scores, _ in answers]).mean(axis=0, dtype=np.float32)
    score_map = replace(answers[0][0], probabilities=probabilities, breast=prepared.breast)
    return Detection(score_map, _mean_activation([map_ for _, map_ in answers]), prepared.resampled_to_mm)


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


def on_breast(score_map: ScoreMap, breast: Breast) -> ScoreMap:
    """The same scores with marks on the breast alone, and 0 for patches that hold none of it."""
    probabilities = np.where(breast.num_px(score_map.grid) > 0, score_map.probabilities, np.float32(0))
    return replace(score_map, probabilities=probabilities, breast=breast.mask)


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
    runs = pixel_runs(detection.score_map, detection.activation)
    pixels = enlarge(runs.spread(places[parts]), shape)
    for place, (_, mark) in enumerate(numbered, start=1):
        if not (pixels == place).any():
            pixels[round(mark.row), round(mark.col)] = place
    return pixels


def _numbered_marks(
    detection: Detection, *, threshold: float, shape: tuple[int, int]
) -> tuple[NDArray[np.int32], list[tuple[int, Mark]]]:
    """(n, m) the connected parts of the model's image by number, on its `pixel_runs`, and their marks in order."""
    score_map, activation = detection.score_map, detection.activation
    runs = pixel_runs(score_map, activation)
    mean = runs.mean(score_map)
    parts, count = ndimage.label(mean >= threshold)
    tall, wide = runs.heights, runs.widths
    down, across = shape[0] / runs.grid.height, shape[1] / runs.grid.width
    edge_down, edge_across = (
        partial(pixel_edge, length=length, of=size)
        for length, size in zip(shape, (runs.grid.height, runs.grid.width), strict=True)
    )
    marks = []
    for number, window in enumerate(ndimage.find_objects(parts, max_label=count), start=1):
        is_part = parts[window] == number
        tops, heights = runs.tops[window[0]], tall[window[0]]
        lefts, widths = runs.lefts[window[1]], wide[window[1]]
        part, inside = (values.repeat(heights, axis=0).repeat(widths, axis=1) for values in (is_part, mean[window]))
        if activation is not None:
            top, left = int(tops[0]), int(lefts[0])
            place = slice(top, top + part.shape[0]), slice(left, left + part.shape[1])
            inside = smoothed_cells(score_map, activation, place).round(_PEAK_DECIMALS)
        row, col = _peak(np.where(part, inside, -np.inf))
        mark = Mark(
            probability=round(float(mean[window][is_part].max()), 6),
            row=round((int(tops[0]) + float(row) + 0.5) * down - 0.5, 1),
            col=round((int(lefts[0]) + float(col) + 0.5) * across - 0.5, 1),
            top=edge_down(int(tops[0])),
            left=edge_across(int(lefts[0])),
            bottom=edge_down(int(tops[-1] + heights[-1])),
            right=edge_across(int(lefts[-1] + widths[-1])),
            area_px=round(int(is_part @ widths @ heights) * down * across),
        )
        marks.append((number, mark))
    return parts, sorted(marks, key=lambda pair: (-pair[1].probability, pair[1].top, pair[1].left))


def _peak(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """The middle of the first connected part of pixels that are as high as the highest, from the first pixel."""
    peaks, _ = ndimage.label(values == values.max())
    return np.asarray(np.argwhere(peaks == 1).mean(axis=0))
