"""Rates of missed positives and of false positives by what the paper's discussion blames.

Owns their one table.
"""

from collections.abc import Mapping
from typing import Final

import pandas as pd

from mmgkeras.evaluation.bootstrap import PatientResamples
from mmgkeras.evaluation.metrics import THRESHOLD
from mmgkeras.evaluation.subgroup_metrics import error_groups, error_rate
from mmgkeras.report.table import Cell, Table
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION, UNKNOWN

_NOTE: Final = (
    "Missed: positives below {threshold:g}, of the positives. False: negatives of at least {threshold:g}, of the "
    "negatives. Brightness: mean grey of the breast in the patch, 0 to 1, in thirds of the patches on tissue. "
    "Calcified area: pixels of individual marks, in thirds of the positives that hold any. All patches of known label; "
    "95 % intervals over patients, none where fewer than five carry the rate."
)


def error_rates(predictions: Mapping[str, pd.DataFrame], resamples: PatientResamples) -> Table:
    """The table of all groups, two columns for each network.

    Args:
        predictions: of each network: the columns of predictions.csv, brightness, density, view, laterality, and
            num_marks and calcified_px where regions are known.
        resamples: of all their patients.
    """
    known = {name: frame[frame["label"] != UNKNOWN] for name, frame in predictions.items()}
    first = next(iter(known.values()))
    rows = []
    for group in error_groups(first):
        of_first = first[group.chosen(first)]
        if of_first.empty:
            continue
        num_positives, num_negatives = (
            int((of_first["label"] == label).sum()) for label in (CALCIFICATION, NO_CALCIFICATION)
        )
        cells: list[Cell] = [group.what, group.name, num_positives, None if group.of_positives else num_negatives]
        for frame in known.values():
            chosen = frame[group.chosen(frame)]
            cells.append(error_rate(chosen, resamples, label=CALCIFICATION))
            cells.append(None if group.of_positives else error_rate(chosen, resamples, label=NO_CALCIFICATION))
        rows.append(tuple(cells))
    columns = [column for name in known for column in (f"Missed, {name}", f"False, {name}")]
    return Table(
        name="error_rates",
        title="Rates of errors by what may cause them",
        columns=("By", "Group", "Positives", "Negatives", *columns),
        rows=tuple(rows),
        note=_NOTE.format(threshold=THRESHOLD),
    )
