import numpy as np
import pandas as pd
import pytest
from scipy.special import logit
from scipy.stats import t as student

from mmgkeras.evaluation.bootstrap import PatientResamples, bootstrap_metrics, resample_patients, resample_table
from mmgkeras.evaluation.interval import Interval
from mmgkeras.evaluation.patient_table import BOOTSTRAPPED, tabulate_patients
from mmgkeras.evaluation.summary import summarise


def predictions(seed: int = 0, *, num_patients: int = 30, num_folds: int = 3, shift: float = 1.5) -> pd.DataFrame:
    """Ten patches of each patient, in two images; every fold holds as many patients."""
    random = np.random.default_rng(seed)
    patient = np.repeat(np.arange(num_patients), 10)
    label = (random.random(len(patient)) < 0.3).astype(np.int8)
    score = shift * label + random.normal(size=num_patients)[patient] + random.normal(size=len(patient))
    return pd.DataFrame(
        {
            "image_id": [f"p{p:03}-{i % 2}" for i, p in enumerate(patient)],
            "patient_id": [f"p{p:03}" for p in patient],
            "fold": 1 + patient % num_folds,
            "row": 0,
            "col": np.arange(len(patient)),
            "label": label,
            "probability": 1 / (1 + np.exp(1 - score)),
            "tissue": 1.0,
        }
    )


def test_estimates_are_the_metrics_of_the_summary() -> None:
    frame = predictions()
    found = bootstrap_metrics(frame, num_resamples=50)
    summary = summarise(frame).all_patches
    assert set(found.fold_mean) == set(found.pooled) == set(found.fold_spread) == set(BOOTSTRAPPED)
    for name, expected in summary.mean.items():
        interval = found.fold_mean[name]
        assert interval is not None
        assert interval.estimate == pytest.approx(expected)
        pooled = found.pooled[name]
        assert pooled is not None
        assert pooled.estimate == pytest.approx(getattr(summary.pooled, name))
        assert found.fold_spread[name] == pytest.approx(
            np.std([getattr(fold, name) for fold in summary.folds.values()], ddof=1)
        )
    of_mammograms = found.pooled["mammogram_accuracy"]
    assert of_mammograms is not None
    assert of_mammograms.estimate == pytest.approx(summary.mammogram_accuracy)


def test_the_bounds_are_those_of_a_proportion_where_each_patient_has_one_patch() -> None:
    # 8 of 20 right in each of two folds, so the variance of the mean is 0.4 x 0.6 / 19 / 2, with 38 degrees of freedom.
    frame = predictions(num_patients=40, num_folds=2).drop_duplicates("patient_id")
    right = np.repeat(np.arange(20) < 8, 2)
    frame = frame.assign(label=0, probability=np.where(right, 0.1, 0.9))
    interval = bootstrap_metrics(frame, num_resamples=20_000).fold_mean["accuracy"]
    assert interval is not None
    assert interval.low is not None
    reach = student.ppf(0.975, 38) * np.sqrt(0.24 / 19 / 2) / 0.24
    assert interval.estimate == pytest.approx(0.4)
    assert logit(0.4) - logit(interval.low) == pytest.approx(reach, rel=0.02)


def test_copies_of_every_patch_change_no_interval() -> None:
    frame = predictions()
    copies = pd.concat([frame, frame.assign(row=1)])
    once, twice = bootstrap_metrics(frame, num_resamples=200), bootstrap_metrics(copies, num_resamples=200)
    for name in BOOTSTRAPPED:
        for first, second in ((once.fold_mean[name], twice.fold_mean[name]), (once.pooled[name], twice.pooled[name])):
            assert first is not None
            assert second is not None
            assert (second.low, second.high) == (pytest.approx(first.low), pytest.approx(first.high))


def test_the_same_patients_are_drawn_in_any_order_of_the_patches() -> None:
    frame = predictions()
    shuffled = frame.sample(frac=1, random_state=3)
    first, second = bootstrap_metrics(frame, num_resamples=100), bootstrap_metrics(shuffled, num_resamples=100)
    for name in BOOTSTRAPPED:
        a, b = first.fold_mean[name], second.fold_mean[name]
        assert a is not None
        assert b is not None
        assert a.low == pytest.approx(b.low)


