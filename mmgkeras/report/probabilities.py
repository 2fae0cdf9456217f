"""What probabilities mean and where to decide: calibration and operating points.

Owns the sections. What is fitted, and on whom, is `evaluation`'s; the section says it.
"""

from collections.abc import Sequence
from typing import Final

from mmgkeras.errors import InputError
from mmgkeras.evaluation.calibration import STATES, CalibrationReport, calibrate
from mmgkeras.evaluation.metrics import METRIC_NAMES, METRICS, THRESHOLD
from mmgkeras.evaluation.operating_point import cross_fitted_operating_points, mean_reached, measure_at
from mmgkeras.evaluation.summary import SELECTIONS, TISSUE, TISSUE_FRACTION, selected
from mmgkeras.report.charts import REFERENCE, Series, line_chart
from mmgkeras.report.content import Block, Cell, Chart, Charts, Section, Table, Text, missing
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
    "observed": "Part calcified",
}
"""Attributes of a `Calibration`, and their columns."""

_CALIBRATION: Final = (
    "The epoch that a network is trained on holds far more positives than the field, so its probabilities are too high "
    "by construction. They are first shifted to the field's prevalence (Bayes' rule), then corrected by a slope and an "
    "intercept. The paper's own decision, 0.5 of the uncorrected probability, is left as it is in all other sections."
)
_OPERATING: Final = (
    "A threshold is chosen for each fold on other patients than those it is tested on, to reach a target there; the "
    "table has what it reached on the fold's own test patients, mean over folds."
)


def calibration_section(study: Study) -> Section:
    """Curves and measures of every network, before and after correction."""
    body: list[Block] = [Text(_CALIBRATION)]
    rows: list[tuple[Cell, ...]] = []
    pictures, said = [], []
    for network in study.networks:
        prevalence = trained_prevalence(network)
        if sorted(prevalence) != list(study.folds):
            said.append(missing(f"{network.name}: no calibration, for a run does not say what it was trained on."))
            continue
        for selection, name in SELECTIONS.items():
            try:
                report = _calibrated(network, selection=selection, prevalence=prevalence)
            except (InputError, ValueError) as error:
                said.append(missing(f"{network.name}, {name}: no calibration. {error}"))
                continue
            rows.extend((network.name, selection, *cells) for cells in _measures(report))
            label = study.labels[network.name]
            pictures.append(_calibration_chart(report, label=label, name=name))
            said.extend(_fitting_lines(report, label=f"{network.name}, {name}"))
    body.extend(dict.fromkeys(said))
    body.append(Charts(tuple(pictures)))
    if rows:
        body.append(_calibration_table(rows))
    return Section(anchor="calibration", title="Calibration", body=tuple(body))


def operating_points_section(study: Study) -> Section:
    """Thresholds for target sensitivities and target false positives, cross-fitted."""
    body: list[Block] = [Text(_OPERATING)]
    said: list[str] = []
    for selection, name in SELECTIONS.items():
        rows: list[tuple[Cell, ...]] = []
        for network in study.networks:
            rows.append((network.name, f"the paper's, {THRESHOLD:g}", *_at_half(network, selection)))
            found, faults = _operating_rows(network, selection)
            rows.extend((network.name, *cells) for cells in found)
            said.extend(f"{network.name}, {name}: {fault}" for fault in faults)
        body.append(_operating_table(rows, selection=selection, name=name))
    fitted = sorted({text for network in study.networks if (text := _fitted_on(network))})
    body[1:1] = [Text(f"Chosen on: {text}.") for text in fitted] + [missing(text) for text in dict.fromkeys(said)]
    return Section(anchor="operating-points", title="Operating points", body=tuple(body))


def trained_prevalence(network: NetworkStudy) -> dict[int, float]:
    """Part of positives in an epoch of each fold, augmentation counted; without the folds whose run does not say it."""
    prevalence = {}
    for fold, environment in network.first.environments.items():
        positives, negatives = environment.counts.augmented_positives, environment.counts.augmented_negatives
        if positives and negatives:
            prevalence[fold] = positives / (positives + negatives)
    return prevalence


