import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from mmgkeras.evaluation.metrics import (
    auc,
    average_precision,
    mean,
    mean_metrics,
    mean_precision_recall,
    mean_roc,
    measure,
    measure_mammograms,
    outcomes,
    placements,
    precision_recall_points,
    roc_points,
    within_image_pairs,
)

LABELS = [1, 1, 1, 0, 0, 0, 0, 0]
SCORES = [0.9, 0.5, 0.2, 0.8, 0.4, 0.3, 0.1, 0.0]


def frame(labels: list[int], scores: list[float], *, images: list[str] | None = None) -> pd.DataFrame:
    images = images or ["p-1"] * len(labels)
    return pd.DataFrame(
        {
            "image_id": images,
            "patient_id": [image.split("-")[0] for image in images],
            "fold": 1,
            "label": labels,
            "probability": scores,
        }
    )


def test_every_metric_of_a_matrix_worked_out_by_hand() -> None:
    # Called positive: 0.9 and 0.5 rightly, 0.8 wrongly; 0.2 is missed.
    metrics = measure(frame(LABELS, SCORES, images=["p-1", "p-1", "p-2", "p-2", "q-1", "q-1", "q-1", "r-1"]))
    assert (metrics.tp, metrics.fp, metrics.tn, metrics.fn) == (2, 1, 4, 1)
    assert metrics.sensitivity == pytest.approx(2 / 3)
    assert metrics.specificity == pytest.approx(4 / 5)
    assert metrics.ppv == pytest.approx(2 / 3)
    assert metrics.npv == pytest.approx(4 / 5)
    assert metrics.f1 == pytest.approx(2 / (2 + (1 + 1) / 2))
    assert metrics.accuracy == pytest.approx(6 / 8)
    # Pairs won of 3 x 5: 0.9 wins 5, 0.5 wins 4, 0.2 wins 2.
    assert metrics.auc == pytest.approx(11 / 15)
    # Precision at each positive, from the top: 1/1, 2/3, 3/6.
    assert metrics.average_precision == pytest.approx((1 + 2 / 3 + 3 / 6) / 3)
    assert (metrics.num_positives, metrics.num_negatives, metrics.num_unknown) == (3, 5, 0)
    assert (metrics.num_images, metrics.num_patients) == (4, 3)


def test_a_probability_at_the_threshold_says_calcification() -> None:
    labels, scores = np.array([1, 1, 0, 0]), np.array([0.5, 0.49, 0.5, 0.49])
    for threshold, expected in ((0.5, (1, 1, 1, 1)), (0.49, (2, 2, 0, 0))):
        found = outcomes(labels, scores, threshold=threshold)
        assert {name: part.sum() for name, part in found.items()} == dict(
            zip(("tp", "fp", "tn", "fn"), expected, strict=True)
        )


def test_unknown_patches_are_counted_and_left_out_of_everything_else() -> None:
    known = measure(frame(LABELS, SCORES))
    with_unknown = measure(frame([*LABELS, -1, -1], [*SCORES, 0.99, 0.01], images=["p-1"] * 8 + ["q-1"] * 2))
    assert with_unknown.num_unknown == 2
    assert (with_unknown.num_images, with_unknown.num_patients) == (1, 1)
    assert (with_unknown.auc, with_unknown.accuracy) == (known.auc, known.accuracy)


def test_metrics_without_meaning_are_none() -> None:
    none_called = measure(frame([1, 0], [0.1, 0.2]))
    assert none_called.ppv is None
    assert none_called.f1 == 0
    all_called = measure(frame([1, 0], [0.9, 0.8]))
    assert all_called.npv is None
    no_positives = measure(frame([0, 0], [0.1, 0.2]))
    assert (no_positives.auc, no_positives.average_precision, no_positives.sensitivity) == (None, None, None)
    assert no_positives.f1 is None
    no_negatives = measure(frame([1, 1], [0.9, 0.2]))
    assert (no_negatives.auc, no_negatives.specificity) == (None, None)
    nothing = measure(frame([], []))
    assert (nothing.accuracy, nothing.auc, nothing.num_images) == (None, None, 0)


def test_ties_count_one_half_in_the_auc() -> None:
    assert auc(np.array([1, 0, 0]), np.array([0.5, 0.5, 0.1])) == 0.75
    assert average_precision(np.array([1, 0]), np.array([0.5, 0.5])) == 0.5


