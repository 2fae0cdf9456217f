"""The breast in a mammogram against the background of film or detector, and the side of the chest wall.

Owns the one definition of tissue: patches' tissue fractions and the estimated side both come from it. It
separates breast (pectoral muscle included) from background, not glandular from fatty tissue.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mmgkeras.schema import Pixels, Side

_T = TypeVar("_T", bound=np.generic)
_WORKING_PX: Final = 512
"""The longer side of the reduced image on which the breast is sought."""
_BRIGHT_PERCENTILE: Final = 99.0
_LARGEST_BACKGROUND: Final = 0.15
"""Gray above this part of the bright percentile is never taken for background: an image may be all breast."""
_MARGIN: Final = 0.02
"""The part of the bright percentile by which the breast must exceed the background."""
_FAR_PX: Final = 20
"""Background is measured this far from what is surely breast."""
_FOG_PERCENTILE: Final = 90.0
_OPENING_PX: Final = 9
"""Bridges between breast and labels thinner than this, in the reduced image, are cut."""


@dataclass(frozen=True, slots=True)
class Breast:
    """Where the breast lies in a mammogram.

    Attributes:
        mask: (H, W) its `tissue_mask`.
        background: the gray value above which a pixel was candidate: nothing beside the breast need be brighter.
        looks_inverted: whether the mammogram seems to show the background bright.
    """

    mask: NDArray[np.bool_]
    background: float
    looks_inverted: bool


def tissue_mask(pixels: Pixels) -> NDArray[np.bool_]:
    """(H, W) True where the breast is, of pixels (H, W) in display polarity.

    The image is reduced by averaging whole blocks of k x k pixels (k such that at most 512 remain on the longer
    side), so the outline is good to k pixels. Otsu's threshold on the square root of the means, at most 15 % of their
    99th percentile, finds what is surely breast. The background is then measured away from it (film has fog), and
    what exceeds its 90th percentile by 2 % of the bright percentile is candidate. An opening cuts thin bridges; the
    largest connected part is the breast, and its holes belong to it. Labels, tape and film edges apart from it are
    background. An image brighter than 15 % throughout is all breast; an image of zeros has none.
    """
    return find_breast(pixels).mask


def breast_alone(pixels: Pixels, breast: Breast) -> Pixels:
    """The pixels (H, W) with nothing outside their breast brighter than its background.

    Lettering, markers and tape beside the breast are gone; the fog of a film stays, so that no new edge appears.
    """
    dimmed: Pixels = np.minimum(pixels, pixels.dtype.type(max(breast.background, 0)))
    np.copyto(dimmed, pixels, where=breast.mask)
    return dimmed


def find_breast(pixels: Pixels) -> Breast:
    """The breast of pixels (H, W), found once for all who ask."""
    step = max(1, -(-max(pixels.shape) // _WORKING_PX))
    means = _block_means(pixels, step=step)
    bright = float(np.percentile(means, _BRIGHT_PERCENTILE)) or float(means.max())
    limit = _LARGEST_BACKGROUND * bright
    surely = _largest_part(means > min(_otsu(np.sqrt(means)) ** 2, limit))
    threshold = min(_fog(means, breast=surely) + _MARGIN * bright, limit)
    breast = _largest_part(means > threshold)
    height, width = pixels.shape
    wide = breast.repeat(step, axis=1)[:, :width]
    return Breast(wide.repeat(step, axis=0)[:height], threshold, _is_inverted(means))


def _is_inverted(means: NDArray[np.float32]) -> bool:
    """Whether the background seems to be bright: over a quarter is nearly white, and much less is dark.

    It is of none of 477 films, phantoms and digital mammograms, and of 98 % of them when they are inverted.
    """
    white = float(np.percentile(means, 99.5))
    bright, dark = np.mean(means >= 0.9 * white), np.mean(means <= 0.15 * white)
    return white > 0 and bool(bright > 0.25 and bright > 2 * dark)


def _fog(means: NDArray[np.float32], *, breast: NDArray[np.bool_]) -> float:
    """The 90th percentile of what is neither near the breast nor exactly 0 (padding); 0 if there is nothing such."""
    far = ~over_squares(np.logical_or, breast, size=2 * _FAR_PX + 1)
    values = means[far & (means > 0)]
    return float(np.percentile(values, _FOG_PERCENTILE)) if values.size else 0.0


def _block_means(pixels: Pixels, *, step: int) -> NDArray[np.float32]:
    """(ceil(H / step), ceil(W / step)) the mean of each block; blocks beyond the edge repeat the last row or column."""
    height, width = pixels.shape
    if step == 1:
        return pixels.astype(np.float32)
    # Slice by slice: four times as fast as numpy's reduceat.
    rows = np.zeros((-(-height // step), width), dtype=np.uint32)
    sums = np.zeros((len(rows), -(-width // step)), dtype=np.uint32)
    for first in range(step):
        part = pixels[first::step]
        rows[: len(part)] += part
    for first in range(step):
        part = rows[:, first::step]
        sums[:, : part.shape[1]] += part
    tall = np.minimum(step, height - np.arange(0, height, step))
    wide = np.minimum(step, width - np.arange(0, width, step))
    return (sums / np.outer(tall, wide)).astype(np.float32)


def _otsu(values: NDArray[np.float32]) -> float:
    """The threshold that leaves the least variance within the two classes (Otsu 1979), over 256 bins."""
    counts, edges = np.histogram(values, bins=256)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    mean_below = sums[:-1] / np.maximum(below, 1)
    mean_above = (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    return float(edges[1 + np.argmax(below * above * (mean_below - mean_above) ** 2)])


def _largest_part(candidates: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected part of the opened candidates with its holes filled; nothing of nothing."""
    eroded = over_squares(np.logical_and, candidates, size=_OPENING_PX)
    opened = over_squares(np.logical_or, eroded, size=_OPENING_PX)
    parts, count = ndimage.label(opened if opened.any() else candidates)
    if count == 0:
        return candidates
    largest = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    outside, _ = ndimage.label(np.pad(~largest, 1, constant_values=True))  # part 1 is what surrounds the image
    return np.asarray(outside[1:-1, 1:-1] != 1, dtype=np.bool_)