def test_patients_are_drawn_within_their_fold_and_a_fold_keeps_both_labels() -> None:
    frame = predictions(num_patients=12)
    # One patient of fold 1 and two of fold 2 have positives.
    positive = frame["patient_id"].isin(["p000", "p001", "p004", "p002"]) & (frame["col"] % 2 == 0)
    table = tabulate_patients(frame.assign(label=positive.astype(np.int8)))
    # Four patients leave one of them out in (3/4)^4 = 32 % of the draws: these are drawn again.
    weights = resample_table(table, num_resamples=300)
    for fold in (1, 2, 3):
        part = table.units(fold)
        assert (weights[:, part].sum(axis=1) == 4).all()
        assert (weights[:, part] @ table.positives[part] > 0).all()
        assert (weights[:, part] @ table.negatives[part] > 0).all()


def test_patients_that_several_models_scored_are_drawn_once_for_all() -> None:
    frame = predictions(num_folds=1)
    table = tabulate_patients(pd.concat([frame, frame.assign(fold=2), predictions(num_folds=1).assign(fold=3)]))
    weights = resample_table(table, num_resamples=20)
    np.testing.assert_array_equal(weights[:, table.units(1)], weights[:, table.units(2)])
    np.testing.assert_array_equal(weights[:, table.units(1)], weights[:, table.units(3)])
    alone = tabulate_patients(predictions())
    apart = resample_table(alone, num_resamples=20)
    assert not np.array_equal(apart[:, alone.units(1)], apart[:, alone.units(2)])


def test_patches_that_several_models_scored_are_not_pooled() -> None:
    frame = predictions(num_folds=1)
    found = bootstrap_metrics(pd.concat([frame, frame.assign(fold=2)]), num_resamples=50)
    assert set(found.pooled.values()) == {None}
    interval = found.fold_mean["auc"]
    assert interval is not None
    # The same patients twice are no more evidence than once.
    once = bootstrap_metrics(frame, num_resamples=50).fold_mean["auc"]
    assert once is not None
    assert once.low is not None
    assert interval.low == pytest.approx(once.low, rel=1e-9)
    assert interval.high == pytest.approx(once.high, rel=1e-9)


def test_a_fold_without_positives_leaves_the_metrics_that_need_none() -> None:
    frame = predictions()
    frame.loc[frame["fold"] == 2, "label"] = 0
    found = bootstrap_metrics(frame, num_resamples=50)
    for name in ("auc", "average_precision", "sensitivity"):
        assert (found.fold_mean[name], found.fold_spread[name]) == (None, None)
        assert found.pooled[name] is not None
    assert found.fold_mean["specificity"] is not None


def test_a_fold_that_is_expected_and_absent_leaves_no_mean() -> None:
    found = bootstrap_metrics(predictions(), num_resamples=50, folds=[1, 2, 3, 4])
    assert set(found.fold_mean.values()) == {None}
    assert found.pooled["auc"] is not None


def test_one_patient_behind_a_metric_gives_no_bounds() -> None:
    frame = predictions(num_patients=12)
    lonely = (frame["patient_id"] == "p000") | (frame["fold"] != 1)
    frame = frame.assign(label=(lonely & (frame["col"] % 2 == 0)).astype(np.int8))
    found = bootstrap_metrics(frame, num_resamples=50)
    auc, specificity = found.fold_mean["auc"], found.fold_mean["specificity"]
    assert auc is not None
    assert specificity is not None
    assert auc == Interval(auc.estimate)
    assert specificity.low is not None
    single = bootstrap_metrics(frame[frame["patient_id"] == "p000"], num_resamples=10)
    assert single.fold_mean["accuracy"] is not None
    assert single.fold_mean["accuracy"].low is None
    assert single.fold_spread["accuracy"] is None


def test_a_metric_that_resamples_often_leave_without_meaning_has_no_bounds() -> None:
    # Two of 30 patients have a patch that is called, so (28/30)^30 = 13 % of the draws call none.
    frame = predictions(num_folds=1).assign(probability=0.1)
    frame.loc[frame["col"].isin([0, 10]), "probability"] = 0.9
    frame["label"] = np.where(frame["col"].isin([0, 55]), 1, 0)
    ppv = bootstrap_metrics(frame, num_resamples=500).fold_mean["ppv"]
    assert ppv == Interval(0.5)


def test_a_perfect_classifier_has_no_bounds() -> None:
    frame = predictions()
    found = bootstrap_metrics(frame.assign(probability=0.1 + 0.8 * frame["label"]), num_resamples=50)
    assert found.fold_mean["auc"] == Interval(1.0)


def test_unknown_patches_change_nothing() -> None:
    frame = predictions()
    unknown = frame.assign(label=-1, row=1, probability=0.5)
    found, expected = (bootstrap_metrics(part, num_resamples=50) for part in (pd.concat([frame, unknown]), frame))
    assert found == expected


def test_no_patches_have_no_metrics() -> None:
    found = bootstrap_metrics(predictions().iloc[:0], num_resamples=10)
    assert set(found.fold_mean.values()) == set(found.pooled.values()) == {None}


