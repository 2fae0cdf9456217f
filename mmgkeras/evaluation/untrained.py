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
LOCAL_FACTOR: Final = 12
"""A LoG's answer is normalised by its own root mean square in a square window of this many sigmas, plus one px."""
UNTRAINED_SCORES: Final = (
    "mean",
    "maximum",
    "top_hat",
    *(f"log_{sigma}" for sigma in LOG_SIGMAS_PX),
    *(f"log_{sigma}_normalised" for sigma in LOG_SIGMAS_PX),
)
"""Names of the scores, in the order in which they are printed."""


def untrained_scores(patches: Pixels) -> dict[str, NDArray[np.float64]]:
    """(N,) float64 for each name of `UNTRAINED_SCORES`, of patches (N, P, P); higher speaks for calcification.

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
    scores = {name: np.empty(len(patches), dtype=np.float64) for name in UNTRAINED_SCORES}
    scale = np.float32(np.iinfo(patches.dtype).max)
    for index, patch in enumerate(patches):
        for name, score in _scores_of(patch.astype(np.float32) / scale).items():
            scores[name][index] = score
    return scores


def _scores_of(patch: NDArray[np.float32]) -> dict[str, float]:
    """Every score of one patch (P, P) in 0 to 1."""
    scores = {
        "mean": float(patch.mean()),
        "maximum": float(patch.max()),
        "top_hat": float((patch - ndimage.grey_opening(patch, size=TOP_HAT_PX)).max()),
    }
    # The truncated kernel does not quite sum to 0: without its mean, a flat patch answers 0.
    centred = patch - patch.mean()
    for sigma in LOG_SIGMAS_PX:
        answer = -(sigma**2) * ndimage.gaussian_laplace(centred, sigma)
        mean_square = ndimage.uniform_filter(answer**2, LOCAL_FACTOR * sigma + 1)
        spread = np.sqrt(np.maximum(mean_square, 0))
        scores[f"log_{sigma}"] = float(answer.max())
        scores[f"log_{sigma}_normalised"] = float((answer / (spread + 1e-3)).max())
    return scores
