import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from scipy.special import logit as exact_logit
from sklearn.linear_model import LogisticRegression

from mmgkeras.evaluation.calibration import (
    AS_TRAINED,
    RECALIBRATED,
    SHIFTED,
    STATES,
    calibrate,
    fit_line,
    fit_recalibration,
    logit,
    measure_calibration,
    shift_prevalence,
)

TRAINED, FIELD = 0.48, 0.068


def scores(*, stretch: float, folds: tuple[int, ...], num_patches: int, seed: int, prefix: str = "p") -> pd.DataFrame:
    """Patches of two normal distributions 2 apart, scored by the posterior at TRAINED with its evidence stretched."""
    rng = np.random.default_rng(seed)
    label = (rng.uniform(size=num_patches) < FIELD).astype(np.int8)
    evidence = 2 * rng.normal(2.0 * label - 1)  # the log of the likelihood ratio of N(1, 1) to N(-1, 1)
    fold = np.resize(folds, num_patches)
    patient = [f"{prefix}{number}-{index % 50}" for index, number in enumerate(fold)]
    probability = expit(exact_logit(TRAINED) + stretch * evidence)
    return pd.DataFrame(
        {"fold": fold, "patient_id": patient, "label": label, "probability": probability, "tissue": 1.0}
    )


def standard_errors(logits: NDArray[np.float64], *, intercept: float, slope: float) -> NDArray[np.float64]:
    """Of the most likely intercept and slope, from the Fisher information at the true ones."""
    fitted = expit(intercept + slope * logits)
    design = np.stack([np.ones_like(logits), logits], axis=1)
    return np.sqrt(np.diag(np.linalg.inv(design.T @ (design * (fitted * (1 - fitted))[:, None]))))


def test_the_shift_multiplies_the_odds_by_those_of_the_field_over_those_of_the_training() -> None:
    np.testing.assert_allclose(shift_prevalence(np.array([0.5]), trained=0.5, field=0.1), [0.1], rtol=1e-12)
    # Odds 4 x (0.068 / 0.932) / (0.48 / 0.52) = 0.31616...
    odds = 4 * (0.068 / 0.932) / (0.48 / 0.52)
    np.testing.assert_allclose(
        shift_prevalence(np.array([0.8]), trained=0.48, field=0.068), [odds / (1 + odds)], rtol=1e-12
    )
    probabilities = np.linspace(0.01, 0.99, 9)
    moved = shift_prevalence(probabilities, trained=0.48, field=0.068)
    np.testing.assert_allclose(shift_prevalence(moved, trained=0.068, field=0.48), probabilities, rtol=1e-12)


def test_probabilities_of_0_and_1_have_finite_logits() -> None:
    np.testing.assert_allclose(logit(np.array([0.0, 0.5, 1.0])), [-16.118, 0, 16.118], atol=1e-3)


def test_slope_and_intercept_of_a_known_curve_are_recovered_within_their_standard_errors() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(-2, 1.5, size=100_000)
    is_positive = rng.uniform(size=logits.size) < expit(0.3 + 0.7 * logits)
    line = fit_line(is_positive, logits)
    assert line is not None
    errors = standard_errors(logits, intercept=0.3, slope=0.7)
    assert (errors < 0.02).all()
    assert (np.abs(np.array(line) - [0.3, 0.7]) < 3 * errors).all()


@pytest.mark.parametrize(("centre", "spread", "slope"), [(0, 1, 1), (-12, 3, 0.4), (5, 0.01, 60), (0, 8, 3)])
def test_slope_and_intercept_are_those_of_scikit_learn(centre: float, spread: float, slope: float) -> None:
    rng = np.random.default_rng(11)
    logits = rng.normal(centre, spread, size=3000)
    is_positive = rng.uniform(size=logits.size) < expit(slope * (logits - centre) - 1)
    scaled = (logits[:, None] - centre) / spread
    reference = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10).fit(scaled, is_positive)
    expected = reference.coef_[0, 0] / spread
    line = fit_line(is_positive, logits)
    assert line == pytest.approx((reference.intercept_[0] - expected * centre, expected), rel=1e-4)


