"""Rates of missed positives and of false positives by what the paper's discussion blames.

Owns the groups and their one table. Which patch is how bright and holds how many marks comes from `findings`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.evaluation.interval import Interval
from mmgkeras.evaluation.metrics import THRESHOLD
from mmgkeras.report.resampling import PatientResamples
from mmgkeras.report.table import Cell, Table
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION, UNKNOWN

_Chosen = Callable[[pd.DataFrame], NDArray[np.bool_]]

_THIRDS: Final = (1 / 3, 2 / 3)
_COUNTS: Final = ((1, 1), (2, 2), (3, 5), (6, 10), (11, None))
_OF_IMAGES: Final[Mapping[str, str]] = {"density": "density", "view": "view", "laterality": "breast"}
_SIDES: Final = {"L": "left", "R": "right"}
_NOTE: Final = (
    "Missed: positives below {threshold:g}, of the positives. False: negatives of at least {threshold:g}, of the "
    "negatives. Brightness: mean grey of the breast in the patch, 0 to 1, in thirds of the patches on tissue. "
    "Calcified area: pixels of individual marks, in thirds of the positives that hold any. All patches of known label; "
    "95 % intervals over patients, none where fewer than five carry the rate."
)


@dataclass(frozen=True, slots=True)
class _Group:
    """Patches with something in common; of some kinds there are no negatives."""

    what: str
    name: str
    chosen: _Chosen
    of_positives: bool = False


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
    for group in _groups(first):
        of_first = first[group.chosen(first)]
        if of_first.empty:
            continue
        num_positives, num_negatives = (
            int((of_first["label"] == label).sum()) for label in (CALCIFICATION, NO_CALCIFICATION)
        )
        cells: list[Cell] = [group.what, group.name, num_positives, None if group.of_positives else num_negatives]
        for frame in known.values():
            chosen = frame[group.chosen(frame)]
            cells.append(_rate(chosen, resamples, label=CALCIFICATION))
            cells.append(None if group.of_positives else _rate(chosen, resamples, label=NO_CALCIFICATION))
        rows.append(tuple(cells))
    columns = [column for name in known for column in (f"Missed, {name}", f"False, {name}")]
    return Table(
        name="error_rates",
        title="Rates of errors by what may cause them",
        columns=("By", "Group", "Positives", "Negatives", *columns),
        rows=tuple(rows),
        note=_NOTE.format(threshold=THRESHOLD),
    )


def _rate(patches: pd.DataFrame, resamples: PatientResamples, *, label: int) -> Interval | None:
    """The part of the patches of this label that was called the other."""
    of_label = patches[patches["label"] == label]
    called = of_label["probability"].to_numpy() >= THRESHOLD
    return resamples.rate(called == (label == NO_CALCIFICATION), resamples.places(of_label["patient_id"]))


def _groups(first: pd.DataFrame) -> Iterator[_Group]:
    yield _Group("all", "", lambda frame: np.ones(len(frame), dtype=np.bool_))
    yield from _brightness_groups(first)
    if "num_marks" in first.columns and first.loc[first["label"] == CALCIFICATION, "num_marks"].any():
        yield from _area_groups(first)
        yield from _count_groups(first)
    for column, what in _OF_IMAGES.items():
        values = first[column].dropna().astype(str)
        for value in sorted(set(values)):
            yield _Group(what, _SIDES.get(value, value), _equal(column, value))
        if len(values) and len(values) < len(first):
            yield _Group(what, "unknown", _missing(column))


def _brightness_groups(first: pd.DataFrame) -> Iterator[_Group]:
    told = first["brightness"].dropna()
    if len(told):
        low, high = np.quantile(told, _THIRDS)
        yield _Group("brightness", f"darkest third, below {low:.2f}", _between("brightness", -np.inf, low))
        yield _Group("brightness", "middle third", _between("brightness", low, high))
        yield _Group("brightness", f"brightest third, {high:.2f} and above", _between("brightness", high, np.inf))
    if len(told) < len(first):
        yield _Group("brightness", "breast on less than half", _missing("brightness"))


def _area_groups(first: pd.DataFrame) -> Iterator[_Group]:
    areas = first.loc[(first["label"] == CALCIFICATION) & (first["num_marks"] > 0), "calcified_px"]
    low, high = np.quantile(areas, _THIRDS, method="higher").astype(int).tolist()
    names = (f"below {low:,} px", f"{low:,} to {high - 1:,} px", f"{high:,} px and above")
    edges = ((1, low), (low, high), (high, np.inf))
    for name, (least, most) in zip(names, edges, strict=True):
        yield _Group("calcified area", name, _between("calcified_px", least, most), of_positives=True)


def _count_groups(first: pd.DataFrame) -> Iterator[_Group]:
    for least, most in _COUNTS:
        name = f"{least} or more" if most is None else f"{least}" if least == most else f"{least} to {most}"
        above = np.inf if most is None else most + 1
        yield _Group("number of marks", name, _between("num_marks", least, above), of_positives=True)
    if (first.loc[first["label"] == CALCIFICATION, "num_marks"] == 0).any():
        yield _Group("number of marks", "none", _between("num_marks", 0, 1), of_positives=True)


def _between(column: str, low: float, high: float) -> _Chosen:
    return lambda frame: ((frame[column] >= low) & (frame[column] < high)).to_numpy()


def _missing(column: str) -> _Chosen:
    return lambda frame: frame[column].isna().to_numpy()


def _equal(column: str, value: str) -> _Chosen:
    return lambda frame: (frame[column].astype(str) == value).to_numpy()
