"""A summary as files and as text: metrics.json for programs, metrics.csv and mammograms.csv for tables, the terminal.

Owns their layout. A metric without meaning is null in JSON and "n/a" in CSV, never 0 and never an empty place.
"""

import csv
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from mmgkeras.errors import InputError, counted, shown
from mmgkeras.evaluation.bootstrap import NUM_RESAMPLES, PATCH
from mmgkeras.evaluation.interval import Difference, Interval
from mmgkeras.evaluation.metrics import (
    CONFUSION,
    METRICS,
    SENSITIVITY_AT_SPECIFICITY,
    SPECIFICITY,
    THRESHOLD,
    WITHIN_IMAGE_AUC,
    measure_mammograms,
)
from mmgkeras.evaluation.summary import TISSUE_FRACTION, SelectionSummary, Summary, Timing, summarise
from mmgkeras.files import atomic_file, atomic_files, check_apart, check_outputs
from mmgkeras.json_files import FoldNumber, JsonModel, Sha256, Text
from mmgkeras.schema import Metrics
from mmgkeras.tables import read_predictions
from mmgkeras.tables.cells import write_cells

NOT_AVAILABLE: Final = "n/a"
METRICS_JSON: Final = "metrics.json"
METRICS_CSV: Final = "metrics.csv"
MAMMOGRAMS_CSV: Final = "mammograms.csv"
EVALUATION: Final = "evaluation"
"""The label of all writers of these files, see `atomic_files`."""
METRIC_FILES: Final = (METRICS_JSON, METRICS_CSV, MAMMOGRAMS_CSV)
_COUNTS: Final = ("num_positives", "num_negatives", "num_unknown", "num_images", "num_patients")
_CSV_COLUMNS: Final = ("patches", "classifier", "fold", *METRICS, *CONFUSION, *_COUNTS)
WIDTH: Final = 80
_SHORT_NAMES: Final = ("AUC", "PR AUC", "sens.", "spec.", "F1", "PPV", "NPV", "acc.")
"""Of `METRICS`, in their order."""
_NAME_WIDTH: Final = 15
_METRIC_WIDTH: Final = 8


class ScoringModel(JsonModel):
    """A model whose scores were measured: its fold, its network, and the store that it was trained on."""

    fold: FoldNumber
    network: Text
    store_checksum: Sha256


class Scored(JsonModel):
    """What metrics.json says of where the predictions come from, if they were not read from a file.

    `is_external` is of `Evaluation`.
    """

    models: tuple[ScoringModel, ...] = ()
    is_external: bool = False


def write_metrics(
    folder: Path,
    predictions: pd.DataFrame,
    *,
    threshold: float = THRESHOLD,
    twins: pd.DataFrame | None = None,
    seconds: Mapping[tuple[int, str], float] | None = None,
    timing: Timing | None = None,
    scored: Scored | None = None,
    overwrite: bool = False,
) -> Summary:
    """Takes every metric from predictions, writes metrics.json, metrics.csv and mammograms.csv, returns the summary.

    Args:
        folder: where they are written.
        predictions: with the columns of predictions.csv.
        threshold: a probability of at least this says calcification.
        twins: predictions on the calcification-free twins of the positives.
        seconds: for each mammogram, by its fold and image_id.
        timing: the same in short.
        scored: by which models; None where that is not known.
        overwrite: replace what is there.

    Raises:
        InputError: if a file exists and `overwrite` is not set, or cannot be written; or a positive lacks its twin.
    """
    check_outputs([folder / name for name in METRIC_FILES], overwrite=overwrite)
    summary = summarise(predictions, threshold=threshold, twins=twins, timing=timing, num_resamples=NUM_RESAMPLES)
    mammograms = measure_mammograms(predictions, threshold=threshold, seconds=seconds)
    values = as_json(summary) | ({} if scored is None else scored.model_dump())
    with atomic_file(folder / METRICS_JSON, overwrite=overwrite) as path:
        path.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    with (
        atomic_file(folder / METRICS_CSV, overwrite=overwrite) as path,
        path.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, _CSV_COLUMNS, restval=NOT_AVAILABLE, lineterminator="\n")
        writer.writeheader()
        for name, selection in (("tissue", summary.tissue), ("all", summary.all_patches)):
            writer.writerows({"patches": name, **row} for row in _csv_rows(selection))
    with atomic_file(folder / MAMMOGRAMS_CSV, overwrite=overwrite) as path:
        write_cells(mammograms, path, missing=NOT_AVAILABLE)
    return summary


