"""The CSV files that people and other programs touch: their columns, their readers and their writers.

A reader lists every fault with file, line and rule before it gives up; a writer is atomic and never overwrites unless
told to. What a table means beyond its own rows (a region of an image that is not listed) is checked where it is used.
"""

from mmgkeras.tables.folds import FOLD_COLUMNS, read_folds, write_folds
from mmgkeras.tables.images import IMAGE_COLUMNS, image_values, read_images, write_images
from mmgkeras.tables.labels import LABEL_COLUMNS, read_labels, write_labels
from mmgkeras.tables.predictions import (
    PREDICTION_COLUMNS,
    UNTRAINED_PREFIX,
    read_predictions,
    write_predictions,
)
from mmgkeras.tables.regions import REGION_COLUMNS, read_regions, write_regions

__all__ = [
    "FOLD_COLUMNS",
    "IMAGE_COLUMNS",
    "LABEL_COLUMNS",
    "PREDICTION_COLUMNS",
    "REGION_COLUMNS",
    "UNTRAINED_PREFIX",
    "image_values",
    "read_folds",
    "read_images",
    "read_labels",
    "read_predictions",
    "read_regions",
    "write_folds",
    "write_images",
    "write_labels",
    "write_predictions",
    "write_regions",
]
