"""Images and regions of a few pixels, by hand."""

import numpy as np

from mmgkeras.schema import Region


def ramp(height: int = 12, width: int = 10, *, start: int = 1) -> np.ndarray:
    return (np.arange(start, start + height * width) % 251).astype(np.uint8).reshape(height, width)


def point(image_id: str, row: float, col: float) -> Region:
    return Region(image_id, "1", "calcification", "point", ((row, col),))
