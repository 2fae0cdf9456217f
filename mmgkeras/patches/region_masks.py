"""Pixel masks of regions: which pixels of its image an annotated finding covers, and what a region may look like.

Owns the drawing of every shape of `schema.Region` and its rules, and which pixels a cell of a feature map covers; knows
no labels.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mmgkeras.errors import InputError
from mmgkeras.schema import Kind, Region, fault_of_points

_Points = tuple[tuple[float, float], ...]
_LARGEST: Final = 10**9
BEYOND: Final = "reaches beyond the image and is cut at its edge"
"""What is said of a region that does."""


@dataclass(frozen=True, slots=True)
class RegionMask:
    """The pixels of a region: `mask` (h, w) bool, whose first row and column are the image's `top` and `left`.

    The window lies inside the image and holds at least one True.
    """

    top: int
    left: int
    mask: NDArray[np.bool_]

    @property
    def window(self) -> tuple[slice, slice]:
        """Where `mask` lies in the image."""
        height, width = self.mask.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def region_mask(region: Region, *, height: int, width: int) -> RegionMask:
    """The pixels of a region in an image (height, width): those with their centre inside or on the outline.

    Polygons follow the even-odd rule. What reaches beyond the image is cut off. A region too small to hold any
    pixel's centre is the pixel nearest to its middle, so that no mark is lost.

    Raises:
        InputError: as `check_region`.
    """
    _check_shape(region, height=height, width=width)
    if region.shape == "mask":
        return _decoded(region.points)
    covered = _drawn(region, height=height, width=width)
    if covered is None:
        (top, bottom), (left, right) = _extent(region)
        raise InputError(
            f"{_name(region)}: the {region.shape} must overlap the image of {height} rows and {width} columns. "
            f"Received: rows {top:g} to {bottom:g}, columns {left:g} to {right:g}"
        )
    return covered


def scaled_region(region: Region, *, shape: tuple[int, int], to: tuple[int, int]) -> Region:
    """The same region on its image (H, W), `shape`, resampled to (h, w), `to`; a mark of any size stays there.

    A pixel of a mask is one of which at least half is covered, or the most covered one where none is.

    Raises:
        InputError: as `check_region`.
    """
    check_region(region, height=shape[0], width=shape[1])
    if shape == to:
        return region
    down, across = to[0] / shape[0], to[1] / shape[1]
    if region.shape == "mask":
        top, left, mask = _resampled(_decoded(region.points), down=down, across=across)
        return mask_region(
            image_id=region.image_id, region_id=region.region_id, kind=region.kind, top=top, left=left, mask=mask
        )
    # A pixel's centre is a whole number, its edges lie half a pixel around it.
    moved = (np.array(region.points) + 0.5) * (down, across) - 0.5
    if not reaches_beyond(region, height=shape[0], width=shape[1]):
        moved = np.clip(moved, -0.5, np.array(to) - 0.5)
    points = [(float(row), float(col)) for row, col in moved]
    if region.shape not in ("circle", "ellipse"):
        return replace(region, points=tuple(points))
    along_rows, along_cols = region.points[1]
    return replace(region, shape="ellipse", points=(points[0], (along_rows * down, along_cols * across)))


def _resampled(covered: RegionMask, *, down: float, across: float) -> tuple[int, int, NDArray[np.bool_]]:
    """Top, left and mask (h, w) of a region at `down` and `across` times as many pixels a length."""
    places = []
    for at, factor in zip(np.nonzero(covered.mask), (down, across), strict=True):
        num_parts = 2 * int(np.ceil(factor))  # of a pixel's edge, each smaller than a new pixel
        parts = (np.arange(num_parts) + 0.5) / num_parts
        places.append(((at[:, None] + parts) * factor, num_parts))
    (rows, rows_per_px), (cols, cols_per_px) = places
    rows, cols = rows + covered.top * down, cols + covered.left * across
    row, col = rows.astype(np.int64)[:, :, None], cols.astype(np.int64)[:, None, :]
    top, left = int(row.min()), int(col.min())
    total = np.zeros((int(row.max()) - top + 1, int(col.max()) - left + 1))
    np.add.at(total, (row - top, col - left), down * across / (rows_per_px * cols_per_px))
    mask = total >= 0.5 - 1e-9
    return top, left, mask if mask.any() else total == total.max()


def check_region(region: Region, *, height: int, width: int) -> None:
    """Refuses a region that cannot be drawn on an image (height, width).

    Raises:
        InputError: for a wrong number of points, a region none of which lies in the image, numbers that are not finite
            or beyond 10^9, axes that are not positive (or, of a circle, unequal), a mask's box or runs that are not
            whole, ordered and inside.
    """
    if reaches_beyond(region, height=height, width=width):
        region_mask(region, height=height, width=width)
    else:
        _check_shape(region, height=height, width=width)


def reaches_beyond(region: Region, *, height: int, width: int) -> bool:
    """Whether a part of a region lies beyond an image (height, width), so that it is cut at the edge.

    A point is inside if it lies on a pixel: from -0.5 to height - 0.5 and from -0.5 to width - 0.5.
    """
    if region.shape == "mask" or fault_of_points(region.shape, len(region.points)):
        return False  # a mask that does is no mask of this image
    extents = zip(_extent(region), (height, width), strict=True)
    return not all(first >= -0.5 and last <= size - 0.5 for (first, last), size in extents)


def mask_region(*, image_id: str, region_id: str, kind: Kind, top: int, left: int, mask: NDArray[np.bool_]) -> Region:
    """The region of shape "mask" whose `region_mask` is this `mask` (h, w) at (top, left).

    Raises:
        ValueError: if the mask is empty.
    """
    flat = np.concatenate([[0], mask.ravel().astype(np.int8), [0]])
    changes = np.flatnonzero(np.diff(flat))
    starts, ends = changes[::2], changes[1::2]
    if starts.size == 0:
        raise ValueError(f"A mask needs at least one pixel. Received: none in {mask.shape}, region {region_id}")
    runs = ((float(start), float(end - start)) for start, end in zip(starts, ends, strict=True))
    points = ((float(top), float(left)), (float(mask.shape[0]), float(mask.shape[1])), *runs)
    return Region(image_id=image_id, region_id=region_id, kind=kind, shape="mask", points=points)


def _name(region: Region) -> str:
    return f"image {region.image_id}, region {region.region_id}"


def _check_shape(region: Region, *, height: int, width: int) -> None:
    """Refuses numbers that make no region on any image, or no mask of this one."""
    name = _name(region)
    if fault := fault_of_points(region.shape, len(region.points)):
        raise InputError(f"{name}: {fault}")
    if region.shape == "mask":
        _check_mask(region.points, name=name, height=height, width=width)
        return
    if region.shape in ("circle", "ellipse"):
        _check_axes(region, name=name)
    for row, col in region.points:
        if not (abs(row) <= _LARGEST and abs(col) <= _LARGEST):
            raise InputError(f"{name}: numbers must not be beyond {_LARGEST:,}. Received: {row:g}, {col:g}")


def _drawn(region: Region, *, height: int, width: int) -> RegionMask | None:
    """The pixels of a region that is no mask; None where none of it lies in the image."""
    (first_row, last_row), (first_col, last_col) = _extent(region)
    top, left = max(0, int(np.ceil(first_row))), max(0, int(np.ceil(first_col)))
    bottom, right = min(height - 1, int(np.floor(last_row))), min(width - 1, int(np.floor(last_col)))
    if top <= bottom and left <= right:
        rows = np.arange(top, bottom + 1, dtype=np.float64)
        cols = np.arange(left, right + 1, dtype=np.float64)
        if region.shape == "polygon":
            mask = _draw_polygon(region.points, rows, cols)
        elif region.shape in ("circle", "ellipse"):
            mask = _draw_ellipse(region.points, rows, cols)
        else:
            mask = np.ones((rows.size, cols.size), dtype=np.bool_)
        if mask.any():
            return RegionMask(top=top, left=left, mask=mask)
    row, col = _middle(region)
    is_inside = -0.5 <= row <= height - 0.5 and -0.5 <= col <= width - 0.5
    is_small = last_row - first_row < 2 and last_col - first_col < 2  # a circle of 0.7 px may lie between the centres
    is_certain = is_small or _holds_middle(region) or not reaches_beyond(region, height=height, width=width)
    if not is_inside or not is_certain:
        return None
    top, left = (int(np.floor(place + 0.5)) for place in (row, col))
    return RegionMask(top=min(top, height - 1), left=min(left, width - 1), mask=np.ones((1, 1), dtype=np.bool_))


def _check_axes(region: Region, *, name: str) -> None:
    along_rows, along_cols = region.points[1]
    if not (0 < along_rows < np.inf and 0 < along_cols < np.inf):
        raise InputError(f"{name}: semi-axes must be above 0. Received: {along_rows:g}, {along_cols:g}")
    if region.shape == "circle" and along_rows != along_cols:
        raise InputError(f"{name}: a circle has equal semi-axes. Received: {along_rows:g}, {along_cols:g}")


def _check_mask(points: _Points, *, name: str, height: int, width: int) -> None:
    numbers = np.asarray(points, dtype=np.float64)
    if not np.isfinite(numbers).all() or (numbers != np.floor(numbers)).any():
        raise InputError(f"{name}: a mask holds whole numbers only. Received: {points[:3]}")
    (top, left), (tall, wide) = points[:2]
    if top < 0 or left < 0 or tall < 1 or wide < 1 or top + tall > height or left + wide > width:
        raise InputError(
            f"{name}: the mask's box must lie in the image of {height} rows and {width} columns. "
            f"Received: top {top:g}, left {left:g}, {tall:g} rows, {wide:g} columns"
        )
    starts, lengths = numbers[2:, 0], numbers[2:, 1]
    ends = starts + lengths
    if lengths.min() < 1 or starts[0] < 0 or ends[-1] > tall * wide or (starts[1:] < ends[:-1]).any():
        raise InputError(f"{name}: a mask's runs must rise, not overlap and end within {tall * wide:g} pixels")


def _decoded(points: _Points) -> RegionMask:
    (top, left), (tall, wide) = ((int(first), int(second)) for first, second in points[:2])
    mask = np.zeros(tall * wide, dtype=np.bool_)
    for start, length in points[2:]:
        mask[int(start) : int(start + length)] = True
    return RegionMask(top=top, left=left, mask=mask.reshape(tall, wide))


def _extent(region: Region) -> tuple[tuple[float, float], tuple[float, float]]:
    """The least and greatest row, then the least and greatest column of a region's outline."""
    if region.shape in ("circle", "ellipse"):
        (row, col), (along_rows, along_cols) = region.points
        return (row - along_rows, row + along_rows), (col - along_cols, col + along_cols)
    rows, cols = zip(*region.points, strict=True)
    return (min(rows), max(rows)), (min(cols), max(cols))


