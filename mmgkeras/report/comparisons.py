"""The networks beside each other, and the same metrics on other patches.

Owns three sections: differences between networks, metrics without assumed negatives, metrics on another store. The
tests and metrics are `evaluation`'s.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from mmgkeras.errors import InputError, counted
from mmgkeras.evaluation.bootstrap import PATCH, bootstrap_metrics
from mmgkeras.evaluation.comparison import Comparison, compare_networks
from mmgkeras.evaluation.interval import Difference
from mmgkeras.evaluation.outputs import METRICS_JSON, Scored
from mmgkeras.evaluation.summary import (
    SELECTIONS,
    lacking_class,
    mean_of_models,
    measure_selections,
    selected,
    without_assumed,
)
from mmgkeras.json_files import read_json
from mmgkeras.report.content import Block, Cell, Heading, Section, Table, Text, missing
from mmgkeras.report.performance import metrics_table
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION
from mmgkeras.study.read import Study
from mmgkeras.tables import read_predictions

PREDICTIONS_CSV: Final = "predictions.csv"
_ASSUMED: Final = (
    "Unmarked patches of mammograms called normal were taken to be free of calcification (label_source = “assumed”): "
    "nobody sought calcification there patch by patch. Here they are left out, and negatives are patches of completely "
    "annotated mammograms alone."
)


_METHOD: Final = (
    "Difference of the AUC of two networks on the same patches. That of the means over folds is tested by the variance "
    "between patients of what each moves its fold's AUC; that of the pooled AUC by Obuchowski's variance for clustered "
    "data (1997), a cluster being a patient, which is DeLong's where each patient has one patch. The p values are "
    "two-sided, of a t distribution with the effective degrees of freedom of the patients, and corrected by Holm over "
    "the pairs of each test. They hold for these trained models: another training may give another result."
)
_COLUMNS: Final = ("Networks", "AUC", "Test", "Difference", "Standard error", "Statistic", "p", "p, Holm")


def differences_section(study: Study) -> Section:
    """All pairs of networks on tissue patches and on all."""
    title = "Differences between networks"
    if len(study.networks) < 2:
        text = f"There is one network, {study.networks[0].name}, and nothing to compare it with."
        return Section(anchor="differences", title=title, body=(missing(text),))
    body: list[Block] = [Text(_METHOD)]
    for selection, name in SELECTIONS.items():
        predictions = {network.name: selected(network.first.predictions, selection) for network in study.networks}
        pairs = compare_networks(predictions, folds=study.folds)
        rows = [
            *(_row(pair, "mean over folds", "between patients", found=pair.fold_mean) for pair in pairs),
            *(_row(pair, "pooled", "Obuchowski", found=pair.pooled) for pair in pairs),
        ]
        title_of_table = f"Differences of AUC, {name}"
        body.append(Table(name=f"differences_{selection}", title=title_of_table, columns=_COLUMNS, rows=tuple(rows)))
    return Section(anchor="differences", title=title, body=tuple(body))


def _row(pair: Comparison, auc: str, test: str, *, found: Difference | None) -> tuple[Cell, ...]:
    names = (f"{pair.a} \u2212 {pair.b}", auc, test)
    if found is None:
        return (*names, None, None, None, None, None)
    return (*names, found.interval, found.se, found.statistic, _p(found.p), _p(found.p_holm))


def _p(value: float | None) -> Cell:
    """A p value; below 0.001 three decimals would make it 0."""
    return "< 0.001" if value is not None and value < 0.001 else value


def assumed_section(study: Study, *, num_resamples: int) -> Section | None:
    """The metrics without assumed negatives; None where nothing was assumed."""
    store = study.store
    if store is None or store.manifest.labels.label_source != "assumed":
        return None
    title = "Without assumed negatives"
    body: list[Block] = [Text(_ASSUMED)]
    rows: dict[str, dict[str, Mapping[str, Cell]]] = {name: {} for name in SELECTIONS}
    counts = []
    for network in study.networks:
        kept = without_assumed(network.first.predictions, store.images)
        for selection, name in SELECTIONS.items():
            part = selected(kept, selection)
            if lacking := lacking_class(part, study.folds):
                body.append(missing(f"{network.name}, {name}: no metrics, for {lacking}."))
                continue
            metrics = bootstrap_metrics(part, num_resamples=num_resamples, folds=study.folds)
            rows[selection][network.name] = metrics.fold_mean
            counts.append((name, int((part["label"] == 1).sum()), int((part["label"] == 0).sum())))
    body.extend(
        Text(f"{name[0].upper()}{name[1:]}: {positive:,} with calcification and {negative:,} without.")
        for name, positive, negative in dict.fromkeys(counts)
    )
    body.extend(
        metrics_table(found, name=f"without_assumed_{selection}", title=f"Mean over folds, {SELECTIONS[selection]}")
        for selection, found in rows.items()
        if found
    )
    return Section(anchor="assumed", title=title, body=tuple(body))


def external_section(study: Study, folders: Sequence[Path], *, num_resamples: int) -> Section | None:
    """The metrics of what `mmgkeras evaluate` wrote of models on other stores; None without any.

    Raises:
        InputError: if a folder has no predictions.csv that can be read, or it has no patch of known label; or if
            metrics.json says that its models are not of the study, or scored their own test subsets.
        InputFaultsError: every fault of such a file.
    """
    if not folders:
        return None
    body: list[Block] = [
        Text(
            "Models on mammograms of another source, scored by mmgkeras evaluate. Where several models scored every "
            "patch, each model has a row, and “mean of models” is one classifier: the mean of their probabilities."
        )
    ]
    for number, folder in enumerate(folders, start=1):
        body.append(Heading(f"External set {number}"))
        body.extend(_external(study, folder, number=number, num_resamples=num_resamples))
    return Section(anchor="external", title="On another store", body=tuple(body))


def _external(study: Study, folder: Path, *, number: int, num_resamples: int) -> list[Block]:
    networks = _networks_of(study, folder)
    path = folder / PREDICTIONS_CSV
    predictions = read_predictions(path)
    if not (predictions["label"] >= 0).any():
        raise InputError(
            f"{path}: must hold a patch of known label. Received: {counted(len(predictions), 'patch')}, none known"
        )
    rows = {f"model of fold {fold}": part for fold, part in predictions.groupby("fold")}
    if len(rows) > 1 and predictions.duplicated(PATCH).any():
        rows["mean of models"] = mean_of_models(predictions)
    measured = {name: measure_selections(part, num_resamples=num_resamples) for name, part in rows.items()}
    whole = predictions.drop_duplicates(PATCH)
    positive, negative = ((whole["label"] == label).sum() for label in (CALCIFICATION, NO_CALCIFICATION))
    body: list[Block] = [
        Text(
            f"{folder.name}: {counted(positive, 'patch')} with calcification and {negative:,} without, "
            f"{counted(whole['image_id'].nunique(), 'mammogram')} of "
            f"{counted(whole['patient_id'].nunique(), 'patient')}."
        ),
        Text(f"Scored by {networks}.") if networks else missing("No metrics.json says which models scored them."),
    ]
    for selection, name in SELECTIONS.items():
        found = {model: parts[selection].bootstrap.fold_mean for model, parts in measured.items() if selection in parts}
        if found:
            title = f"External set {number}, {name}"
            body.append(metrics_table(found, name=f"external{number}_{selection}", title=title))
    return body


def _networks_of(study: Study, folder: Path) -> str:
    """The networks of the models that scored an external set; "" where the folder does not say."""
    path = folder / METRICS_JSON
    scored = read_json(path, Scored, hint="evaluate the models again") if path.exists() else Scored()
    for model in scored.models:
        if model.store_checksum != study.crossval.store.checksum:
            raise InputError(
                f"{path}: must be of models of {study.folder}. Received: {model.network} of fold {model.fold}, trained "
                "on another store"
            )
    if scored.models and not scored.is_external:
        raise InputError(f"{path}: must be of another store. Received: the models' own test subsets")
    return ", ".join(dict.fromkeys(model.network for model in scored.models))
