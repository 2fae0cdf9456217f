"""How often intervals of the AUC hold the truth, and how often tests call equal networks different, by simulation.

    python benchmarks/simulated_studies.py [--runs 2000] [--seed 1] [--table errors] [--table auc] [--table parts]

prints the tables for docs/statistics.md, in about ten minutes of one core. A patch scores the sum of normal effects of
its patient, its image and itself; a positive adds a step, and an effect of how plain its patient's calcifications are.
A positive and a negative of two patients then differ by a normal variable, so the true area is known in closed form;
so are the parts of the positives and of the negatives above a threshold, and with them the points of the FROC curve.
Every positive is a target of its own there, and no patch touches another: marks are patches.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm
from threadpoolctl import threadpool_limits

from mmgkeras.evaluation.bootstrap import bootstrap_metrics, resample_patients
from mmgkeras.evaluation.comparison import clustered_aucs, compare_networks
from mmgkeras.evaluation.froc import froc
from mmgkeras.evaluation.interval import Interval
from mmgkeras.evaluation.subgroup_metrics import part_metrics
from mmgkeras.evaluation.targets import Target, Targets

Shape = Sequence[tuple[int, int, int, int]]
"""Patients, mammograms, patches with and without calcification of each subset."""
TABLE_4: Shape = (
    (16, 43, 194, 3352),
    (16, 42, 131, 3001),
    (17, 41, 238, 2329),
    (15, 43, 196, 2989),
    (17, 43, 270, 2349),
)
TWO_HUNDRED_PATIENTS: Shape = ((40, 80, 100, 800),) * 5
SHAPES: dict[str, Shape] = {
    "6 patients with positives": ((5, 10, 20, 120),) * 2,
    "19 patients with positives": (*((8, 16, 30, 200),) * 3, (6, 12, 20, 150)),
    "the paper's Table 4": TABLE_4,
    "200 patients": TWO_HUNDRED_PATIENTS,
}
SHARE_WITH_CALCIFICATION = 0.6
STEP, PATIENT_SD, PLAINNESS_SD, IMAGE_SD = 3.1, 0.6, 0.7, 0.4
NETWORK_SD = 0.5
"""Of how much plainer a patient's calcifications are to one network than to another."""
TRUE_AUC = float(norm.cdf(STEP / np.sqrt(2 * PATIENT_SD**2 + PLAINNESS_SD**2 + 2 * IMAGE_SD**2 + 2)))
RESAMPLES = 200
POSITIVE_SD = float(np.sqrt(PATIENT_SD**2 + PLAINNESS_SD**2 + IMAGE_SD**2 + 1))
NEGATIVE_SD = float(np.sqrt(PATIENT_SD**2 + IMAGE_SD**2 + 1))
FROC_RATE = 1.0
"""False positives an image at which the sensitivity is simulated, one of `RATES`."""
TABLES = ("errors", "auc", "parts")


@dataclass(frozen=True)
class Subset:
    """Which patient and image each patch of a subset belongs to, positives first."""

    label: NDArray[np.int8]
    patient: NDArray[np.int64]
    image: NDArray[np.int64]


def draw_subset(random: np.random.Generator, patients: int, images: int, positives: int, negatives: int) -> Subset:
    """Every patient has an image; calcification is in some of the patients, much in few of them."""
    owner = np.sort(np.concatenate([np.arange(patients), random.integers(patients, size=images - patients)]))
    has_calcification = random.permutation(patients) < round(SHARE_WITH_CALCIFICATION * patients)
    amount = (random.gamma(1.0, size=patients) * has_calcification)[owner]
    first = np.flatnonzero(has_calcification[owner] & (np.diff(owner, prepend=-1) > 0))
    further = random.choice(images, p=amount / amount.sum(), size=positives - len(first))
    image = np.concatenate([first, further, random.integers(images, size=negatives)])
    return Subset(np.repeat(np.array([1, 0], np.int8), [positives, negatives]), owner[image], image)


