"""Metrics of parts of the patches: by vendor, density, view, breast, and what is annotated in the positives.

Owns the section's wording and tables. Rates of errors by what is seen in the patch itself are `atlas`'.
"""

from collections.abc import Mapping
from typing import Final

import pandas as pd

from mmgkeras.evaluation.bootstrap import MIN_PATIENTS, NUM_RESAMPLES, PATCH, PatientResamples, resample_patients
from mmgkeras.evaluation.metrics import THRESHOLD
from mmgkeras.evaluation.subgroup_metrics import (
    MIN_PATCHES,
    UNKNOWN_VALUE,
    by_annotation,
    by_column,
    part_counts,
    part_metrics,
)
from mmgkeras.evaluation.summary import TISSUE, selected
from mmgkeras.report.content import Block, Cell, Section, Table, Text, missing
from mmgkeras.schema import UNKNOWN
from mmgkeras.study.read import Study

ANCHOR: Final = "subgroups"
_OF_IMAGES: Final = {"vendor": "vendor", "density": "density", "view": "view", "laterality": "breast"}
TOO_FEW: Final = "too few"
_INTRO: Final = (
    f"Predictions out of fold of patches on tissue, at the paper's threshold of {THRESHOLD:g}. A metric stands where "
    f"at least {MIN_PATCHES} patches of {MIN_PATIENTS} patients carry it; otherwise the counts stand alone. The AUC "
    "compares patches of the same fold, the pairs of all folds together. The intervals are not corrected for the "
    "number of parts: they show where to look and prove no difference."
)
_NOTE: Final = "Patches on tissue; 95 % intervals over patients. n/a: too few patches or patients for a metric."


def subgroups_section(
    study: Study, *, marks: pd.DataFrame | None = None, num_resamples: int = NUM_RESAMPLES
) -> Section:
    """Sensitivity, specificity and AUC of each part, with intervals; `marks` are `study_marks` of the study."""
    title = "Subgroups"
    if study.store is None:
        return Section(anchor=ANCHOR, title=title, body=(missing("The patch store is not there: parts are unknown."),))
    patches = {
        study.labels[network.name]: selected(network.first.predictions, TISSUE)
        .query(f"label != {UNKNOWN}")
        .merge(study.store.images[["image_id", *_OF_IMAGES]], on="image_id", how="left", validate="many_to_one")
        for network in study.networks
    }
    first = study.networks[0].first.predictions
    resamples = resample_patients(first, num_resamples=num_resamples)
    body: list[Block] = [Text(_INTRO)]
    for column, name in _OF_IMAGES.items():
        grouped = {network: by_column(frame, column) for network, frame in patches.items()}
        groups = next(iter(grouped.values()))
        if set(groups) == {UNKNOWN_VALUE}:
            body.append(missing(f"The data do not tell the {name} of any mammogram."))
        else:
            body.append(_table(grouped, resamples, name=f"subgroups_{column}", title=f"By {name}", what=name))
    if marks is None:
        body.append(missing("Type and distribution are not known: there is no data folder with regions.csv."))
    else:
        grouped = {name: by_annotation(frame.merge(marks, on=PATCH, how="left")) for name, frame in patches.items()}
        body.append(
            _table(
                grouped,
                resamples,
                name="subgroups_finding",
                title="By type and distribution of the annotated findings",
                what="positives with",
                of_positives=True,
                note="Type: individual marks or a cluster region. Distribution: marks in a patch that a cluster region "
                "reaches count as inside a cluster, others as scattered. Each part's positives are set against all "
                "negatives, so the specificity is the same. ",
            )
        )
    return Section(anchor=ANCHOR, title=title, body=tuple(body))


def _table(
    grouped: Mapping[str, Mapping[str, pd.DataFrame]],
    resamples: PatientResamples,
    *,
    name: str,
    title: str,
    what: str,
    of_positives: bool = False,
    note: str = "",
) -> Table:
    """One row for each part and network; one for a part that is too small for any metric."""
    rows: list[tuple[Cell, ...]] = []
    for part, first in next(iter(grouped.values())).items():
        counts = part_counts(first, of_positives=of_positives)
        metrics = {network: part_metrics(parts[part], resamples) for network, parts in grouped.items()}
        if all(metric is None for of_network in metrics.values() for metric in of_network):
            rows.append((part, *counts, TOO_FEW, None, None, None))
        else:
            rows.extend((part, *counts, network, *of_network) for network, of_network in metrics.items())
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
