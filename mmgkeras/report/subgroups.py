"""Figures of parts of the patches: by vendor, density, view, breast, and what is annotated in the positives.

Owns which parts there are and when a figure of one has a meaning. Rates of errors by what is seen in the patch itself
are `atlas`'.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd

from mmgkeras.evaluation.metrics import THRESHOLD
from mmgkeras.evaluation.summary import TISSUE_FRACTION
from mmgkeras.report.findings import PLACE
from mmgkeras.report.page import missing, paragraph
from mmgkeras.report.resampling import MIN_PATIENTS, PatientResamples, resample_patients
from mmgkeras.report.table import Cell, Section, Table
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION, UNKNOWN
from mmgkeras.study.read import Study

ANCHOR: Final = "subgroups"
MIN_PATCHES: Final = 10
"""A part has figures of its positives, or of its negatives, if there are so many of them, of MIN_PATIENTS patients."""
UNKNOWN_VALUE: Final = "unknown"
_OF_IMAGES: Final[Mapping[str, str]] = {
    "vendor": "vendor",
    "density": "density",
    "view": "view",
    "laterality": "breast",
}
_SIDES: Final = {"L": "left", "R": "right"}
TOO_FEW: Final = "too few"
_INTRO: Final = (
    f"Predictions out of fold of patches on tissue, at the paper's threshold of {THRESHOLD:g}. A figure stands where "
    f"at least {MIN_PATCHES} patches of {MIN_PATIENTS} patients carry it; otherwise the counts stand alone. The AUC "
    "compares patches of the same fold, the pairs of all folds together. The intervals are not corrected for the "
    "number of parts: they show where to look and prove no difference."
)
_NOTE: Final = "Patches on tissue; 95 % intervals over patients. n/a: too few patches or patients for a figure."


def subgroups_section(
    study: Study, *, marks: pd.DataFrame | None = None, num_resamples: int = 2000, seed: int = 0
) -> Section:
    """Sensitivity, specificity and AUC of each part, with intervals.

    Args:
        study: the cross-validation.
        marks: `findings.study_marks` of it.
        num_resamples: sets of patients drawn.
        seed: of the drawing.
    """
    title = "Subgroups"
    if study.store is None:
        return Section(anchor=ANCHOR, title=title, body=(missing("The patch store is not there: parts are unknown."),))
    patches = {
        study.labels[network.name]: _known_on_tissue(network.first.predictions).merge(
            study.store.images[["image_id", *_OF_IMAGES]], on="image_id", how="left", validate="many_to_one"
        )
        for network in study.networks
    }
    first = study.networks[0].first.predictions
    resamples = resample_patients(first, num_resamples=num_resamples, seed=seed)
    body: list[str | Table] = [paragraph(_INTRO)]
    for column, name in _OF_IMAGES.items():
        grouped = {network: _by_column(frame, column) for network, frame in patches.items()}
        groups = next(iter(grouped.values()))
        if set(groups) == {UNKNOWN_VALUE}:
            body.append(missing(f"The data do not tell the {name} of any mammogram."))
        else:
            body.append(_table(grouped, resamples, name=f"subgroups_{column}", title=f"By {name}", what=name))
    body.extend(_annotated(patches, marks, resamples))
    return Section(anchor=ANCHOR, title=title, body=tuple(body))


def _known_on_tissue(predictions: pd.DataFrame) -> pd.DataFrame:
    return predictions[(predictions["label"] != UNKNOWN) & (predictions["tissue"] >= TISSUE_FRACTION)]


def _by_column(frame: pd.DataFrame, column: str) -> dict[str, pd.DataFrame]:
    """The patches of each value, the values in order and unknown last."""
    values = frame[column].fillna(UNKNOWN_VALUE).astype(str)
    names = sorted(set(values) - {UNKNOWN_VALUE}) + ([UNKNOWN_VALUE] if (values == UNKNOWN_VALUE).any() else [])
    return {_SIDES.get(name, name) if column == "laterality" else name: frame[values == name] for name in names}


def _annotated(
    patches: Mapping[str, pd.DataFrame], marks: pd.DataFrame | None, resamples: PatientResamples
) -> Sequence[str | Table]:
    """Parts by what regions.csv has in the positives; each part's positives stand against all negatives."""
    if marks is None:
        return (missing("Type and distribution are not known: there is no data folder with regions.csv."),)
    grouped = {name: _by_marks(frame.merge(marks, on=PLACE, how="left")) for name, frame in patches.items()}
    return (
        _table(
            grouped,
            resamples,
            name="subgroups_finding",
            title="By type and distribution of the annotated findings",
            what="positives with",
            count=_counts_of_positives,
            note="Type: individual marks or a cluster's envelope. Distribution: marks in a patch that an envelope "
            "reaches count as inside a cluster, others as scattered. Each part's positives are set against all "
            "negatives, so the specificity is the same. ",
        ),
    )