def _calibrated(network: NetworkStudy, *, selection: str, prevalence: dict[int, float]) -> CalibrationReport:
    return calibrate(
        network.first.predictions,
        validation=network.first.validation,
        trained_prevalence=prevalence,
        min_negative_tissue=network.config.augmentation.min_negative_tissue,
        min_tissue=TISSUE_FRACTION if selection == TISSUE else 0.0,
    )


def _measures(report: CalibrationReport) -> list[tuple[Cell, ...]]:
    known = ((state, report.states.get(state)) for state in STATES)
    return [(state, *(getattr(found, name) for name in _MEASURES)) for state, found in known if found is not None]


def _fitting_lines(report: CalibrationReport, *, label: str) -> list[Text]:
    lines = []
    if report.fitted_on is not None:
        lines.append(Text(f"The corrections were fitted on {report.fitted_on}."))
    if report.reason:
        lines.append(missing(f"{label}: {report.reason}."))
    return lines


def _calibration_chart(report: CalibrationReport, *, label: str, name: str) -> Chart:
    series = [Series(label="perfect", x=(0, 1), y=(0, 1), style=REFERENCE)]
    for style, state in enumerate(STATES):
        if (measured := report.states.get(state)) is not None:
            x = [point.mean_predicted for point in measured.curve]
            y = [point.observed for point in measured.curve]
            series.append(Series(label=state, x=x, y=y, style=style, form="marked"))
    title = f"Calibration, {label}, {name}"
    return line_chart(
        series,
        title=title,
        caption=f"{title}; ten bins of equal width, all folds.",
        x_label="mean probability in a bin",
        y_label="part that is calcified",
        x_range=(0, 1),
        y_range=(0, 1),
    )


def _calibration_table(rows: Sequence[tuple[Cell, ...]]) -> Table:
    return Table(
        name="calibration_measures",
        title="Calibration, all folds together, each by its own correction",
        columns=("Network", "Patches", "Probabilities", *_MEASURES.values()),
        rows=tuple(rows),
        note="Brier: mean squared error, 0 is best. ECE: expected calibration error over ten bins. In the large: "
        "intercept with the slope held at 1; slope and intercept of the logistic regression on the logit: 1 and 0 are "
        "best.",
    )


def _at_half(network: NetworkStudy, selection: str) -> tuple[Cell, ...]:
    """The paper's decision in the columns of the table of operating points."""
    patches = selected(network.first.predictions, selection)
    means = mean_reached([measure_at(part, threshold=THRESHOLD) for _, part in patches.groupby("fold")])
    return (THRESHOLD, means["false_positives_per_image"], *(means[name] for name in METRICS[2:]))


def _operating_rows(network: NetworkStudy, selection: str) -> tuple[list[tuple[Cell, ...]], list[str]]:
    """A row for each target, and why others have none."""
    patches, validation = network.first.predictions, network.first.validation
    rows: list[tuple[Cell, ...]] = []
    faults: dict[str, list[str]] = {}
    targets = [("sensitivity", value) for value in SENSITIVITIES]
    targets += [("false_positives_per_image", value) for value in FALSE_POSITIVES]
    for kind, value in targets:
        points = cross_fitted_operating_points(
            selected(patches, selection),
            validation=None if validation is None else selected(validation, selection),
            **{kind: value},
        )
        name = f"sensitivity {value:g}" if kind == "sensitivity" else f"{value:g} FP per image"
        if points.reason:
            faults.setdefault(points.reason, []).append(name)
            continue
        reached = (points.mean["threshold"], points.mean["false_positives_per_image"])
        rows.append((name, *reached, *(points.mean[metric] for metric in METRICS[2:])))
    return rows, [f"no threshold for {', '.join(names)}: {reason}." for reason, names in faults.items()]


def _fitted_on(network: NetworkStudy) -> str | None:
    patches, validation = network.first.predictions, network.first.validation
    points = cross_fitted_operating_points(patches, validation=validation, sensitivity=SENSITIVITIES[0])
    return points.fitted_on


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
        "depend on the threshold. Compare target and reached: a threshold is worth what it holds on other patients.",
    )
