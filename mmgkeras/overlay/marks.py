"""Marks on a mammogram's pixels: what the model says, and what is known.

Owns colours and line styles, chosen so that colour-blind readers tell them apart by brightness and by dash: the
model's marks are yellow to red with a light tint; annotations have blue lines, positive patches blue dashes, unknown
patches lilac angles in their corners. Class activation is a tint in the mark's colour, and a thin line around the
cells above half of its height. Nothing is opaque over the inside of a patch, so that a mark never hides what it points
to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mmgkeras.images.tissue import over_squares
from mmgkeras.overlay.pixel_runs import cell_strengths, pixel_runs
from mmgkeras.patches.region_masks import RegionMask, region_mask
from mmgkeras.schema import CALCIFICATION, UNKNOWN, ActivationMap, Grid, Pixels, Region, ScoreMap

Colour = tuple[int, int, int]
_T = TypeVar("_T", bound=np.generic)

WEAK: Final[Colour] = (255, 226, 64)
STRONG: Final[Colour] = (255, 64, 16)
TRUTH: Final[Colour] = (70, 190, 255)
UNKNOWN_COLOUR: Final[Colour] = (200, 170, 255)
LINE_OPACITY: Final = (0.75, 0.95)
TINT_OPACITY: Final = (0.04, 0.16)
"""At the threshold and at probability 1."""
CELL_OPACITY: Final = 0.24
"""Of the tint at the peak of the class activation, in place of TINT_OPACITY; none at its mean and below."""
CELL_LINE_OPACITY: Final = 0.8
_NUM_LEVELS: Final = 5
"""Steps of probability above the threshold that have an outline of their own where patches overlap."""
_BAND_ROWS: Final = 32
"""Rows of pixels that are drawn at a time: so many stay in the processor's cache."""
_UNKNOWN_OPACITY: Final = 0.8
_TRUTH_OPACITY: Final = 0.9


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of an image: its regions, and the label of each patch (rows, cols) of 1, 0, -1."""

    regions: Sequence[Region]
    labels: NDArray[np.int8]


def mark_pixels(
    pixels: Pixels,
    score_map: ScoreMap,
    *,
    threshold: float,
    truth: Truth | None = None,
    activation: ActivationMap | None = None,
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 a mammogram (H, W) with its marks; where nothing is marked, the pixels as they are.

    Overlapping patches are averaged pixel by pixel, and the mean is held against the threshold. With the class
    activation of the patches, the cells of a mark are tinted by `activation.cell_strengths`.

    Raises:
        ValueError: if the activation is not that of the score map's patches.
        InputError: if a region of the truth cannot be drawn on the image.
    """
    gray = to_eight_bits(pixels)
    # Only where one mark may be drawn on another must what lies below it not be rounded.
    canvas: NDArray[Any] = np.empty((3, *gray.shape), np.uint8 if truth is None else np.float32)
    canvas[:] = gray
    width_px = line_width(pixels.shape)
    _draw_scores(canvas, score_map, threshold=threshold, activation=activation, width_px=width_px)
    if truth is not None:
        _draw_unknown(canvas, score_map.grid, truth.labels, width_px=width_px)
        _draw_truth(canvas, score_map.grid, truth, width_px=width_px)
    drawn: NDArray[np.uint8] = canvas if truth is None else np.rint(canvas).astype(np.uint8)
    return drawn.transpose(1, 2, 0)


def to_eight_bits(pixels: Pixels) -> NDArray[np.uint8]:
    """(H, W) uint8 as shown on a screen; of full-range uint16 the nearest of 256 levels."""
    return np.asarray(pixels if pixels.dtype == np.uint8 else np.rint(pixels / 257), dtype=np.uint8)


def line_width(shape: tuple[int, ...]) -> int:
    """Pixels of a line that is still seen when the whole image (H, W) is shown 800 pixels high."""
    return max(1, round(max(shape) / 500))


def strength(probabilities: NDArray[np.floating], *, threshold: float) -> NDArray[np.float32]:
    """Where between the threshold (0) and certainty (1) each probability lies; 0 below the threshold."""
    return np.asarray(np.clip((probabilities - threshold) / max(1 - threshold, 1e-6), 0, 1), dtype=np.float32)


def ramp(strengths: NDArray[np.floating]) -> NDArray[np.float32]:
    """(..., 3) the colour of each strength (...,)."""
    weak, strong = np.array(WEAK, np.float32), np.array(STRONG, np.float32)
    return np.asarray(weak + strengths[..., None] * (strong - weak), dtype=np.float32)


def enlarge(values: NDArray[_T], shape: tuple[int, int]) -> NDArray[_T]:
    """The values (h, w) of a grid at another pixel size on the pixels of an image of this shape (H, W)."""
    if values.shape == shape:
        return values
    rows, cols = (pixels_under(length, of=size) for length, size in zip(shape, values.shape, strict=True))
    return values[np.ix_(rows, cols)]