def simulate(
    random: np.random.Generator, shape: Shape, *, num_networks: int = 1, network_sd: float = 0.0
) -> list[pd.DataFrame]:
    """Predictions of a cross-validation by networks that are equally good and find the same patients hard."""
    subsets = [draw_subset(random, *counts) for counts in shape]
    sizes = np.array([len(subset.label) for subset in subsets])
    first_patient, first_image = (np.cumsum([0, *(counts[column] for counts in shape)]) for column in (0, 1))
    label, patient, image = (
        np.concatenate([getattr(subset, name) for subset in subsets]) for name in ("label", "patient", "image")
    )
    patient, image = patient + np.repeat(first_patient[:-1], sizes), image + np.repeat(first_image[:-1], sizes)
    effect = (
        random.normal(scale=PATIENT_SD, size=first_patient[-1])[patient]
        + random.normal(scale=IMAGE_SD, size=first_image[-1])[image]
        + label * (STEP + random.normal(scale=PLAINNESS_SD, size=first_patient[-1])[patient])
    )
    columns = {
        "image_id": image,
        "patient_id": patient,
        "fold": np.repeat(np.arange(len(shape)) + 1, sizes),
        "row": 0,
        "col": np.arange(len(label)),
        "label": label,
    }
    networks = []
    for _ in range(num_networks):
        own = label * random.normal(scale=network_sd, size=first_patient[-1])[patient] + random.normal(size=len(label))
        networks.append(pd.DataFrame({**columns, "probability": expit(effect + own)}))
    return networks


def intervals(predictions: pd.DataFrame) -> dict[str, Interval | None]:
    """The interval of the AUC by each method; "by patch" takes every patch for a patient."""
    found = bootstrap_metrics(predictions, num_resamples=RESAMPLES, metrics=["auc"])
    label, score, patient = (predictions[name].to_numpy() for name in ("label", "probability", "patient_id"))
    return {
        "mean of folds": found.fold_mean["auc"],
        "pooled": found.pooled["auc"],
        "Obuchowski": clustered_aucs(label, score[np.newaxis], patient).interval(0),
        "by patch": clustered_aucs(label, score[np.newaxis], np.arange(len(label))).interval(0),
    }


def true_froc(shape: Shape) -> float:
    """The part of the positives above the threshold that as many negatives pass as `FROC_RATE` allows."""
    num_images, num_negatives = (sum(counts[column] for counts in shape) for column in (1, 3))
    threshold = NEGATIVE_SD * norm.isf(FROC_RATE * num_images / num_negatives)
    return float(norm.sf((threshold - STEP) / POSITIVE_SD))


def part_intervals(predictions: pd.DataFrame) -> dict[str, Interval | None]:
    """The intervals of the FROC curve at one rate, and of the metrics of every other patient as a subgroup."""
    positives = predictions[predictions["label"] == 1]
    places = zip(positives["fold"], positives["image_id"], positives["col"], strict=True)
    targets = Targets("component", tuple(Target(fold, image, ((0, col),)) for fold, image, col in places))
    found = froc(predictions, targets, reach=None, num_resamples=RESAMPLES)
    subgroup = predictions[predictions["patient_id"] % 2 == 0]
    metrics = part_metrics(subgroup, resample_patients(predictions, num_resamples=RESAMPLES))
    return {
        "FROC, mean of folds": found.fold_mean[FROC_RATE],
        "FROC, pooled": found.pooled[FROC_RATE],
        "subgroup, sensitivity": metrics.sensitivity,
        "subgroup, specificity": metrics.specificity,
        "subgroup, AUC": metrics.auc,
    }


def true_parts(shape: Shape) -> dict[str, float]:
    """What the intervals of `part_intervals` are to hold."""
    return {
        "FROC, mean of folds": true_froc(shape),
        "FROC, pooled": true_froc(shape),
        "subgroup, sensitivity": float(norm.sf(-STEP / POSITIVE_SD)),
        "subgroup, specificity": 0.5,
        "subgroup, AUC": TRUE_AUC,
    }


def holds(interval: Interval | None, truth: float = TRUE_AUC) -> bool | None:
    """Whether an interval holds the truth; None where it has no bounds."""
    if interval is None or interval.low is None or interval.high is None:
        return None
    return interval.low <= truth <= interval.high


