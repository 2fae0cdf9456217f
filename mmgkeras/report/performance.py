"""Performance of the networks: the headline, the spread, each mammogram, the confusion matrices.

Owns these sections' wording and tables. The metrics come ready from `evaluation.summary`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd

from mmgkeras.evaluation.metrics import (
    CONFUSION,
    METRIC_NAMES,
    METRICS,
    SENSITIVITY_AT_SPECIFICITY,
    SPECIFICITY,
    THRESHOLD,
    WITHIN_IMAGE_AUC,
    known,
    measure_mammograms,
    spread,
)
from mmgkeras.evaluation.outputs import standing
from mmgkeras.evaluation.summary import ALL, SELECTIONS, TISSUE, Measured, SelectionMetrics, summarise
from mmgkeras.report.charts import matrix_chart, strip_chart
from mmgkeras.report.content import Block, Cell, Charts, Heading, Section, Table, Text, missing
from mmgkeras.report.table_files import cell_text
from mmgkeras.study.read import Study

POOLED_CAUTION: Final = (
    "Pooled metrics put the patches of all folds into one set. Each fold was scored by a model of its own, so pooling "
    "ranks scores of different models against each other; the mean over folds above is the number to quote."
)
_INTERVALS: Final = (
    "Patches of one patient are alike, so that patients, not patches, are the sample. {num_resamples:,} sets of "
    "patients are drawn with replacement: within folds for the metrics of this section and for free-response ROC,"
    " from all folds together for subgroups, errors and the tests of what the networks learned. The bounds are "
    "logit intervals, from the standard error of the resamples and a t distribution of the effective number of "
    "patients; those of differences are symmetric, and those of false positives per image are so on the logarithmic "
    "scale. They take the trained models as they are: what another training would change is the spread over seeds. A "
    "metric of 0 or 1, or of too few patients, has no interval."
)


def headline_section(study: Study, measured: Measured, *, num_resamples: int) -> Section:
    """The metrics to quote, tissue patches first, beside the baselines; then pooled."""
    body: list[Block] = [Text(text, "lead") for text in _lead(measured)]
    body.append(
        Text(
            f"{mean_over(study.folds)}, with 95 % intervals over patients. Decisions are taken at a probability of "
            f"{THRESHOLD:g}, the paper's own. “Always no” calls no patch calcified; the best baseline is the best of "
            "the fixed filters and grey values below."
        )
    )
    body.append(_counts_table(measured))
    body.extend(_mean_table(measured, selection, title=mean_over(study.folds)) for selection in SELECTIONS)
    body.extend(_baseline_tables(measured))
    body.append(_kinds_of_auc_table(measured))
    body.append(Heading("How the intervals are made", "intervals"))
    body.append(Text(_INTERVALS.format(num_resamples=num_resamples)))
    body.append(Heading("Pooled over folds"))
    body.append(Text(POOLED_CAUTION))
    body.extend(_pooled_table(measured, selection) for selection in SELECTIONS)
    return Section(anchor="headline", title="Performance", body=tuple(body))


def spread_section(study: Study, measured: Measured) -> Section:
    """How far folds and seeds lie apart."""
    body: list[Block] = [_folds_table(measured, selection) for selection in SELECTIONS]
    seeds = sorted({seed for network in study.networks for seed in network.seeds})
    if len(seeds) < 2:
        body.append(
            missing(f"Spread over seeds: each network was trained from one seed ({seeds[0]}), so it is unknown.")
        )
    else:
        body.extend(_seeds_table(study, selection) for selection in SELECTIONS)
    return Section(anchor="spread", title="Spread over folds and seeds", body=tuple(body))


def mammograms_section(study: Study) -> Section:
    """The accuracy of each mammogram: the paper's Figure 2, and the table behind it."""
    frames = {network.name: measure_mammograms(network.first.predictions) for network in study.networks}
    groups = [(study.labels[name], frame["accuracy"].to_numpy()) for name, frame in frames.items()]
    lowest = min((values[np.isfinite(values)].min(initial=1.0) for _, values in groups), default=1.0)
    low = float(np.floor(lowest * 20) / 20)
    picture = strip_chart(
        groups,
        title="Accuracy of each mammogram, by network",
        caption="Accuracy of each mammogram (paper, Figure 2): patches classified correctly over all patches of known "
        "label, blank ones included. One point is one mammogram; the box goes from quartile to quartile, the bar is "
        "the median.",
        y_label="accuracy of the mammogram",
        y_range=(min(low, 0.95), 1.01),
        width=max(460, 180 * len(groups)),
    )
    body = (Charts((picture,)), _mammogram_table(frames))
    return Section(anchor="mammograms", title="Each mammogram", body=body)