def pixels_under(length: int, *, of: int) -> NDArray[np.int64]:
    """(length,) on which of `of` pixels the centre of each pixel lies, where `length` take the same extent."""
    return np.asarray((2 * np.arange(length) + 1) * of // (2 * length))


def pixel_edge(edge: int, *, length: int, of: int) -> int:
    """The first of `length` pixels that `pixels_under` puts on pixel `edge` of `of` or beyond it."""
    return -((of - 2 * edge * length) // (2 * of))


def dashes(shape: tuple[int, int], *, length_px: int) -> NDArray[np.bool_]:
    """(H, W) a checkerboard of squares: a line that is drawn only on it is dashed, whichever way it runs."""
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    return np.asarray((rows // length_px + cols // length_px) % 2 == 0)


def _draw_scores(
    canvas: NDArray[Any],
    score_map: ScoreMap,
    *,
    threshold: float,
    activation: ActivationMap | None,
    width_px: int,
) -> None:
    """Tints and outlines what reaches the threshold: each patch alone, or levels of the mean where patches overlap."""
    grid, runs = score_map.grid, pixel_runs(score_map, activation)
    mean = runs.mean(score_map)
    is_marked = mean >= threshold
    strengths = strength(mean, threshold=threshold)
    components, _ = ndimage.label(is_marked)
    if grid.stride_px == grid.patch_px:
        numbers = np.arange(1, grid.rows * grid.cols + 1, dtype=np.float32).reshape(grid.rows, grid.cols)
        patches = grid.stitch_at(numbers, runs.tops, runs.lefts).astype(np.int32)
        parts = marks = np.where(is_marked, patches, 0)
    else:
        parts = np.where(is_marked, np.minimum(np.floor(strengths * _NUM_LEVELS), _NUM_LEVELS - 1) + 1, 0)
        marks = components
    cells = None if activation is None else cell_strengths(runs, activation, parts=marks)
    # Mark by mark: the lines of one end where it ends, and most of a mammogram is not marked.
    row_of, col_of = (
        np.arange(len(lengths)).repeat(lengths)[pixels_under(length, of=int(lengths.sum()))]
        for lengths, length in zip((runs.heights, runs.widths), canvas.shape[1:], strict=True)
    )
    for number, window in enumerate(ndimage.find_objects(components), start=1):
        rows, cols = (
            slice(*np.searchsorted(run_of, (part.start, part.stop)))
            for run_of, part in zip((row_of, col_of), window, strict=True)
        )
        _draw_mark(
            canvas[:, rows, cols],
            components[window] == number,
            row_of=row_of[rows] - window[0].start,
            col_of=col_of[cols] - window[1].start,
            strengths=strengths[window],
            parts=parts[window],
            cells=None if cells is None else cells[window],
            width_px=width_px,
        )


def _draw_mark(
    canvas: NDArray[Any],
    is_marked: NDArray[np.bool_],
    *,
    row_of: NDArray[np.int64],
    col_of: NDArray[np.int64],
    strengths: NDArray[np.float32],
    parts: NDArray[np.number],
    cells: NDArray[np.float32] | None,
    width_px: int,
) -> None:
    """Tints and outlines one connected mark, told for runs (n, m), in the window (3, H, W) around it.

    `row_of` (H,) and `col_of` (W,) are the runs that its pixels belong to.
    """

    def spread(values: NDArray[_T]) -> NDArray[_T]:
        return values.take(col_of, axis=1).take(row_of, axis=0)

    low, high = np.array([TINT_OPACITY, LINE_OPACITY]).T
    is_line = _edges(spread(_small(np.where(is_marked, parts, 0))), width_px=width_px)
    line = (low[1] + strengths * (high[1] - low[1])).astype(np.float32)
    inside = (low[0] + strengths * (high[0] - low[0])).astype(np.float32)
    is_cell_line = None
    if cells is not None:
        is_peak = is_marked & (cells > 0.5)
        peak = spread(is_peak)
        is_cell_line = _edges(peak, width_px=max(1, width_px // 2)) & peak
        inside = CELL_OPACITY * cells
    line, inside = (np.where(is_marked, opacity, np.float32(0)).take(col_of, axis=1) for opacity in (line, inside))
    colours = [
        (weak + strengths * np.float32(strong - weak)).take(col_of, axis=1)
        for weak, strong in zip(WEAK, STRONG, strict=True)
    ]
    for first in range(0, canvas.shape[1], _BAND_ROWS):
        band = np.s_[first : first + _BAND_ROWS]
        of_band = row_of[band]
        weight = inside.take(of_band, axis=0)
        if is_cell_line is not None:
            weight[is_cell_line[band]] = CELL_LINE_OPACITY
        np.copyto(weight, line.take(of_band, axis=0), where=is_line[band])
        for plane, colour in zip(canvas, colours, strict=True):
            below = plane[band].astype(np.float32)
            blended = below + (colour.take(of_band, axis=0) - below) * weight
            plane[band] = np.rint(blended) if canvas.dtype == np.uint8 else blended


def _draw_unknown(canvas: NDArray[np.float32], grid: Grid, labels: NDArray[np.int8], *, width_px: int) -> None:
    """Angles in the corners of patches where no patch of known label lies; there may be many, so no more than that."""
    is_unknown = grid.stitch((labels == UNKNOWN).astype(np.float32)) == 1
    is_line = is_unknown & _corners(grid, gap_px=width_px + 1, line_px=max(1, width_px // 2))
    is_line = enlarge(is_line, (canvas.shape[1], canvas.shape[2]))
    _blend(canvas, is_line, colour=np.array(UNKNOWN_COLOUR, np.float32), opacity=_UNKNOWN_OPACITY)


def _corners(grid: Grid, *, gap_px: int, line_px: int) -> NDArray[np.bool_]:
    """(height, width) an angle inside each corner of patches that do not overlap, `gap_px` from their edges."""
    arm_px = max(2 * line_px, grid.patch_px // 10)
    from_bottom = np.arange(grid.height)[::-1] % grid.patch_px
    cols = np.arange(grid.width)
    from_wall = (cols if grid.chest_wall == "left" else cols[::-1]) % grid.patch_px
    row, col = (
        np.minimum(place, grid.patch_px - 1 - place) - gap_px for place in (from_bottom[:, None], from_wall[None, :])
    )
    is_near = (row >= 0) & (col >= 0) & (row < arm_px) & (col < arm_px)
    return np.asarray(is_near & ((row < line_px) | (col < line_px)))


def _draw_truth(canvas: NDArray[np.float32], grid: Grid, truth: Truth, *, width_px: int) -> None:
    """Dashes around patches known to be positive, a little inside them, and lines around the annotations."""
    shape = canvas.shape[1], canvas.shape[2]
    is_positive = enlarge(grid.stitch((truth.labels == CALCIFICATION).astype(np.float32)) > 0, shape)
    gap_px = 2 * width_px
    inside = ndimage.minimum_filter(is_positive, size=2 * gap_px + 1, mode="constant", cval=False)
    is_line = inside & _edges(inside, width_px=width_px) & dashes(shape, length_px=4 * width_px)
    line_px = max(1, width_px // 2)
    is_mark = np.zeros(shape, dtype=np.bool_)
    for region in truth.regions:
        covered = region_mask(region, height=shape[0], width=shape[1])
        if region.kind == "calcification":
            is_mark[covered.window] |= covered.mask
        else:
            _outline(is_line, covered, line_px=line_px)
    if is_mark.any():  # around marks that lie close together one line, which crosses none of them
        is_near = ndimage.maximum_filter(is_mark, size=4 * line_px + 1)
        is_line = (is_line | ndimage.maximum_filter(is_mark, size=6 * line_px + 1)) & ~is_near
    _blend(canvas, is_line, colour=np.array(TRUTH, np.float32), opacity=_TRUTH_OPACITY)


def _outline(is_line: NDArray[np.bool_], covered: RegionMask, *, line_px: int) -> None:
    """Adds a line around a region, a little outside it, so that it does not cover what it surrounds."""
    gap_px, margin = 2 * line_px, 3 * line_px
    rows, cols = (slice(max(side.start - margin, 0), side.stop + margin) for side in covered.window)
    mask = np.zeros_like(is_line)
    mask[covered.window] = covered.mask
    near = mask[rows, cols]
    ring = ndimage.maximum_filter(near, size=2 * margin + 1) & ~ndimage.maximum_filter(near, size=2 * gap_px + 1)
    is_line[rows, cols] |= ring


def _edges(parts: NDArray[np.number] | NDArray[np.bool_], *, width_px: int) -> NDArray[np.bool_]:
    """(H, W) pixels within `width_px` of another part, beyond the image's border being part 0."""
    highest, lowest = (over_squares(combine, parts, size=2 * width_px + 1) for combine in (np.maximum, np.minimum))
    return np.asarray(highest != lowest)


def _small(numbers: NDArray[np.number]) -> NDArray[Any]:
    """The same whole numbers in the fewest bytes."""
    return numbers.astype(np.min_scalar_type(int(numbers.max(initial=0))))


def _blend(
    canvas: NDArray[np.float32], where: NDArray[np.bool_], *, colour: NDArray[np.float32], opacity: float
) -> None:
    below = canvas[:, where]
    canvas[:, where] = below + (colour[:, None] - below) * np.float32(opacity)