@pytest.fixture
def eight() -> pd.DataFrame:
    """Eight patients, two patches each."""
    return pd.DataFrame({"patient_id": [f"p{number}" for number in range(8) for _ in range(2)]})


def test_every_resample_has_as_many_patients_as_there_are(eight: pd.DataFrame) -> None:
    resamples = resample_patients(eight, num_resamples=50)
    assert resamples.patients.tolist() == [f"p{number}" for number in range(8)]
    assert (resamples.weights.sum(axis=1) == 8).all()


def test_resamples_are_the_same_each_time(eight: pd.DataFrame) -> None:
    first, second = (resample_patients(eight, num_resamples=5) for _ in range(2))
    assert np.array_equal(first.weights, second.weights)


def test_rate_is_the_part_of_patches_and_its_bounds_hold_it(eight: pd.DataFrame) -> None:
    resamples = resample_patients(eight, num_resamples=500)
    interval = resamples.rate([1, 0] * 6 + [0] * 4, resamples.places(eight["patient_id"]))
    assert interval is not None
    assert interval.estimate == 6 / 16
    assert interval.low is not None
    assert interval.high is not None
    assert 0 < interval.low < 6 / 16 < interval.high < 1


def test_a_rate_of_one_or_of_few_patients_has_no_bounds(eight: pd.DataFrame) -> None:
    resamples = resample_patients(eight, num_resamples=100)
    places = resamples.places(eight["patient_id"])
    certain = resamples.rate(np.ones(16), places)
    few = resamples.rate([1, 0, 1, 1], places[:4])
    assert certain is not None
    assert (certain.estimate, certain.low, certain.high) == (1.0, None, None)
    assert few is not None
    assert (few.estimate, few.low, few.high) == (0.75, None, None)


def test_no_patch_no_rate(eight: pd.DataFrame) -> None:
    resamples = resample_patients(eight, num_resamples=10)
    assert resamples.rate([], np.array([], dtype=np.int64)) is None


def test_mean_of_any_size_is_symmetric(eight: pd.DataFrame) -> None:
    resamples = resample_patients(eight, num_resamples=500)
    interval = resamples.mean(np.arange(16) - 20.0, resamples.places(eight["patient_id"]))
    assert interval is not None
    assert interval.low is not None
    assert interval.high is not None
    assert interval.estimate == pytest.approx(-12.5)
    assert interval.high - interval.estimate == pytest.approx(interval.estimate - interval.low)


def patches(rows: list[tuple[str, int, int, float]]) -> pd.DataFrame:
    """(patient_id, fold, label, probability)."""
    frame = pd.DataFrame(rows, columns=["patient_id", "fold", "label", "probability"])
    return frame.assign(image_id=frame["patient_id"], row=0, col=range(len(frame)))


def test_auc_counts_pairs_of_one_fold_and_ties_half() -> None:
    resamples = PatientResamples(patients=np.array(["a", "b"], dtype=object), weights=np.ones((10, 2)))
    # Fold 1 (a): 0.5 against 0.5 and 0.4, 1.5 of 2. Fold 2 (b): 0.1 against 0.3, 0 of 1. Across folds nothing counts.
    rows = [("a", 1, 1, 0.5), ("a", 1, 0, 0.5), ("a", 1, 0, 0.4), ("b", 2, 1, 0.1), ("b", 2, 0, 0.3)]
    interval = resamples.auc(patches(rows))
    assert interval is not None
    assert interval.estimate == 1.5 / 3


def test_auc_without_a_pair_in_any_fold_is_none() -> None:
    resamples = PatientResamples(patients=np.array(["a", "b"], dtype=object), weights=np.ones((10, 2)))
    assert resamples.auc(patches([("a", 1, 1, 0.9), ("b", 2, 0, 0.1)])) is None


def test_the_standard_error_of_a_part_is_that_of_the_mean_over_its_patients() -> None:
    # Of six patients with one patch each two are hits: the variance of the mean is 2/6 x 4/6 / 5, not / 6.
    frame = patches([(f"p{number}", 1, 0, 0.5) for number in range(6)])
    resamples = resample_patients(frame, num_resamples=40_000)
    interval = resamples.rate([1, 1, 0, 0, 0, 0], resamples.places(frame["patient_id"]))
    assert interval is not None
    assert interval.high is not None
    reach = student.ppf(0.975, 5) * np.sqrt(2 / 9 / 5) / (2 / 9)
    assert logit(interval.high) - logit(1 / 3) == pytest.approx(reach, rel=0.02)
    # Without n / (n - 1) the reach would be 9 % shorter.
