"""The slope of a texture's power spectrum."""

import numpy as np
from scipy import fft


def spectrum_slope(image: np.ndarray, *, spacing_mm: float, band_per_mm: tuple[float, float] = (0.15, 0.7)) -> float:
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