def over_squares(combine: np.ufunc, values: NDArray[_T], *, size: int) -> NDArray[_T]:
    """(H, W) `combine`, such as the maximum, of the square of an odd size around each pixel; 0 beyond the edge.

    Shift by shift: a fraction of the time of SciPy's filters, the more so the fewer bytes a value has.
    """
    for _ in range(2):
        padded = np.pad(values, ((size // 2, size // 2), (0, 0)))
        values = reduce(combine, (padded[first : first + len(values)] for first in range(size))).T
    return values


_STRIP: Final = 0.05
"""The part of the breast's width that is compared at either side."""
_RATIO: Final = 1.5
"""How many times more tissue the chest-wall side must hold than the other."""


def estimate_chest_wall(tissue: NDArray[np.bool_]) -> Side | None:
    """The side on which the breast, the `tissue_mask` (H, W) of an image, ends in a long straight edge.

    Strips of 5 % of the breast's width are compared at its left and right end: at the chest wall the breast is cut
    off over most of its height, at the other end only the nipple is left. The strips lie at the breast's ends, not
    the image's, for films are often padded. None where neither strip holds 1.5 times the tissue of the other, or
    where there is no breast.
    """
    columns = np.flatnonzero(tissue.any(axis=0))
    if columns.size == 0:
        return None
    first, last = columns[0], columns[-1] + 1
    strip = max(1, round(_STRIP * (last - first)))
    left, right = int(tissue[:, first : first + strip].sum()), int(tissue[:, last - strip : last].sum())
    if left >= _RATIO * right:
        return "left"
    return "right" if right >= _RATIO * left else None
