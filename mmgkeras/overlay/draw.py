"""A marked mammogram as a picture: the marks, and below them the legend with the scale bar.

Owns what is put into the picture and the legend; `marks` owns how marks look.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmgkeras.errors import counted, one_line
from mmgkeras.images import is_resampled_shape
from mmgkeras.overlay.marks import (
    CELL_LINE_OPACITY,
    CELL_OPACITY,
    STRONG,
    TRUTH,
    UNKNOWN_COLOUR,
    Truth,
    dashes,
    mark_pixels,
    ramp,
)
from mmgkeras.schema import CALCIFICATION, UNKNOWN, ActivationMap, Mammogram, ScoreMap, probability_text

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
        score_map: what a model says of it, on a grid of the image or of it resampled.
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
    grid = score_map.grid
    if not is_resampled_shape((grid.height, grid.width), of=(height, width)):
        raise ValueError(f"The grid must be of the image, {height} x {width}. Received: {grid}")
    pixels = mark_pixels(
        mammogram.pixels,
        score_map,
        threshold=options.threshold,
        truth=options.truth,
        activation=options.activation,
    )
    marked = Image.merge("RGB", [Image.fromarray(pixels[..., channel]) for channel in range(3)])
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
    threshold = probability_text(options.threshold, decimals=2)
    items = [Item(f"model: calcification, probability {threshold} to 1.00", _ramp_swatch)]
    if options.activation is not None:
        cell_px = score_map.grid.patch_px / options.activation.values.shape[-1]
        items.append(Item(f"where in the patch: class activation, cells of {cell_px:g} px", _cells_swatch))
    if truth is not None and len(truth.regions):
        items.append(Item("annotation", _ring_swatch))
    if truth is not None and np.any(truth.labels == CALCIFICATION):
        items.append(Item("labelled calcification", _dashed_swatch))
    if truth is not None and np.any(truth.labels == UNKNOWN):
        items.append(Item("label unknown", _angle_swatch))
    shown = picture.width / mammogram.pixels.shape[1]
    items.append(scale_item(record.spacing_mm, shown_px_per_px=shown, width_px=picture.width))
    called = int((score_map.probabilities >= options.threshold).sum())
    title = (
        f"{one_line(record.image_id)}, {record.laterality} {record.view}: "
        f"{called:,} of {counted(score_map.probabilities.size, 'patch')} at or above {threshold}"
    )
    return add_legend(picture, title=title, items=items)


DISCLAIMER: Final = "Research use, not for diagnosis"
BACKGROUND: Final = (22, 22, 26)
TEXT: Final = (235, 235, 235)
_TISSUE: Final = 110
_BAR_MM: Final = (50, 20, 10, 5, 2, 1)


@dataclass(frozen=True, slots=True)
class Item:
    """One entry: its text, and what draws a sample of the mark, given the height of the text in pixels; or None."""

    text: str
    swatch: Callable[[int], Image.Image] | None = None


def scale_item(spacing_mm: float | None, *, shown_px_per_px: float, width_px: int) -> Item:
    """A bar of the longest of 1 to 50 mm that takes at most a quarter of the width; in words where it is unknown.

    Args:
        spacing_mm: length of a pixel's edge of the mammogram at the detector.
        shown_px_per_px: pixels of the picture for each of the mammogram.
        width_px: of the picture.
    """
    if spacing_mm is None:
        return Item("pixel size unknown")
    lengths = {mm: round(mm / spacing_mm * shown_px_per_px) for mm in _BAR_MM}
    bar_mm = next((mm for mm, px in lengths.items() if px <= width_px / 4), _BAR_MM[-1])
    return Item(f"{bar_mm} mm at the detector", lambda height_px: _bar_swatch(lengths[bar_mm], height_px=height_px))


def add_legend(picture: Image.Image, *, title: str, items: Sequence[Item]) -> Image.Image:
    """The picture with a strip below it that holds the title, the items and the disclaimer, wrapped to its width."""
    size_px = min(max(14, round(picture.width / 70)), 44)
    blocks = ([Item(title)], [*items], [Item(DISCLAIMER)])
    font = _font(title, size_px=size_px)
    lines = [line for block in blocks for line in _flow(block, font=font, size_px=size_px, width_px=picture.width)]
    line_px = round(1.6 * size_px)
    strip_px = line_px * len(lines) + size_px
    whole = picture.crop((0, 0, picture.width, picture.height + strip_px))
    whole.paste(BACKGROUND, (0, picture.height, *whole.size))
    pen = ImageDraw.Draw(whole)
    for index, line in enumerate(lines):
        middle = picture.height + size_px // 2 + index * line_px + line_px // 2
        left = size_px
        for part in line:
            if part.sample is not None:
                whole.paste(part.sample, (left, middle - part.sample.height // 2))
            pen.text((left + part.sample_px, middle), part.text, font=font, fill=TEXT, anchor="lm")
            left += part.sample_px + part.text_px + 2 * size_px
    return whole


def _font(text: str, *, size_px: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, which has the letters of ASCII alone, or for other text that of matplotlib."""
    if text.isascii():
        return ImageFont.load_default(size=size_px)
    from matplotlib import get_data_path

    return ImageFont.truetype(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size_px)


