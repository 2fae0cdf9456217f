"""ROC, precision-recall and free-response curves, by fold, their mean, and of all networks beside each other.

Owns the charts. The metrics that summarise them are under Performance.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.errors import InputError, counted
from mmgkeras.evaluation.froc import RATES, froc, on_breast, reach_of
from mmgkeras.evaluation.metrics import (
    Curve,
    curves_of_folds,
    mean_precision_recall,
    mean_roc,
    precision_recall_points,
    roc_points,
)
from mmgkeras.evaluation.summary import SELECTIONS, selected
from mmgkeras.evaluation.targets import Targets
from mmgkeras.report.charts import REFERENCE, Series, line_chart
from mmgkeras.report.content import Block, Chart, Charts, Heading, Section, Table, Text, missing
from mmgkeras.schema import CALCIFICATION, UNKNOWN
from mmgkeras.study.read import Study, study_targets

_LOWEST_RATE: Final = 0.05
"""False positives per image at which the free-response chart begins."""


def roc_section(study: Study) -> Section:
    """ROC of every fold and their mean, and the means of all networks."""
    text = (
        "Thin lines are the folds, the thick one is the mean of their sensitivities at each false positive rate, whose "
        "area is the mean AUC."
    )
    pictures = _curve_charts(
        study,
        curve=roc_points,
        averaged=mean_roc,
        name="ROC",
        axes=("1 \u2212 specificity", "sensitivity"),
        reference=Series(label="chance", x=(0, 1), y=(0, 1), style=REFERENCE),
    )
    return Section(anchor="roc", title="ROC", body=(Text(text), *pictures))


def precision_recall_section(study: Study) -> Section:
    """Precision and recall of every fold and their mean, and the means of all networks."""
    text = (
        "Where few patches are positive, these curves say more than ROC: precision is the fraction of the called "
        "patches that is calcified. The dotted line is the prevalence, which chance reaches."
    )
    pictures = _curve_charts(
        study,
        curve=precision_recall_points,
        averaged=mean_precision_recall,
        name="Precision-recall",
        axes=("recall (sensitivity)", "precision (PPV)"),
        reference=None,
    )
    return Section(anchor="precision-recall", title="Precision and recall", body=(Text(text), *pictures))


def froc_section(study: Study, *, num_resamples: int) -> Section:
    """Which part of the findings is found at how many false positives per image, by marks and by patches."""
    predictions = {network.name: on_breast(network.first.predictions) for network in study.networks}
    first = next(iter(predictions.values()))
    try:
        targets = study_targets(study, first)
    except InputError as error:
        return Section(anchor="froc", title="Free-response ROC", body=(missing(str(error).splitlines()[0]),))
    if not targets.items:
        text = "No region holds a positive patch: there is no target to be found."
        return Section(anchor="froc", title="Free-response ROC", body=(missing(text),))
    series, rows = [], []
    store = study.store
    reach = 1 if store is None else reach_of(patch_px=store.patch_px, stride_px=store.stride_px)
    for kind, apart in (("marks", reach), ("patches", None)):
        for style, (name, patches) in enumerate(predictions.items()):
            measured = froc(patches, targets, reach=apart, num_resamples=num_resamples)
            for how, values in (("mean over folds", measured.fold_mean), ("one threshold for all", measured.pooled)):
                rows.append((kind, name, how, *(values[rate] for rate in RATES)))
            if kind == "marks":
                rates, sensitivities = (np.array(values) for values in zip(*measured.points, strict=True))
                x, y = np.append(rates, max(10.0, rates[-1])), np.append(sensitivities, sensitivities[-1])
                series.append(Series(label=study.labels[name], x=x, y=y, style=style, form="step"))
    picture = line_chart(
        series,
        title="Free-response ROC of each network",
        caption="By marks on the breast, all folds at one threshold.",
        x_label="false positives per image",
        y_label="sensitivity for targets",
        x_range=(_LOWEST_RATE, 10),
        y_range=(0, 1),
        x_scale="log",
        width=560,
    )
    table = Table(
        name="froc_sensitivity",
        title="Sensitivity for targets by false positives per image",
        columns=("Counted", "Network", "Thresholds", *(f"{rate:g}" for rate in RATES)),
        rows=tuple(rows),
        note="95 % intervals of resampled patients, made as those of the headline.",
    )
    sentence = Text(_target_sentence(targets, num_images=measured.num_images))
    return Section(anchor="froc", title="Free-response ROC", body=(sentence, Charts((picture,)), table))


def _curve_charts(
    study: Study,
    *,
    curve: Callable[[NDArray[np.integer], NDArray[np.float64]], Curve],
    averaged: Callable[[Sequence[Curve]], Curve],
    name: str,
    axes: tuple[str, str],
    reference: Series | None,
) -> list[Block]:
    """For each selection a row of pictures: one of each network's folds, and one of all networks' means."""
    parts: list[Block] = []
    for selection, described in SELECTIONS.items():
        pictures: list[Chart | Text] = []
        means: list[Series] = []
        for style, network in enumerate(study.networks):
            patches = selected(network.first.predictions, selection)
            curves = curves_of_folds(patches, curve=curve)
            if len(curves) < len(study.folds):
                pictures.append(missing(f"{network.name}: a fold lacks one of the classes among {described}."))
                continue
            label = study.labels[network.name]
            chance = reference or _prevalence_line(patches)
            folds = [Series(label="", x=x, y=y, style=style, weight="faint") for x, y in curves]
            mean_x, mean_y = averaged(curves)
            name_of_mean = f"{label}, mean of {len(curves)} folds" if len(curves) > 1 else label
            means.append(Series(label=name_of_mean, x=mean_x, y=mean_y, style=style))
            pictures.append(_chart([chance, *folds, means[-1]], title=f"{name}, {label}, {described}", axes=axes))
        if len(means) > 1:
            chance = reference or _prevalence_line(selected(study.networks[0].first.predictions, selection))
            pictures.append(_chart([chance, *means], title=f"{name}, all networks, {described}", axes=axes))
        parts += [Heading(described[0].upper() + described[1:]), Charts(tuple(pictures))]
    return parts


def _prevalence_line(patches: pd.DataFrame) -> Series:
    known = patches.loc[patches["label"] != UNKNOWN, "label"]
    prevalence = float((known == CALCIFICATION).mean())
    return Series(label=f"prevalence, {prevalence:.3f}", x=(0, 1), y=(prevalence, prevalence), style=REFERENCE)


def _chart(series: Sequence[Series], *, title: str, axes: tuple[str, str]) -> Chart:
    (x_label, y_label), unit = axes, (0.0, 1.0)
    return line_chart(
        series, title=title, caption=f"{title}.", x_label=x_label, y_label=y_label, x_range=unit, y_range=unit
    )


def _target_sentence(targets: Targets, *, num_images: int) -> str:
    if targets.kind == "region":
        text = "Each annotated cluster with the marks in it is one target, and so is each individual mark in no cluster"
        if targets.num_left_out:
            text += f" (left out, for they have no positive patch and could not be hit: {targets.num_left_out:,})"
    else:
        text = "Each 8-connected component of positive patches is one target, for no regions are at hand"
    return (
        f"{text}. A target is hit when any of its positive patches is at or above the threshold. Patches count that "
        "show any breast (tissue above 0). A mark is a connected set of patches at or above the threshold, those that "
        "overlap or touch being connected; it is a false positive if it has a patch labelled 0 and none labelled 1. "
        "Marks that grow together at a lower threshold count as many as they were. By patches, each patch labelled 0 "
        f"is one. {counted(len(targets.items), 'target')}; false positives are counted on "
        f"the {counted(num_images, 'mammogram')} with a patch labelled 0."
    )