def test_measures_of_a_case_by_hand() -> None:
    measured = measure_calibration(
        np.array([False, True, True, True]), np.array([0.1, 0.1, 0.9, 0.9]), patients=np.array(list("abab"), object)
    )
    assert measured.brier == pytest.approx((0.01 + 0.81 + 0.01 + 0.01) / 4)
    assert [(point.mean_predicted, point.observed.estimate, point.num_patches) for point in measured.curve] == [
        pytest.approx((0.1, 0.5, 2)),
        pytest.approx((0.9, 1, 2)),
    ]
    assert measured.ece == pytest.approx(0.5 * 0.4 + 0.5 * 0.1)
    assert (measured.mean_predicted, measured.observed) == pytest.approx((0.5, 0.75))
    assert measured.slope is None  # 0.1 and 0.9 part the labels but for a tie


def test_bins_hold_as_many_patches_each_and_bounds_over_patients() -> None:
    random = np.random.default_rng(3)
    patient = np.repeat(np.arange(40), 50)
    logits = random.normal(-3, 1, size=2000) + random.normal(size=40)[patient]
    is_positive = random.uniform(size=2000) < expit(logits)
    measured = measure_calibration(is_positive, expit(logits), patients=patient.astype(str).astype(object))
    assert [point.num_patches for point in measured.curve] == [200] * 10
    last = measured.curve[-1].observed
    assert last.low is not None
    assert last.high is not None
    assert last.low < measured.curve[-1].mean_predicted < last.high
    by_patch = measure_calibration(is_positive, expit(logits), patients=np.arange(2000).astype(str).astype(object))
    assert by_patch.curve[-1].observed.low is not None
    assert last.low < by_patch.curve[-1].observed.low
    assert sum(point.num_patches * point.observed.estimate for point in measured.curve) == pytest.approx(
        is_positive.sum()
    )


def test_calibration_in_the_large_is_what_the_logits_lack() -> None:
    patients = np.array(list("aabb"), object)
    measured = measure_calibration(np.array([False, True, True, True]), np.full(4, 0.5), patients=patients)
    assert measured.in_the_large == pytest.approx(np.log(3))
    assert measure_calibration(np.array([True]), np.array([0.5]), patients=patients[:1]).in_the_large is None


def test_a_slope_that_turns_the_ranking_round_is_refused() -> None:
    frame = scores(stretch=1, folds=(1, 2), num_patches=2000, seed=2)
    # The second fold's scores are upside down, and the first is corrected by them.
    upside_down = frame.assign(probability=frame["probability"].where(frame["fold"] == 1, 1 - frame["probability"]))
    report = calibrate(upside_down, validation=None, trained_prevalence={1: TRAINED, 2: TRAINED})
    assert tuple(report.states) == (AS_TRAINED, SHIFTED)
    assert report.reason.startswith("the slope of fold 1 is -")
    assert "turn the ranking round" in report.reason


def test_the_shift_alone_makes_a_true_posterior_calibrated_in_the_field() -> None:
    frame = scores(stretch=1, folds=(1, 2), num_patches=40_000, seed=2)
    report = calibrate(frame, validation=None, trained_prevalence={1: TRAINED, 2: TRAINED})
    assert tuple(report.states) == STATES
    assert report.fitted_on == "the other folds"
    as_trained, shifted = report.states[AS_TRAINED], report.states[SHIFTED]
    assert as_trained.in_the_large == pytest.approx(exact_logit(FIELD) - exact_logit(TRAINED), abs=0.1)
    assert as_trained.slope == pytest.approx(1, abs=0.05)
    assert shifted.in_the_large == pytest.approx(0, abs=0.1)
    assert shifted.slope == pytest.approx(1, abs=0.05)
    assert shifted.ece < 0.01 < as_trained.ece
    assert shifted.brier < as_trained.brier


def test_slope_and_intercept_take_back_scores_that_are_too_extreme() -> None:
    frame = scores(stretch=2, folds=(1, 2), num_patches=40_000, seed=3)
    report = calibrate(frame, validation=None, trained_prevalence={1: TRAINED, 2: TRAINED})
    assert report.states[SHIFTED].slope == pytest.approx(0.5, abs=0.03)
    recalibrated = report.states[RECALIBRATED]
    assert recalibrated.slope == pytest.approx(1, abs=0.06)
    assert recalibrated.in_the_large == pytest.approx(0, abs=0.1)
    assert recalibrated.ece < 0.01
    for fold in (1, 2):
        other = frame[frame["fold"] != fold]
        assert report.folds[fold].field_prevalence == pytest.approx(other["label"].mean())
        assert report.folds[fold].slope == pytest.approx(0.5, abs=0.05)
        assert report.folds[fold] == fit_recalibration(other, trained_prevalence=TRAINED)


