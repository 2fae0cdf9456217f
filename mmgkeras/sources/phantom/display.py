"""What makes one phantom image look other than the next, and how log attenuation becomes gray.

Owns the look (detector, film, display and dirt) as it is drawn from the ranges of `PhantomConfig`, and the plain one,
which is always the same; the window and the tone curve; the damage: sharpening, fog, lines, coarse gray levels, JPEG;
and the lettering. Knows nothing of anatomy.
"""

import io
import string
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from mmgkeras.config import PhantomConfig
from mmgkeras.sources.phantom.cases import Exposure
from mmgkeras.sources.phantom.texture import Floats

SOMETIMES: Final = {"sharpening": 1 / 2, "levels": 1 / 3, "jpeg_quality": 1 / 3, "line_gray": 1 / 5, "on_breast": 1 / 2}
"""The part of randomised images that have these; "on_breast" is lettering there."""
ON_LOG_SCALE: Final = ("noise", "gamma", "sharpening_mm")
BRIGHTEST: Final = 0.97


@dataclass(frozen=True, slots=True)
class Look:
    """One image's look; the defaults are the plain one. Attributes are as in `PhantomConfig` where they have its names.

    Attributes:
        findings_per_breast, skin_findings_per_breast: mean numbers.
        fat_gray, dense_gray, evenness: of the display; None where they are drawn as for every plain image.
        levels: number of gray levels, None for all.
        jpeg_quality: None for no JPEG.
        line_gray: 0 for none.
        is_lettered_on_breast: whether lettering may lie on the breast.
    """

    findings_per_breast: float = 2.8
    skin_findings_per_breast: float = 0.0
    noise: float = 1.0
    noise_trend: float = 1.0
    noise_sigma_px: float = 0.35
    blur_mm: float = 0.0
    texture: float = 1.0
    skin: float = 1.0
    muscle: float = 1.0
    needles_per_cm2: float = 4.5
    strands_per_cm2: float = 0.0
    dust_per_cm2: float = 0.18
    dark_dust: float = 0.25
    fat_gray: float | None = None
    dense_gray: float | None = None
    evenness: float | None = None
    curve: float = 0.0
    gamma: float = 1.0
    sharpening: float = 0.0
    sharpening_mm: float = 1.0
    fog: float = 0.0
    lettering: int = 0
    is_lettered_on_breast: bool = False
    levels: int | None = None
    jpeg_quality: int | None = None
    line_gray: float = 0.0


PLAIN: Final = Look()
"""Its sources are in docs/phantom.md; the mean number of findings sets the prevalence of positive patches."""


def draw_look(exposure: Exposure, config: PhantomConfig) -> Look:
    """The look of an exposure: the plain one, or one of its own."""
    if config.looks == "plain":
        return PLAIN
    rng = exposure.image_rng("look")
    fat_gray = float(rng.uniform(*config.fat_gray))
    has = dict(zip(SOMETIMES, rng.random(len(SOMETIMES)) < tuple(SOMETIMES.values()), strict=True))
    drawn: dict[str, Any] = {}
    for name, limits in config:  # in this order, or equal seeds no longer give equal looks
        if (
            not isinstance(limits, tuple)
            or name == "fat_gray"
            or (name in ("levels", "jpeg_quality") and not has[name])
        ):
            continue
        if name in ON_LOG_SCALE:
            drawn[name] = float(np.exp(rng.uniform(*np.log(np.maximum(limits, 1e-3)))))
        else:
            drawn[name] = float(rng.uniform(*limits))
    for name in ("sharpening", "line_gray"):
        drawn[name] *= bool(has[name])
    for name in {"lettering", "levels", "jpeg_quality"} & drawn.keys():
        drawn[name] = round(drawn[name])
    return Look(
        findings_per_breast=config.findings_per_breast,
        skin_findings_per_breast=config.skin_findings_per_breast,
        fat_gray=fat_gray,
        dense_gray=min(fat_gray + drawn.pop("tissue_range"), BRIGHTEST),
        is_lettered_on_breast=bool(has["on_breast"]),
        **drawn,
    )


SHOULDER: Final = 0.85
"""Gray from which on white is approached ever more slowly."""


def with_shoulder(linear: NDArray[np.floating]) -> Floats:
    """Gray values as they are below `SHOULDER`, and above it ever nearer to 1."""
    room = 1 - SHOULDER
    shoulder = SHOULDER + room * (1 - np.exp(-np.clip(linear - SHOULDER, 0, None) / room))
    return np.asarray(np.where(linear < SHOULDER, linear, shoulder), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Display:
    """How log attenuation becomes gray: what is taken off at the thin rim, then a window with a shoulder and a curve.

    Attributes:
        black, white: log attenuation, after thickness is evened out, at gray 0 and 1.
        fat: log attenuation of fat, per mm.
        evened: part of the loss of thickness toward the skin that is made up for, 0 to 1; below a fifth of the full
            thickness nothing more is made up for.
        full_mm: thickness of the breast.
        look: whose curve and gamma are those of the tone curve.
    """

    black: float
    white: float
    fat: float
    evened: float
    full_mm: float
    look: Look

    def gray(self, log_image: Floats, thickness_mm: Floats) -> Floats:
        """(H, W) gray values of 0 to 1."""
        missing = self.full_mm - np.maximum(thickness_mm, np.float32(0.2 * self.full_mm))
        evened = log_image + np.float32(self.evened * self.fat) * missing
        linear = (evened - np.float32(self.black)) / np.float32(self.white - self.black)
        gray = np.asarray(np.clip(with_shoulder(linear), 0, 1), dtype=np.float32)
        if self.look.curve:
            gray -= np.float32(self.look.curve / (2 * np.pi)) * np.sin(np.float32(2 * np.pi) * gray)
        if self.look.gamma != 1:
            gray = np.clip(gray, 0, 1) ** np.float32(self.look.gamma)
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
    marks: Iterable[tuple[slice, slice]],
    *,
    depth_mm: Floats,
    look: Look,
    spacing_mm: float,
) -> None:
    """Writes what the look asks for into images (H, W) of one exposure, alike and in place, where no mark lies.

    `depth_mm` (H, W), the distance from the skin, tells the breast from the background.
    """
    rng = exposure.image_rng("lettering")
    is_taken = np.zeros(depth_mm.shape, dtype=bool)
    for mark in marks:
        is_taken[mark] = True
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