def mean_over(folds: Sequence[int]) -> str:
    """What a mean over folds is called; with one fold it is none."""
    return f"Mean over {len(folds)} folds" if len(folds) > 1 else f"Fold {folds[0]} alone"


def confusion_section(study: Study, measured: Measured) -> Section:
    """Decisions at the paper's threshold, all folds together as pictures and fold by fold as a table."""
    pictures = []
    for selection, name in SELECTIONS.items():
        for network, part in _of_selection(measured, selection).items():
            pictures.append(
                matrix_chart(
                    **{sign: getattr(part.summary.counts, sign) for sign in CONFUSION},
                    title=f"Confusion matrix of {network}, {name}",
                    caption=f"{study.labels[network]}, {name}, sum over folds.",
                )
            )
    rows = [
        (network, selection, f"fold {fold}", *(getattr(metrics, sign) for sign in CONFUSION))
        for network, parts in measured.items()
        for selection, part in parts.items()
        for fold, metrics in part.summary.folds.items()
    ]
    table = Table(
        name="confusion_by_fold",
        title=f"Decisions at a probability of {THRESHOLD:g}, by fold",
        columns=("Network", "Patches", "Fold", *(sign.upper() for sign in CONFUSION)),
        rows=tuple(rows),
    )
    return Section(anchor="confusion", title="Confusion matrices", body=(Charts(tuple(pictures)), table))


def _lead(measured: Measured) -> Iterator[str]:
    """One sentence for each network, and where it stands beside no training."""
    for network, parts in measured.items():
        auc = parts[TISSUE].bootstrap.fold_mean["auc"] if TISSUE in parts else None
        if auc is None:
            yield f"{network}: no AUC on tissue patches, for a fold lacks one of the classes there."
            continue
        beside = standing(parts[TISSUE].summary)
        text = f"{network}: AUC {cell_text(auc)} on tissue patches of patients that the model has not seen"
        yield f"{text}, {beside}.".replace(" -", " \u2212") if beside else f"{text}."


def _counts_table(measured: Measured) -> Table:
    rows = []
    for selection, part in next(iter(measured.values())).items():
        counts = part.summary.counts
        sizes = (counts.num_positives, counts.num_negatives, counts.num_unknown, counts.num_images)
        rows.append((SELECTIONS[selection].capitalize(), *sizes, counts.num_patients))
    return Table(
        name="counts",
        title="What the metrics stand on",
        columns=("Patches", "With calcification", "Without", "Unknown", "Mammograms", "Patients"),
        rows=tuple(rows),
        note="Patches of unknown label are in no metric; mammograms and patients have at least one of known label.",
    )


def _of_selection(measured: Measured, selection: str) -> dict[str, SelectionMetrics]:
    return {network: parts[selection] for network, parts in measured.items() if selection in parts}


def metrics_table(
    rows: Mapping[str, Mapping[str, Cell]],
    *,
    name: str,
    title: str,
    note: str = "In brackets 95 % intervals of resampled patients.",
) -> Table:
    """A row for each key of `rows`, a column for each of `METRIC_NAMES`, n/a where there is none."""
    return Table(
        name=name,
        title=title,
        columns=("", *METRIC_NAMES.values()),
        rows=tuple((row, *(metrics.get(metric) for metric in METRIC_NAMES)) for row, metrics in rows.items()),
        note=note,
    )


def _mean_table(measured: Measured, selection: str, *, title: str) -> Table:
    parts = _of_selection(measured, selection)
    rows: dict[str, Mapping[str, Cell]] = {name: part.bootstrap.fold_mean for name, part in parts.items()}
    for part in list(parts.values())[:1]:
        rows["always no"] = part.summary.always_no
        if part.summary.best_baseline is not None:
            name, auc = part.summary.best_baseline
            rows[f"best baseline ({name})"] = {"auc": auc}
    return metrics_table(
        rows,
        name=f"metrics_{selection}",
        title=f"{title}, {SELECTIONS[selection]}",
        note="PR AUC: area under the precision-recall curve. In brackets 95 % intervals. "
        "n/a: the metric has no meaning in one fold at least, such as the PPV of a model that calls nothing.",
    )


