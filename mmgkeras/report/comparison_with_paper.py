"""The paper's Tables 1 and 3 to 10: ours, the paper's, and the difference.

Owns which of our numbers stands beside which of the paper's. The paper's are in
paper_numbers.toml; Table 2, its equipment,
has its place in the provenance.
"""

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

from mmgkeras.evaluation.behaviour import inference_seconds
from mmgkeras.evaluation.interval import Interval
from mmgkeras.evaluation.metrics import METRIC_NAMES
from mmgkeras.evaluation.summary import ALL, Measured
from mmgkeras.patches.subset_counts import subset_counts
from mmgkeras.report.content import Block, Cell, Section, Table, Text, missing
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION
from mmgkeras.study.read import Study

_INTRODUCTION: Final = (
    "Each table has our number, the paper's (Sakaida et al. 2023, Algorithms 16, 483) and ours less the paper's. The "
    "paper gives no intervals; those here are of our numbers alone, and the differences take the paper's as exact. "
    "All patches count, blank ones included, as in the paper. Blank patches are easy and raise the metrics: judge by "
    "those on tissue patches, under Performance. Where data or settings (see Provenance) are not the paper's, the "
    "metrics differ for that too."
)
_Numbers = Mapping[str, Mapping[str, float]]
"""Of each network, by `model.network`, the paper's value of each metric."""


def paper_section(study: Study, measured: Measured) -> Section:
    """Tables 1 and 3 to 10; those that count the data are folded where the data differ from the paper's."""
    paper = paper_numbers()
    auc, accuracy = (
        {key: {name: value} for key, value in paper[name].items()} for name in ("auc", "mammogram_accuracy")
    )
    body: list[Block] = [
        Text(_INTRODUCTION),
        *_data_tables(study, paper),
        *_training_tables(study, paper),
        _metrics_table(
            7,
            "Accuracy of classifiers, mean over folds",
            study,
            measured,
            paper=paper["metrics"],
            note="Fractions of 1; the paper gives per cent to one decimal.",
        ),
        _metrics_table(8, "AUC of classifiers, mean over folds", study, measured, paper=auc),
        _seconds_table(study, paper["seconds"]),
        _metrics_table(
            10,
            "Average accuracy of each mammogram, mean over mammograms",
            study,
            measured,
            paper=accuracy,
            note="The paper's Discussion has 95.3 % where its Table 10 has 95.8 to 96.3 %; the table is taken.",
        ),
    ]
    others = [network.name for network in study.networks if network.config.model.network not in paper["metrics"]]
    if others:
        body.append(missing(f"The paper has no {', '.join(others)}: nothing to compare with in Tables 7 to 10."))
    return Section(anchor="paper", title="The paper's tables", body=tuple(body))


def paper_numbers() -> dict[str, Any]:
    """The paper's tables, as paper_numbers.toml has them."""
    return tomllib.loads((files(__package__) / "paper_numbers.toml").read_text(encoding="utf-8"))


def _data_tables(study: Study, paper: Mapping[str, Any]) -> Iterator[Block]:
    """Tables 1, 3 and 4, of the mammograms that the folds test: all of them, unless folds were left out."""
    patches = study.networks[0].first.predictions
    if study.store is None:
        yield missing("Table 1: not given, for the store is not where it was; name it with --store.")
    else:
        images = study.store.images[study.store.images["image_id"].isin(patches["image_id"])]
        views = Counter(images["laterality"] + " " + images["view"])
        theirs = {view: (count,) for view, count in paper["images"].items()}
        ours = {view: (views[view],) for view in {**theirs, **views}}
        yield _counts_table(1, "Number of mammograms", ("Breast", "View"), ours=ours, paper=theirs)
    labels = patches["label"]
    ours = {"yes": (int((labels == CALCIFICATION).sum()),), "no": (int((labels == NO_CALCIFICATION).sum()),)}
    theirs = {key: (count,) for key, count in paper["calcification"].items()}
    yield _counts_table(3, "Patches by presence of calcification", ("Calcification",), ours=ours, paper=theirs)
    # Fold k tests subset k, so that the predictions of fold 1 are subset A.
    owners = patches.drop_duplicates("patient_id")
    subsets = {
        str(patient): chr(ord("A") + int(fold) - 1)
        for patient, fold in zip(owners["patient_id"], owners["fold"], strict=True)
    }
    counted = {str(row[0]): row[1:5] for row in subset_counts(patches, subsets).itertuples(index=False)}
    yield _counts_table(
        4,
        "Subsets: patients, mammograms, and patches with (yes) and without (no) calcification",
        ("Subset",),
        ("Patients", "Mammograms", "Yes", "No"),
        ours=counted,
        paper=paper["subsets"],
    )


