"""Metrics of predictions by fold, mean over folds and pooled, on tissue patches and on all, with their baselines.

Owns which selections of patches there are, and which metrics are given beside which. All come from the predictions
alone; only times are brought along.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import pandas as pd

from mmgkeras.errors import InputError
from mmgkeras.evaluation.bootstrap import PATCH, BootstrapMetrics, bootstrap_metrics, estimates
from mmgkeras.evaluation.comparison import mean_areas
from mmgkeras.evaluation.interval import Difference, Interval
from mmgkeras.evaluation.metrics import (
    SENSITIVITY_AT_SPECIFICITY,
    THRESHOLD,
    WITHIN_IMAGE_AUC,
    auc,
    known,
    mean,
    mean_metrics,
    measure,
    measure_mammograms,
)
from mmgkeras.evaluation.patient_table import tabulate_patients
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION, UNKNOWN, Metrics
from mmgkeras.tables import BASELINE_PREFIX

TISSUE_FRACTION: Final = 0.5
"""A tissue patch shows breast on at least this part of its area; the others are mostly easy black."""
PATCH_KEY: Final = ["fold", *PATCH]
TISSUE: Final = "tissue"
ALL: Final = "all"
SELECTIONS: Final = {
    TISSUE: f"tissue patches (breast on at least {TISSUE_FRACTION:.0%} of the patch)",
    ALL: "all patches, blank ones included",
}
"""In the order in which they are shown: what blank patches cannot flatter comes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionSummary:
    """What the predictions are worth on one selection of patches.

    Attributes:
        folds: the metrics of each fold, by its number.
        mean: each metric's mean over folds; with one fold, that fold's.
        counts: of the patches of all folds together, each patch once.
        pooled: of all folds' patches in one set; None where a patch was scored by several models, for it would count
            several times.
        always_no: mean over folds of the metrics of the classifier that says no to every patch, and of its mean
            accuracy of a mammogram.
        baselines: mean over folds of the AUC of each score that nothing was trained for.
        mammogram_accuracy: mean of the accuracy of each mammogram (paper, Table 10).
        above_best: the mean AUC less that of the best baseline on the same patches, tested over patients; None without
            one of them.
        within_image_auc: mean over folds of the AUC of positives against the negatives of the same image alone.
        sensitivity_at_98_specificity: mean over folds, each at a threshold of its own.
        sensitivity_interval: the same with its interval by patient; None where that was not asked for.
    """

    folds: Mapping[int, Metrics]
    mean: Mapping[str, float | None]
    counts: Metrics
    pooled: Metrics | None
    always_no: Mapping[str, float | None]
    baselines: Mapping[str, float | None]
    mammogram_accuracy: float | None
    above_best: Difference | None
    within_image_auc: float | None
    sensitivity_at_98_specificity: float | None
    sensitivity_interval: Interval | None = None

    @property
    def best_baseline(self) -> tuple[str, float] | None:
        """The name and the AUC of the baseline with the highest, None if there is none."""
        return _best(self.baselines)


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinSummary:
    """Positives against the same place in images that differ by the absence of calcification alone.

    `auc` and `baselines` are means over folds; `num_pairs` counts the positives.
    """

    auc: float | None
    num_pairs: int
    baselines: Mapping[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds for the inference of all patches of one mammogram (paper, 3.4.2).

    `first` is the first mammogram after a model was loaded, which pays for the start (the slowest of several models);
    `p50` and `p95` are of all mammograms once it runs.
    """

    p50: float
    p95: float
    first: float
    num_images: int
    hardware: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Everything that is said of a set of predictions."""

    tissue: SelectionSummary
    all_patches: SelectionSummary
    threshold: float
    twins: TwinSummary | None = None
    timing: Timing | None = None

    def selection(self, name: str) -> SelectionSummary:
        """That of one of SELECTIONS."""
        return self.tissue if name == TISSUE else self.all_patches


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionMetrics:
    """The metrics of one network on one selection of patches: `summary` without intervals, `bootstrap` with."""

    summary: SelectionSummary
    bootstrap: BootstrapMetrics


Measured = Mapping[str, Mapping[str, SelectionMetrics]]
"""By the network's name, and by the names in SELECTIONS, of which one without a patch of known label is missing."""


def summarise(
    predictions: pd.DataFrame,
    *,
    threshold: float = THRESHOLD,
    twins: pd.DataFrame | None = None,
    timing: Timing | None = None,
    num_resamples: int = 0,
) -> Summary:
    """The summary of a frame with the columns of predictions.csv.

    Args:
        predictions: of one or several folds, each patch once in a fold.
        threshold: a probability of at least this says calcification.
        twins: predictions on the calcification-free twins of the positives, same fold, image_id, row and col.
        timing: brought along as it is.
        num_resamples: sets of patients to draw for an interval; without any there is none.

    Raises:
        InputError: if a positive has no twin, or a twin is positive itself.
    """
    summary_of = partial(
        _summarise_selection, folds=_folds(predictions), threshold=threshold, num_resamples=num_resamples
    )
    return Summary(
        tissue=summary_of(selected(predictions, TISSUE)),
        all_patches=summary_of(predictions),
        threshold=threshold,
        twins=None if twins is None else _summarise_twins(predictions, twins),
        timing=timing,
    )


def selected(predictions: pd.DataFrame, selection: str) -> pd.DataFrame:
    """The predictions of one selection."""
    return predictions[predictions["tissue"] >= TISSUE_FRACTION] if selection == TISSUE else predictions


def measure_selections(predictions: pd.DataFrame, *, num_resamples: int) -> dict[str, SelectionMetrics]:
    """The metrics of predictions of any folds on every selection that has patches of known label."""
    summary = summarise(predictions)
    folds = _folds(predictions)
    return {
        name: SelectionMetrics(
            summary=summary.selection(name),
            bootstrap=bootstrap_metrics(part, num_resamples=num_resamples, folds=folds),
        )
        for name in SELECTIONS
        if ((part := selected(predictions, name))["label"] >= 0).any()
    }


def without_assumed(predictions: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """The predictions without patches labelled 0 of images that were not annotated completely."""
    complete = set(images.loc[images["annotation"] == "complete", "image_id"])
    is_assumed = (predictions["label"] == NO_CALCIFICATION) & ~predictions["image_id"].isin(complete)
    return predictions[~is_assumed]


def mean_of_models(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row for each patch: the mean probability of its models, fold 1."""
    probability = predictions.groupby(PATCH, sort=False)["probability"].mean()
    return predictions.drop_duplicates(PATCH).assign(fold=1, probability=probability.to_numpy())


def lacking_class(predictions: pd.DataFrame, folds: Sequence[int]) -> str | None:
    """Which fold lacks which class, in words; None if none does."""
    for fold in folds:
        labels = set(predictions.loc[predictions["fold"] == fold, "label"])
        for label, name in ((CALCIFICATION, "positives"), (NO_CALCIFICATION, "negatives")):
            if label not in labels:
                return f"fold {fold} has no {name} left"
    return None


def _folds(predictions: pd.DataFrame) -> list[int]:
    return sorted(int(fold) for fold in predictions["fold"].unique())


def _summarise_selection(
    patches: pd.DataFrame, *, folds: Sequence[int], threshold: float, num_resamples: int
) -> SelectionSummary:
    parts = [patches[patches["fold"] == fold] for fold in folds]
    by_fold = {fold: measure(part, threshold=threshold) for fold, part in zip(folds, parts, strict=True)}
    # A score of 0 lies below every threshold that is allowed.
    silent = [part.assign(probability=0.0) for part in parts]
    always_no = mean_metrics([measure(part, threshold=1.0) for part in silent])
    of_mammograms = [known(measure_mammograms(part, threshold=1.0)["accuracy"].mean()) for part in silent]
    unique = patches.drop_duplicates(PATCH)
    counts = measure(unique, threshold=threshold)
    baselines = _baseline_aucs(parts)
    table = tabulate_patients(patches, metrics=(WITHIN_IMAGE_AUC, SENSITIVITY_AT_SPECIFICITY))
    return SelectionSummary(
        folds=by_fold,
        mean=mean_metrics(list(by_fold.values())),
        counts=counts,
        pooled=counts if len(unique) == len(patches) else None,
        always_no={**always_no, "mammogram_accuracy": mean(of_mammograms)},
        baselines=baselines,
        mammogram_accuracy=known(measure_mammograms(patches, threshold=threshold)["accuracy"].dropna().mean()),
        above_best=_above_best(patches, baselines, folds=folds),
        within_image_auc=mean(estimates(table, WITHIN_IMAGE_AUC, folds)),
        sensitivity_at_98_specificity=mean(estimates(table, SENSITIVITY_AT_SPECIFICITY, folds)),
        sensitivity_interval=_sensitivity_interval(patches, folds=folds, num_resamples=num_resamples),
    )


def _sensitivity_interval(patches: pd.DataFrame, *, folds: Sequence[int], num_resamples: int) -> Interval | None:
    if not num_resamples:
        return None
    metrics = (SENSITIVITY_AT_SPECIFICITY,)
    found = bootstrap_metrics(patches, num_resamples=num_resamples, folds=folds, metrics=metrics)
    return found.fold_mean[SENSITIVITY_AT_SPECIFICITY]


def _best(baselines: Mapping[str, float | None]) -> tuple[str, float] | None:
    known = [(name, value) for name, value in baselines.items() if value is not None]
    return max(known, key=lambda found: (found[1], found[0]), default=None)


def _above_best(
    patches: pd.DataFrame, baselines: Mapping[str, float | None], *, folds: Sequence[int]
) -> Difference | None:
    best = _best(baselines)
    labelled = patches[patches["label"] != UNKNOWN]
    if best is None or labelled.empty:
        return None
    columns = ["probability", BASELINE_PREFIX + best[0]]
    areas = mean_areas(labelled, labelled[columns].to_numpy(np.float64).T, folds=folds)
    return None if areas is None else areas.compare(0, 1)


def _baseline_aucs(parts: Sequence[pd.DataFrame]) -> dict[str, float | None]:
    """The mean over folds of each baseline's AUC, by its name without the prefix; None if a fold lacks it."""
    labelled = [part[part["label"] != UNKNOWN] for part in parts]
    columns = [name for name in parts[0].columns if name.startswith(BASELINE_PREFIX)] if parts else []
    aucs = {name: [_baseline_auc(part, name) for part in labelled] for name in columns}
    return {name.removeprefix(BASELINE_PREFIX): mean(of_folds) for name, of_folds in aucs.items()}


def _baseline_auc(labelled: pd.DataFrame, name: str) -> float | None:
    """None where a score is NaN: the file of the fold, or of the twins, has no such column."""
    return None if labelled[name].isna().any() else auc(labelled["label"].to_numpy(), labelled[name].to_numpy())


def _summarise_twins(predictions: pd.DataFrame, twins: pd.DataFrame) -> TwinSummary:
    positives = predictions[predictions["label"] == CALCIFICATION]
    paired = positives[PATCH_KEY].merge(twins, on=PATCH_KEY, how="left", validate="one_to_one")
    missing = paired[paired["probability"].isna()]
    if len(missing):
        raise InputError(f"twins: {_place(missing)} is positive and has no twin; prepare both stores alike")
    positive_twins = paired[paired["label"] == CALCIFICATION]
    if len(positive_twins):
        raise InputError(f"twins: {_place(positive_twins)} is positive in the twin store too; its images must be free")
    both = pd.concat([positives, paired.assign(label=NO_CALCIFICATION)])
    parts = [both[both["fold"] == fold] for fold in _folds(predictions)]
    return TwinSummary(
        auc=mean([auc(part["label"].to_numpy(), part["probability"].to_numpy()) for part in parts]),
        num_pairs=len(positives),
        baselines=_baseline_aucs(parts),
    )


def _place(patches: pd.DataFrame) -> str:
    first = patches.iloc[0]
    return f"row {first['row']}, col {first['col']} of image {first['image_id']}"


def summarise_times(cold: Sequence[float], warm: Sequence[float], *, hardware: str) -> Timing | None:
    """The timing of the first mammogram of each model, and of all mammograms when warm; None without any."""
    if not warm or not cold:
        return None
    p50, p95 = np.percentile(warm, [50, 95])
    return Timing(p50=float(p50), p95=float(p95), first=max(cold), num_images=len(warm), hardware=hardware)
