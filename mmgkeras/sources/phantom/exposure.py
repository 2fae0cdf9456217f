"""One phantom image: anatomy, distractors and calcifications through the beam, the detector and the display.

Owns the chain from attenuation to grey values and the twin without calcifications; draws nothing itself.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmgkeras.schema import Region
from mmgkeras.sources.phantom.anatomy import Anatomy, draw_anatomy, draw_outline
from mmgkeras.sources.phantom.calcifications import Calcification, project, regions_of, visible
from mmgkeras.sources.phantom.cases import Exposure
from mmgkeras.sources.phantom.distractors import Distractors, draw_distractors, draw_marker
from mmgkeras.sources.phantom.findings import draw_findings
from mmgkeras.sources.phantom.physics import SCATTER_FACTOR, Beam, beam_at, detector_blur, noise_level, unit_noise

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Display:
    """How log attenuation becomes grey: what is taken off at the thin rim, then a window with a shoulder.

    Attributes:
        black, white: log attenuation, after thickness is evened out, at grey 0 and 1.
        fat: log attenuation of fat, per mm.
        evened: part of the loss of thickness toward the skin that is made up for, 0 to 1.
        thinnest_mm: below this thickness nothing more is made up for.
        full_mm: thickness of the breast.
    """

    black: float
    white: float
    fat: float
    evened: float
    thinnest_mm: float
    full_mm: float

    def grey(self, log_image: Floats, thickness_mm: Floats) -> Floats:
        """(H, W) grey values of 0 to 1; from 0.85 on they approach 1 ever more slowly."""
        missing = self.full_mm - np.maximum(thickness_mm, np.float32(self.thinnest_mm))
        evened = log_image + np.float32(self.evened * self.fat) * missing
        linear = (evened - np.float32(self.black)) / np.float32(self.white - self.black)
        shoulder = 0.85 + 0.15 * (1 - np.exp(-np.clip(linear - 0.85, 0, None) / 0.15))
        return np.asarray(np.clip(np.where(linear < 0.85, linear, shoulder), 0, 1), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class PhantomImage:
    """One image, its twin and its truth, hung as its laterality demands.

    Attributes:
        pixels: (H, W) float32 grey, 0 to 1.
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


def make_image(exposure: Exposure, *, spacing_mm: float) -> PhantomImage:
    """The image of an exposure at a pixel size, with its twin; depends on nothing else."""
    rng = exposure.image_rng("beam")
    beam = beam_at(float(np.clip(rng.normal(20.0 + 0.06 * (exposure.patient.thickness_mm - 52), 0.7), 17.0, 25.0)))
    noise_fraction = float(rng.uniform(0.02, 0.04))
    findings = draw_findings(exposure.breast_rng())
    outline = draw_outline(exposure)
    anatomy = draw_anatomy(exposure, outline, spacing_mm=spacing_mm)
    distractors = draw_distractors(exposure, outline, anatomy, findings, spacing_mm=spacing_mm)
    without = _log_image(anatomy, distractors, beam, spacing_mm=spacing_mm)
    reference = beam.fat * exposure.patient.thickness_mm / SCATTER_FACTOR
    level = {"reference": reference, "noise_fraction": noise_fraction, "spacing_mm": spacing_mm}
    noise = noise_level(without, **level)
    marks = project(findings, outline, view=exposure.view, beam=beam, depth_mm=anatomy.depth_mm, spacing_mm=spacing_mm)
    marks = visible(marks, noise)
    with_marks = without.copy()
    for mark in marks:
        with_marks[mark.place] += mark.signal
    display = _display(without, anatomy, beam, full_mm=exposure.patient.thickness_mm, rng=rng)
    grain = unit_noise(without.shape, exposure.image_rng("noise"))
    pixels, twin = (
        display.grey(image + grain * noise_level(image, **level), anatomy.thickness_mm)
        for image in (with_marks, without)
    )
    if exposure.laterality == "R":
        pixels, twin, with_marks, without, noise = (
            np.ascontiguousarray(image[:, ::-1]) for image in (pixels, twin, with_marks, without, noise)
        )
        marks = [mark.mirrored(without.shape[1]) for mark in marks]
    for image in (pixels, twin):
        draw_marker(image, exposure, spacing_mm=spacing_mm)
    regions = regions_of(marks, image_id=exposure.image_id, findings=findings, spacing_mm=spacing_mm)
    return PhantomImage(pixels, twin, with_marks, without, noise, marks, regions)


def _log_image(anatomy: Anatomy, distractors: Distractors, beam: Beam, *, spacing_mm: float) -> Floats:
    """(H, W) log attenuation without calcifications as the detector reads it, without noise."""
    tissue = np.float32(beam.fat) * anatomy.thickness_mm
    tissue += np.float32(beam.gland_minus_fat) * (anatomy.soft_mm + distractors.soft_mm)
    return (
        detector_blur(tissue / np.float32(SCATTER_FACTOR) + distractors.metal, spacing_mm=spacing_mm) + distractors.dust
    )


def _display(without: Floats, anatomy: Anatomy, beam: Beam, *, full_mm: float, rng: np.random.Generator) -> Display:
    """A window that shows fat dark grey and the densest tissue light grey, as a radiographer would set it."""
    fat = beam.fat / SCATTER_FACTOR
    deep = without[anatomy.depth_mm > 10.0]
    dense = max(float(np.quantile(deep[::7], 0.995)), fat * full_mm + 0.25)
    dark, light = rng.uniform(0.22, 0.32), rng.uniform(0.72, 0.85)
    unit = (dense - fat * full_mm) / (light - dark)
    black = fat * full_mm - dark * unit
    return Display(
        black=black,
        white=black + unit,
        fat=fat,
        evened=float(rng.uniform(0.80, 0.97)),
        thinnest_mm=0.2 * full_mm,
        full_mm=full_mm,
    )
