"""One phantom image: anatomy, distractors and calcifications through the beam, the detector and the display.

Owns the chain from attenuation to gray values and the twin without calcifications; draws nothing itself.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np

from mmgkeras.config import PhantomConfig
from mmgkeras.schema import Region
from mmgkeras.sources.phantom.anatomy import Anatomy, draw_anatomy
from mmgkeras.sources.phantom.calcifications import VISIBLE_SNR, Calcification, project, regions_of, signal_to_noise
from mmgkeras.sources.phantom.cases import Exposure, draw_findings
from mmgkeras.sources.phantom.display import (
    PLAIN,
    Display,
    Look,
    compressed,
    draw_lettering,
    draw_look,
    draw_marker,
    processed,
)
from mmgkeras.sources.phantom.distractors import Distractors, draw_distractors
from mmgkeras.sources.phantom.physics import SCATTER_FACTOR, Beam, beam_at, detector_blur, noise_level, unit_noise
from mmgkeras.sources.phantom.texture import Floats

PLAIN_PHANTOM: Final = PhantomConfig()


@dataclass(frozen=True, slots=True)
class PhantomImage:
    """One image, its twin and its truth, hung as its laterality demands.

    Attributes:
        pixels: (H, W) float32 gray, 0 to 1.
        twin: (H, W) float32, the same without calcifications.
        noise_free: (H, W) float32 log attenuation with calcifications, blurred, without noise.
        twin_noise_free: the same without calcifications.
        noise: (H, W) float32 standard deviation of the noise in the twin's log attenuation.
        marks: every calcification in it.
        regions: the truth.
    """

    pixels: Floats
    twin: Floats
    noise_free: Floats
    twin_noise_free: Floats
    noise: Floats
    marks: list[Calcification]
    regions: list[Region]


def make_image(exposure: Exposure, *, spacing_mm: float, config: PhantomConfig = PLAIN_PHANTOM) -> PhantomImage:
    """The image of an exposure at a pixel size, with its twin; depends on nothing else."""
    look = draw_look(exposure, config)
    rng = exposure.image_rng("beam")
    beam = beam_at(float(np.clip(rng.normal(20.0 + 0.06 * (exposure.patient.thickness_mm - 52), 0.7), 17.0, 25.0)))
    noise_fraction = float(rng.uniform(0.02, 0.04)) * look.noise
    findings = draw_findings(
        exposure.breast_rng(), mean=look.findings_per_breast, skin_mean=look.skin_findings_per_breast
    )
    anatomy = draw_anatomy(exposure, look=look, spacing_mm=spacing_mm)
    distractors = draw_distractors(exposure, anatomy, findings, look=look)
    without = _log_image(anatomy, distractors, beam, spacing_mm=spacing_mm, blur_mm=look.blur_mm)
    display = _display(without, anatomy, beam, full_mm=exposure.patient.thickness_mm, look=look, rng=rng)
    noise_of = partial(
        noise_level,
        reference=beam.fat * exposure.patient.thickness_mm / SCATTER_FACTOR,
        noise_fraction=noise_fraction,
        spacing_mm=spacing_mm,
        trend=look.noise_trend,
    )
    noise = noise_of(without)
    # What rounding to gray levels hides is as invisible as noise.
    gray_step = (display.white - display.black) / min(look.levels or 255, 255)
    hidden = noise if look is PLAIN else np.hypot(noise, gray_step)
    marks = project(findings, anatomy, beam=beam, blur_mm=look.blur_mm)
    marks = [mark for mark in marks if signal_to_noise(mark, hidden) >= VISIBLE_SNR]
    with_marks = without.copy()
    for mark in marks:
        with_marks[mark.place] += mark.signal
    grain = unit_noise(without.shape, exposure.image_rng("noise"), sigma_px=look.noise_sigma_px)
    pixels, twin = (
        display.gray(image + grain * noise_of(image), anatomy.thickness_mm) for image in (with_marks, without)
    )
    image = PhantomImage(pixels, twin, with_marks, without, noise, marks, [])
    depth_mm = anatomy.depth_mm
    if exposure.laterality == "R":
        image, depth_mm = _mirrored(image), np.ascontiguousarray(depth_mm[:, ::-1])
    pixels, twin = _finished(image, exposure, look, depth_mm=depth_mm, spacing_mm=spacing_mm)
    regions = regions_of(image.marks, image_id=exposure.image_id, findings=findings, spacing_mm=spacing_mm)
    return replace(image, pixels=pixels, twin=twin, regions=regions)


def _mirrored(image: PhantomImage) -> PhantomImage:
    """The image turned left to right."""
    names = ("pixels", "twin", "noise_free", "twin_noise_free", "noise")
    maps: dict[str, Any] = {name: np.ascontiguousarray(getattr(image, name)[:, ::-1]) for name in names}
    return replace(image, marks=[mark.mirrored(image.pixels.shape[1]) for mark in image.marks], **maps)


def _finished(
    image: PhantomImage, exposure: Exposure, look: Look, *, depth_mm: Floats, spacing_mm: float
) -> tuple[Floats, Floats]:
    """The pixels of image and twin after processing, lettering and compression, as the look says."""
    pixels, twin = image.pixels, image.twin
    if look is not PLAIN:
        pixels, twin = (
            processed(gray, look, exposure.image_rng("processing"), spacing_mm=spacing_mm) for gray in (pixels, twin)
        )
        places = [mark.place for mark in image.marks]
        draw_lettering((pixels, twin), exposure, places, depth_mm=depth_mm, look=look, spacing_mm=spacing_mm)
    for gray in (pixels, twin):
        draw_marker(gray, exposure, spacing_mm=spacing_mm)
    if look.jpeg_quality is not None:
        pixels, twin = (compressed(gray, look.jpeg_quality) for gray in (pixels, twin))
    return pixels, twin


def _log_image(anatomy: Anatomy, distractors: Distractors, beam: Beam, *, spacing_mm: float, blur_mm: float) -> Floats:
    """(H, W) log attenuation without calcifications as the detector reads it, without noise."""
    tissue = np.float32(beam.fat) * anatomy.thickness_mm
    tissue += np.float32(beam.gland_minus_fat) * (anatomy.soft_mm + distractors.soft_mm)
    attenuation = tissue / np.float32(SCATTER_FACTOR) + distractors.metal
    return detector_blur(attenuation, spacing_mm=spacing_mm, blur_mm=blur_mm) + distractors.dust


def _display(
    without: Floats, anatomy: Anatomy, beam: Beam, *, full_mm: float, look: Look, rng: np.random.Generator
) -> Display:
    """A window that shows fat dark gray and the densest tissue light gray, as a radiographer would set it."""
    fat = beam.fat / SCATTER_FACTOR
    deep = without[anatomy.depth_mm > 10.0]
    dense = max(float(np.quantile(deep[::7], 0.995)), fat * full_mm + 0.25)
    dark, light, evened = rng.uniform(0.22, 0.32), rng.uniform(0.72, 0.85), float(rng.uniform(0.80, 0.97))
    if look.fat_gray is not None and look.dense_gray is not None and look.evenness is not None:
        dark, light, evened = look.fat_gray, look.dense_gray, look.evenness
    unit = (dense - fat * full_mm) / (light - dark)
    black = fat * full_mm - dark * unit
    return Display(black, black + unit, fat=fat, evened=evened, full_mm=full_mm, look=look)
