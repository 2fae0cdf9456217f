"""From log attenuation to gray: the window, the tone curve and what is done to the picture afterwards.

Owns the display and the damage: sharpening, fog, lines, coarse gray levels, JPEG. Knows nothing of anatomy.
"""

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from mmgkeras.sources.phantom.looks import Look

Floats = NDArray[np.float32]

SHOULDER: Final = 0.85
"""Gray from which on white is approached ever more slowly."""


@dataclass(frozen=True, slots=True)
class Display:
    """How log attenuation becomes gray: what is taken off at the thin rim, then a window with a shoulder and a curve.

    Attributes:
        black, white: log attenuation, after thickness is evened out, at gray 0 and 1.
        fat: log attenuation of fat, per mm.
        evened: part of the loss of thickness toward the skin that is made up for, 0 to 1.
        thinnest_mm: below this thickness nothing more is made up for.
        full_mm: thickness of the breast.
        curve, gamma: of the tone curve, as in `PhantomConfig`.
    """

    black: float
    white: float
    fat: float
    evened: float
    thinnest_mm: float
    full_mm: float
    curve: float = 0.0
    gamma: float = 1.0

    def gray(self, log_image: Floats, thickness_mm: Floats) -> Floats:
        """(H, W) gray values of 0 to 1."""
        missing = self.full_mm - np.maximum(thickness_mm, np.float32(self.thinnest_mm))
        evened = log_image + np.float32(self.evened * self.fat) * missing
        linear = (evened - np.float32(self.black)) / np.float32(self.white - self.black)
        room = 1 - SHOULDER
        shoulder = SHOULDER + room * (1 - np.exp(-np.clip(linear - SHOULDER, 0, None) / room))
        gray = np.asarray(np.clip(np.where(linear < SHOULDER, linear, shoulder), 0, 1), dtype=np.float32)
        if self.curve:
            gray -= np.float32(self.curve / (2 * np.pi)) * np.sin(np.float32(2 * np.pi) * gray)
        if self.gamma != 1:
            gray = np.clip(gray, 0, 1) ** np.float32(self.gamma)
        return np.asarray(gray, dtype=np.float32)


def processed(gray: Floats, look: Look, rng: np.random.Generator, *, spacing_mm: float) -> Floats:
    """(H, W) gray of 0 to 1 after what a vendor's processing, a plate and a file do to it.

    Equal images with generators in the same state are treated alike, so that an image and its twin stay comparable.
    """
    if look.sharpening:
        blurred = ndimage.gaussian_filter(gray, look.sharpening_mm / spacing_mm, truncate=3.0)
        gray = gray + np.float32(look.sharpening) * (gray - blurred) * (gray > 0)
    if look.fog:
        gray = np.float32(look.fog) + np.float32(1 - look.fog) * gray
    if look.line_gray:
        gray = gray + np.float32(look.line_gray) * _lines(gray.shape, rng)
    gray = np.clip(gray, 0, 1)
    if look.levels is not None:
        steps = np.float32(look.levels - 1)
        gray = np.asarray(np.round(gray * steps) / steps, dtype=np.float32)
    return np.asarray(gray, dtype=np.float32)


def compressed(gray: Floats, quality: int) -> Floats:
    """(H, W) gray of 0 to 1 as an 8-bit JPEG of this quality gives it back."""
    buffer = io.BytesIO()
    Image.fromarray(np.round(gray * np.float32(255)).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer), dtype=np.float32) / np.float32(255)


def _lines(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """(H, W) or broadcast to it, about -1 to 1: single rows or columns that are off, or the stripes of a grid."""
    axis = int(rng.integers(2))
    length = shape[axis]
    if rng.random() < 0.5:
        values = np.zeros(length)
        places = rng.integers(0, length, int(rng.integers(1, 12)))
        values[places] = rng.choice([-2.0, 2.0], len(places))
    else:
        values = 0.5 * np.sin(2 * np.pi * np.arange(length) / rng.uniform(2.1, 8.0))
    return values.astype(np.float32)[:, None] if axis == 0 else values.astype(np.float32)[None, :]