def test_the_mean_over_folds_weighs_every_fold_the_same() -> None:
    small = measure(frame([1, 0], [0.9, 0.1]))
    large = measure(frame([1, 1, 0, 0], [0.9, 0.1, 0.2, 0.3]))
    metrics = mean_metrics([small, large])
    assert metrics["sensitivity"] == pytest.approx((1 + 1 / 2) / 2)
    assert metrics["accuracy"] == pytest.approx((1 + 3 / 4) / 2)
    assert metrics["auc"] == pytest.approx((1 + 2 / 4) / 2)


def test_a_metric_that_one_fold_lacks_has_no_mean() -> None:
    metrics = mean_metrics([measure(frame([1, 0], [0.9, 0.1])), measure(frame([0, 0], [0.1, 0.2]))])
    assert metrics["sensitivity"] is None
    assert metrics["specificity"] == 1
    assert mean([]) is None


def test_the_accuracy_of_each_mammogram_is_over_its_patches_of_known_label() -> None:
    images = ["p-2", "p-2", "p-2", "p-2", "p-1", "q-1"]
    table = measure_mammograms(
        frame([1, 0, 0, -1, 1, -1], [0.9, 0.8, 0.1, 0.9, 0.2, 0.5], images=images), seconds={(1, "p-1"): 0.25}
    )
    assert list(table["image_id"]) == ["p-2", "p-1", "q-1"]
    assert list(table["patient_id"]) == ["p", "p", "q"]
    assert table[["num_patches", "num_unknown", "tp", "fp", "tn", "fn"]].to_numpy().tolist() == [
        [4, 1, 1, 1, 1, 0],
        [1, 0, 0, 0, 0, 1],
        [1, 1, 0, 0, 0, 0],
    ]
    np.testing.assert_allclose(table["accuracy"], [2 / 3, 0, np.nan])
    np.testing.assert_allclose(table["seconds"], [np.nan, 0.25, np.nan])


def test_an_image_that_two_models_scored_is_two_rows() -> None:
    patches = pd.concat([frame([1], [0.9]), frame([1], [0.1]).assign(fold=2)])
    table = measure_mammograms(patches)
    assert table[["fold", "accuracy"]].to_numpy().tolist() == [[1, 1], [2, 0]]


def test_placements_count_the_others_of_each_group_below_and_not_below() -> None:
    below, reached = placements(
        np.array([0.5, 0.9]), np.array([0.1, 0.5, 0.9]), groups=np.array([0, 1, 1]), num_groups=2
    )
    # 0.5 beats the 0.1 of group 0 and half of the 0.5 of group 1; 0.9 beats all but half of 0.9.
    np.testing.assert_array_equal(below, [[1, 0.5], [1, 1.5]])
    np.testing.assert_array_equal(reached, [[0, 2], [0, 1]])


def test_within_an_image_a_positive_is_compared_with_its_own_negatives_alone() -> None:
    frame = pd.DataFrame(
        [("a", 1, 0.3), ("a", 0, 0.2), ("a", 0, 0.3), ("b", 1, 0.9), ("b", 0, 0.95), ("c", 0, 0.99), ("d", 1, 0.1)],
        columns=["image_id", "label", "probability"],
    ).assign(patient_id="p", fold=1)
    pairs = within_image_pairs(frame)
    assert pairs[["image_id", "pairs", "wins"]].values.tolist() == [["a", 2, 1.5], ["b", 1, 0.0]]


def test_the_area_under_the_mean_roc_is_the_mean_area() -> None:
    random = np.random.default_rng(0)
    labels = [random.integers(0, 2, 40) for _ in range(3)]
    scores = [np.round(label + random.normal(0, 1.5, 40), 1) for label in labels]
    x, y = mean_roc([roc_points(*pair) for pair in zip(labels, scores, strict=True)])
    expected = np.mean([roc_auc_score(*pair) for pair in zip(labels, scores, strict=True)])
    assert np.trapezoid(y, x) == pytest.approx(expected)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)


def test_the_area_under_the_mean_precision_recall_curve_is_the_mean_average_precision() -> None:
    random = np.random.default_rng(1)
    labels = [random.integers(0, 2, 30), random.integers(0, 2, 45)]
    scores = [np.round(label + random.normal(0, 1.5, len(label)), 1) for label in labels]
    x, y = mean_precision_recall([precision_recall_points(*pair) for pair in zip(labels, scores, strict=True)])
    expected = np.mean([average_precision_score(*pair) for pair in zip(labels, scores, strict=True)])
    assert np.trapezoid(y, x) == pytest.approx(expected)
