"""Pixels of another size: the area resampling of the detector and of stores with `patches.spacing_mm`.

Nothing else here resamples a mammogram.
"""

from dataclasses import replace
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmgkeras.errors import InputError
from mmgkeras.images.samples import MAX_PIXELS
from mmgkeras.schema import Mammogram, Pixels

SAME_SPACING: Final = 0.01
"""Pixel sizes this near are the same: nothing is resampled."""
_MOST_IN_ONE: Final = 25
"""Pixels a length: from the finest detectors and films, of 0.02 mm, to the coarsest, of 0.5 mm."""
_ROUNDING: Final = 1e-9
"""Of factors, far less than what a pixel more or less makes of one."""


def at_spacing(mammogram: Mammogram, spacing_mm: float | None) -> Mammogram:
    """The mammogram resampled to a pixel size; the same object where either size is unknown or both are the same.

    Raises:
        InputError: if it would have more than `MAX_PIXELS`, or hardly any, as with a pixel size in other units.
    """
    own_mm, pixels = mammogram.record.spacing_mm, mammogram.pixels
    if own_mm is None or spacing_mm is None or abs(own_mm / spacing_mm - 1) <= SAME_SPACING:
        return mammogram
    factor = own_mm / spacing_mm
    rule = ""
    if pixels.size * factor**2 > MAX_PIXELS:
        rule = f"must make at most {MAX_PIXELS:,} pixels of {spacing_mm:g} mm"
    elif factor < 1 / _MOST_IN_ONE:
        rule = f"must make each pixel of {spacing_mm:g} mm from at most {_MOST_IN_ONE} x {_MOST_IN_ONE} of its own"
    if rule:
        height, width = pixels.shape
        raise InputError(f"{rule}. Received: {height} x {width} pixels of {own_mm:g} mm; is that pixel size right?")
    pixels = resample(pixels, factor=factor)
    return Mammogram(pixels, replace(mammogram.record, spacing_mm=spacing_mm))


def is_resampled_shape(shape: tuple[int, int], *, of: tuple[int, int]) -> bool:
    """Whether `at_spacing` can give a mammogram (H, W), `of`, this shape (h, w): its own, or by one factor for both."""
    lengths = list(zip(shape, of, strict=True))
    least = max((new - 0.5 if new > 1 else 0) / old for new, old in lengths) - _ROUNDING
    most = min((new + 0.5) / old for new, old in lengths) + _ROUNDING
    return shape == of or (least <= most and (least < 1 - SAME_SPACING or most > 1 + SAME_SPACING))


def resample(pixels: Pixels, *, factor: float) -> Pixels:
    """Pixels (H, W) at `factor` times as many pixels a length, of the same type: (round(H f), round(W f)), at least 1.

    Fewer pixels are means of the areas that they cover, parts of pixels included; more are interpolated linearly.

    Args:
        pixels: uint8 or uint16.
        factor: above 0, such as 0.1 / 0.2 from 0.1 mm to 0.2 mm a pixel.
    """
    height, width = (max(1, round(length * factor)) for length in pixels.shape)
    if (height, width) == pixels.shape:
        return pixels
    if factor < 1:
        resized: NDArray[np.floating] = _means(_means(pixels, height).T, width).T
    else:
        image = Image.fromarray(pixels.astype(np.float32))
        resized = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    return cast(Pixels, np.rint(resized).astype(pixels.dtype))


def _means(values: NDArray[np.number], length: int) -> NDArray[np.float64]:
    """(length, ...) the means of `length` equal parts of the first axis: differences of its running sum."""
    size = len(values)
    total = np.zeros((size + 1, *values.shape[1:]))
    np.cumsum(values, axis=0, out=total[1:])
    edges = np.linspace(0, size, length + 1)
    below = np.minimum(edges.astype(np.int64), size - 1)
    at_edges = total[below] + (edges - below)[:, None] * values[below]
    return np.asarray(np.diff(at_edges, axis=0) * (length / size))
