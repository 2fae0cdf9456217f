"""Image files to mammograms, and what their pixels say of side and breast. Knows no regions and no patches."""

from mmgkeras.images.inputs import Input, find_inputs
from mmgkeras.images.reader import (
    ImageFacts,
    is_dicom_file,
    is_image_file,
    is_lossy,
    read,
    read_facts,
    read_pixels,
    read_with_header,
)
from mmgkeras.images.resampling import at_spacing, is_resampled_shape, resample
from mmgkeras.images.samples import MAX_PIXELS, is_narrow
from mmgkeras.images.single import Single, find_chest_wall, read_single
from mmgkeras.images.tissue import Breast, breast_alone, estimate_chest_wall, find_breast, tissue_mask

__all__ = [
    "MAX_PIXELS",
    "Breast",
    "ImageFacts",
    "Input",
    "Single",
    "at_spacing",
    "breast_alone",
    "estimate_chest_wall",
    "find_breast",
    "find_chest_wall",
    "find_inputs",
    "is_dicom_file",
    "is_image_file",
    "is_lossy",
    "is_narrow",
    "is_resampled_shape",
    "read",
    "read_facts",
    "read_pixels",
    "read_single",
    "read_with_header",
    "resample",
    "tissue_mask",
]