def _training_tables(study: Study, paper: Mapping[str, Any]) -> Iterator[Block]:
    """Tables 5 and 6, from what the runs wrote down of what they trained on."""
    network = study.networks[0]
    counts = {fold: values.counts for fold, values in network.first.environments.items()}
    if sorted(counts) != list(study.folds):
        yield missing("Tables 5 and 6: not given, for a run has no environment.json that counts its training patches.")
        return
    test = network.first.predictions.groupby("fold")["label"]
    tested = {fold: (int((labels == 0).sum()), int((labels == 1).sum())) for fold, labels in test}
    ours5 = {f"Fold {fold}": (c.negatives, c.positives, *tested[fold]) for fold, c in counts.items()}
    ours6 = {f"Fold {fold}": (c.augmented_negatives, c.augmented_positives) for fold, c in counts.items()}
    theirs5, theirs6 = (
        {f"Fold {fold}": values for fold, values in paper[name].items()} for name in ("folds", "augmented")
    )
    names = ("Train no", "Train yes", "Test no", "Test yes")
    title = "Patches of each fold, for training and for testing"
    note = _training_note(study)
    yield _counts_table(5, title, ("",), names, ours=ours5, paper=theirs5, note=note)
    title = "Patches for training after augmentation"
    yield _counts_table(6, title, ("",), ("No", "Yes"), ours=ours6, paper=theirs6, note=note)


def _counts_table(
    number: int,
    title: str,
    head: tuple[str, ...],
    names: tuple[str, ...] = (),
    *,
    ours: Mapping[str, Sequence[int]],
    paper: Mapping[str, Sequence[int]],
    note: str = "",
) -> Table:
    """Rows of `head`, and for each of `names` our count, the paper's and the difference; without names for one.

    A key is the cells of `head`, words apart where these are several.
    """
    nothing = (None,) * max(1, len(names))
    rows = []
    for key in [*paper, *(key for key in ours if key not in paper)]:
        pairs = zip(ours.get(key, nothing), paper.get(key, nothing), strict=True)
        rows.append((*key.split(maxsplit=len(head) - 1), *(cell for pair in pairs for cell in _compared(*pair))))
    of_names = [f"{name}{suffix}" for name in names for suffix in ("", ", paper", ", diff.")]
    return Table(
        name=f"table{number}",
        title=f"Table {number}. {title}",
        columns=(*head, *(of_names or ("Ours", "Paper", "Difference"))),
        rows=tuple(rows),
        note=note,
        is_folded={key: tuple(counts) for key, counts in ours.items()} != {k: tuple(v) for k, v in paper.items()},
    )


def _training_note(study: Study) -> str:
    """What the counts of the first network do not say of the others."""
    first, *others = study.networks
    counts = {network.name: [run.counts for run in network.first.environments.values()] for network in study.networks}
    differing = [network.name for network in others if counts[network.name] != counts[first.name]]
    text = (
        f"Counted by the runs of {first.name}; patches of unknown label and of held-out patients are not trained on, "
        "nor negatives with less breast than augmentation.min_negative_tissue."
    )
    if any(network.config.augmentation.insertion for network in study.networks):
        text += " Negatives that augmentation.insertion makes positive are counted as negatives."
    return text + (f" Those of {', '.join(differing)} differ." if differing else "")


def _metrics_table(
    number: int, title: str, study: Study, measured: Measured, *, paper: _Numbers, note: str = ""
) -> Table:
    """Rows of each network and each metric that the paper has in this table."""
    rows: list[tuple[Cell, ...]] = []
    for network in study.networks:
        part, theirs = measured[network.name][ALL].bootstrap, paper.get(network.config.model.network, {})
        for name in next(iter(paper.values())):
            # Table 10 is the mean over all mammograms, not over folds.
            ours = (part.pooled if name == "mammogram_accuracy" else part.fold_mean).get(name)
            rows.append((network.name, METRIC_NAMES[name], ours, theirs.get(name), _difference(ours, theirs.get(name))))
    return Table(
        name=f"table{number}",
        title=f"Table {number}. {title}",
        columns=("Network", "Metric", "Ours (95 % interval)", "Paper", "Difference"),
        rows=tuple(rows),
        note=note,
    )


def _seconds_table(study: Study, paper: Mapping[str, float]) -> Block:
    rows: list[tuple[Cell, ...]] = []
    for network in study.networks:
        timing = network.first.timing
        theirs = paper.get(network.config.model.network)
        ours = None if timing is None else inference_seconds(timing).median
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