def recompute_metrics(
    files: Sequence[Path],
    *,
    out: Path,
    twins: Path | None = None,
    threshold: float = THRESHOLD,
    overwrite: bool = False,
) -> Summary:
    """The same from files of predictions, one or several; a fold must lie in one file as a whole.

    Raises:
        InputError: if a file breaks a rule, two files hold one fold, an image has two patients or a patch two labels,
            or an output exists and `overwrite` is not set; or as `atomic_files`.
    """
    owners: dict[int, Path] = {}
    frames = []
    for path in files:
        frame = read_predictions(path)
        if frame.empty:
            raise InputError(f"{path}:2: at least one patch must be listed. Received: the header alone")
        for fold in sorted(int(fold) for fold in frame["fold"].unique()):
            if owners.setdefault(fold, path) is not path:
                raise InputError(f"{path}: holds fold {fold}, as does {owners[fold]}; give each fold once")
        frames.append(frame)
    predictions = pd.concat(frames, ignore_index=True)
    _check_one_store(predictions, owners=owners)
    twin_predictions = None if twins is None else read_predictions(twins)
    check_apart(out / METRICS_JSON, files)
    with atomic_files(out, METRIC_FILES, label=EVALUATION, overwrite=overwrite, is_own=is_evaluation) as folder:
        return write_metrics(folder, predictions, threshold=threshold, twins=twin_predictions)


def _check_one_store(predictions: pd.DataFrame, *, owners: Mapping[int, Path]) -> None:
    """Refuses predictions whose folds, each of the file in `owners`, say different things of one image or patch."""
    for key, name in ((["image_id"], "patient_id"), (PATCH, "label")):
        told = predictions.drop_duplicates([*key, name])
        for _, other in told[told.duplicated(key)].iterrows():
            first = told[(told[key] == other[key]).all(axis=1)].iloc[0]
            place = f", row {other['row']}, col {other['col']}," if name == "label" else ""
            received, before = (f"{shown(str(row[name]))} in fold {row['fold']}" for row in (other, first))
            raise InputError(
                f"{owners[other['fold']]}: image {shown(other['image_id'])}{place} has {name} {received}, and {before} "
                f"of {owners[first['fold']]}; give predictions of one store"
            )


def is_evaluation(path: Path) -> bool:
    """Whether a file was written here: metrics.json lies beside it."""
    return (path.parent / METRICS_JSON).is_file()


def as_json(summary: Summary) -> dict[str, Any]:
    """What metrics.json holds; its first "auc" is that of tissue patches, the mean over folds."""
    twins = summary.twins
    return {
        "tissue": _selection_as_json(summary.tissue),
        "all": _selection_as_json(summary.all_patches),
        "twins": twins and {"auc": twins.auc, "num_pairs": twins.num_pairs, "untrained": twins.baselines},
        "threshold": summary.threshold,
        "seconds_per_mammogram": None if summary.timing is None else dataclasses.asdict(summary.timing),
    }


def _selection_as_json(selection: SelectionSummary) -> dict[str, Any]:
    best = selection.best_baseline
    return {
        **selection.mean,
        "mammogram_accuracy": selection.mammogram_accuracy,
        WITHIN_IMAGE_AUC: selection.within_image_auc,
        SENSITIVITY_AT_SPECIFICITY: selection.sensitivity_at_98_specificity,
        f"{SENSITIVITY_AT_SPECIFICITY}_interval": _bounds(selection.sensitivity_interval),
        "num_folds": len(selection.folds),
        **_counts(selection.counts),
        "always_no": {name: selection.always_no[name] for name in METRICS},
        "best_untrained": None if best is None else {"name": best[0], "auc": best[1]},
        "above_best_untrained": _difference_as_json(selection.above_best),
        "untrained": dict(selection.baselines),
        "pooled": None if selection.pooled is None else _metrics_as_json(selection.pooled),
        "folds": {str(fold): _metrics_as_json(metrics) for fold, metrics in selection.folds.items()},
    }


def _bounds(interval: Interval | None) -> list[float] | None:
    """The bounds of a 95 % interval, None where it has none."""
    if interval is None or interval.low is None or interval.high is None:
        return None
    return [interval.low, interval.high]


def _difference_as_json(difference: Difference | None) -> dict[str, float | None] | None:
    if difference is None:
        return None
    interval = difference.interval
    return {"auc": interval.estimate, "low": interval.low, "high": interval.high, "p": difference.p}


def _metrics_as_json(metrics: Metrics) -> dict[str, Any]:
    return {name: getattr(metrics, name) for name in (*METRICS, *CONFUSION)} | _counts(metrics)


def _counts(metrics: Metrics) -> dict[str, int]:
    return {name: getattr(metrics, name) for name in _COUNTS}


def _csv_rows(selection: SelectionSummary) -> Iterator[dict[str, object]]:
    for fold, metrics in selection.folds.items():
        yield {"classifier": "model", "fold": fold, **_texts(_metrics_as_json(metrics))}
    yield {"classifier": "model", "fold": "mean", **_texts(selection.mean), **_counts(selection.counts)}
    if selection.pooled is not None:
        yield {"classifier": "model", "fold": "pooled", **_texts(_metrics_as_json(selection.pooled))}
    yield {
        "classifier": "always_no",
        "fold": "mean",
        **_texts({name: selection.always_no[name] for name in METRICS}),
        **_counts(selection.counts),
    }
    for name, value in selection.baselines.items():
        yield {"classifier": name, "fold": "mean", **_texts({"auc": value}), **_counts(selection.counts)}


