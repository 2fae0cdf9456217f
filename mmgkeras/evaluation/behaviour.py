"""How models behave beyond their metrics: where they look, what a change of the patch does, and how fast they are.

Owns the numbers of three tests, the first two with intervals over patients:

- the pointing game, whether a class activation peaks on the finding (Zhang et al. 2018, arXiv:1608.00507, 4.2). The
  original game allows 15 pixels beside the object; here the peak is a whole cell of the feature map, and it is a hit if
  the cell holds any pixel of the finding;
- the brightness test: scores of the same patches changed, darkened or turned, against the patches as they are;
- seconds per mammogram. Cold rows of timing.csv, the first after loading, stand apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.evaluation.bootstrap import PATCH, PatientResamples, resample_patients
from mmgkeras.evaluation.calibration import logit
from mmgkeras.evaluation.interval import Interval
from mmgkeras.evaluation.metrics import THRESHOLD, known
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


def pointing_scores(pointing: pd.DataFrame, *, num_resamples: int) -> PointingScores:
    """The scores of a frame with the columns of pointing.csv, with intervals over patients."""
    resamples = resample_patients(pointing, num_resamples=num_resamples)
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


class ChangedScores(NamedTuple):
    """What models say of patches under one change; the differences, by patch, are None of the patches as they are."""

    num_patches: int
    called: Interval | None
    called_difference: Interval | None
    logit: Interval | None
    logit_difference: Interval | None


def changed_scores(scores: pd.DataFrame, *, reference: str, num_resamples: int) -> dict[str, ChangedScores]:
    """The scores under each change of a frame with the columns of shortcut.csv and fold.

    Args:
        scores: of the patches as they are and changed.
        reference: the name of the change that changes nothing.
        num_resamples: sets of patients drawn.
    """
    resamples = resample_patients(scores, num_resamples=num_resamples)
    by_change = {str(name): part.set_index(["fold", *PATCH]) for name, part in scores.groupby("change", sort=False)}
    before = by_change[reference]["probability"]
    return {name: _compare(part, None if name == reference else before, resamples) for name, part in by_change.items()}


def _compare(changed: pd.DataFrame, before: pd.Series | None, resamples: PatientResamples) -> ChangedScores:
    places = resamples.places(changed["patient_id"])
    called, logits = _called_and_logits(changed["probability"].to_numpy())
    differences: tuple[Interval | None, Interval | None] = (None, None)
    if before is not None:
        both = changed[["patient_id", "probability"]].join(before.rename("before"), how="inner")
        (called_before, logits_before), (called_after, logits_after) = (
            _called_and_logits(both[name].to_numpy()) for name in ("before", "probability")
        )
        of_both = resamples.places(both["patient_id"])
        differences = (
            resamples.mean(called_after.astype(np.float64) - called_before, of_both),
            resamples.mean(logits_after - logits_before, of_both),
        )
    share, level = resamples.rate(called, places), resamples.mean(logits, places)
    return ChangedScores(len(changed), share, differences[0], level, differences[1])


def _called_and_logits(probabilities: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    return probabilities >= THRESHOLD, logit(probabilities)


class InferenceSeconds(NamedTuple):
    """Seconds to classify all patches of one mammogram; None where nothing was measured."""

    median: float | None
    p95: float | None
    mean: float | None
    cold: float | None
    num_images: int
    num_patches: int | None
    """At the median."""


def inference_seconds(timing: pd.DataFrame) -> InferenceSeconds:
    """Of the columns is_cold, infer_s and num_patches, one row for each time that was taken."""
    timed = timing.dropna(subset="infer_s")
    warm, cold = timed[timed["is_cold"] == 0], timed.loc[timed["is_cold"] == 1, "infer_s"]
    p50, p95 = warm["infer_s"].quantile([0.5, 0.95])
    return InferenceSeconds(
        median=known(p50),
        p95=known(p95),
        mean=known(warm["infer_s"].mean()),
        cold=known(cold.median()),
        num_images=len(warm),
        num_patches=None if warm.empty else round(float(warm["num_patches"].median())),
    )


def part_seconds(timing: pd.DataFrame, parts: Sequence[str]) -> tuple[float | None, ...]:
    """Median seconds of each part of the work, and of all together, without cold rows."""
    warm = timing.loc[timing["is_cold"] == 0, list(parts)]
    # Summed for each mammogram and only then the median: medians of parts do not add up.
    return tuple(map(known, (*warm.median(), warm.sum(axis=1, skipna=False).median())))
