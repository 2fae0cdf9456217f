"""The same figures on other patches: without assumed negatives, and of a model on another store.

Owns these two sections.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from mmgkeras.errors import InputError
from mmgkeras.evaluation.bootstrap import PATCH, bootstrap_metrics
from mmgkeras.evaluation.metrics import METRIC_NAMES
from mmgkeras.evaluation.summary import (
    SELECTIONS,
    SelectionMetrics,
    lacking_class,
    mean_of_models,
    measure_selections,
    selected,
    without_assumed,
)
from mmgkeras.report.page import missing, paragraph
from mmgkeras.report.table import Cell, Section, Table
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION
from mmgkeras.study.read import Study
from mmgkeras.tables import read_predictions

PREDICTIONS_CSV: Final = "predictions.csv"
_ASSUMED: Final = (
    "Unmarked patches of mammograms called normal were taken to be free of calcification (label_source = “assumed”): "
    "nobody sought calcification there patch by patch. Here they are left out, and negatives are patches of completely "
    "annotated mammograms alone."
)


def assumed_section(study: Study, *, num_resamples: int) -> Section | None:
    """The figures without assumed negatives; None where nothing was assumed."""
    store = study.store
    if store is None or store.manifest["labels"]["label_source"] != "assumed":
        return None
    title = "Without assumed negatives"
    body: list[str | Table] = [paragraph(_ASSUMED)]
    rows: dict[str, list[tuple[Cell, ...]]] = {name: [] for name in SELECTIONS}
    counts = []
    for network in study.networks:
        kept = without_assumed(network.first.predictions, store.images)
        for selection, name in SELECTIONS.items():
            part = selected(kept, selection)
            if lacking := lacking_class(part, study.folds):
                body.append(missing(f"{network.name}, {name}: no figures, for {lacking}."))
                continue
            figures = bootstrap_metrics(part, num_resamples=num_resamples, folds=study.folds).fold_mean
            rows[selection].append((network.name, *(figures[figure] for figure in METRIC_NAMES)))
            counts.append((name, int((part["label"] == 1).sum()), int((part["label"] == 0).sum())))
    body.extend(
        paragraph(f"{name[0].upper()}{name[1:]}: {positive:,} with calcification and {negative:,} without.")
        for name, positive, negative in dict.fromkeys(counts)
    )
    body.extend(
        _table(found, name=f"without_assumed_{selection}", title=f"Mean over folds, {SELECTIONS[selection]}")
        for selection, found in rows.items()
        if found
    )
    return Section(anchor="assumed", title=title, body=tuple(body))


def external_section(folders: Sequence[Path], *, num_resamples: int) -> Section | None:
    """The figures of what `mmgkeras evaluate` wrote of models on other stores; None without any.

    Raises:
        InputError: if a folder has no predictions.csv that can be read, or it has no patch of known label.
        InputFaultsError: every fault of such a file.
    """
    if not folders:
        return None
    body: list[str | Table] = [
        paragraph(
            "Models on mammograms of another source, scored by mmgkeras evaluate. Where several models scored every "
            "patch, each model has a row, and “mean of models” is one classifier: the mean of their probabilities."
        )
    ]
    for number, folder in enumerate(folders, start=1):
        body.append(f"<h3>External set {number}</h3>")
        body.extend(_external(folder, number=number, num_resamples=num_resamples))
    return Section(anchor="external", title="On another store", body=tuple(body))


def _external(folder: Path, *, number: int, num_resamples: int) -> list[str | Table]:
    path = folder / PREDICTIONS_CSV
    predictions = read_predictions(path)
    if not (predictions["label"] >= 0).any():
        raise InputError(f"{path}: must hold a patch of known label. Received: {len(predictions)} patches, none known")
    rows = {f"model of fold {fold}": part for fold, part in predictions.groupby("fold")}
    if len(rows) > 1 and predictions.duplicated(PATCH).any():
        rows["mean of models"] = mean_of_models(predictions)
    measured = {name: measure_selections(part, num_resamples=num_resamples) for name, part in rows.items()}
    whole = predictions.drop_duplicates(PATCH)
    positive, negative = ((whole["label"] == label).sum() for label in (CALCIFICATION, NO_CALCIFICATION))
    body: list[str | Table] = [
        paragraph(
            f"{folder.name}: {positive:,} patches with calcification and {negative:,} without, "
            f"{whole['image_id'].nunique():,} mammograms of {whole['patient_id'].nunique():,} patients."
        )
    ]
    body.extend(
        _table(
            _external_rows(measured, selection),
            name=f"external{number}_{selection}",
            title=f"External set {number}, {name}",
        )
        for selection, name in SELECTIONS.items()
        if _external_rows(measured, selection)
    )
    return body


def _external_rows(measured: Mapping[str, Mapping[str, SelectionMetrics]], selection: str) -> list[tuple[Cell, ...]]:
    return [
        (name, *(part.bootstrap.fold_mean[figure] for figure in METRIC_NAMES))
        for name, of_selection in measured.items()
        if (part := of_selection.get(selection)) is not None
    ]


def _table(rows: Sequence[tuple[Cell, ...]], *, name: str, title: str) -> Table:
    return Table(
        name=name,
        title=title,
        columns=("", *METRIC_NAMES.values()),
        rows=tuple(rows),
        note="In brackets 95 % intervals of resampled patients.",
    )
