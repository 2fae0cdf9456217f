"""How often nominal 95 % intervals of the AUC hold the truth, by simulating patches that come in patients.

A patch scores the sum of normal effects of its patient, its image and itself; a positive adds a step, and an effect of
how plain its patient's calcifications are. A positive and a negative of two patients then differ by a normal variable,
so the true area is known in closed form.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import norm
from threadpoolctl import threadpool_limits

from mmgkeras.evaluation.auc_variance import clustered_auc, delong
from mmgkeras.evaluation.bootstrap import bootstrap_metrics
from mmgkeras.evaluation.comparison import compare_networks
from mmgkeras.evaluation.interval import Interval, unit_interval

RUNS = 1_000
RESAMPLES = 200
# Patients, mammograms, patches with and without calcification of subsets A to E (paper, Table 4).
TABLE_4 = [(16, 43, 194, 3352), (16, 42, 131, 3001), (17, 41, 238, 2329), (15, 43, 196, 2989), (17, 43, 270, 2349)]
TWO_HUNDRED_PATIENTS = [(40, 80, 100, 800)] * 5
SHARE_WITH_CALCIFICATION = 0.6
STEP, PATIENT_SD, PLAINNESS_SD, IMAGE_SD = 3.1, 0.6, 0.7, 0.4
TRUE_AUC = float(norm.cdf(STEP / np.sqrt(2 * PATIENT_SD**2 + PLAINNESS_SD**2 + 2 * IMAGE_SD**2 + 2)))


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
    image = np.concatenate(
        [random.choice(images, p=amount / amount.sum(), size=positives), random.integers(images, size=negatives)]
    )
    return Subset(np.repeat(np.array([1, 0], np.int8), [positives, negatives]), owner[image], image)


def simulate(
    random: np.random.Generator, shape: list[tuple[int, int, int, int]], *, num_networks: int = 1
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
    return [
        pd.DataFrame({**columns, "probability": 1 / (1 + np.exp(-effect - random.normal(size=len(label))))})
        for _ in range(num_networks)
    ]


def fold_mean_interval(predictions: pd.DataFrame) -> Interval:
    interval = bootstrap_metrics(predictions, num_resamples=RESAMPLES, metrics=["auc"]).fold_mean["auc"]
    assert interval is not None
    return interval


def obuchowski_interval(predictions: pd.DataFrame) -> Interval:
    label, score, patient = (predictions[name].to_numpy() for name in ("label", "probability", "patient_id"))
    return clustered_auc(label, score, patient).interval()


def patchwise_interval(predictions: pd.DataFrame) -> Interval:
    """As if every patch were a patient."""
    found = delong(predictions["label"].to_numpy(), predictions["probability"].to_numpy())
    return unit_interval(float(found.aucs[0]), se=float(np.sqrt(found.covariance[0, 0])), degrees=np.inf)


def holds_truth(interval: Interval) -> bool:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low <= TRUE_AUC <= interval.high


@pytest.mark.parametrize(
    ("shape", "lowest"), [(TABLE_4, 0.88), (TWO_HUNDRED_PATIENTS, 0.90)], ids=["table 4", "200 patients"]
)
def test_intervals_that_draw_patients_hold_the_truth_and_that_of_patches_does_not(
    shape: list[tuple[int, int, int, int]], lowest: float
) -> None:
    methods: dict[str, Callable[[pd.DataFrame], Interval]] = {
        "fold mean": fold_mean_interval,
        "obuchowski": obuchowski_interval,
        "patch-wise": patchwise_interval,
    }
    held = dict.fromkeys(methods, 0)
    random = np.random.default_rng(7)
    # Small matrices gain nothing from threads, and tests run beside each other lose much.
    with threadpool_limits(limits=1):
        for _ in range(RUNS):
            (predictions,) = simulate(random, shape)
            for name, method in methods.items():
                held[name] += holds_truth(method(predictions))
    assert lowest <= held["fold mean"] / RUNS <= 0.97
    assert lowest <= held["obuchowski"] / RUNS <= 0.97
    assert held["patch-wise"] / RUNS < 0.80


def test_the_simulation_has_the_papers_numbers_and_the_area_in_closed_form() -> None:
    random = np.random.default_rng(0)
    (paper,) = simulate(random, TABLE_4)
    assert (len(paper), paper["patient_id"].nunique(), paper["label"].sum()) == (15_049, 81, 1_029)
    # Of 20,000 patients in one subset the pairs within a patient are too few to matter.
    (large,) = simulate(random, [(20_000, 40_000, 60_000, 60_000)])
    area = clustered_auc(large["label"].to_numpy(), large["probability"].to_numpy(), large["patient_id"].to_numpy())
    assert area.auc == pytest.approx(TRUE_AUC, abs=4 * np.sqrt(area.variance))
    assert area.variance < 0.002**2


def test_networks_that_are_equally_good_are_rarely_found_to_differ() -> None:
    random, runs = np.random.default_rng(11), 300
    found = {"fold mean": 0, "obuchowski": 0}
    for _ in range(runs):
        a, b = simulate(random, [(16, 42, 60, 300)] * 5, num_networks=2)
        (compared,) = compare_networks({"a": a, "b": b}, num_resamples=RESAMPLES)
        for name, test in (("fold mean", compared.fold_mean), ("obuchowski", compared.pooled)):
            assert test is not None
            assert test.p is not None
            found[name] += test.p < 0.05
    # The test of the fold means is the more cautious one.
    assert found["fold mean"] / runs <= 0.08
    assert 0.02 <= found["obuchowski"] / runs <= 0.09
