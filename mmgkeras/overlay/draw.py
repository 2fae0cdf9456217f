"""A mammogram as a picture to look at: marks, legend, scale bar.

Owns what is put into the picture; `marks` owns how it looks, `legend` the strip below.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from mmgkeras.overlay.legend import (
    activation_item,
    add_legend,
    positive_item,
    regions_item,
    scale_item,
    score_item,
    unknown_item,
)
from mmgkeras.overlay.marks import Truth, mark_pixels
from mmgkeras.schema import CALCIFICATION, UNKNOWN, ActivationMap, Mammogram, ScoreMap

PREVIEW_HEIGHT_PX: Final = 800


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawOptions:
    """What is drawn.

    Attributes:
        threshold: patches of at least this probability are marked.
        truth: what is known of the image, or None to draw the model's word alone.
        activation: class activation of the patches, to be drawn inside the marked ones; or None.
    """

    threshold: float = 0.5
    truth: Truth | None = None
    activation: ActivationMap | None = None


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture at native resolution, the mammogram's pixel (row, col) at (row, col), and a small preview."""

    native: Image.Image
    preview: Image.Image


DEFAULT_OPTIONS: Final = DrawOptions()


def draw(mammogram: Mammogram, score_map: ScoreMap, *, options: DrawOptions = DEFAULT_OPTIONS) -> Image.Image:
    """The mammogram at native resolution, its calcified patches marked, and a strip below that says what marks mean.

    Args:
        mammogram: as read.
        score_map: what a model says of it.
        options: what is drawn.

    Raises:
        ValueError: if the score map is of an image of another size, or the activation of other patches.
        InputError: if a region of the truth cannot be drawn on the image.
    """
    return draw_with_preview(mammogram, score_map, options=options).native


def draw_with_preview(mammogram: Mammogram, score_map: ScoreMap, *, options: DrawOptions = DEFAULT_OPTIONS) -> Drawing:
    """The same at native resolution and small.

    Raises:
        ValueError: if the score map is of an image of another size, or the activation of other patches.
        InputError: if a region of the truth cannot be drawn on the image.
    """
    height, width = mammogram.pixels.shape
    if (score_map.grid.height, score_map.grid.width) != (height, width):
        raise ValueError(f"The grid must be of the image, {height} x {width}. Received: {score_map.grid}")
    pixels = mark_pixels(
        mammogram.pixels,
        score_map,
        threshold=options.threshold,
        truth=options.truth,
        activation=options.activation,
    )
    marked = Image.fromarray(pixels)
    return Drawing(
        native=_with_legend(marked, mammogram, score_map, options=options),
        preview=_with_legend(_smaller(marked), mammogram, score_map, options=options),
    )


def _smaller(picture: Image.Image) -> Image.Image:
    """The picture at PREVIEW_HEIGHT_PX; itself if it is not higher."""
    if picture.height <= PREVIEW_HEIGHT_PX:
        return picture
    width = max(1, round(picture.width * PREVIEW_HEIGHT_PX / picture.height))
    return picture.resize((width, PREVIEW_HEIGHT_PX), Image.Resampling.LANCZOS)


def _with_legend(
    picture: Image.Image, mammogram: Mammogram, score_map: ScoreMap, *, options: DrawOptions
) -> Image.Image:
    record, truth = mammogram.record, options.truth
    items = [score_item(threshold=options.threshold)]
    if options.activation is not None:
        items.append(activation_item(cell_px=score_map.grid.patch_px / options.activation.values.shape[-1]))
    if truth is not None and len(truth.regions):
        items.append(regions_item())
    if truth is not None and np.any(truth.labels == CALCIFICATION):
        items.append(positive_item())
    if truth is not None and np.any(truth.labels == UNKNOWN):
        items.append(unknown_item())
    shown = picture.width / mammogram.pixels.shape[1]
    items.append(scale_item(record.spacing_mm, shown_px_per_px=shown, width_px=picture.width))
    called = int((score_map.probabilities >= options.threshold).sum())
    title = (
        f"{record.image_id}, {record.laterality} {record.view}: "
        f"{called} of {score_map.probabilities.size} patches at or above {options.threshold:.2f}"
    )
    return add_legend(picture, title=title, items=items)
