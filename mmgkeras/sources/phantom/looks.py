"""What makes one phantom image look other than the next: detector, film, display and dirt, but no anatomy.

Owns how a look is drawn from the ranges of `PhantomConfig`, and the plain one, which is always the same.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from mmgkeras.config import PhantomConfig
from mmgkeras.sources.phantom.cases import Exposure

SHARPENED_PART: Final = 1 / 2
LEVELS_PART: Final = 1 / 3
JPEG_PART: Final = 1 / 3
LINES_PART: Final = 1 / 5
LETTERING_ON_BREAST_PART: Final = 1 / 2
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

    def even(limits: tuple[float, float]) -> float:
        return float(rng.uniform(*limits))

    def log(limits: tuple[float, float]) -> float:
        return float(np.exp(rng.uniform(*np.log(np.maximum(limits, 1e-3)))))

    fat_gray = even(config.fat_gray)
    is_sharpened, has_levels, is_jpeg, has_lines, is_on_breast = rng.random(5) < (
        SHARPENED_PART,
        LEVELS_PART,
        JPEG_PART,
        LINES_PART,
        LETTERING_ON_BREAST_PART,
    )
    return Look(
        findings_per_breast=config.findings_per_breast,
        skin_findings_per_breast=config.skin_findings_per_breast,
        noise=log(config.noise),
        noise_trend=even(config.noise_trend),
        noise_sigma_px=even(config.noise_sigma_px),
        blur_mm=even(config.blur_mm),
        texture=even(config.texture),
        skin=even(config.skin),
        muscle=even(config.muscle),
        needles_per_cm2=even(config.needles_per_cm2),
        strands_per_cm2=even(config.strands_per_cm2),
        dust_per_cm2=even(config.dust_per_cm2),
        dark_dust=even(config.dark_dust),
        fat_gray=fat_gray,
        dense_gray=min(fat_gray + even(config.tissue_range), BRIGHTEST),
        evenness=even(config.evenness),
        curve=even(config.curve),
        gamma=log(config.gamma),
        sharpening=even(config.sharpening) * bool(is_sharpened),
        sharpening_mm=log(config.sharpening_mm),
        fog=even(config.fog),
        lettering=round(even(config.lettering)),
        is_lettered_on_breast=bool(is_on_breast),
        levels=round(even(config.levels)) if has_levels else None,
        jpeg_quality=round(even(config.jpeg_quality)) if is_jpeg else None,
        line_gray=even(config.line_gray) * bool(has_lines),
    )