def test_held_out_patients_are_fitted_on_where_there_are_such() -> None:
    frame = scores(stretch=1, folds=(1,), num_patches=4000, seed=4)
    held_out = scores(stretch=1, folds=(1,), num_patches=2000, seed=5, prefix="h")
    report = calibrate(frame, validation=held_out, trained_prevalence={1: TRAINED})
    assert report.fitted_on == "held-out patients"
    assert report.folds[1].field_prevalence == pytest.approx(held_out["label"].mean())
    assert tuple(report.states) == STATES


def test_one_fold_without_held_out_patients_is_measured_as_trained_and_says_why() -> None:
    frame = scores(stretch=1, folds=(1,), num_patches=1000, seed=6)
    report = calibrate(frame, validation=None, trained_prevalence={1: TRAINED})
    assert tuple(report.states) == (AS_TRAINED,)
    assert (report.fitted_on, report.folds) == (None, {})
    assert report.reason


def test_scores_that_part_the_labels_have_no_finite_slope_and_say_so() -> None:
    frame = pd.DataFrame(
        [(1, "a", 1, 0.9), (1, "a", 0, 0.1), (2, "b", 1, 0.6), (2, "b", 0, 0.7)],
        columns=["fold", "patient_id", "label", "probability"],
    ).assign(tissue=1.0)
    report = calibrate(frame, validation=None, trained_prevalence={1: 0.5, 2: 0.5})
    assert tuple(report.states) == (AS_TRAINED, SHIFTED)
    assert "fold 1" in report.reason


def test_the_shift_on_tissue_patches_is_that_of_all_patches() -> None:
    frame = scores(stretch=1, folds=(1, 2), num_patches=40_000, seed=9)
    # What the patch shows decides whether it is selected: the strong evidence, where positives are less rare.
    frame["tissue"] = (frame["probability"] > 0.3).astype(float)
    report = calibrate(frame, validation=None, trained_prevalence={1: TRAINED, 2: TRAINED}, min_tissue=0.5)
    assert report.folds[1].field_prevalence == pytest.approx(frame.loc[frame["fold"] == 2, "label"].mean())
    fitted_on = frame[(frame["fold"] == 2) & (frame["tissue"] == 1)]
    moved = report.folds[1].shifted(fitted_on["probability"].to_numpy())
    line = fit_line((fitted_on["label"] == 1).to_numpy(), logit(moved))
    assert (report.folds[1].intercept, report.folds[1].slope) == line
    shifted = report.states[SHIFTED]
    assert shifted.observed > 2 * FIELD
    assert shifted.in_the_large == pytest.approx(0, abs=0.1)
    assert shifted.slope == pytest.approx(1, abs=0.1)


def test_negatives_that_the_training_left_out_are_no_part_of_the_fields_prevalence() -> None:
    frame = scores(stretch=1, folds=(1, 2), num_patches=40_000, seed=10)
    # As many blank negatives again, of which the training saw none: the scores are the posterior among the others.
    blank = frame[frame["label"] == 0].assign(tissue=0.1)
    prevalences = {1: TRAINED, 2: TRAINED}
    report = calibrate(
        pd.concat([frame, blank], ignore_index=True),
        validation=None,
        trained_prevalence=prevalences,
        min_negative_tissue=0.3,
        min_tissue=0.5,
    )
    assert report.folds[1].field_prevalence == pytest.approx(frame.loc[frame["fold"] == 2, "label"].mean())
    shifted = report.states[SHIFTED]
    assert shifted.in_the_large == pytest.approx(0, abs=0.1)
    assert shifted == calibrate(frame, validation=None, trained_prevalence=prevalences).states[SHIFTED]


def test_unknown_labels_count_nowhere() -> None:
    frame = scores(stretch=1, folds=(1, 2), num_patches=4000, seed=7)
    unknown = frame.iloc[:100].assign(label=-1, probability=0.99)
    prevalences = {1: TRAINED, 2: TRAINED}
    report = calibrate(pd.concat([frame, unknown]), validation=None, trained_prevalence=prevalences)
    assert report == calibrate(frame, validation=None, trained_prevalence=prevalences)


def test_prevalences_and_labels_must_be_there() -> None:
    frame = scores(stretch=1, folds=(1, 2), num_patches=1000, seed=8)
    with pytest.raises(ValueError, match=r"Prevalences must lie in \(0, 1\). Received: nan trained"):
        calibrate(frame, validation=None, trained_prevalence={1: TRAINED})
    with pytest.raises(ValueError, match=r"needs patches of known label. Received: none with 0 of tissue"):
        calibrate(frame.assign(label=-1), validation=None, trained_prevalence={1: TRAINED})
