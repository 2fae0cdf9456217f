"""What probabilities mean and where to decide: calibration and operating points.

Owns the sections. What is fitted, and on whom, is `evaluation`'s; the section says it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd

from mmgkeras.errors import InputError
from mmgkeras.evaluation.calibration import SHIFTED, STATES, CalibrationReport, calibrate
from mmgkeras.evaluation.metrics import METRIC_NAMES, METRICS, THRESHOLD
from mmgkeras.evaluation.operating_point import (
    FittingSets,
    cross_fitted_thresholds,
    fitting_sets,
    reached_intervals,
)
from mmgkeras.evaluation.patient_table import FALSE_POSITIVES_PER_IMAGE
from mmgkeras.evaluation.summary import SELECTIONS, TISSUE, TISSUE_FRACTION, selected
from mmgkeras.json_files import without_folders
from mmgkeras.report.charts import REFERENCE, Series, line_chart
from mmgkeras.report.content import Block, Cell, Chart, Charts, Folded, Section, Table, Text, missing
from mmgkeras.study.read import NetworkStudy, Study

SENSITIVITIES: Final = (0.8, 0.9, 0.95)
"""Targets for which a threshold is chosen."""
FALSE_POSITIVES: Final = (0.5, 1.0, 2.0)
"""The same, in false positives per image."""

_MEASURES: Final = {
    "brier": "Brier",
    "ece": "ECE",
    "in_the_large": "In the large",
    "slope": "Slope",
    "intercept": "Intercept",
    "mean_predicted": "Mean probability",
    "observed": "Observed fraction",
}
"""Attributes of a `Calibration`, and their columns."""

_CALIBRATION: Final = (
    "The epoch that a network is trained on holds far more positives than the field, so its probabilities are too high "
    "by construction. They are first shifted to the field's prevalence (Bayes' rule), then corrected by a slope and an "
    "intercept. The paper's own decision, 0.5 of the uncorrected probability, is left as it is in all other sections."
)
_INSERTED: Final = (
    "no probabilities at the field's prevalence, for augmentation.insertion makes positives of negatives in training "
    "and no run counts how many; the recalibrated ones do not depend on it"
)
_OPERATING: Final = (
    "A threshold is chosen for each fold on other patients than those it is tested on, to reach a target there; the "
    "table has what it reached on the fold's own test patients, mean over folds."
)


def calibration_section(study: Study, *, num_resamples: int) -> Section:
    """Curves and measures of every network, before and after correction."""
    body: list[Block] = [Text(_CALIBRATION)]
    rows: list[tuple[Cell, ...]] = []
    bins: list[tuple[Cell, ...]] = []
    pictures, said = [], []
    for network in study.networks:
        prevalence = _trained_prevalence(network)
        if sorted(prevalence) != list(study.folds):
            said.append(missing(f"{network.name}: no calibration, for a run does not say what it was trained on."))
            continue
        for selection, name in SELECTIONS.items():
            try:
                report = calibrate(
                    network.first.predictions,
                    validation=network.first.validation,
                    trained_prevalence=prevalence,
                    min_negative_tissue=network.config.augmentation.min_negative_tissue,
                    min_tissue=TISSUE_FRACTION if selection == TISSUE else 0.0,
                    num_resamples=num_resamples,
                )
            except (InputError, ValueError) as error:
                said.append(missing(f"{network.name}, {name}: no calibration. {error}"))
                continue
            if network.config.augmentation.insertion:
                states = {state: found for state, found in report.states.items() if state != SHIFTED}
                report = replace(report, states=states)
                said.append(missing(f"{network.name}: {_INSERTED}."))
            for state, found in report.states.items():
                where = (network.name, selection, state)
                rows.append((*where, *(getattr(found, measure) for measure in _MEASURES)))
                bins.extend(
                    (*where, number, point.num_patches, point.mean_predicted, point.observed)
                    for number, point in enumerate(found.curve, start=1)
                )
            pictures.append(_calibration_chart(report, label=study.labels[network.name], name=name))
            if report.fitted_on is not None:
                said.append(Text(f"The corrections were fitted on {report.fitted_on}."))
            if report.reason:
                said.append(missing(f"{network.name}, {name}: {report.reason}."))
    body.extend(dict.fromkeys(said))
    body.append(Charts(tuple(pictures)))
    if rows:
        body += _calibration_tables(rows, bins)
    return Section(anchor="calibration", title="Calibration", body=tuple(body))


def operating_points_section(study: Study, *, num_resamples: int) -> Section:
    """Thresholds for target sensitivities and target false positives, cross-fitted."""
    body: list[Block] = [Text(_OPERATING)]
    said: list[str] = []
    fitted: set[str] = set()
    for selection, name in SELECTIONS.items():
        rows: list[tuple[Cell, ...]] = []
        for network in study.networks:
            patches, validation = selected(network.first.predictions, selection), network.first.validation
            sets = fitting_sets(patches, validation=None if validation is None else selected(validation, selection))
            chosen, reasons = _chosen_thresholds(sets)
            chosen = {f"the paper's, {THRESHOLD:g}": dict.fromkeys(study.folds, THRESHOLD), **chosen}
            rows.extend(
                (network.name, target, *_reached(patches, thresholds, num_resamples=num_resamples))
                for target, thresholds in chosen.items()
            )
            said += [f"{network.name}, {name}: {reason}." for reason in reasons]
            fitted |= {sets.fitted_on} if sets.fitted_on else set()
        body.append(_operating_table(rows, selection=selection, name=name))
    body[1:1] = [Text(f"Chosen on: {text}.") for text in sorted(fitted)]
    if said:
        body.append(Folded("Why some targets have no threshold", without_folders("\n".join(dict.fromkeys(said)))))
    return Section(anchor="operating-points", title="Operating points", body=tuple(body))


def _trained_prevalence(network: NetworkStudy) -> dict[int, float]:
    """Fraction of positives in an epoch of each fold, augmentation counted; without folds that lack a class."""
    counts = {fold: environment.counts for fold, environment in network.first.environments.items()}
    epochs = {fold: (count.augmented_positives, count.augmented_negatives) for fold, count in counts.items()}
    return {
        fold: positives / (positives + negatives)
        for fold, (positives, negatives) in epochs.items()
        if positives and negatives
    }


def _calibration_chart(report: CalibrationReport, *, label: str, name: str) -> Chart:
    series = [Series(label="perfect", x=(0, 1), y=(0, 1), style=REFERENCE)]
    for style, state in enumerate(STATES):
        if (measured := report.states.get(state)) is not None:
            x = [point.mean_predicted for point in measured.curve]
            y = [point.observed.estimate for point in measured.curve]
            ends = np.array([(point.observed.low, point.observed.high) for point in measured.curve], dtype=float)
            series.append(Series(label=state, x=x, y=y, style=style, form="marked", bounds=(ends[:, 0], ends[:, 1])))
    title = f"Calibration, {label}, {name}"
    return line_chart(
        series,
        title=title,
        caption=f"{title}; ten bins of as many patches each, all folds, with 95 % intervals.",
        x_label="mean predicted probability",
        y_label="observed fraction",
        x_range=(0, 1),
        y_range=(0, 1),
    )


def _calibration_tables(rows: Sequence[tuple[Cell, ...]], bins: Sequence[tuple[Cell, ...]]) -> list[Table]:
    return [
        Table(
            name="calibration_measures",
            title="Calibration, all folds together, each by its own correction",
            columns=("Network", "Patches", "Probabilities", *_MEASURES.values()),
            rows=tuple(rows),
            note="Brier: mean squared error, 0 is best. ECE: expected calibration error over ten bins of as many "
            "patches each. In the large: intercept with the slope held at 1; slope and intercept of the logistic "
            "regression on the logit: 1 and 0 are best.",
        ),
        Table(
            name="calibration_bins",
            title="Calibration by bins of as many patches each, all folds together",
            columns=("Network", "Patches", "Probabilities", "Bin", "Number", "Mean probability", "Observed fraction"),
            rows=tuple(bins),
            note="95 % intervals over patients; none where fewer than five have a patch in the bin, or none is "
            "calcified.",
        ),
    ]


def _chosen_thresholds(sets: FittingSets) -> tuple[dict[str, dict[int, float]], list[str]]:
    """The thresholds of each fold for each target, none where one cannot be chosen, and why."""
    targets = {f"sensitivity {value:g}": {"sensitivity": value} for value in SENSITIVITIES}
    targets |= {f"{value:g} FP per image": {"false_positives_per_image": value} for value in FALSE_POSITIVES}
    chosen: dict[str, dict[int, float]] = {name: {} for name in targets}
    reasons = [sets.reason] if sets.reason else []
    for name, target in targets.items():
        try:
            chosen[name] = cross_fitted_thresholds(sets, **target)
        except InputError as error:
            reasons.append(str(error))
    return chosen, reasons


def _reached(patches: pd.DataFrame, thresholds: Mapping[int, float], *, num_resamples: int) -> tuple[Cell, ...]:
    if not thresholds:
        return (None,) * len(METRICS)
    found = reached_intervals(patches, thresholds, num_resamples=num_resamples)
    reached = (found[name] for name in (FALSE_POSITIVES_PER_IMAGE, *METRICS[2:]))
    return (float(np.mean(list(thresholds.values()))), *reached)


def _operating_table(rows: Sequence[tuple[Cell, ...]], *, selection: str, name: str) -> Table:
    return Table(
        name=f"operating_points_{selection}",
        title=f"Operating points, {name}",
        columns=(
            *("Network", "Chosen for", "Threshold, mean", "FP per image"),
            *(METRIC_NAMES[name] for name in METRICS[2:]),
        ),
        rows=tuple(rows),
        note="FP per image: false positive patches over the mammograms with a patch labelled 0. AUC and PR AUC do not "
        "depend on the threshold. In brackets 95 % intervals over patients, the thresholds held fixed. Compare target "
        "and reached: a threshold is worth what it holds on other patients.",
    )