def _by_marks(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    is_positive = frame["label"] == CALCIFICATION
    has_marks, has_envelope = frame["num_marks"] > 0, frame["num_envelopes"] > 0
    kinds = {
        "marks inside a cluster": has_marks & has_envelope,
        "scattered marks": has_marks & ~has_envelope,
        "a cluster's envelope alone": ~has_marks & has_envelope,
        "nothing annotated": ~has_marks & ~has_envelope,
    }
    return {name: frame[~is_positive | chosen] for name, chosen in kinds.items() if (is_positive & chosen).any()}


def _table(
    grouped: Mapping[str, Mapping[str, pd.DataFrame]],
    resamples: PatientResamples,
    *,
    name: str,
    title: str,
    what: str,
    count: Callable[[pd.DataFrame], tuple[int, ...]] | None = None,
    note: str = "",
) -> Table:
    """One row for each part and network; one for a part that is too small for any figure."""
    rows: list[tuple[Cell, ...]] = []
    for part, first in next(iter(grouped.values())).items():
        counts = (count or _counts)(first)
        figures = {network: _figures(parts[part], resamples) for network, parts in grouped.items()}
        if all(figure is None for of_network in figures.values() for figure in of_network):
            rows.append((part, *counts, TOO_FEW, None, None, None))
        else:
            rows.extend((part, *counts, network, *of_network) for network, of_network in figures.items())
    return Table(
        name=name,
        title=title,
        columns=(
            *(what.capitalize(), "Mammograms", "Patients", "With calcification", "Without"),
            *("Network", "Sensitivity", "Specificity", "AUC"),
        ),
        rows=tuple(rows),
        note=note + _NOTE,
    )


def _counts(frame: pd.DataFrame) -> tuple[int, ...]:
    """Mammograms and patients of the part's positives and negatives, and how many of these."""
    labels = frame["label"]
    return (
        int(frame["image_id"].nunique()),
        int(frame["patient_id"].nunique()),
        int((labels == CALCIFICATION).sum()),
        int((labels == NO_CALCIFICATION).sum()),
    )


def _counts_of_positives(frame: pd.DataFrame) -> tuple[int, ...]:
    """The same, mammograms and patients being those of the positives alone."""
    return (*_counts(frame[frame["label"] == CALCIFICATION])[:2], *_counts(frame)[2:])


def _figures(frame: pd.DataFrame, resamples: PatientResamples) -> tuple[Cell, ...]:
    labels, scores = frame["label"].to_numpy(), frame["probability"].to_numpy()
    is_positive = labels == CALCIFICATION
    places = resamples.places(frame["patient_id"])
    has_positives, has_negatives = (_is_enough(places[chosen]) for chosen in (is_positive, ~is_positive))
    called = scores >= THRESHOLD
    return (
        resamples.rate(called[is_positive], places[is_positive]) if has_positives else None,
        resamples.rate(~called[~is_positive], places[~is_positive]) if has_negatives else None,
        resamples.auc(labels, scores, places=places, folds=frame["fold"].to_numpy())
        if has_positives and has_negatives
        else None,
    )


def _is_enough(places: np.ndarray[tuple[int], np.dtype[np.int64]]) -> bool:
    return len(places) >= MIN_PATCHES and len(np.unique(places)) >= MIN_PATIENTS
