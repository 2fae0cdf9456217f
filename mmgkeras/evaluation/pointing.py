"""The pointing game: whether a class activation peaks on the finding (Zhang et al. 2018, arXiv:1608.00507, 4.2).

Owns the rule for one patch, and the score of many. The original game allows 15 pixels beside the object; here the peak
is a whole cell of the feature map, and it is a hit if the cell holds any pixel of the finding.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.evaluation.bootstrap import resample_patients
from mmgkeras.evaluation.interval import Interval
from mmgkeras.patches.region_masks import cells_of_pixels


@dataclass(frozen=True, slots=True)
class Pointing:
    """How one patch came out.

    Attributes:
        peak: (row, col) of the cell with the highest activation, the first in reading order where several are equal.
        is_hit: the peak cell holds a pixel of the finding.
        chance: 0 to 1, the part of the patch's cells that hold one: how often a cell drawn blindly is a hit.
    """

    peak: tuple[int, int]
    is_hit: bool
    chance: float


def point_at(
    activation: NDArray[np.floating], finding: NDArray[np.bool_], *, centres_px: NDArray[np.floating]
) -> Pointing:
    """Whether the peak of an activation (h, h) lies on a finding, its pixels (patch_px, patch_px) of the patch.

    Args:
        activation: of the cells of the patch.
        finding: the pixels that should be pointed at.
        centres_px: (h,) of the cells, as in `ActivationMap`; a pixel belongs to the cell with the nearest centre.

    Raises:
        ValueError: if the finding has no pixel in the patch, so that nothing could be hit.
    """
    cell_of = cells_of_pixels(centres_px, patch_px=len(finding))
    rows, cols = np.nonzero(finding)
    touched = np.zeros(activation.shape, dtype=np.bool_)
    touched[cell_of[rows], cell_of[cols]] = True
    if not touched.any():
        raise ValueError("A patch is pointed at only if it holds a pixel of the finding. Received: none")
    row, col = np.unravel_index(int(np.argmax(activation)), activation.shape)
    return Pointing((int(row), int(col)), bool(touched[row, col]), float(touched.mean()))


class PointingScores(NamedTuple):
    """The pointing game of one network over all positive patches with an annotated pixel."""

    num_patches: int
    num_patients: int
    num_hits: int
    score: Interval | None
    chance: float
    above_chance: Interval | None


def pointing_scores(pointing: pd.DataFrame, *, num_resamples: int, seed: int = 0) -> PointingScores:
    """The scores of a frame with the columns of pointing.csv, with intervals over patients."""
    resamples = resample_patients(pointing, num_resamples=num_resamples, seed=seed)
    places = resamples.places(pointing["patient_id"])
    hits = pointing["is_hit"].to_numpy(dtype=np.float64)
    chance = pointing["chance"].to_numpy(dtype=np.float64)
    return PointingScores(
        num_patches=len(pointing),
        num_patients=int(pointing["patient_id"].nunique()),
        num_hits=int(hits.sum()),
        score=resamples.rate(hits, places),
        chance=float(chance.mean()),
        above_chance=resamples.mean(hits - chance, places),
    )
