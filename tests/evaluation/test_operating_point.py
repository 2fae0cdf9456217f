import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from mmgkeras.errors import InputError
from mmgkeras.evaluation.metrics import METRICS
from mmgkeras.evaluation.operating_point import (
    choose_threshold,
    cross_fitted_thresholds,
    fitting_sets,
    measure_at,
    reached_intervals,
)


def predictions(rows: list[tuple[int, str, int, float]]) -> pd.DataFrame:
    """(fold, image_id, label, probability), each in a column of its own; an image is a patient."""
    return pd.DataFrame(
        [(image, image, fold, 0, col, label, p, 1.0) for col, (fold, image, label, p) in enumerate(rows)],
        columns=["image_id", "patient_id", "fold", "row", "col", "label", "probability", "tissue"],
    )


# Positives 0.9 0.8 0.6 0.2; negatives 0.7 0.5 0.5 on two images; image c is unknown as a whole.
CASE = predictions(
    [
        (1, "a", 1, 0.9),
        (1, "a", 1, 0.8),
        (1, "a", 0, 0.7),
        (1, "a", 0, 0.5),
        (1, "b", 1, 0.6),
        (1, "b", 1, 0.2),
        (1, "b", 0, 0.5),
        (1, "c", -1, 0.95),
    ]
)


@pytest.mark.parametrize(
    ("target", "threshold"), [(0.1, 0.9), (0.25, 0.9), (0.5, 0.8), (0.51, 0.6), (0.75, 0.6), (1, 0.2)]
)
def test_a_sensitivity_is_reached_at_the_highest_threshold_that_does(target: float, threshold: float) -> None:
    assert choose_threshold(CASE, sensitivity=target) == threshold
    reached = measure_at(CASE, threshold=threshold).metrics.sensitivity
    assert reached is not None
    assert reached >= target


def test_a_part_that_is_not_exact_in_floating_point_wants_no_patch_more() -> None:
    hundred = predictions([(1, "a", 1, number / 100) for number in range(1, 101)])
    assert choose_threshold(hundred, sensitivity=0.07) == 0.94


@pytest.mark.parametrize(("target", "threshold"), [(0, 0.8), (0.5, 0.6), (1, 0.6), (1.4, 0.6), (1.5, 0.2), (9, 0.2)])
def test_false_positives_an_image_are_kept_at_the_lowest_score_that_does(target: float, threshold: float) -> None:
    # Over the two images with a negative: 0 at 0.8, 1 / 2 at 0.6, then the two at 0.5 come together, 3 / 2.
    assert choose_threshold(CASE, false_positives_per_image=target) == threshold
    reached = measure_at(CASE, threshold=threshold).false_positives_per_image
    assert reached is not None
    assert reached <= target


def test_where_a_negative_scores_highest_nothing_is_called() -> None:
    frame = predictions([(1, "a", 0, 0.8), (1, "a", 1, 0.3)])
    assert choose_threshold(frame, false_positives_per_image=0) == 1
    with pytest.raises(InputError, match=r"at most 0 false positives an image: 1 patch labelled 0 with probability 1"):
        choose_threshold(frame.assign(probability=1.0), false_positives_per_image=0)


def test_positives_of_probability_0_are_below_every_threshold() -> None:
    frame = predictions([(1, "a", 1, 0.8), (1, "a", 1, 0.0)])
    assert choose_threshold(frame, sensitivity=0.5) == 0.8
    with pytest.raises(InputError, match=r"no threshold reaches a sensitivity of 0.6: 1 of 2 positives"):
        choose_threshold(frame, sensitivity=0.6)


