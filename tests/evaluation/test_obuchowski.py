import numpy as np
import pytest
from numpy.typing import NDArray

from mmgkeras.evaluation.delong import delong
from mmgkeras.evaluation.obuchowski import ClusteredAuc, clustered_auc, clustered_aucs


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
    found = clustered_auc(np.array([1, 1, 0, 0]), np.array([3.0, 2.0, 1.0, 2.5]), np.array(["a", "b", "a", "b"]))
    assert found == ClusteredAuc(0.75, (1 / 8) / 2 + (1 / 8) / 2 + 2 * (1 / 4) / (2 * 2), 2)


def test_areas_and_covariance_are_those_of_the_plain_equations() -> None:
    labels, scores, clusters = clustered_patches()
    difference, covariance = plain_obuchowski(labels, scores, clusters)
    found = clustered_aucs(labels, scores, clusters)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-10)
    compared = found.compare(0, 1)
    assert compared.interval.estimate == pytest.approx(difference)
    assert compared.se == pytest.approx(np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]))


def test_clusters_of_one_patch_give_delongs_covariance() -> None:
    labels, scores, _ = clustered_patches()
    of_each = np.arange(len(labels))
    found, expected = clustered_aucs(labels, scores, of_each), delong(labels, *scores)
    np.testing.assert_allclose(found.aucs, expected.aucs, rtol=1e-12)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-12)


def test_nothing_moves_when_every_patch_is_duplicated() -> None:
    labels, scores, clusters = clustered_patches()
    twice = clustered_aucs(np.tile(labels, 2), np.tile(scores, 2), np.tile(clusters, 2))
    once = clustered_aucs(labels, scores, clusters)
    np.testing.assert_allclose(twice.aucs, once.aucs, rtol=1e-12)
    np.testing.assert_allclose(twice.covariance, once.covariance, rtol=1e-12)
    # DeLong's variance, which takes the copies for new evidence, is halved.
    ratio = delong(np.tile(labels, 2), np.tile(scores[0], 2)).covariance / delong(labels, scores[0]).covariance
    assert ratio[0, 0] == pytest.approx(0.5, rel=0.05)


def test_clusters_count_by_their_patches_of_the_label_that_fewer_of_them_have() -> None:
    # Positives: three in p, one in q. Negatives in p, q and r.
    labels, clusters = np.array([1, 1, 1, 1, 0, 0, 0]), np.array(list("pppqpqr"))
    found = clustered_auc(labels, np.array([5.0, 4, 3, 2, 2.5, 1, 0]), clusters)
    assert found.num_clusters == pytest.approx((3 + 1) ** 2 / (3**2 + 1**2))


def test_the_interval_is_symmetric_on_the_logit_scale() -> None:
    interval = ClusteredAuc(0.9, 0.03**2, 11).interval()
    assert interval.low is not None
    assert interval.high is not None
    # The 97.5 % point of t with 10 degrees of freedom is 2.2281.
    reach = 2.2281 * 0.03 / (0.9 * 0.1)
    assert np.log(interval.low / (1 - interval.low)) == pytest.approx(np.log(9) - reach, abs=1e-4)
    assert np.log(interval.high / (1 - interval.high)) == pytest.approx(np.log(9) + reach, abs=1e-4)


def test_one_patient_with_a_label_has_no_variance() -> None:
    with pytest.raises(ValueError, match=r"two clusters of each label. Received: 1 with label 1, 2 with label 0"):
        clustered_auc(np.array([1, 1, 0, 0]), np.array([0.9, 0.8, 0.1, 0.2]), np.array(["p", "p", "p", "q"]))
