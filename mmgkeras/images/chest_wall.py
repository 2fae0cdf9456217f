"""At which edge of an image the chest wall lies, by the pixels alone."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mmgkeras.images.tissue import tissue_mask
from mmgkeras.schema import Pixels, Side

_STRIP: Final = 0.05
"""The part of the breast's width that is compared at either side."""
_RATIO: Final = 1.5
"""How many times more tissue the chest-wall side must hold than the other."""


def estimate_chest_wall(pixels: Pixels) -> Side | None:
    """The side on which the breast of pixels (H, W), display polarity, ends in a long straight edge.

    Strips of 5 % of the breast's width are compared at its left and right end: at the chest wall the breast is cut
    off over most of its height, at the other end only the nipple is left. The strips lie at the breast's ends, not
    the image's, for films are often padded. None where neither strip holds 1.5 times the tissue of the other, or
    where there is no breast.
    """
    return chest_wall_of_tissue(tissue_mask(pixels))


def chest_wall_of_tissue(mask: NDArray[np.bool_]) -> Side | None:
    """What `estimate_chest_wall` says of the image whose `tissue_mask` is (H, W) this one."""
    columns = np.flatnonzero(mask.any(axis=0))
    if columns.size == 0:
        return None
    first, last = columns[0], columns[-1] + 1
    strip = max(1, round(_STRIP * (last - first)))
    left, right = int(mask[:, first : first + strip].sum()), int(mask[:, last - strip : last].sum())
    if left >= _RATIO * right:
        return "left"
    return "right" if right >= _RATIO * left else None
