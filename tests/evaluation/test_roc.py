import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from mmgkeras.evaluation.roc import mean_precision_recall, mean_roc, precision_recall_points, roc_points


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
