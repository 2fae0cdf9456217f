"""X-ray attenuation of what the phantom is made of, and the detector that sees it.

Owns the table of coefficients, the blur and the noise; knows nothing of anatomy. Images here are log attenuation:
minus the natural logarithm of the transmitted part of the beam, so that dense is large.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

ENERGIES_KEV: Final = (17.0, 20.0, 25.0)
PER_MM: Final = {
    "fat": (0.0777, 0.0539, 0.0384),
    "gland_minus_fat": (0.044, 0.027, 0.015),
    "apatite_minus_gland": (3.2, 2.0, 1.05),
    "oxalate_minus_gland": (1.04, 0.65, 0.35),
}
"""Coefficients at these energies. Fat is adipose tissue, density 0.95 g/cm3, interpolated from the tables of NIST; the
differences are as computed with xraydb from elemental tables."""
STEEL_PER_MM: Final = 20.0
"""A surgical clip stops the beam at any of these energies; the exact value does not matter."""
SCATTER_FACTOR: Final = 1.2
"""Scattered light in the image divides every contrast by it."""
REFERENCE_PIXEL_MM: Final = 0.1
"""The pixel for which the quantum noise is given; it falls with the pixel's edge."""


@dataclass(frozen=True, slots=True)
class Beam:
    """The coefficients of one exposure, per mm, at one effective energy."""

    fat: float
    gland_minus_fat: float
    apatite_minus_gland: float
    oxalate_minus_gland: float


def beam_at(energy_kev: float) -> Beam:
    """The coefficients at an effective energy of 17 to 25 keV, interpolated on log scales."""
    logs = {name: np.interp(np.log(energy_kev), np.log(ENERGIES_KEV), np.log(table)) for name, table in PER_MM.items()}
    return Beam(**{name: float(np.exp(value)) for name, value in logs.items()})


def detector_blur(log_image: NDArray[np.float32], *, spacing_mm: float, blur_mm: float = 0.0) -> NDArray[np.float32]:
    """The image as the detector blurs it, and what follows it by a Gaussian of `blur_mm`.

    The detector's is a Gaussian of 0.4 px for selenium with pixels below 85 um, else of 0.5 px for caesium iodide:
    Hoheisel 2004 (MTF above 0.40 at 7.1 /mm, 70 um); Vedantham 2000 (0.73, 0.42, 0.28 at 2, 4, 5 /mm, 100 um).

    The blur is applied to the log attenuation. For small contrasts that is the same as blurring the beam, and it makes
    blurring additive: the blurred image with calcifications is that without plus the blurred calcifications, exactly.
    """
    sigma_px = float(np.hypot(0.4 if spacing_mm < 0.085 else 0.5, blur_mm / spacing_mm))
    blurred: NDArray[np.float32] = ndimage.gaussian_filter(log_image, sigma_px, truncate=4.0)
    return blurred


def unit_noise(shape: tuple[int, int], rng: np.random.Generator, *, sigma_px: float = 0.35) -> NDArray[np.float32]:
    """(H, W) noise of unit variance, a little correlated between neighbours, as light spreads in a scintillator."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma_px, truncate=4.0)
    return np.asarray(noise / noise.std(), dtype=np.float32)


def noise_level(
    log_image: NDArray[np.float32], *, reference: float, noise_fraction: float, spacing_mm: float, trend: float = 1.0
) -> NDArray[np.float32]:
    """(H, W) standard deviation of the quantum noise in log attenuation.

    It is `noise_fraction` for a pixel of 0.1 mm where the log attenuation is `reference`; as the variance of the count
    equals the count, it grows with the root of the attenuation and falls with the pixel's edge. A `trend` is the power
    of that root: less than 1 for films, which have less noise where they are bright.
    """
    at_reference = noise_fraction * REFERENCE_PIXEL_MM / spacing_mm
    return np.asarray(
        at_reference * np.exp((log_image - np.float32(reference)) * np.float32(trend / 2)), dtype=np.float32
    )
