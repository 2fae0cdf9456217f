"""A summary as text of at most 80 columns.

Owns wording and widths, nothing that is counted.
"""

from collections.abc import Iterator
from typing import Final

from mmgkeras.evaluation.outputs import NOT_AVAILABLE
from mmgkeras.evaluation.summary import TISSUE_FRACTION, SelectionSummary, Summary
from mmgkeras.schema import Metrics

WIDTH: Final = 80
_METRICS: Final = {
    "auc": "AUC",
    "average_precision": "PR AUC",
    "sensitivity": "sens.",
    "specificity": "spec.",
    "f1": "F1",
    "ppv": "PPV",
    "npv": "NPV",
    "accuracy": "acc.",
}
_NAME_WIDTH: Final = 15
_FIGURE_WIDTH: Final = 8


def as_text(summary: Summary) -> str:
    """The metrics on tissue patches and on all, what to hold them against, and the times."""
    lines = [
        *_selection_lines(f"Tissue patches (breast on at least {TISSUE_FRACTION:.0%})", summary.tissue),
        "",
        *_selection_lines("All patches", summary.all_patches),
        "",
        *_closing_lines(summary),
    ]
    return "\n".join(lines)


def _selection_lines(title: str, selection: SelectionSummary) -> Iterator[str]:
    yield title
    yield from _count_lines(selection.counts)
    yield _row("", list(_METRICS.values()))
    if len(selection.folds) == 1:
        yield _row(f"fold {next(iter(selection.folds))}", [number(selection.mean[name]) for name in _METRICS])
    else:
        for fold, metrics in selection.folds.items():
            yield _row(f"fold {fold}", [number(getattr(metrics, name)) for name in _METRICS])
        yield _row("mean of folds", [number(selection.mean[name]) for name in _METRICS])
        if selection.pooled is not None:
            yield _row("pooled", [number(getattr(selection.pooled, name)) for name in _METRICS])
    yield _row("always no", [number(selection.always_no[name]) for name in _METRICS])
    best = selection.best_baseline
    if selection.baselines:
        named = "" if best is None else f" (best: {best[0]} {number(best[1])})"
        yield f"  AUC of scores without training{named}:"
        yield from _pairs([(name, number(value)) for name, value in selection.baselines.items()])
    yield f"  Accuracy of each mammogram, mean: {number(selection.mammogram_accuracy)}"


def _count_lines(counts: Metrics) -> Iterator[str]:
    yield (
        f"  {counts.num_positives} positive and {counts.num_negatives} negative patches of {counts.num_images} images "
        f"of {counts.num_patients} patients"
    )
    if counts.num_unknown:
        yield f"  {counts.num_unknown} patches of unknown label left out"


def _closing_lines(summary: Summary) -> Iterator[str]:
    if summary.twins is not None:
        yield (
            f"AUC of {summary.twins.num_pairs} positives against their calcification-free twins: "
            f"{number(summary.twins.auc)}"
        )
        if summary.twins.baselines:
            yield "  the same of scores without training:"
            yield from _pairs([(name, number(value)) for name, value in summary.twins.baselines.items()])
    if summary.timing is not None:
        timing = summary.timing
        yield f"Seconds per mammogram: median {timing.p50:.3f}, 95 % within {timing.p95:.3f}, first {timing.first:.3f}"
        yield f"  on {timing.hardware}"[:WIDTH]
    yield f"Decisions: calcification at a probability of at least {summary.threshold:g}"
    yield "Research use, not for diagnosis"


def number(value: float | None) -> str:
    """Three decimals, or "n/a"."""
    return NOT_AVAILABLE if value is None else f"{value:.3f}"


def _row(name: str, cells: list[str]) -> str:
    return f"  {name:<{_NAME_WIDTH - 2}}" + "".join(f"{cell:>{_FIGURE_WIDTH}}" for cell in cells)


def _pairs(pairs: list[tuple[str, str]]) -> Iterator[str]:
    """Names and numbers, three to a line."""
    for start in range(0, len(pairs), 3):
        yield "    " + "  ".join(f"{name:<17}{value:>5}" for name, value in pairs[start : start + 3])
