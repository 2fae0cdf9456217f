import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu, norm
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from mmgkeras.errors import InputError
from mmgkeras.evaluation.bootstrap import metric_deviations, resample_table, standard_error
from mmgkeras.evaluation.comparison import (
    CorrelatedAucs,
    clustered_aucs,
    compare_networks,
    correct,
    fold_mean_aucs,
    mean_areas,
)
from mmgkeras.evaluation.interval import Difference, Interval
from mmgkeras.evaluation.metrics import mean_metrics, measure
from mmgkeras.evaluation.patient_table import tabulate_patients

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


def network(shift: float, *, seed: int, num_patients: int = 30, per_patient: int = 10) -> pd.DataFrame:
    """Scores of one network; the labels and the difficulty of the patients are the same for every seed."""
    shared, own = np.random.default_rng(0), np.random.default_rng(seed)
    patient = np.repeat(np.arange(num_patients), per_patient)
    label = (shared.random(len(patient)) < 0.4).astype(np.int8)
    score = shift * label + shared.normal(size=num_patients)[patient] + own.normal(size=len(patient))
    return pd.DataFrame(
        {
            "image_id": [f"p{p:03}-1" for p in patient],
            "patient_id": [f"p{p:03}" for p in patient],
            "fold": 1 + patient % 3,
            "row": 2,
            "col": np.arange(len(patient)),
            "label": label,
            "probability": 1 / (1 + np.exp(-score)),
        }
    )


NETWORKS = {"small": network(1.0, seed=1), "middle": network(1.3, seed=2), "large": network(3.0, seed=3)}


def test_every_pair_is_compared_in_the_order_of_the_networks() -> None:
    found = compare_networks(NETWORKS)
    assert [(one.a, one.b) for one in found] == [("small", "middle"), ("small", "large"), ("middle", "large")]
    assert compare_networks({"small": NETWORKS["small"]}) == ()


def test_the_difference_of_fold_means_is_that_of_the_headline() -> None:
    found = compare_networks(NETWORKS)[1].fold_mean
    means = [
        mean_metrics([measure(part) for _, part in NETWORKS[name].groupby("fold")])["auc"]
        for name in ("small", "large")
    ]
    assert found is not None
    assert means[0] is not None
    assert means[1] is not None
    assert found.interval.estimate == pytest.approx(means[0] - means[1])
    assert found.interval.high is not None
    assert found.interval.high < 0
    assert found.p is not None
    assert found.p < 0.001


def test_the_pooled_difference_is_obuchowskis() -> None:
    found = compare_networks(NETWORKS)[0].pooled
    frame = NETWORKS["small"]
    scores = np.stack([NETWORKS[name]["probability"].to_numpy() for name in ("small", "middle")])
    expected = clustered_aucs(frame["label"].to_numpy(), scores, frame["patient_id"].to_numpy()).compare(0, 1)
    assert found is not None
    assert found.p_holm is not None
    assert found.p is not None
    assert found.p_holm >= found.p
    assert found.interval.estimate == pytest.approx(expected.interval.estimate)
    assert (found.interval.low, found.se) == (pytest.approx(expected.interval.low), pytest.approx(expected.se))
    assert (found.statistic, found.p) == (pytest.approx(expected.statistic), pytest.approx(expected.p))


def test_the_paired_test_sees_more_than_two_areas_of_their_own() -> None:
    found = compare_networks(NETWORKS)[0].fold_mean
    again = compare_networks({"a": NETWORKS["small"], "b": NETWORKS["small"]})[0]
    frame = NETWORKS["small"]
    scores = np.stack([NETWORKS[name]["probability"].to_numpy() for name in ("small", "middle")])
    areas = mean_areas(frame, scores)
    assert areas is not None
    assert found is not None
    assert found.se is not None
    assert found.se < 0.95 * np.sqrt(np.trace(areas.covariance))
    assert again.fold_mean is not None
    assert again.pooled is not None
    assert (again.fold_mean.interval, again.fold_mean.p) == (Interval(0.0, 0.0, 0.0), 1.0)
    assert (again.pooled.interval.estimate, again.pooled.p) == (0.0, 1.0)