def test_patches_of_the_label_that_matters_must_be_there() -> None:
    with pytest.raises(InputError, match="a sensitivity needs patches labelled 1"):
        choose_threshold(CASE[CASE["label"] != 1], sensitivity=0.9)
    with pytest.raises(InputError, match="false positives an image need patches labelled 0"):
        choose_threshold(CASE[CASE["label"] != 0], false_positives_per_image=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Give sensitivity or false_positives_per_image, and not both"),
        ({"sensitivity": 0.5, "false_positives_per_image": 1}, "and not both"),
        ({"sensitivity": 0}, "must be above 0 and at most 1. Received: 0"),
        ({"sensitivity": 1.01}, "must be above 0 and at most 1"),
        ({"false_positives_per_image": -1}, "must be 0 or more. Received: -1"),
    ],
)
def test_one_target_in_its_range_is_wanted(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_threshold(CASE, **arguments)


TWO_FOLDS = predictions(
    [
        (1, "a", 1, 0.9),
        (1, "a", 1, 0.4),
        (1, "a", 0, 0.5),
        (2, "b", 1, 0.7),
        (2, "b", 1, 0.3),
        (2, "b", 0, 0.2),
        (2, "b", 0, 0.35),
    ]
)


def test_the_threshold_of_a_fold_is_chosen_on_the_other_and_judged_on_its_own() -> None:
    sets = fitting_sets(TWO_FOLDS, validation=None)
    thresholds = cross_fitted_thresholds(sets, sensitivity=1)
    assert (sets.fitted_on, thresholds) == ("the other folds", {1: 0.3, 2: 0.4})
    # Fold 1 finds both at one false positive on its image, fold 2 one at none.
    found = reached_intervals(TWO_FOLDS, thresholds, num_resamples=10)
    for name, expected in (("sensitivity", 0.75), ("false_positives_per_image", 0.5)):
        interval = found[name]
        assert interval is not None
        assert interval.estimate == expected


def test_false_positives_per_image_do_not_reach_below_zero() -> None:
    one_has_most = [(1, name, 0, 0.9) for name in "aaaabc"] + [(1, name, 0, 0.1) for name in "defgh"]
    interval = reached_intervals(predictions(one_has_most), {1: 0.5}, num_resamples=200)["false_positives_per_image"]
    assert interval is not None
    assert interval.low is not None
    assert 0 < interval.low < interval.estimate == 0.75


def test_held_out_patients_give_the_threshold_of_their_own_model() -> None:
    held_out = predictions([(1, "x", 1, 0.6), (1, "x", 0, 0.45), (2, "y", 1, 0.1), (2, "y", 0, 0.8)])
    sets = fitting_sets(TWO_FOLDS, validation=held_out)
    assert sets.fitted_on == "held-out patients"
    assert cross_fitted_thresholds(sets, false_positives_per_image=0) == {1: 0.6, 2: 1.0}


def test_what_cannot_be_chosen_says_why() -> None:
    certain = fitting_sets(TWO_FOLDS.assign(probability=1.0), validation=None)
    with pytest.raises(InputError, match=r"^fold 1: predictions: no threshold gives at most 0 false positives"):
        cross_fitted_thresholds(certain, false_positives_per_image=0)


def owners(rows: list[tuple[int, str, int]]) -> pd.DataFrame:
    """(fold, patient_id, label)."""
    return pd.DataFrame(rows, columns=["fold", "patient_id", "label"]).assign(probability=0.5)


FOLDS = owners([(1, "a", 1), (1, "a", 0), (2, "b", 1), (2, "b", -1), (2, "c", 0), (3, "d", 0)])


def test_without_held_out_patients_the_other_folds_are_fitted_on() -> None:
    sets = fitting_sets(FOLDS, validation=None)
    assert sets.fitted_on == "the other folds"
    assert {fold: sorted(part["patient_id"]) for fold, part in sets.by_fold.items()} == {
        1: ["b", "c", "d"],
        2: ["a", "a", "d"],
        3: ["a", "a", "b", "c"],
    }


def test_held_out_patients_are_preferred() -> None:
    held_out = owners([(1, "b", 1), (1, "c", 0), (2, "a", 1), (2, "a", 0), (3, "a", 1), (3, "c", 0)])
    sets = fitting_sets(FOLDS, validation=held_out)
    assert sets.fitted_on == "held-out patients"
    assert sorted(sets.by_fold[1]["patient_id"]) == ["b", "c"]


def test_held_out_patients_of_one_label_in_any_fold_are_not_enough() -> None:
    held_out = owners([(1, "b", 1), (1, "c", 0), (2, "a", 1), (2, "a", 0), (3, "c", 0), (3, "b", -1)])
    assert fitting_sets(FOLDS, validation=held_out).fitted_on == "the other folds"


def test_one_fold_alone_has_nothing_to_be_fitted_on() -> None:
    sets = fitting_sets(FOLDS[FOLDS["fold"] == 1], validation=None)
    assert (sets.fitted_on, sets.by_fold) == (None, {})
    assert sets.reason


def test_other_folds_of_one_label_are_not_enough() -> None:
    sets = fitting_sets(FOLDS[FOLDS["fold"] != 2], validation=None)
    assert sets.fitted_on is None
    assert "folds other than 1" in sets.reason


def test_a_patient_whom_the_fold_tests_is_refused() -> None:
    both = pd.concat([FOLDS, owners([(3, "a", 0)])])
    with pytest.raises(InputError, match=r"fold 1 on a patient whom it tests. Received: 'a' among the other folds"):
        fitting_sets(both, validation=None)
    held_out = owners([(fold, patient, label) for fold in (1, 2, 3) for patient, label in (("c", 1), ("z", 0))])
    with pytest.raises(InputError, match=r"fold 2 on a patient whom it tests. Received: 'c' among held-out patients"):
        fitting_sets(FOLDS, validation=held_out)


def test_intervals_are_of_the_decisions_at_the_threshold_of_each_fold() -> None:
    random = np.random.default_rng(0)
    patient = np.repeat(np.arange(30), 8)
    label = (random.random(240) < 0.3).astype(int)
    score = expit(2 * label - 1 + random.normal(size=30)[patient] + random.normal(size=240))
    frame = predictions([(1 + p % 2, f"p{p}", y, s) for p, y, s in zip(patient, label, score, strict=True)])
    thresholds = {1: 0.4, 2: 0.6}
    found = reached_intervals(frame, thresholds, num_resamples=200)
    parts = [measure_at(frame[frame["fold"] == fold], threshold=value) for fold, value in thresholds.items()]
    of_folds = {name: [getattr(part.metrics, name) for part in parts] for name in METRICS[2:]}
    of_folds["false_positives_per_image"] = [part.false_positives_per_image for part in parts]
    assert set(found) == set(of_folds)
    for name, values in of_folds.items():
        interval = found[name]
        assert interval is not None
        assert interval.estimate == pytest.approx(np.mean(values))
        assert interval.low is not None
        assert interval.low < interval.estimate
