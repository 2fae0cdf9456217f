import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu, norm
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from mmgkeras.evaluation.auc_variance import CorrelatedAucs, clustered_aucs, fold_mean_aucs
from mmgkeras.evaluation.interval import Difference, Interval

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


def by_patch(labels: NDArray[np.int8], *scores: NDArray[np.float64]) -> CorrelatedAucs:
    """DeLong's areas and covariance: each patch is a cluster of its own."""
    return clustered_aucs(labels, np.stack(scores), np.arange(len(labels)))


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
    found = by_patch(HELPED, scores)
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
    found = by_patch(HELPED, scores, KG_SCORE).compare(0, 1)
    assert found.se is not None
    assert found.statistic is not None
    assert found.p is not None
    # The published bounds and p are those of the normal distribution; ours are of a t distribution, and a little wider.
    reach = norm.ppf(0.975) * found.se
    numbers = (found.interval.estimate, found.se, found.interval.estimate - reach, found.interval.estimate + reach)
    assert [round(number, 4) for number in numbers] == [estimate, se, low, high]
    assert round(found.statistic**2, 4) == chi_square
    assert round(float(2 * norm.sf(abs(found.statistic))), 4) == p
    assert p < found.p < p + 0.02


def test_areas_and_covariance_are_those_of_the_plain_equations_with_ties() -> None:
    random = np.random.default_rng(0)
    labels = (random.random(80) < 0.3).astype(np.int8)
    scores = np.round(random.normal(size=(2, 80)) + 0.8 * labels, 1)
    aucs, covariance = plain_delong(labels, scores)
    found = by_patch(labels, *scores)
    np.testing.assert_allclose(found.aucs, aucs, rtol=1e-12)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-12)
    np.testing.assert_allclose(by_patch(labels, scores[1]).covariance, covariance[1:, 1:], rtol=1e-12)


def test_areas_are_those_of_scikit_learn_and_of_the_mann_whitney_test() -> None:
    random = np.random.default_rng(1)
    labels = (random.random(200) < 0.2).astype(np.int8)
    scores = np.round(random.normal(size=200) + labels, 1)
    area = float(by_patch(labels, scores).aucs[0])
    assert area == pytest.approx(roc_auc_score(labels, scores), rel=1e-12)
    pairs_won = mannwhitneyu(scores[labels == 1], scores[labels == 0]).statistic
    assert area == pytest.approx(pairs_won / (labels.sum() * (1 - labels).sum()), rel=1e-12)


def test_a_score_does_not_differ_from_itself() -> None:
    found = by_patch(HELPED, ALBUMIN, ALBUMIN).compare(0, 1)
    assert (found.interval.estimate, found.statistic, found.p) == (0.0, 0.0, 1.0)


def clustered_patches(seed: int = 0) -> tuple[NDArray[np.int8], NDArray[np.float64], NDArray[np.int64]]:
    """Labels (N,), two scores (2, N) with ties, and clusters (N,) of which some have no positive, some no negative."""
    random = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(14), random.integers(1, 9, size=14))
    effect = random.normal(size=14)[clusters]
    labels = (random.random(len(clusters)) < 0.4).astype(np.int8)
    labels[clusters == 3], labels[clusters == 4] = 0, 1
    scores = np.round(labels + effect + random.normal(size=(2, len(clusters))), 1)
    return labels, scores, clusters


