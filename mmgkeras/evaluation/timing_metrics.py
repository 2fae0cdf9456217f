"""Seconds per mammogram, from the rows of timing.csv.

Owns which rows count: cold ones, the first after loading, stand apart.
"""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd


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


def known(value: float | None) -> float | None:
    """A number, or None where it is not one."""
    return None if value is None or pd.isna(value) else float(value)
