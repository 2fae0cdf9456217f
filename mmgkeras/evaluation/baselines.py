"""Scores of patches that nothing was trained for: what a model must beat.

Owns the nine fixed filters of docs/phantom.md; knows nothing of labels and of what a score is worth.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mmgkeras.schema import Pixels

LOG_SIGMAS_PX: Final = (1, 2, 4)
"""Scales of the Laplacian of Gaussian; a disc of radius r answers most at sigma = r / sqrt(2)."""
TOP_HAT_PX: Final = 7
"""Edge of the square of the white top-hat."""
_CHUNK: Final = 64
"""Patches filtered at once: few enough to stay in the processor's cache."""
LOCAL_FACTOR: Final = 12
"""A LoG's answer is normalised by its own root mean square in a square window of this many sigmas, plus one px."""
BASELINE_SCORES: Final = (
    "mean",
    "maximum",
    "top_hat",
    *(f"log_{sigma}" for sigma in LOG_SIGMAS_PX),
    *(f"log_{sigma}_normalised" for sigma in LOG_SIGMAS_PX),
)
"""Names of the scores, in the order in which they are printed."""


def baseline_scores(patches: Pixels) -> dict[str, NDArray[np.float64]]:
    """(N,) float64 for each name of `BASELINE_SCORES`, of patches (N, P, P); higher speaks for calcification.

    mean and maximum are over the patch as a part of the type's range, 0 to 1. top_hat is the largest of the patch
    minus its opening by a square of 7 px. log_s is the largest of the negative Laplacian of Gaussian of sigma s px,
    times s squared. log_s_normalised is the largest of that answer divided by its own root mean square in a square
    window of 12 s + 1 px around each pixel, to which one part in 1000 of the range is added so that an empty
    background scores 0. Beyond its border a patch is taken to be mirrored.

    Raises:
        ValueError: if the patches are not (N, P, P) uint8 or uint16.
    """
    if patches.ndim != 3 or patches.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"Needs (N, P, P) uint8 or uint16. Received: {patches.shape} {patches.dtype}")
    scores = {name: np.zeros(len(patches), dtype=np.float64) for name in BASELINE_SCORES}
    scale = np.float32(np.iinfo(patches.dtype).max)
    lowest, highest = patches.min(axis=(1, 2)), patches.max(axis=(1, 2))
    scores["mean"][:] = scores["maximum"][:] = highest / scale
    # A filter answers 0 to a patch of one brightness, as most of the background is.
    varied = np.flatnonzero(lowest != highest)
    for start in range(0, len(varied), _CHUNK):
        chosen = varied[start : start + _CHUNK]
        for name, values in _scores_of(patches[chosen].astype(np.float32) / scale).items():
            scores[name][chosen] = values
    return scores


def _scores_of(patches: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """(n,) of every score, of patches (n, P, P) in 0 to 1."""
    opened = ndimage.grey_opening(patches, size=(1, TOP_HAT_PX, TOP_HAT_PX))
    scores = {
        "mean": patches.mean(axis=(1, 2)),
        "maximum": patches.max(axis=(1, 2)),
        "top_hat": (patches - opened).max(axis=(1, 2)),
    }
    # The truncated kernel does not quite sum to 0: without its mean, a flat patch answers 0.
    centred = patches - scores["mean"][:, None, None]
    for sigma in LOG_SIGMAS_PX:
        answer = -(sigma**2) * _laplacian_of_gaussian(centred, sigma)
        window = LOCAL_FACTOR * sigma + 1
        mean_square = ndimage.uniform_filter(answer**2, (1, window, window))
        spread = np.sqrt(np.maximum(mean_square, 0))
        scores[f"log_{sigma}"] = answer.max(axis=(1, 2))
        scores[f"log_{sigma}_normalised"] = (answer / (spread + 1e-3)).max(axis=(1, 2))
    return scores


def _laplacian_of_gaussian(patches: NDArray[np.float32], sigma: int) -> NDArray[np.float32]:
    """(n, P, P) of each patch by itself: the second derivatives along rows and columns, summed."""
    total = np.zeros_like(patches)
    for along, across in ((1, 2), (2, 1)):
        smoothed = ndimage.gaussian_filter1d(patches, sigma, axis=across)
        total += ndimage.gaussian_filter1d(smoothed, sigma, axis=along, order=2)
    return total