@dataclass(frozen=True, slots=True)
class _Part:
    """What stands in one line of an item, and how wide it is."""

    text: str
    text_px: int
    sample: Image.Image | None
    sample_px: int


def _flow(items: Sequence[Item], *, font: ImageFont.FreeTypeFont, size_px: int, width_px: int) -> list[list[_Part]]:
    """Items in lines that fit the width; an item too long for a line of its own is broken between words."""
    free_px = width_px - 2 * size_px
    lines: list[list[_Part]] = [[]]
    left = 0
    for item in items:
        for part in _broken(item, font=font, size_px=size_px, width_px=free_px):
            wide = part.sample_px + part.text_px
            if lines[-1] and left + wide > free_px:
                lines.append([])
                left = 0
            lines[-1].append(part)
            left += wide + 2 * size_px
    return lines


def _broken(item: Item, *, font: ImageFont.FreeTypeFont, size_px: int, width_px: int) -> Iterator[_Part]:
    """The parts of an item, as few as fit the width."""
    words = item.text.split() or [""]
    sample = None if item.swatch is None else item.swatch(size_px)
    sample_px = 0 if sample is None else sample.width + size_px // 2
    while True:
        for count in range(len(words), 0, -1):
            text = " ".join(words[:count])
            text_px = round(font.getlength(text))
            if sample_px + text_px <= width_px or count == 1:
                break
        yield _Part(text, text_px, sample, sample_px)
        words, sample, sample_px = words[count:], None, 0
        if not words:
            return


def _ramp_swatch(height_px: int) -> Image.Image:
    """The ramp of colours from the threshold to certainty."""
    strengths = np.broadcast_to(np.linspace(0, 1, 5 * height_px), (height_px, 5 * height_px))
    return Image.fromarray(np.rint(ramp(strengths)).astype(np.uint8))


def _cells_swatch(height_px: int) -> Image.Image:
    """Four cells of rising strength on a gray like that of tissue, the stronger two inside a line."""
    sample = np.full((height_px, 4 * height_px, 3), _TISSUE, dtype=np.float32)
    opacity = np.repeat([0.0, 1 / 3, 2 / 3, 1.0], height_px) * CELL_OPACITY
    line = max(1, height_px // 10)
    is_line = np.zeros(sample.shape[:2], dtype=np.bool_)
    is_line[:, 2 * height_px :] = True
    is_line[line:-line, 2 * height_px + line : -line] = False
    weight = np.where(is_line, CELL_LINE_OPACITY, opacity)[..., None]
    return Image.fromarray(np.rint(sample + weight * (np.array(STRONG) - sample)).astype(np.uint8))


def _ring_swatch(height_px: int) -> Image.Image:
    sample = Image.new("RGB", (height_px, height_px), BACKGROUND)
    ImageDraw.Draw(sample).ellipse((1, 1, height_px - 2, height_px - 2), outline=TRUTH, width=max(1, height_px // 10))
    return sample


def _dashed_swatch(height_px: int) -> Image.Image:
    line = max(2, height_px // 8)
    sample = np.full((height_px, 2 * height_px, 3), BACKGROUND, dtype=np.uint8)
    is_line = np.ones((height_px, 2 * height_px), dtype=np.bool_)
    is_line[line:-line, line:-line] = False
    sample[is_line & dashes((height_px, 2 * height_px), length_px=2 * line)] = TRUTH
    return Image.fromarray(sample)


def _angle_swatch(height_px: int) -> Image.Image:
    line = max(2, height_px // 8)
    sample = np.full((height_px, height_px, 3), BACKGROUND, dtype=np.uint8)
    near = np.minimum(np.arange(height_px), np.arange(height_px)[::-1])
    row, col = near[:, None], near[None, :]
    is_near = (row < height_px // 3) & (col < height_px // 3)
    sample[is_near & ((row < line) | (col < line))] = UNKNOWN_COLOUR
    return Image.fromarray(sample)


def _bar_swatch(length_px: int, *, height_px: int) -> Image.Image:
    """A bar with a tick at each end; its whole width is the length."""
    line = max(2, height_px // 8)
    sample = np.full((height_px, max(1, length_px), 3), BACKGROUND, dtype=np.uint8)
    middle = height_px // 2
    sample[middle - line // 2 : middle - line // 2 + line] = TEXT
    sample[:, :line] = sample[:, -line:] = TEXT
    return Image.fromarray(sample)