def plain_obuchowski(
    labels: NDArray[np.int8], scores: NDArray[np.float64], clusters: NDArray[np.int64]
) -> tuple[float, NDArray[np.float64]]:
    """The areas' difference and the covariance (2, 2), with the loops and names of the paper's section 2."""
    names = sorted(set(clusters.tolist()))
    num_i = len(names)
    thetas, x_sums, y_sums = [], [], []
    for score in scores:
        x = {i: score[(clusters == i) & (labels == 1)] for i in names}
        y = {i: score[(clusters == i) & (labels == 0)] for i in names}
        all_x, all_y = np.concatenate(list(x.values())), np.concatenate(list(y.values()))

        def psi(a: float, b: float) -> float:
            return 1.0 if a > b else 0.5 if a == b else 0.0

        v10 = {i: [sum(psi(a, b) for b in all_y) / len(all_y) for a in x[i]] for i in names}
        v01 = {i: [sum(psi(a, b) for a in all_x) / len(all_x) for b in y[i]] for i in names}
        theta = sum(sum(v) for v in v10.values()) / len(all_x)
        thetas.append(theta)
        x_sums.append([sum(v10[i]) - len(x[i]) * theta for i in names])
        y_sums.append([sum(v01[i]) - len(y[i]) * theta for i in names])
    m, n = int((labels == 1).sum()), int((labels == 0).sum())
    i10 = len(set(clusters[labels == 1].tolist()))
    i01 = len(set(clusters[labels == 0].tolist()))
    covariance = np.empty((2, 2))
    for r in range(2):
        for s in range(2):
            s10 = i10 / ((i10 - 1) * m) * sum(a * b for a, b in zip(x_sums[r], x_sums[s], strict=True))
            s01 = i01 / ((i01 - 1) * n) * sum(a * b for a, b in zip(y_sums[r], y_sums[s], strict=True))
            s11 = num_i / (num_i - 1) * sum(a * b for a, b in zip(x_sums[r], y_sums[s], strict=True))
            s11_swapped = num_i / (num_i - 1) * sum(a * b for a, b in zip(x_sums[s], y_sums[r], strict=True))
            covariance[r, s] = s10 / m + s01 / n + (s11 + s11_swapped) / (m * n)
    return thetas[0] - thetas[1], covariance


def test_the_variance_of_two_clusters_worked_out_by_hand() -> None:
    # Positives 3 and 2, negatives 1 and 2.5, one of each in a cluster. Of 4 pairs, 3 are won: 0.75. Each cluster is
    # 0.25 above or below it on both sides: S10 = S01 = 2 / (1 x 2) x 2 / 16 = 1 / 8, and S11 = 2 / 1 x 2 / 16 = 1 / 4.
    found = clustered_aucs(np.array([1, 1, 0, 0]), np.array([[3.0, 2.0, 1.0, 2.5]]), np.array(["a", "b", "a", "b"]))
    assert found.aucs == [0.75]
    assert found.covariance == (1 / 8) / 2 + (1 / 8) / 2 + 2 * (1 / 4) / (2 * 2)
    np.testing.assert_allclose(found.contributions, [[0.25, -0.25]])


def test_areas_and_covariance_over_patients_are_those_of_the_plain_equations() -> None:
    labels, scores, clusters = clustered_patches()
    difference, covariance = plain_obuchowski(labels, scores, clusters)
    found = clustered_aucs(labels, scores, clusters)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-10)
    compared = found.compare(0, 1)
    assert compared.interval.estimate == pytest.approx(difference)
    assert compared.se == pytest.approx(np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]))


def test_nothing_moves_when_every_patch_is_duplicated() -> None:
    labels, scores, clusters = clustered_patches()
    twice = clustered_aucs(np.tile(labels, 2), np.tile(scores, 2), np.tile(clusters, 2))
    once = clustered_aucs(labels, scores, clusters)
    np.testing.assert_allclose(twice.aucs, once.aucs, rtol=1e-12)
    np.testing.assert_allclose(twice.covariance, once.covariance, rtol=1e-12)
    # DeLong's variance, which takes the copies for new evidence, is halved.
    ratio = by_patch(np.tile(labels, 2), np.tile(scores[0], 2)).covariance / by_patch(labels, scores[0]).covariance
    assert ratio[0, 0] == pytest.approx(0.5, rel=0.05)


