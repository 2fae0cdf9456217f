"""The paper's Tables 1 and 3 to 10: ours, the paper's, and the difference.

Owns which of our numbers stands beside which of the paper's. The paper's are `paper_tables`'; Table 2, its equipment,
has its place in the provenance.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeVar

import pandas as pd

from mmgkeras.evaluation.interval import Interval
from mmgkeras.evaluation.metrics import METRIC_NAMES
from mmgkeras.evaluation.summary import ALL, NetworkMetrics
from mmgkeras.patches.balance import subset_counts
from mmgkeras.report import paper_tables
from mmgkeras.report.page import missing, paragraph
from mmgkeras.report.table import Cell, Section, Table
from mmgkeras.study.read import NetworkStudy, Study

_INTRODUCTION: Final = (
    "Each table has our number, the paper's (Sakaida et al. 2023, Algorithms 16, 483) and ours less the paper's. The "
    "paper gives no intervals; those here are of our numbers alone, and the differences take the paper's as exact. "
    "All patches count, blank ones included, as in the paper. Blank patches are easy and raise the figures: judge by "
    "those on tissue patches, under Performance. Where the data are not the paper's, the figures differ for that alone."
)
_Key = TypeVar("_Key", bound=tuple[str, ...])
_COMPARED: Final = ("Network", "Figure", "Ours (95 % interval)", "Paper", "Difference")


def paper_section(study: Study, measured: Sequence[NetworkMetrics]) -> Section:
    """Tables 1 and 3 to 10."""
    body: list[str | Table] = [paragraph(_INTRODUCTION)]
    body.extend(_data_tables(study))
    body.extend(_training_tables(study))
    body.append(_metrics_table(study, measured))
    body.append(
        _one_metric_table(study, measured, name="auc", paper=paper_tables.AUC, number=8, title="AUC of classifiers")
    )
    body.append(_seconds_table(study))
    body.append(
        _one_metric_table(
            study,
            measured,
            name="mammogram_accuracy",
            paper=paper_tables.MAMMOGRAM_ACCURACY,
            number=10,
            title="Average accuracy of each mammogram",
        )
    )
    others = [network.name for network in study.networks if _paper_name(network) is None]
    if others:
        body.append(missing(f"The paper has no {', '.join(others)}: nothing to compare with in Tables 7 to 10."))
    return Section(anchor="paper", title="The paper's tables", body=tuple(body))


def _data_tables(study: Study) -> Iterator[str | Table]:
    """Tables 1, 3 and 4, of the mammograms that the folds test: all of them, unless folds were left out."""
    patches = study.networks[0].first.predictions
    if study.store is None:
        yield missing(f"Table 1: not given, for the store is not at {study.store_path}; name it with --store.")
    else:
        images = study.store.images
        images = images[images["image_id"].isin(patches["image_id"])]
        yield _counted_table(
            number=1,
            title="Number of mammograms",
            columns=("Breast", "View"),
            ours=Counter(zip(images["laterality"], images["view"], strict=True)),
            paper=paper_tables.IMAGES,
        )
    yield _counted_table(
        number=3,
        title="Patches by presence of calcification",
        columns=("Calcification",),
        ours={("yes",): int((patches["label"] == 1).sum()), ("no",): int((patches["label"] == 0).sum())},
        paper={(name,): count for name, count in paper_tables.CALCIFICATION.items()},
    )
    yield _subsets_table(patches)


def _counted_table(
    *,
    number: int,
    title: str,
    columns: tuple[str, ...],
    ours: Mapping[_Key, int],
    paper: Mapping[_Key, int],
) -> Table:
    keys = [*paper, *(key for key in ours if key not in paper)]
    rows = [(*key, *_compared(ours.get(key, 0), paper.get(key))) for key in keys]
    return Table(
        name=f"table{number}",
        title=f"Table {number}. {title}",
        columns=(*columns, "Ours", "Paper", "Difference"),
        rows=tuple(rows),
    )


def _subsets_table(patches: pd.DataFrame) -> Table:
    """Table 4. Fold k tests subset k, so that the predictions of fold 1 are subset A."""
    owners = patches.drop_duplicates("patient_id")
    subsets = {str(patient): _letter(fold) for patient, fold in zip(owners["patient_id"], owners["fold"], strict=True)}
    rows: list[tuple[Cell, ...]] = []
    counted = {str(row[0]): row[1:5] for row in subset_counts(patches, subsets).itertuples(index=False)}
    for subset in [*paper_tables.SUBSETS, *(name for name in counted if name not in paper_tables.SUBSETS)]:
        ours, paper = counted.get(subset, (None,) * 4), paper_tables.SUBSETS.get(subset, (None,) * 4)
        rows.append((subset, *(cell for pair in zip(ours, paper, strict=True) for cell in _compared(*pair))))
    names = ("Patients", "Mammograms", "Yes", "No")
    return Table(
        name="table4",
        title="Table 4. Subsets: patients, mammograms, and patches with (yes) and without (no) calcification",
        columns=("Subset", *(f"{name}{suffix}" for name in names for suffix in ("", ", paper", ", diff."))),
        rows=tuple(rows),
    )


def _training_tables(study: Study) -> Iterator[str | Table]:
    """Tables 5 and 6, from what the runs wrote down of what they trained on."""
    network = study.networks[0]
    counts = {fold: values.get("counts") for fold, values in network.first.environments.items()}
    if sorted(counts) != list(study.folds) or not all(counts.values()):
        yield missing("Tables 5 and 6: not given, for a run has no environment.json that counts its training patches.")
        return
    test = network.first.predictions.groupby("fold")["label"]
    tested = {fold: (int((labels == 0).sum()), int((labels == 1).sum())) for fold, labels in test}
    note = _training_note(study)
    yield _folds_table(
        5,
        title="Patches of each fold, for training and for testing",
        names=("Train no", "Train yes", "Test no", "Test yes"),
        ours={fold: (c["negatives"], c["positives"], *tested[fold]) for fold, c in counts.items() if c},
        paper=paper_tables.FOLDS,
        note=note,
    )
    yield _folds_table(
        6,
        title="Patches for training after augmentation",
        names=("No", "Yes"),
        ours={fold: (c["augmented_negatives"], c["augmented_positives"]) for fold, c in counts.items() if c},
        paper=paper_tables.AUGMENTED,
        note=note,
    )


def _folds_table(
    number: int,
    *,
    title: str,
    names: tuple[str, ...],
    ours: Mapping[int, tuple[int, ...]],
    paper: Mapping[int, tuple[int, ...]],
    note: str,
) -> Table:
    nothing = (None,) * len(names)
    rows: list[tuple[Cell, ...]] = []
    for fold in sorted({*paper, *ours}):
        pairs = zip(ours.get(fold, nothing), paper.get(fold, nothing), strict=True)
        rows.append((f"Fold {fold}", *(cell for pair in pairs for cell in _compared(*pair))))
    return Table(
        name=f"table{number}",
        title=f"Table {number}. {title}",
        columns=("", *(f"{name}{suffix}" for name in names for suffix in ("", ", paper", ", diff."))),
        rows=tuple(rows),
        note=note,
    )


def _training_note(study: Study) -> str:
    """What the counts of the first network do not say of the others."""
    first = study.networks[0]
    differing = [
        network.name
        for network in study.networks[1:]
        if [values.get("counts") for values in network.first.environments.values()]
        != [values.get("counts") for values in first.first.environments.values()]
    ]
    text = (
        f"Counted by the runs of {first.name}; patches of unknown label and of held-out patients are not trained on, "
        "nor negatives with less breast than augmentation.min_negative_tissue."
    )
    return text + (f" Those of {', '.join(differing)} differ." if differing else "")


def _metrics_table(study: Study, measured: Sequence[NetworkMetrics]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for network, trained in zip(measured, study.networks, strict=True):
        paper = paper_tables.METRICS.get(_paper_name(trained) or "", {})
        for name in next(iter(paper_tables.METRICS.values())):
            ours = network.fold_mean(ALL, name)
            rows.append((network.name, METRIC_NAMES[name], ours, paper.get(name), _difference(ours, paper.get(name))))
    return Table(
        name="table7",
        title="Table 7. Accuracy of classifiers, mean over folds",
        columns=_COMPARED,
        rows=tuple(rows),
        note="Fractions of 1; the paper gives per cent to one decimal.",
    )


def _one_metric_table(
    study: Study, measured: Sequence[NetworkMetrics], *, name: str, paper: Mapping[str, float], number: int, title: str
) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for network, trained in zip(measured, study.networks, strict=True):
        theirs = paper.get(_paper_name(trained) or "")
        # Table 10 is the mean over all mammograms, not over folds.
        part = network.selections[ALL].bootstrap
        ours = (part.pooled if name == "mammogram_accuracy" else part.fold_mean).get(name)
        rows.append((network.name, METRIC_NAMES[name], ours, theirs, _difference(ours, theirs)))
    how = "mean over mammograms" if name == "mammogram_accuracy" else "mean over folds"
    return Table(
        name=f"table{number}",
        title=f"Table {number}. {title}, {how}",
        columns=_COMPARED,
        rows=tuple(rows),
        note="The paper's Discussion has 95.3 % where its Table 10 has 95.8 to 96.3 %; the table is taken."
        if number == 10
        else "",
    )


def _seconds_table(study: Study) -> str | Table:
    rows: list[tuple[Cell, ...]] = []
    for network in study.networks:
        timing = network.first.timing
        theirs = paper_tables.SECONDS.get(_paper_name(network) or "")
        warm = None if timing is None else timing.loc[timing["is_cold"] == 0, "infer_s"].dropna()
        ours = None if warm is None or warm.empty else float(warm.median())
        rows.append((network.name, ours, theirs, *_compared(ours, theirs)[2:]))
    if all(row[1] is None for row in rows):
        return missing("Table 9: not given, for no time was measured (no timing.csv).")
    return Table(
        name="table9",
        title="Table 9. Seconds to classify all patches of one mammogram",
        columns=("Network", "Ours, median", "Paper", "Difference"),
        rows=tuple(rows),
        note="Other hardware than the paper's: see Timing. The paper does not say whether its number is a mean or a "
        "median.",
    )


def _compared(ours: float | None, paper: float | None) -> tuple[Cell, Cell, Cell]:
    return ours, paper, None if ours is None or paper is None else ours - paper


def _difference(ours: Interval | None, paper: float | None) -> Interval | None:
    """Ours less the paper's, the paper's taken as exact."""
    if ours is None or paper is None:
        return None
    low, high = ours.low, ours.high
    return Interval(ours.estimate - paper, None if low is None else low - paper, None if high is None else high - paper)


def _paper_name(network: NetworkStudy) -> str | None:
    """The key of the paper's numbers for a network, None if it has none."""
    name = network.config.model.network
    return name if name in paper_tables.NETWORKS else None


def _letter(fold: int) -> str:
    return chr(ord("A") + int(fold) - 1)
