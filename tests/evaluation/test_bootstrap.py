import numpy as np
import pandas as pd
import pytest
from scipy.special import logit
from scipy.stats import t as student

from mmgkeras.evaluation.bootstrap import bootstrap_metrics, draw_resamples
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


def test_the_same_seed_draws_the_same_patients_in_any_order_of_the_patches() -> None:
    frame = predictions()
    shuffled = frame.sample(frac=1, random_state=3)
    first, second = bootstrap_metrics(frame, num_resamples=100), bootstrap_metrics(shuffled, num_resamples=100)
    other = bootstrap_metrics(frame, num_resamples=100, seed=1)
    for name in BOOTSTRAPPED:
        a, b, c = first.fold_mean[name], second.fold_mean[name], other.fold_mean[name]
        assert a is not None
        assert b is not None
        assert c is not None
        assert a.low == pytest.approx(b.low)
        assert a.low != pytest.approx(c.low, rel=1e-9)


def test_more_confidence_widens_the_interval() -> None:
    frame = predictions()
    narrow = bootstrap_metrics(frame, num_resamples=100, confidence=0.8, metrics=["auc"]).fold_mean["auc"]
    wide = bootstrap_metrics(frame, num_resamples=100, confidence=0.99, metrics=["auc"]).fold_mean["auc"]
    assert narrow is not None
    assert wide is not None
    assert narrow.low is not None
    assert wide.low is not None
    assert wide.low < narrow.low < narrow.estimate


def test_patients_are_drawn_within_their_fold_and_a_fold_keeps_both_labels() -> None:
    frame = predictions(num_patients=12)
    # One patient of fold 1 and two of fold 2 have positives.
    positive = frame["patient_id"].isin(["p000", "p001", "p004", "p002"]) & (frame["col"] % 2 == 0)
    table = tabulate_patients(frame.assign(label=positive.astype(np.int8)))
    resamples = draw_resamples(table, num_resamples=300, seed=0)
    for fold in (1, 2, 3):
        part = table.units(fold)
        assert (resamples.weights[:, part].sum(axis=1) == 4).all()
        assert (resamples.weights[:, part] @ table.positives[part] > 0).all()
        assert (resamples.weights[:, part] @ table.negatives[part] > 0).all()
    # Four patients leave one of them out in (3/4)^4 = 32 % of the draws.
    assert resamples.num_redrawn > 100
    assert bootstrap_metrics(frame.assign(label=positive.astype(np.int8)), num_resamples=300).num_redrawn > 100


def test_patients_that_several_models_scored_are_drawn_once_for_all() -> None:
    frame = predictions(num_folds=1)
    table = tabulate_patients(pd.concat([frame, frame.assign(fold=2), predictions(num_folds=1).assign(fold=3)]))
    weights = draw_resamples(table, num_resamples=20, seed=0).weights
    np.testing.assert_array_equal(weights[:, table.units(1)], weights[:, table.units(2)])
    np.testing.assert_array_equal(weights[:, table.units(1)], weights[:, table.units(3)])
    alone = tabulate_patients(predictions())
    apart = draw_resamples(alone, num_resamples=20, seed=0).weights
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