def test_patients_count_by_their_patches_of_the_label_that_fewer_of_them_have() -> None:
    # Positives: three in p, one in q. Negatives in p, q and r.
    labels, clusters = np.array([1, 1, 1, 1, 0, 0, 0]), np.array(list("pppqpqr"))
    found = clustered_aucs(labels, np.array([[5.0, 4, 3, 2, 2.5, 1, 0]]), clusters)
    assert found.effective == pytest.approx((3 + 1) ** 2 / (3**2 + 1**2))


def test_the_interval_is_symmetric_on_the_logit_scale() -> None:
    found = CorrelatedAucs(np.array([0.9]), np.array([[0.03**2]]), np.ones((1, 20)), num_means=1, effective=11)
    interval = found.interval(0)
    assert interval.low is not None
    assert interval.high is not None
    reach = student.ppf(0.975, 10) * 0.03 / (0.9 * 0.1)
    assert np.log(interval.low / (1 - interval.low)) == pytest.approx(np.log(9) - reach, abs=1e-4)
    assert np.log(interval.high / (1 - interval.high)) == pytest.approx(np.log(9) + reach, abs=1e-4)


def test_one_patient_with_a_label_has_no_variance() -> None:
    labels, scores, clusters = np.array([1, 1, 0, 0]), np.array([[0.9, 0.8, 0.1, 0.2]]), np.array(list("pppq"))
    with pytest.raises(ValueError, match=r"two clusters of each label. Received: 1 with label 1, 2 with label 0"):
        clustered_aucs(labels, scores, clusters)
    found = fold_mean_aucs(labels, np.repeat(scores, 2, axis=0) * [[1], [-1]], clusters, folds=np.ones(4, int))
    assert found.aucs.tolist() == [1.0, 0.0]
    assert found.compare(0, 1) == Difference(Interval(1.0), se=None, statistic=None, p=None)


def test_the_mean_over_folds_has_the_mean_area_and_the_sum_of_what_each_fold_varies() -> None:
    labels, scores, clusters = clustered_patches()
    folds = clusters % 2
    found = fold_mean_aucs(labels, scores, clusters, folds=folds)
    parts = [
        fold_mean_aucs(*(x[..., folds == f] for x in (labels, scores, clusters)), folds=folds[folds == f])
        for f in (0, 1)
    ]
    np.testing.assert_allclose(found.aucs, (parts[0].aucs + parts[1].aucs) / 2)
    np.testing.assert_allclose(found.covariance, (parts[0].covariance + parts[1].covariance) / 4)
    assert (found.num_means, parts[0].num_means) == (2, 1)


def test_the_variance_of_one_fold_is_that_of_its_patients_less_what_their_mean_takes() -> None:
    # Six patients with a positive and a negative each: 1 - 1 / 6 of the variance is left in the contributions.
    labels, clusters = np.tile([1, 0], 6), np.repeat(np.arange(6), 2)
    scores = np.random.default_rng(2).normal(size=(1, 12))
    found = fold_mean_aucs(labels, scores, clusters, folds=np.ones(12, int))
    pooled = clustered_aucs(labels, scores, clusters)
    np.testing.assert_allclose(found.covariance, (pooled.contributions**2).sum() / (1 - 1 / 6))
    np.testing.assert_allclose(found.covariance, pooled.covariance)


def test_a_patient_whom_two_models_scored_is_no_more_evidence_than_one() -> None:
    labels, scores, clusters = clustered_patches()
    once = fold_mean_aucs(labels, scores, clusters, folds=np.ones(len(labels), int))
    twice = fold_mean_aucs(
        np.tile(labels, 2), np.tile(scores, 2), np.tile(clusters, 2), folds=np.repeat([1, 2], len(labels))
    )
    np.testing.assert_allclose(twice.covariance, once.covariance)


def test_a_fold_of_one_label_has_no_area() -> None:
    with pytest.raises(ValueError, match=r"Each fold must hold both labels. Received: one alone in fold 2"):
        fold_mean_aucs(np.array([1, 0, 0]), np.zeros((1, 3)), np.arange(3), folds=np.array([1, 1, 2]))
