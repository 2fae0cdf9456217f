"""What is written on an image: the side and view in a corner, and labels, words and arrows anywhere.

Owns how they are drawn into gray values; calcifications are never written over.
"""

import string
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mmgkeras.sources.phantom.calcifications import Calcification
from mmgkeras.sources.phantom.cases import Exposure
from mmgkeras.sources.phantom.looks import Look

Floats = NDArray[np.float32]

LETTERS: Final = string.ascii_uppercase + string.digits + "  .:/-+*"
TRIES: Final = 12
SIZES_MM: Final = (1.6, 9.0)


def draw_marker(pixels: NDArray[np.floating], exposure: Exposure, *, spacing_mm: float) -> None:
    """Writes the side and view into the dark upper corner away from the chest wall; the image is hung already."""
    size = max(7, round(4.5 / spacing_mm))
    text = f"{exposure.laterality} {exposure.view}"
    stamp = Image.new("L", (6 * size, 2 * size), 0)
    ImageDraw.Draw(stamp).text((size // 2, size // 4), text, fill=255, font=ImageFont.load_default(size))
    ink = np.asarray(stamp, dtype=np.float32) / 255
    rows, cols = np.nonzero(ink)
    ink = ink[: rows.max() + 1, cols.min() : cols.max() + 1]
    top, margin = round(6.0 / spacing_mm), round(3.0 / spacing_mm)
    left = margin if exposure.laterality == "R" else pixels.shape[1] - margin - ink.shape[1]
    place = pixels[top : top + ink.shape[0], left : left + ink.shape[1]]
    if left > 0 and place.shape == ink.shape and place.max() < 0.08:
        np.maximum(place, 0.9 * ink, out=place)


def draw_lettering(
    images: tuple[Floats, ...],
    exposure: Exposure,
    marks: list[Calcification],
    *,
    depth_mm: Floats,
    look: Look,
    spacing_mm: float,
) -> None:
    """Writes what the look asks for into images of one exposure, alike, where no calcification lies.

    Args:
        images: (H, W) each, changed in place.
        exposure: whose random stream is taken.
        marks: as they lie in the images.
        depth_mm: (H, W) distance from the skin, to tell the breast from the background.
        look: how many words there are, and whether they may lie on the breast.
        spacing_mm: of a pixel.
    """
    rng = exposure.image_rng("lettering")
    is_taken = np.zeros(depth_mm.shape, dtype=bool)
    for mark in marks:
        is_taken[mark.place] = True
    if not look.is_lettered_on_breast:
        is_taken |= depth_mm > 2.0
    for _ in range(look.lettering):
        ink, is_box = _draw_ink(rng, spacing_mm=spacing_mm)
        brightness = np.float32(rng.uniform(0.3, 1.0))
        place = _free_place(is_taken, ink.shape, rng)
        if place is None:
            continue
        for image in images:
            covered = ink * brightness
            image[place] = covered if is_box else np.maximum(image[place], covered)


def _free_place(
    is_taken: NDArray[np.bool_], shape: tuple[int, ...], rng: np.random.Generator
) -> tuple[slice, slice] | None:
    """Somewhere in the image where nothing is taken; None if none was found."""
    room = is_taken.shape[0] - shape[0], is_taken.shape[1] - shape[1]
    if min(room) <= 0:
        return None
    for _ in range(TRIES):
        top, left = int(rng.integers(room[0])), int(rng.integers(room[1]))
        place = slice(top, top + shape[0]), slice(left, left + shape[1])
        if not is_taken[place].any():
            return place
    return None


def _draw_ink(rng: np.random.Generator, *, spacing_mm: float) -> tuple[Floats, bool]:
    """(h, w) 0 to 1: a word, a label with dark letters or an arrow, any way round; whether it hides what is below."""
    size = max(6, round(float(np.exp(rng.uniform(*np.log(SIZES_MM)))) / spacing_mm))
    if rng.random() < 0.25:
        return _arrow(rng, size=2 * size), False
    text = "".join(rng.choice(list(LETTERS), int(rng.integers(1, 11))))
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(text)
    pad = size // 3
    stamp = Image.new("L", (int(right - left) + 2 * pad, int(bottom - top) + 2 * pad), 0)
    ImageDraw.Draw(stamp).text((pad - left, pad - top), text, fill=255, font=font)
    ink = np.asarray(stamp, dtype=np.float32) / 255
    is_box = bool(rng.random() < 0.3)
    if is_box:
        ink = 1 - np.float32(0.9) * ink
    if rng.random() < 0.3:
        ink = ink[:, ::-1]
    if rng.random() < 0.3:
        ink = np.rot90(ink, int(rng.integers(1, 4)))
    return np.ascontiguousarray(ink), is_box


def _arrow(rng: np.random.Generator, *, size: int) -> Floats:
    """(size, size) an arrow or a ring of a pen."""
    stamp = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(stamp)
    width = max(1, size // 16)
    if rng.random() < 0.5:
        draw.ellipse((1, 1, size - 2, size - 2), outline=255, width=width)
    else:
        middle, tip = size // 2, size - 2
        draw.line((1, middle, tip, middle), fill=255, width=width)
        draw.line((tip - size // 4, middle - size // 5, tip, middle), fill=255, width=width)
        draw.line((tip - size // 4, middle + size // 5, tip, middle), fill=255, width=width)
    return np.asarray(stamp.rotate(float(rng.uniform(0, 360))), dtype=np.float32) / np.float32(255)
