"""How the networks were trained and how long they take: training curves and timing.

Owns these sections. Both come from what runs and models wrote down; nothing is measured here.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd

from mmgkeras.report.charts import Series, figures, line_chart
from mmgkeras.report.page import missing, paragraph
from mmgkeras.report.table import Cell, Section, Table
from mmgkeras.study.layout import SECONDS
from mmgkeras.study.read import NetworkStudy, Study

_TRAINING: Final = (
    "One line for each fold. Figures are of the augmented training samples, each scored while the network learned from "
    "it: they tell how the training went, not what the network is worth."
)
_CURVES: Final = (
    ("loss", "cross-entropy"),
    ("auc", "AUC, training batches"),
    ("validation_auc", "AUC, held-out patients"),
)
"""Columns of history.csv that are drawn, where they are there."""
_PARTS: Final = {"read_s": "Read", "divide_s": "Divide", "infer_s": "Infer", "draw_s": "Draw"}


def training_section(study: Study) -> Section:
    """Loss and AUC of every epoch, fold and network."""
    body: list[str | Table] = [paragraph(_TRAINING)]
    pictures = []
    for network in study.networks:
        lacking = [fold for fold in study.folds if fold not in network.first.histories]
        if lacking:
            body.append(missing(f"{network.name}: no history.csv of fold {', '.join(map(str, lacking))}."))
        for column, label in _CURVES:
            series = _series(network, column)
            if series:
                title = f"{study.labels[network.name]}: {label} by epoch"
                picture = line_chart(
                    series,
                    title=title,
                    caption=f"{title}.",
                    x_label="epoch",
                    y_label=label,
                    x_range=(0.5, max(len(history) for history in network.first.histories.values()) + 0.5),
                    x_ticks="whole",
                    height=280,
                )
                pictures.append(picture)
    body.append(figures(pictures))
    if any(network.first.histories for network in study.networks):
        body.append(_last_epochs_table(study))
    return Section(anchor="training", title="Training", body=tuple(body))


def timing_section(study: Study) -> Section:
    """Seconds for a mammogram by network: median and 95th percentile, the parts, the cold run, and the hardware."""
    title, anchor = "Time for a mammogram", "timing"
    timed = [(network, timing) for network in study.networks if (timing := network.first.timing) is not None]
    if not timed:
        return Section(anchor=anchor, title=title, body=(missing("No time was measured (there is no timing.csv)."),))
    hardware = study.crossval.get("hardware")
    body: list[str | Table] = [
        paragraph(
            "As in the paper's 3.4.2: the inference of all patches of a mammogram, of every test mammogram. "
            "The first inference after loading is cold and stands apart."
        ),
        paragraph(f"Hardware: {hardware}.") if hardware else missing("The hardware was not written down."),
    ]
    rows = [(network.name, *_seconds(timing)) for network, timing in timed]
    parts = [(network.name, *_medians(timing)) for network, timing in timed]
    body.append(
        Table(
            name="timing_seconds",
            title="Seconds to classify all patches of one mammogram",
            columns=("Network", "Median", "95th percentile", "Mean", "Cold, median of folds", "Mammograms", "Patches"),
            rows=tuple(rows),
            note="Patches: median of a mammogram.",
        )
    )
    body.append(
        Table(
            name="timing_parts",
            title="Median seconds of each part",
            columns=("Network", *_PARTS.values(), "All parts"),
            rows=tuple(parts),
            note="Draw: the marked mammogram at its own resolution. n/a: not measured.",
        )
    )
    others = [network.name for network in study.networks if network.first.timing is None]
    if others:
        body.append(missing(f"Not timed: {', '.join(others)}."))
    return Section(anchor=anchor, title=title, body=tuple(body))


def _series(network: NetworkStudy, column: str) -> Sequence[Series]:
    return [
        Series(
            label=f"fold {fold}",
            x=history["epoch"].to_numpy(),
            y=history[column].to_numpy(),
            style=place,
            form="marked",
        )
        for place, (fold, history) in enumerate(network.first.histories.items())
        if column in history.columns and history[column].notna().any()
    ]


def _last_epochs_table(study: Study) -> Table:
    named = {"loss": "Loss", "auc": "AUC, training", "validation_auc": "AUC, held out"}
    histories = [
        (network.name, fold, history)
        for network in study.networks
        for fold, history in network.first.histories.items()
        if len(history)
    ]
    shown = [name for name in named if any(name in history.columns for _, _, history in histories)]
    rows: list[tuple[Cell, ...]] = []
    for network, fold, history in histories:
        last = history.iloc[-1]
        speed = _known(last.get("patches_per_second"))
        values = [_known(last.get(name)) for name in shown]
        rows.append((network, f"fold {fold}", len(history), *values, None if speed is None else round(speed)))
    return Table(
        name="last_epoch",
        title="The last epoch of each training",
        columns=("Network", "Fold", "Epochs", *(named[name] for name in shown), "Patches a second"),
        rows=tuple(rows),
    )


def _known(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)


def _seconds(timing: pd.DataFrame) -> tuple[Cell, ...]:
    warm = timing[(timing["is_cold"] == 0) & timing["infer_s"].notna()]
    cold = timing.loc[timing["is_cold"] == 1, "infer_s"].dropna()
    first = float(cold.median()) if len(cold) else None
    if warm.empty:
        return (None, None, None, first, 0, None)
    p50, p95 = (float(value) for value in np.percentile(warm["infer_s"], [50, 95]))
    return (p50, p95, float(warm["infer_s"].mean()), first, len(warm), round(float(warm["num_patches"].median())))


def _medians(timing: pd.DataFrame) -> tuple[Cell, ...]:
    warm = timing[timing["is_cold"] == 0]
    medians = [_known(warm[name].median()) for name in SECONDS]
    # Summed for each mammogram and only then the median: medians of parts do not add up.
    whole = warm[list(SECONDS)].sum(axis=1, skipna=False)
    return (*medians, _known(whole.median()))
