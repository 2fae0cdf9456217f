"""Random fields that look like breast tissue: a power-law texture, drawn toward the nipple, and fine webs.

Owns spectra and fields; knows nothing of breasts. All fields are made at the size of the image by one FFT each.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import fft

OUTER_SCALE_MM = 60.0
"""Above this length the spectrum is flat, so that the mean of a field does not wander with the size of the image."""


def power_law_field(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    spacing_mm: float,
    beta: float,
    angle: float = 0.0,
    stretch: float = 1.0,
) -> NDArray[np.float32]:
    """(H, W) Gaussian field of mean 0 and variance 1 whose power falls as frequency to the power of minus `beta`.

    Args:
        shape: of the field in pixels.
        rng: its randomness.
        spacing_mm: length of a pixel's edge.
        beta: slope of the two-dimensional power spectrum.
        angle: direction along which structures run, in radians from the columns' axis, positive downward.
        stretch: how many times longer structures are along `angle` than across.
    """
    down, right = _frequencies(shape, spacing_mm=spacing_mm)
    squared = _stretched(down, right, angle=angle, stretch=stretch) + np.float32(OUTER_SCALE_MM**-2)
    return _filtered(shape, rng, squared ** np.float32(-beta / 4))


def band_field(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    spacing_mm: float,
    length_mm: float,
    angle: float = 0.0,
    stretch: float = 1.0,
) -> NDArray[np.float32]:
    """(H, W) Gaussian field of variance 1 whose power lies in an octave around structures `length_mm` wide."""
    down, right = _frequencies(shape, spacing_mm=spacing_mm)
    squared = _stretched(down, right, angle=angle, stretch=stretch) * np.float32(length_mm**2)
    return _filtered(shape, rng, squared * np.exp(-squared))


def web(field: NDArray[np.float32], *, width: float) -> NDArray[np.float32]:
    """(H, W) thin bright lines, 0 to 1, where a field passes through zero; `width` as a part of its deviation."""
    return np.asarray(np.exp(-((field / np.float32(width)) ** 2)), dtype=np.float32)


def spectrum_slope(
    image: NDArray[np.float32], *, spacing_mm: float, band_per_mm: tuple[float, float] = (0.15, 0.7)
) -> float:
    """The beta of a square image (P, P): minus the slope of its radial power spectrum on log scales.

    A Hann window is applied to the image less its mean; the band is that of Chen et al., Med Phys 2012.
    """
    size = len(image)
    hann = np.hanning(size)
    power = np.abs(fft.fft2((image - image.mean()) * np.outer(hann, hann))) ** 2
    frequency = np.abs(fft.fftfreq(size, spacing_mm))
    radius = np.hypot(frequency[:, None], frequency[None, :])
    edges = np.geomspace(*band_per_mm, 9)
    bins = np.digitize(radius, edges)
    filled = [place for place in range(1, len(edges)) if np.any(bins == place)]
    mean_radius = [np.log(radius[bins == place]).mean() for place in filled]
    mean_power = [np.log(power[bins == place].mean()) for place in filled]
    return -float(np.polyfit(mean_radius, mean_power, 1)[0])


def _frequencies(shape: tuple[int, int], *, spacing_mm: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Frequencies per mm along rows (H', 1) and columns (1, W'), of the padded size that transforms fast."""
    height, width = (fft.next_fast_len(length + 16, real=True) for length in shape)
    down = np.asarray(fft.fftfreq(height, spacing_mm), dtype=np.float32)[:, None]
    right = np.asarray(fft.rfftfreq(width, spacing_mm), dtype=np.float32)[None, :]
    return down, right


def _stretched(
    down: NDArray[np.float32], right: NDArray[np.float32], *, angle: float, stretch: float
) -> NDArray[np.float32]:
    """Squared frequency, counted `stretch` times across less than along the direction of the structures."""
    along = np.float32(np.cos(angle)) * right + np.float32(np.sin(angle)) * down
    across = np.float32(np.cos(angle)) * down - np.float32(np.sin(angle)) * right
    root = np.float32(np.sqrt(stretch))
    return np.asarray((along * root) ** 2 + (across / root) ** 2, dtype=np.float32)


def _filtered(shape: tuple[int, int], rng: np.random.Generator, transfer: NDArray[np.float32]) -> NDArray[np.float32]:
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