def coverage(
    shape: Shape,
    *,
    runs: int,
    seed: int,
    made: Callable[[pd.DataFrame], dict[str, Interval | None]] = intervals,
    truths: Mapping[str, float] | None = None,
) -> dict[str, tuple[float, int]]:
    """Of each method the part of its intervals that hold the truth, by default the area, and their number."""
    random = np.random.default_rng(seed)
    held: Counter[str] = Counter()
    given: Counter[str] = Counter()
    for _ in range(runs):
        for name, interval in made(simulate(random, shape)[0]).items():
            given[name] += 0
            if (answer := holds(interval, TRUE_AUC if truths is None else truths[name])) is not None:
                held[name] += answer
                given[name] += 1
    return {name: (held[name] / count if count else np.nan, count) for name, count in given.items()}


def type_one_error(shape: Shape, *, runs: int, seed: int, network_sd: float) -> dict[str, float]:
    """Of each test of the report the part of pairs of equal networks that it calls different at 0.05."""
    random = np.random.default_rng(seed)
    called: Counter[str] = Counter()
    for _ in range(runs):
        a, b = simulate(random, shape, num_networks=2, network_sd=network_sd)
        (compared,) = compare_networks({"a": a, "b": b})
        for name, test in (("mean of folds", compared.fold_mean), ("pooled", compared.pooled)):
            if test is None or test.p is None:
                raise ValueError(f"Every pair must be tested. Received: none for {name}")
            called[name] += test.p < 0.05
    return {name: called[name] / runs for name in ("mean of folds", "pooled")}


def error_rows(*, runs: int, seed: int) -> Iterator[str]:
    """The lines of the table of tests, as they are ready."""
    yield f"Type I error at 0.05, {runs} studies, seed {seed}"
    yield "| shape | networks differ by | mean of folds | pooled (Obuchowski) |\n|---|---|---|---|"
    for name, shape in SHAPES.items():
        for network_sd, what in ((0.0, "patch"), (NETWORK_SD, "patch and patient")):
            found = type_one_error(shape, runs=runs, seed=seed, network_sd=network_sd)
            yield f"| {name} | {what} | {found['mean of folds']:.3f} | {found['pooled']:.3f} |"


def coverage_rows(*, runs: int, seed: int, of_parts: bool) -> Iterator[str]:
    """The lines of the table of the intervals of the area, or of those of FROC and subgroups."""
    columns = tuple(true_parts(TABLE_4)) if of_parts else ("mean of folds", "pooled", "pooled, Obuchowski", "by patch")
    yield f"\nCoverage of nominal 95 % intervals, {runs} studies, seed {seed}; in brackets the part without bounds"
    yield f"| shape | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}"
    for name, shape in SHAPES.items():
        of_shape = {"made": part_intervals, "truths": true_parts(shape)} if of_parts else {}
        held = coverage(shape, runs=runs, seed=seed, **of_shape)
        cells = [f"{part:.3f} ({1 - count / runs:.2f})" for part, count in held.values()]
        yield f"| {name} | {' | '.join(cells)} |"


def rows(*, runs: int, seed: int, tables: Sequence[str] = TABLES) -> Iterator[str]:
    """The lines of the tables, as they are ready."""
    if "errors" in tables:
        yield from error_rows(runs=runs, seed=seed)
    if "auc" in tables:
        yield from coverage_rows(runs=runs // 2, seed=seed, of_parts=False)
    if "parts" in tables:
        yield from coverage_rows(runs=runs // 2, seed=seed, of_parts=True)


def main() -> None:
    """Prints the tables line by line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=2000, help="studies for each line, half as many for coverage")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--table", choices=TABLES, action="append", help="only this; repeatable")
    options = parser.parse_args()
    # Small matrices gain nothing from threads.
    with threadpool_limits(limits=1):
        for row in rows(runs=options.runs, seed=options.seed, tables=options.table or TABLES):
            print(row, flush=True)


if __name__ == "__main__":
    main()