def _texts(metrics: Mapping[str, float | None]) -> dict[str, object]:
    return {name: NOT_AVAILABLE if value is None else value for name, value in metrics.items()}


def as_text(summary: Summary, *, is_external: bool = False) -> str:
    """The metrics on tissue patches and on all, what to hold them against, and the times.

    Args:
        summary: of predictions.
        is_external: they are of a store that no model was trained on, and each fold is a model that scored all of it.
    """
    lines = [
        *_selection_lines(
            f"Tissue patches (breast on at least {TISSUE_FRACTION:.0%})", summary.tissue, is_external=is_external
        ),
        "",
        *_selection_lines("All patches", summary.all_patches, is_external=is_external),
        "",
        *_closing_lines(summary),
    ]
    return "\n".join(lines)


def _selection_lines(title: str, selection: SelectionSummary, *, is_external: bool) -> Iterator[str]:
    yield title
    yield from _count_lines(selection.counts)
    yield _row("", _SHORT_NAMES)
    if len(selection.folds) == 1:
        name = "whole store" if is_external else f"fold {next(iter(selection.folds))}"
        yield _row(name, [number(selection.mean[name]) for name in METRICS])
    else:
        for fold, metrics in selection.folds.items():
            yield _row(
                f"model fold {fold}" if is_external else f"fold {fold}",
                [number(getattr(metrics, name)) for name in METRICS],
            )
        yield _row("mean" if is_external else "mean of folds", [number(selection.mean[name]) for name in METRICS])
        if selection.pooled is not None:
            yield _row("pooled", [number(getattr(selection.pooled, name)) for name in METRICS])
    yield _row("always no", [number(selection.always_no[name]) for name in METRICS])
    best = selection.best_baseline
    if selection.baselines:
        named = "" if best is None else f" (best: {best[0]} {number(best[1])})"
        yield f"  AUC of scores without training{named}:"
        yield from _pairs([(name, number(value)) for name, value in selection.baselines.items()])
    yield f"  Accuracy of each mammogram, mean: {number(selection.mammogram_accuracy)}"
    bounds = _bounds(selection.sensitivity_interval)
    interval = "" if bounds is None else f" (95 % interval {number(bounds[0])} to {number(bounds[1])})"
    sensitivity = number(selection.sensitivity_at_98_specificity)
    yield f"  Sensitivity at a specificity of {SPECIFICITY:.0%}: {sensitivity}{interval}"
    yield f"  AUC within each mammogram: {number(selection.within_image_auc)}"


def _count_lines(counts: Metrics) -> Iterator[str]:
    yield (
        f"  {counts.num_positives:,} positive and {counted(counts.num_negatives, 'negative patch')} of "
        f"{counted(counts.num_images, 'image')} of {counted(counts.num_patients, 'patient')}"
    )
    if counts.num_unknown:
        yield f"  patches of unknown label, left out: {counts.num_unknown}"


def _closing_lines(summary: Summary) -> Iterator[str]:
    if summary.twins is not None:
        yield (
            f"AUC of {counted(summary.twins.num_pairs, 'positive')} against their calcification-free twins: "
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


def standing(selection: SelectionSummary) -> str:
    """Where the AUC stands beside the best baseline's, as the paired test over patients decides; empty without one."""
    best, found = selection.best_baseline, selection.above_best
    if best is None:
        return ""
    named = f"the best baseline ({best[0]}, AUC {number(best[1])}"
    if found is None or found.p is None:
        return f"not tested against {named})"
    side = "above" if found.interval.estimate > 0 else "below"
    word = side if found.is_different else "not shown to differ from"
    p = "p < 0.001" if found.p < 0.001 else f"p = {number(found.p)}"
    interval = f"{number(found.interval.low)} to {number(found.interval.high)}"
    return f"{word} {named}; difference {number(found.interval.estimate)}, 95 % interval {interval}, {p})"


def number(value: float | None) -> str:
    """Three decimals, or "n/a"."""
    return NOT_AVAILABLE if value is None else f"{value:.3f}"


def _row(name: str, cells: Sequence[str]) -> str:
    return f"  {name:<{_NAME_WIDTH - 2}}" + "".join(f"{cell:>{_METRIC_WIDTH}}" for cell in cells)


def _pairs(pairs: list[tuple[str, str]]) -> Iterator[str]:
    """Names and numbers, three to a line."""
    for start in range(0, len(pairs), 3):
        yield "    " + "  ".join(f"{name:<17}{value:>5}" for name, value in pairs[start : start + 3])