def test_the_test_of_fold_means_agrees_with_drawing_the_same_patients_for_both() -> None:
    found = compare_networks(NETWORKS)[0].fold_mean
    tables = [tabulate_patients(NETWORKS[name], metrics=["auc"]) for name in ("small", "middle")]
    weights = resample_table(tables[0], num_resamples=2000)
    moved = [metric_deviations(table, "auc", weights, parts=[1, 2, 3]) for table in tables]
    assert found is not None
    assert found.se == pytest.approx(standard_error(moved[0] - moved[1]), rel=0.1)


def test_where_each_patient_has_one_patch_the_pooled_test_has_delongs_variance() -> None:
    single = {name: network(shift, seed=seed, per_patient=1) for name, shift, seed in (("a", 1, 4), ("b", 2, 5))}
    found = compare_networks(single)[0].pooled
    labels, scores = single["a"]["label"].to_numpy(), [frame["probability"].to_numpy() for frame in single.values()]
    won = [score[labels == 1][:, None] > score[labels == 0] for score in scores]
    v10, v01 = ((won[0].mean(axis=axis) - won[1].mean(axis=axis)) for axis in (1, 0))
    assert found is not None
    assert found.se == pytest.approx(np.sqrt(v10.var(ddof=1) / len(v10) + v01.var(ddof=1) / len(v01)))


def test_holms_correction_multiplies_the_smallest_most_and_never_falls() -> None:
    tests = [
        None if p is None else Difference(Interval(0.1), se=0.1, statistic=1.0, p=p) for p in (0.04, None, 0.01, 0.03)
    ]
    corrected = [None if one is None else one.p_holm for one in correct(tests)]
    # 0.01 x 3; 0.03 x 2; 0.04 x 1, which must not be below 0.06.
    assert corrected == [pytest.approx(0.06), None, pytest.approx(0.03), pytest.approx(0.06)]
    certain = [Difference(Interval(0.1), se=0.1, statistic=1.0, p=p) for p in (0.7, 0.8)]
    assert [one.p_holm for one in correct(certain) if one is not None] == [1.0, 1.0]


def test_the_order_of_the_patches_and_unknown_ones_do_not_matter() -> None:
    shuffled = NETWORKS["middle"].sample(frac=1, random_state=1)
    unknown = shuffled.iloc[:1].assign(label=-1, col=999)
    found = compare_networks({"a": NETWORKS["small"], "b": pd.concat([shuffled, unknown])})
    expected = compare_networks({"a": NETWORKS["small"], "b": NETWORKS["middle"]})
    assert found == expected


def test_networks_that_scored_other_patches_are_refused() -> None:
    fewer = NETWORKS["middle"].drop(index=7)
    message = r"networks 'a' and 'b' must have .* Received: row 2, col 7 of image p000-1.* only of 'a'$"
    with pytest.raises(InputError, match=message):
        compare_networks({"a": NETWORKS["small"], "b": fewer})
    with pytest.raises(InputError, match=r"only of 'b'$"):
        compare_networks({"a": fewer, "b": NETWORKS["small"]})


def test_networks_whose_labels_differ_are_refused() -> None:
    other = NETWORKS["middle"].copy()
    other.loc[4, "label"] = 1 - other.loc[4, "label"]
    with pytest.raises(InputError, match=r"same labels|same patches of the same labels"):
        compare_networks({"a": NETWORKS["small"], "b": other})


def test_what_cannot_be_compared_is_none() -> None:
    def bare(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(label=np.where(frame["fold"] == 2, 0, frame["label"]))

    found = compare_networks({name: bare(frame) for name, frame in NETWORKS.items()})[0]
    assert found.fold_mean is None
    assert found.pooled is not None
    negative = {name: frame.assign(label=0) for name, frame in NETWORKS.items()}
    nothing = compare_networks(negative)[0]
    assert (nothing.fold_mean, nothing.pooled) == (None, None)
    twice = {name: pd.concat([frame, frame.assign(fold=4)]) for name, frame in NETWORKS.items()}
    assert compare_networks(twice)[0].pooled is None
    absent = compare_networks(NETWORKS, folds=[1, 2, 3, 4])[0]
    assert absent.fold_mean is None
