"""The figures of every network on every selection of patches, taken once and shared by the sections.

Owns which selections there are. What the figures are is `evaluation`'s, how they are shown is the sections'.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd

from mmgkeras.evaluation.bootstrap import BootstrapMetrics, bootstrap_metrics
from mmgkeras.evaluation.interval import Interval
from mmgkeras.evaluation.metrics import THRESHOLD
from mmgkeras.evaluation.summary import TISSUE_FRACTION, SelectionSummary, Summary, summarise
from mmgkeras.progress import Track, untracked
from mmgkeras.study.read import NetworkStudy, Study

TISSUE: Final = "tissue"
ALL: Final = "all"
SELECTIONS: Final = {
    TISSUE: f"tissue patches (breast on at least {TISSUE_FRACTION:.0%} of the patch)",
    ALL: "all patches, blank ones included",
}
"""In the order in which they are shown: what blank patches cannot flatter comes first."""
METRIC_NAMES: Final = {
    "auc": "AUC",
    "average_precision": "PR AUC",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "f1": "F1 score",
    "ppv": "PPV",
    "npv": "NPV",
    "accuracy": "Accuracy",
    "mammogram_accuracy": "Mammogram accuracy",
}
"""As they are called on the page; the keys are those of `BootstrapMetrics`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionMetrics:
    """What one network is worth on one selection of patches: `summary` without intervals, `bootstrap` with."""

    predictions: pd.DataFrame
    summary: SelectionSummary
    bootstrap: BootstrapMetrics


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkMetrics:
    """The same on every selection, by the names in `SELECTIONS`."""

    name: str
    network: NetworkStudy
    selections: Mapping[str, SelectionMetrics]


def selected(predictions: pd.DataFrame, selection: str) -> pd.DataFrame:
    """The predictions of one selection."""
    return predictions[predictions["tissue"] >= TISSUE_FRACTION] if selection == TISSUE else predictions


def summary_of(summary: Summary, selection: str) -> SelectionSummary:
    """That part of a summary."""
    return summary.tissue if selection == TISSUE else summary.all_patches


def measure_predictions(predictions: pd.DataFrame, *, num_resamples: int, seed: int = 0) -> dict[str, SelectionMetrics]:
    """The figures of predictions of any folds on every selection that has patches of known label."""
    summary = summarise(predictions, threshold=THRESHOLD)
    folds = sorted(int(fold) for fold in predictions["fold"].unique())
    return {
        name: SelectionMetrics(
            predictions=part,
            summary=summary_of(summary, name),
            bootstrap=bootstrap_metrics(part, num_resamples=num_resamples, seed=seed, folds=folds),
        )
        for name in SELECTIONS
        if ((part := selected(predictions, name))["label"] >= 0).any()
    }


def measure_study(study: Study, *, num_resamples: int, track: Track = untracked) -> tuple[NetworkMetrics, ...]:
    """The figures of every network's lowest seed, in the study's order."""
    networks: Sequence[NetworkStudy] = study.networks
    return tuple(
        NetworkMetrics(
            name=network.name,
            network=network,
            selections=measure_predictions(network.first.predictions, num_resamples=num_resamples),
        )
        for network in track(networks, "resample patients")
    )


def mean_interval(network: NetworkMetrics, selection: str, name: str) -> Interval | None:
    """The mean over folds of one figure; None where a fold lacks it."""
    part = network.selections.get(selection)
    return None if part is None else part.bootstrap.fold_mean.get(name)
