import numpy as np
import pandas as pd
import pytest

from mmgkeras.errors import InputError
from mmgkeras.evaluation.auc_variance import clustered_aucs
from mmgkeras.evaluation.bootstrap import metric_deviations, resample_table, standard_error
from mmgkeras.evaluation.comparison import compare_networks, correct, mean_areas
from mmgkeras.evaluation.interval import Difference, Interval
from mmgkeras.evaluation.metrics import mean_metrics, measure
from mmgkeras.evaluation.patient_table import tabulate_patients


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
    resamples = resample_table(tables[0], num_resamples=2000, seed=0)
    moved = [metric_deviations(table, "auc", resamples, parts=[1, 2, 3]) for table in tables]
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
