"""Random fields that look like breast tissue: a power-law texture, drawn toward the nipple, and bands of it.

Owns spectra and fields; knows nothing of breasts. All fields are made at the size of the image by one FFT each.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Floats = NDArray[np.float32]

OUTER_SCALE_MM = 60.0
"""Above this length the spectrum is flat, so that the mean of a field does not wander with the size of the image."""


class Raster(NamedTuple):
    """The pixels of an image to be made: (rows, columns), and the length of a pixel's edge."""

    shape: tuple[int, int]
    spacing_mm: float


def power_law_field(
    raster: Raster, rng: np.random.Generator, *, beta: float, angle: float = 0.0, stretch: float = 1.0
) -> Floats:
    """(H, W) Gaussian field of mean 0 and variance 1 whose power falls as frequency to the power of minus `beta`.

    Args:
        raster: of the field.
        rng: its randomness.
        beta: slope of the two-dimensional power spectrum.
        angle: direction along which structures run, in radians from the columns' axis, positive downward.
        stretch: how many times longer structures are along `angle` than across.
    """
    squared = _squared_frequency(raster, angle=angle, stretch=stretch) + np.float32(OUTER_SCALE_MM**-2)
    return _filtered(raster.shape, rng, squared ** np.float32(-beta / 4))


def band_field(
    raster: Raster, rng: np.random.Generator, *, length_mm: float, angle: float = 0.0, stretch: float = 1.0
) -> Floats:
    """(H, W) Gaussian field of variance 1 whose power lies in an octave around structures `length_mm` wide."""
    squared = _squared_frequency(raster, angle=angle, stretch=stretch) * np.float32(length_mm**2)
    return _filtered(raster.shape, rng, squared * np.exp(-squared))


def _squared_frequency(raster: Raster, *, angle: float, stretch: float) -> Floats:
    """(H', W') per mm, of a size that transforms fast; counted `stretch` times more along the structures."""
    height, width = (fft.next_fast_len(length + 16, real=True) for length in raster.shape)
    down = np.asarray(fft.fftfreq(height, raster.spacing_mm), dtype=np.float32)[:, None]
    right = np.asarray(fft.rfftfreq(width, raster.spacing_mm), dtype=np.float32)[None, :]
    along = np.float32(np.cos(angle)) * right + np.float32(np.sin(angle)) * down
    across = np.float32(np.cos(angle)) * down - np.float32(np.sin(angle)) * right
    root = np.float32(np.sqrt(stretch))
    return np.asarray((along * root) ** 2 + (across / root) ** 2, dtype=np.float32)


def _filtered(shape: tuple[int, int], rng: np.random.Generator, transfer: Floats) -> Floats:
    """White noise through a filter, cut to `shape`, of mean 0 and variance 1 as expected, not as drawn."""
    height = transfer.shape[0]
    width = fft.next_fast_len(shape[1] + 16, real=True)
    transfer[0, 0] = 0
    spectrum = fft.rfft2(rng.standard_normal((height, width), dtype=np.float32))
    field = fft.irfft2(spectrum * transfer, s=(height, width))[: shape[0], : shape[1]]
    # Each column of the half spectrum but the first (and the last of an even width) stands for two.
    counts = np.full(transfer.shape[1], 2.0)
    counts[0] = 1.0
    counts[-1] = 1.0 if width % 2 == 0 else 2.0
    variance = float(((transfer.astype(np.float64) ** 2).sum(axis=0) * counts).sum()) / (height * width)
    return np.asarray(field / np.float32(np.sqrt(variance)), dtype=np.float32)
