"""What the finished jobs of a cross-validation came to: summary.csv, and a table for the terminal.

Metrics are for watching while it runs, each fold by itself and their mean; intervals and comparisons are the report's.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import pandas as pd

from mmgkeras.evaluation.metrics import CONFUSION, METRICS, mean, measure
from mmgkeras.evaluation.outputs import NOT_AVAILABLE
from mmgkeras.evaluation.summary import TISSUE_FRACTION
from mmgkeras.files import atomic_file
from mmgkeras.schema import Metrics
from mmgkeras.study.layout import FoldJob
from mmgkeras.study.run_files import read_history

_SELECTIONS: Final = ("tissue", "all")
_NAME_WIDTH: Final = 28
SUMMARY_COLUMNS: Final = (
    "network",
    "seed",
    "fold",
    "training_minutes",
    *(f"{selection}_{name}" for selection in _SELECTIONS for name in (*METRICS, *CONFUSION)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """The metrics of one finished job.

    Attributes:
        job: which.
        tissue: on test patches with tissue on at least half of them.
        all_patches: on all test patches.
        training_minutes: of its steps at the pace that history.csv notes, pauses and repeated steps left out.
    """

    job: FoldJob
    tissue: Metrics
    all_patches: Metrics
    training_minutes: float


def measure_job(job: FoldJob, *, predictions: pd.DataFrame, history: Path, batch_size: int) -> JobRow:
    """The row of a job from its predictions and its history.csv.

    Raises:
        InputError: if history.csv cannot be read.
    """
    epochs = read_history(history)
    num_steps = epochs["step"].diff().fillna(epochs["step"])
    seconds = (num_steps * batch_size / epochs["patches_per_second"]).sum()
    return JobRow(
        job=job,
        tissue=measure(predictions[predictions["tissue"] >= TISSUE_FRACTION]),
        all_patches=measure(predictions),
        training_minutes=float(seconds) / 60,
    )


def write_rows(path: Path, rows: Sequence[JobRow]) -> None:
    """Replaces summary.csv: SUMMARY_COLUMNS, a row for each job; a metric without meaning is "n/a".

    Raises:
        InputError: if it cannot be written.
    """
    with (
        atomic_file(path, overwrite=True) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, SUMMARY_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_csv_row(row) for row in rows)


def as_table(rows: Sequence[JobRow]) -> str:
    """The rows as text at most 80 columns wide, and under two or more folds of a network and seed their mean."""
    lines = [_line("network", "seed", "fold", ["AUC", "AUC all", "sens", "spec", "minutes"])]
    for (network, seed), group in groupby(rows, key=lambda row: (row.job.network, row.job.seed)):
        of_folds = {row.job.fold: _metrics(row) for row in group}
        lines += [_line(network, seed, fold, _texts(metrics)) for fold, metrics in of_folds.items()]
        if len(of_folds) > 1:
            means = [mean(values) for values in zip(*of_folds.values(), strict=True)]
            lines.append(_line(network, seed, "mean", _texts(means)))
    lines.append("AUC, and sens, spec at 0.5, on tissue patches; AUC all: on all patches.")
    return "\n".join(lines)


def _csv_row(row: JobRow) -> dict[str, Any]:
    values: dict[str, Any] = {"network": row.job.network, "seed": row.job.seed, "fold": row.job.fold}
    values["training_minutes"] = f"{row.training_minutes:.3f}"
    for selection, metrics in zip(_SELECTIONS, (row.tissue, row.all_patches), strict=True):
        for name in (*METRICS, *CONFUSION):
            value = getattr(metrics, name)
            values[f"{selection}_{name}"] = NOT_AVAILABLE if value is None else value
    return values


def _metrics(row: JobRow) -> list[float | None]:
    tissue = row.tissue
    return [tissue.auc, row.all_patches.auc, tissue.sensitivity, tissue.specificity, row.training_minutes]


def _texts(metrics: Sequence[float | None]) -> list[str]:
    *figured, minutes = metrics
    return [NOT_AVAILABLE if value is None else f"{value:.3f}" for value in figured] + [f"{minutes or 0:.1f}"]


def _line(network: str, seed: object, fold: object, metrics: Sequence[str]) -> str:
    name = network if len(network) <= _NAME_WIDTH else f"{network[: _NAME_WIDTH - 3]}..."
    return f"{name:<{_NAME_WIDTH}} {seed!s:>4} {fold!s:>4} " + " ".join(f"{text:>7}" for text in metrics)
