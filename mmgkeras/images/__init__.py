"""Image files to mammograms, and what their pixels say of side and breast. Knows no regions and no patches."""

from mmgkeras.images.reader import read, read_pixels
from mmgkeras.images.samples import MAX_PIXELS
from mmgkeras.images.tissue import estimate_chest_wall, tissue_mask

__all__ = ["MAX_PIXELS", "estimate_chest_wall", "read", "read_pixels", "tissue_mask"]
