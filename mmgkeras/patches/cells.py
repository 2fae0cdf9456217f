"""Which pixels of a patch belong to which cell of a feature map.

Owns that division alone; where the cells lie and what they say is the model's.
"""

import numpy as np
from numpy.typing import NDArray


def cells_of_pixels(centres_px: NDArray[np.floating], *, patch_px: int) -> NDArray[np.int64]:
    """(patch_px,) the cell with the nearest centre, for each row (or column) of a patch; of two, the later one.

    Args:
        centres_px: (h,) of the cells in pixels of the patch, rising; the first pixel's centre is 0.
        patch_px: edge of the patch.
    """
    borders = (centres_px[1:] + centres_px[:-1]) / 2
    return np.asarray(np.searchsorted(borders, np.arange(patch_px), side="right"), dtype=np.int64)
