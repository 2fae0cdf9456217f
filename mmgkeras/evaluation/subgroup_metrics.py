"""Metrics of parts of the patches: by what is known of the image, what is annotated, and what errors are blamed on.

Owns which parts there are and when a metric of one has a meaning. Intervals are of patients drawn from all folds
together, see `bootstrap`; they are not corrected for the number of parts.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.evaluation.bootstrap import MIN_PATIENTS, PatientResamples
from mmgkeras.evaluation.interval import Interval
from mmgkeras.evaluation.metrics import THRESHOLD
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION

MIN_PATCHES: Final = 10
"""A part has metrics of its positives, or of its negatives, if there are so many of them, of MIN_PATIENTS patients."""
UNKNOWN_VALUE: Final = "unknown"
_SIDES: Final = {"L": "left", "R": "right"}
_THIRDS: Final = (1 / 3, 2 / 3)
_COUNTS: Final = ((1, 1), (2, 2), (3, 5), (6, 10), (11, None))
_OF_IMAGES: Final[Mapping[str, str]] = {"density": "density", "view": "view", "laterality": "breast"}
_Chosen = Callable[[pd.DataFrame], NDArray[np.bool_]]


class PartMetrics(NamedTuple):
    """Metrics of one part; None where too few patches or patients carry one."""

    sensitivity: Interval | None
    specificity: Interval | None
    auc: Interval | None


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Patches with something in common; of some kinds there are no negatives."""

    what: str
    name: str
    chosen: _Chosen
    of_positives: bool = False


def by_column(frame: pd.DataFrame, column: str) -> dict[str, pd.DataFrame]:
    """The patches of each value, the values in order and unknown last."""
    values = frame[column].fillna(UNKNOWN_VALUE).astype(str)
    names = sorted(set(values) - {UNKNOWN_VALUE}) + ([UNKNOWN_VALUE] if (values == UNKNOWN_VALUE).any() else [])
    return {_SIDES.get(name, name) if column == "laterality" else name: frame[values == name] for name in names}


def by_annotation(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The positives of each kind by the columns of `patch_marks`, each kind together with all negatives."""
    is_positive = frame["label"] == CALCIFICATION
    has_marks, has_region = frame["num_marks"] > 0, frame["num_envelopes"] > 0
    kinds = {
        "marks inside a cluster": has_marks & has_region,
        "scattered marks": has_marks & ~has_region,
        "a cluster region alone": ~has_marks & has_region,
        "nothing annotated": ~has_marks & ~has_region,
    }
    return {name: frame[~is_positive | chosen] for name, chosen in kinds.items() if (is_positive & chosen).any()}


def part_counts(frame: pd.DataFrame, *, of_positives: bool = False) -> tuple[int, int, int, int]:
    """Mammograms and patients of a part, or of its positives alone, and its positive and its negative patches."""
    labels = frame["label"]
    counted = frame[labels == CALCIFICATION] if of_positives else frame
    return (
        int(counted["image_id"].nunique()),
        int(counted["patient_id"].nunique()),
        int((labels == CALCIFICATION).sum()),
        int((labels == NO_CALCIFICATION).sum()),
    )


def part_metrics(frame: pd.DataFrame, resamples: PatientResamples) -> PartMetrics:
    """Sensitivity and specificity at the paper's threshold, and the AUC of pairs of the same fold."""
    labels, scores = frame["label"].to_numpy(), frame["probability"].to_numpy()
    is_positive = labels == CALCIFICATION
    places = resamples.places(frame["patient_id"])
    has_positives, has_negatives = (_is_enough(places[chosen]) for chosen in (is_positive, ~is_positive))
    called = scores >= THRESHOLD
    return PartMetrics(
        sensitivity=resamples.rate(called[is_positive], places[is_positive]) if has_positives else None,
        specificity=resamples.rate(~called[~is_positive], places[~is_positive]) if has_negatives else None,
        auc=resamples.auc(frame) if has_positives and has_negatives else None,
    )


def _is_enough(places: NDArray[np.int64]) -> bool:
    return len(places) >= MIN_PATCHES and len(np.unique(places)) >= MIN_PATIENTS


def error_rate(patches: pd.DataFrame, resamples: PatientResamples, *, label: int) -> Interval | None:
    """The part of the patches of this label that was called the other."""
    of_label = patches[patches["label"] == label]
    called = of_label["probability"].to_numpy() >= THRESHOLD
    return resamples.rate(called == (label == NO_CALCIFICATION), resamples.places(of_label["patient_id"]))


def error_groups(first: pd.DataFrame) -> Iterator[ErrorGroup]:
    """The groups that what the paper's discussion blames divides the patches into; columns as of `error_rates`."""
    yield ErrorGroup("all", "", lambda frame: np.ones(len(frame), dtype=np.bool_))
    yield from _brightness_groups(first)
    if "num_marks" in first.columns and first.loc[first["label"] == CALCIFICATION, "num_marks"].any():
        yield from _area_groups(first)
        yield from _count_groups(first)
    for column, what in _OF_IMAGES.items():
        values = first[column].dropna().astype(str)
        for value in sorted(set(values)):
            yield ErrorGroup(what, _SIDES.get(value, value), _equal(column, value))
        if len(values) and len(values) < len(first):
            yield ErrorGroup(what, "unknown", _missing(column))


def _brightness_groups(first: pd.DataFrame) -> Iterator[ErrorGroup]:
    told = first["brightness"].dropna()
    if len(told):
        low, high = np.quantile(told, _THIRDS)
        yield ErrorGroup("brightness", f"darkest third, below {low:.2f}", _between("brightness", -np.inf, low))
        yield ErrorGroup("brightness", "middle third", _between("brightness", low, high))
        yield ErrorGroup("brightness", f"brightest third, {high:.2f} and above", _between("brightness", high, np.inf))
    if len(told) < len(first):
        yield ErrorGroup("brightness", "breast on less than half", _missing("brightness"))


def _area_groups(first: pd.DataFrame) -> Iterator[ErrorGroup]:
    areas = first.loc[(first["label"] == CALCIFICATION) & (first["num_marks"] > 0), "calcified_px"]
    low, high = np.quantile(areas, _THIRDS, method="higher").astype(int).tolist()
    names = (f"below {low:,} px", f"{low:,} to {high - 1:,} px", f"{high:,} px and above")
    edges = ((1, low), (low, high), (high, np.inf))
    for name, (least, most) in zip(names, edges, strict=True):
        yield ErrorGroup("calcified area", name, _between("calcified_px", least, most), of_positives=True)


def _count_groups(first: pd.DataFrame) -> Iterator[ErrorGroup]:
    for least, most in _COUNTS:
        name = f"{least} or more" if most is None else f"{least}" if least == most else f"{least} to {most}"
        above = np.inf if most is None else most + 1
        yield ErrorGroup("number of marks", name, _between("num_marks", least, above), of_positives=True)
    if (first.loc[first["label"] == CALCIFICATION, "num_marks"] == 0).any():
        yield ErrorGroup("number of marks", "none", _between("num_marks", 0, 1), of_positives=True)


def _between(column: str, low: float, high: float) -> _Chosen:
    return lambda frame: ((frame[column] >= low) & (frame[column] < high)).to_numpy()


def _missing(column: str) -> _Chosen:
    return lambda frame: frame[column].isna().to_numpy()


def _equal(column: str, value: str) -> _Chosen:
    return lambda frame: (frame[column].astype(str) == value).to_numpy()
