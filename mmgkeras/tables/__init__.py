"""The CSV files that people and other programs touch: their columns, their readers and their writers.

A reader lists every fault with file, line and rule before it gives up; a writer is atomic and never overwrites unless
told to. What a table means beyond its own rows (a region of an image that is not listed) is checked where it is used.
"""

from mmgkeras.tables.data_tables import (
    IMAGE_COLUMNS,
    folded_id,
    image_fields,
    look_alikes,
    read_folds,
    read_images,
    read_labels,
    read_regions,
    says_nothing,
    without_zeros,
    write_folds,
    write_images,
    write_labels,
    write_regions,
)
from mmgkeras.tables.predictions_csv import BASELINE_PREFIX, PREDICTION_COLUMNS, read_predictions, write_predictions
from mmgkeras.tables.rows import line_numbers

__all__ = [
    "BASELINE_PREFIX",
    "IMAGE_COLUMNS",
    "PREDICTION_COLUMNS",
    "folded_id",
    "image_fields",
    "line_numbers",
    "look_alikes",
    "read_folds",
    "read_images",
    "read_labels",
    "read_predictions",
    "read_regions",
    "says_nothing",
    "without_zeros",
    "write_folds",
    "write_images",
    "write_labels",
    "write_predictions",
    "write_regions",
]