def _middle(region: Region) -> tuple[float, float]:
    """The centre of a circle or ellipse, else the mean of the points."""
    if region.shape in ("circle", "ellipse"):
        return region.points[0]
    rows, cols = np.asarray(region.points, dtype=np.float64).T
    return float(rows.mean()), float(cols.mean())


def _draw_ellipse(points: _Points, rows: NDArray[np.float64], cols: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Multiplied out, so that pixels on the outline of whole numbers are decided without rounding."""
    (row, col), (along_rows, along_cols) = points
    down = ((rows - row) * along_cols) ** 2
    across = ((cols - col) * along_rows) ** 2
    return np.asarray(down[:, None] + across[None, :] <= (along_rows * along_cols) ** 2)


def _draw_polygon(points: _Points, rows: NDArray[np.float64], cols: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Even-odd filling by the parity of the edges to the left of each pixel, and the outline itself."""
    top, left, right = rows[0], cols[0], cols[-1]
    crossings = np.zeros((rows.size, cols.size + 1), dtype=np.int64)
    outline = np.zeros((rows.size, cols.size), dtype=np.bool_)
    for (row_a, col_a), (row_b, col_b) in zip(points, (*points[1:], points[0]), strict=True):
        if row_a == row_b:
            if row_a == np.floor(row_a) and top <= row_a <= rows[-1]:
                outline[int(row_a - top), (cols >= min(col_a, col_b)) & (cols <= max(col_a, col_b))] = True
            continue
        low, high = min(row_a, row_b), max(row_a, row_b)
        met = rows[(rows >= low) & (rows <= high)]
        at = col_a + (met - row_a) * (col_b - col_a) / (row_b - row_a)
        at = np.clip(at, min(col_a, col_b), max(col_a, col_b))
        exact = (at == np.floor(at)) & (left <= at) & (at <= right)
        outline[(met[exact] - top).astype(int), (at[exact] - left).astype(int)] = True
        counted = met < high  # half-open, so that a vertex between two edges counts once
        first = np.clip(np.ceil(at[counted]) - left, 0, cols.size).astype(int)  # the first pixel to the right of it
        np.add.at(crossings, ((met[counted] - top).astype(int), first), 1)
    inside = np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1
    return np.asarray(inside | outline)


def _holds_middle(region: Region) -> bool:
    """Whether a region's middle lies in it, as that of any shape but a polygon does."""
    if region.shape != "polygon":
        return True
    row, col = _middle(region)
    around = tuple((point[0] - row, point[1] - col) for point in region.points)
    return bool(_draw_polygon(around, np.zeros(1), np.zeros(1)).all())


def cells_of_pixels(centres_px: NDArray[np.floating], *, patch_px: int) -> NDArray[np.int64]:
    """(patch_px,) the cell with the nearest centre, for each row (or column) of a patch; of two, the later one.

    Args:
        centres_px: (h,) of the cells in pixels of the patch, rising; the first pixel's centre is 0.
        patch_px: edge of the patch.
    """
    borders = (centres_px[1:] + centres_px[:-1]) / 2
    return np.asarray(np.searchsorted(borders, np.arange(patch_px), side="right"), dtype=np.int64)