def _baseline_tables(measured: Measured) -> Iterator[Table]:
    selections = next(iter(measured.values()))
    names = list(dict.fromkeys(name for part in selections.values() for name in part.summary.baselines))
    if names:
        yield Table(
            name="baselines",
            title="Baselines: AUC of scores that need no training, mean over folds",
            columns=("Score", *(SELECTIONS[selection].partition(" (")[0].capitalize() for selection in selections)),
            rows=tuple((name, *(part.summary.baselines.get(name) for part in selections.values())) for name in names),
            note="log_s: greatest answer of a Laplacian of Gaussian of s pixels. What a network must beat.",
        )


def _pooled_table(measured: Measured, selection: str) -> Table:
    rows = {name: part.bootstrap.pooled for name, part in _of_selection(measured, selection).items()}
    return metrics_table(rows, name=f"pooled_{selection}", title=f"Pooled over folds, {SELECTIONS[selection]}", note="")


def _kinds_of_auc_table(measured: Measured) -> Table:
    return Table(
        name="kinds_of_auc",
        title="The AUC by which patches are compared, and the sensitivity at a fixed specificity",
        columns=(
            *("Network", "Patches", "AUC, mean over folds", "AUC, pooled over folds", "AUC within each mammogram"),
            f"Sensitivity at {SPECIFICITY:.0%} specificity",
        ),
        rows=tuple(
            (
                network,
                selection,
                part.bootstrap.fold_mean["auc"],
                part.bootstrap.pooled["auc"],
                part.bootstrap.fold_mean[WITHIN_IMAGE_AUC],
                part.bootstrap.fold_mean[SENSITIVITY_AT_SPECIFICITY],
            )
            for network, parts in measured.items()
            for selection, part in parts.items()
        ),
        note="Mean over folds: a positive against each negative of its fold; the one to quote. Pooled: against each "
        "negative of all folds, scored by other models. Within each mammogram: against the negatives of the same "
        "mammogram alone, mean over folds. Those of subgroups compare patches of the same fold, all pairs together, "
        "and so do not average to any of these. The sensitivity is the mean over folds, each at its own threshold.",
    )


def _folds_table(measured: Measured, selection: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for network, part in _of_selection(measured, selection).items():
        for fold, metrics in part.summary.folds.items():
            rows.append((network, f"fold {fold}", *(getattr(metrics, name) for name in METRICS)))
        rows.append((network, "standard deviation", *(part.bootstrap.fold_spread.get(name) for name in METRICS)))
    return Table(
        name=f"folds_{selection}",
        title=f"Each fold, {SELECTIONS[selection]}",
        columns=("Network", "Fold", *(METRIC_NAMES[metric] for metric in METRICS)),
        rows=tuple(rows),
        note="The standard deviation over folds mixes differences of patients and models; it is no error of the mean.",
    )


def _seeds_table(study: Study, selection: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for network in study.networks:
        means = {seed: summarise(part.predictions).selection(selection).mean for seed, part in network.seeds.items()}
        rows.extend((network.name, f"seed {seed}", *(mean[name] for name in METRICS)) for seed, mean in means.items())
        deviations = [spread([mean[name] for mean in means.values()]) for name in METRICS]
        rows.append((network.name, "standard deviation", *deviations))
    return Table(
        name=f"seeds_{selection}",
        title=f"Each seed, mean over folds, {SELECTIONS[selection]}",
        columns=("Network", "Seed", *(METRIC_NAMES[metric] for metric in METRICS)),
        rows=tuple(rows),
        note="The other tables report the lowest seed.",
    )


def _mammogram_table(frames: Mapping[str, pd.DataFrame]) -> Table:
    """One row for each mammogram, columns of each network beside each other."""
    first = next(iter(frames.values()))
    by_image = {name: frame.set_index("image_id") for name, frame in frames.items()}
    columns = [f"{name}: {what}" for name in frames for what in ("accuracy", "TP", "FP", "FN")]
    rows = []
    for image_id, fold, patches in zip(first["image_id"], first["fold"], first["num_patches"], strict=True):
        cells: list[Cell] = [str(image_id), int(fold), int(patches)]
        for frame in by_image.values():
            row = frame.loc[image_id]
            cells += [known(row["accuracy"]), int(row["tp"]), int(row["fp"]), int(row["fn"])]
        rows.append(tuple(cells))
    return Table(
        name="mammogram_accuracy",
        title=f"Each mammogram, {ALL} patches, at a probability of {THRESHOLD:g}",
        columns=("Mammogram", "Fold", "Patches", *columns),
        rows=tuple(rows),
    )
