"""A fast part of benchmarks/simulated_studies.py: coverage of the intervals, type I error of the tests."""

from collections import Counter

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from benchmarks.simulated_studies import (
    NETWORK_SD,
    SHAPES,
    TABLE_4,
    TRUE_AUC,
    TWO_HUNDRED_PATIENTS,
    Shape,
    coverage,
    part_intervals,
    simulate,
    true_parts,
    type_one_error,
)
from mmgkeras.evaluation.comparison import clustered_aucs


@pytest.mark.parametrize(
    ("shape", "lowest"), [(TABLE_4, 0.88), (TWO_HUNDRED_PATIENTS, 0.90)], ids=["table 4", "200 patients"]
)
def test_intervals_that_draw_patients_hold_the_truth_and_that_of_patches_does_not(shape: Shape, lowest: float) -> None:
    # Small matrices gain nothing from threads, and tests run beside each other lose much.
    with threadpool_limits(limits=1):
        held = {name: part for name, (part, _) in coverage(shape, runs=200, seed=7).items()}
    for name in ("mean of folds", "pooled", "Obuchowski"):
        assert lowest - 0.03 <= held[name] <= 0.98
    assert held["by patch"] < 0.80


def test_intervals_of_froc_and_of_subgroups_hold_the_truth() -> None:
    with threadpool_limits(limits=1):
        held = coverage(TABLE_4, runs=30, seed=2, made=part_intervals, truths=true_parts(TABLE_4))
    assert list(held) == list(true_parts(TABLE_4))
    # Three standard errors, 0.04 each, below 0.95.
    assert all(part >= 0.83 for part, _ in held.values()), held


def test_what_the_intervals_of_froc_and_of_subgroups_are_to_hold_is_what_a_large_study_gives() -> None:
    shape = [(1000, 2000, 3000, 20_000)]
    (large,) = simulate(np.random.default_rng(1), shape)
    with threadpool_limits(limits=1):
        found = part_intervals(large)
    for name, truth in true_parts(shape).items():
        interval = found[name]
        assert interval is not None
        assert interval.estimate == pytest.approx(truth, abs=0.03), name


@pytest.mark.parametrize("shape", ["6 patients with positives", "19 patients with positives", "200 patients"])
def test_networks_that_are_equally_good_are_called_different_as_often_as_the_level_says(shape: str) -> None:
    with threadpool_limits(limits=1):
        found = type_one_error(SHAPES[shape], runs=250, seed=3, network_sd=NETWORK_SD)
    # Within 2 standard errors, 0.014 each, of 0.03 to 0.07.
    assert all(0.004 <= part <= 0.1 for part in found.values()), found


def test_the_simulation_has_the_papers_numbers_and_the_area_in_closed_form() -> None:
    random = np.random.default_rng(0)
    (paper,) = simulate(random, TABLE_4)
    assert (len(paper), paper["patient_id"].nunique(), paper["label"].sum()) == (15_049, 81, 1_029)
    # Of 20,000 patients in one subset the pairs within a patient are too few to matter.
    (large,) = simulate(random, [(20_000, 40_000, 60_000, 60_000)])
    label, score, patient = (large[name].to_numpy() for name in ("label", "probability", "patient_id"))
    area = clustered_aucs(label, score[np.newaxis], patient)
    se = float(np.sqrt(area.covariance[0, 0]))
    assert area.aucs[0] == pytest.approx(TRUE_AUC, abs=4 * se)
    assert se < 0.002


def test_the_small_shapes_have_as_many_patients_with_positives_as_their_names_say() -> None:
    random = np.random.default_rng(0)
    for name, number in (("6 patients with positives", 6), ("19 patients with positives", 19)):
        counts: Counter[int] = Counter()
        for _ in range(5):
            (frame,) = simulate(random, SHAPES[name])
            counts[frame.loc[frame["label"] == 1, "patient_id"].nunique()] += 1
        assert counts == {number: 5}
