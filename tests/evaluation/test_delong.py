import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from mmgkeras.evaluation.delong import delong, placements

# The data of DeLong, DeLong and Clarke-Pearson (1988) without missing values, as in the documentation of SAS/STAT 9.3,
# PROC LOGISTIC, "Comparing Receiver Operating Characteristic Curves": 43 women with ovarian cancer, each with albumin,
# total protein, K-G score (taken as 10 - score) and whether she was helped by surgery.
OVARIAN_TEXT = """
    3.0 5.8 10 0   3.2 6.3  5 1   3.9 6.8  3 1   2.8 4.8  6 0   3.2 5.8  3 1   0.9 4.0  5 0   2.5 5.7  8 0
    1.6 5.6  5 1   3.8 5.7  5 1   3.7 6.7  6 1   3.2 5.4  4 1   3.8 6.6  6 1   4.1 6.6  5 1   3.6 5.7  5 1
    4.3 7.0  4 1   3.6 6.7  4 0   2.3 4.4  6 1   4.2 7.6  4 0   4.0 6.6  6 0   3.5 5.8  6 1   3.8 6.8  7 1
    3.0 4.7  8 0   4.5 7.4  5 1   3.7 7.4  5 1   3.1 6.6  6 1   4.1 8.2  6 1   4.3 7.0  5 1   4.3 6.5  4 1
    3.2 5.1  5 1   2.6 4.7  6 1   3.3 6.8  6 0   1.7 4.0  7 0   3.7 6.1  5 1   3.3 6.3  7 1   4.2 7.7  6 1
    3.5 6.2  5 1   2.9 5.7  9 0   2.1 4.8  7 1   2.8 6.2  8 0   4.0 7.0  7 1   3.3 5.7  6 1   3.7 6.9  5 1
    3.6 6.6  5 1
    """
OVARIAN = np.array(OVARIAN_TEXT.split(), dtype=np.float64).reshape(-1, 4)
HELPED = OVARIAN[:, 3].astype(np.int8)
ALBUMIN, PROTEIN, KG_SCORE = OVARIAN[:, 0], OVARIAN[:, 1], 10 - OVARIAN[:, 2]


def plain_delong(
    labels: NDArray[np.int8], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Areas (K,) and covariance (K, K) of scores (K, N), pair by pair as the paper's equations stand."""
    kernels = [
        [[1.0 if x > y else 0.5 if x == y else 0.0 for y in row[labels == 0]] for x in row[labels == 1]]
        for row in scores
    ]
    v10 = np.array([[sum(of_positive) / len(of_positive) for of_positive in kernel] for kernel in kernels])
    v01 = np.array([np.array(kernel).sum(axis=0) / len(kernel) for kernel in kernels])
    aucs = v10.mean(axis=1)
    s10, s01 = ((v - aucs[:, None]) @ (v - aucs[:, None]).T / (v.shape[1] - 1) for v in (v10, v01))
    return aucs, s10 / v10.shape[1] + s01 / v01.shape[1]


@pytest.mark.parametrize(
    ("scores", "area", "se"), [(ALBUMIN, 0.7366, 0.0927), (KG_SCORE, 0.7258, 0.1028), (PROTEIN, 0.6478, 0.1000)]
)
def test_areas_and_errors_of_the_published_example(scores: NDArray[np.float64], area: float, se: float) -> None:
    found = delong(HELPED, scores)
    assert round(float(found.aucs[0]), 4) == area
    assert round(float(np.sqrt(found.covariance[0, 0])), 4) == se


@pytest.mark.parametrize(
    ("scores", "estimate", "se", "low", "high", "chi_square", "p"),
    [
        (ALBUMIN, 0.0108, 0.0953, -0.1761, 0.1976, 0.0127, 0.9102),
        (PROTEIN, -0.0780, 0.1046, -0.2830, 0.1271, 0.5554, 0.4561),
    ],
)
def test_differences_of_the_published_example(
    scores: NDArray[np.float64], estimate: float, se: float, low: float, high: float, chi_square: float, p: float
) -> None:
    found = delong(HELPED, scores, KG_SCORE).compare(0, 1)
    assert found.se is not None
    assert found.statistic is not None
    assert found.p is not None
    assert found.interval.low is not None
    assert found.interval.high is not None
    numbers = (found.interval.estimate, found.se, found.interval.low, found.interval.high, found.statistic**2, found.p)
    assert [round(number, 4) for number in numbers] == [estimate, se, low, high, chi_square, p]


def test_areas_and_covariance_are_those_of_the_plain_equations_with_ties() -> None:
    random = np.random.default_rng(0)
    labels = (random.random(80) < 0.3).astype(np.int8)
    scores = np.round(random.normal(size=(2, 80)) + 0.8 * labels, 1)
    aucs, covariance = plain_delong(labels, scores)
    found = delong(labels, *scores)
    np.testing.assert_allclose(found.aucs, aucs, rtol=1e-12)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-12)
    np.testing.assert_allclose(delong(labels, scores[1]).covariance, covariance[1:, 1:], rtol=1e-12)


def test_areas_are_those_of_scikit_learn_and_of_the_mann_whitney_test() -> None:
    random = np.random.default_rng(1)
    labels = (random.random(200) < 0.2).astype(np.int8)
    scores = np.round(random.normal(size=200) + labels, 1)
    area = float(delong(labels, scores).aucs[0])
    assert area == pytest.approx(roc_auc_score(labels, scores), rel=1e-12)
    pairs_won = mannwhitneyu(scores[labels == 1], scores[labels == 0]).statistic
    assert area == pytest.approx(pairs_won / (labels.sum() * (1 - labels).sum()), rel=1e-12)


def test_placements_are_shares_of_the_other_class_in_the_order_of_the_patches() -> None:
    of_positives, of_negatives = placements(np.array([1, 0, 1, 0, 0]), np.array([[0.5, 0.1, 0.9, 0.5, 0.9]]))
    # 0.5 beats 0.1 and half of 0.5; 0.9 beats two and half of 0.9.
    np.testing.assert_allclose(of_positives, [[1.5 / 3, 2.5 / 3]])
    np.testing.assert_allclose(of_negatives, [[1.0, 1.5 / 2, 0.5 / 2]])


def test_a_score_does_not_differ_from_itself() -> None:
    found = delong(HELPED, ALBUMIN, ALBUMIN).compare(0, 1)
    assert (found.interval.estimate, found.statistic, found.p) == (0.0, 0.0, 1.0)


def test_one_patch_of_a_label_has_no_variance() -> None:
    with pytest.raises(ValueError, match=r"two patches of each label. Received: 1 labelled 1, 3 labelled 0"):
        delong(np.array([1, 0, 0, 0]), np.array([0.9, 0.1, 0.2, 0.3]))
