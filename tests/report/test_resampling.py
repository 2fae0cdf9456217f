import numpy as np
import pandas as pd
import pytest

from mmgkeras.report.resampling import PatientResamples, resample_patients


@pytest.fixture
def predictions() -> pd.DataFrame:
    """Eight patients, two patches each."""
    return pd.DataFrame({"patient_id": [f"p{number}" for number in range(8) for _ in range(2)]})


def test_every_resample_has_as_many_patients_as_there_are(predictions: pd.DataFrame) -> None:
    resamples = resample_patients(predictions, num_resamples=50, seed=1)
    assert resamples.patients.tolist() == [f"p{number}" for number in range(8)]
    assert (resamples.weights.sum(axis=1) == 8).all()


def test_same_seed_same_resamples(predictions: pd.DataFrame) -> None:
    first, second = (resample_patients(predictions, num_resamples=5, seed=3) for _ in range(2))
    assert np.array_equal(first.weights, second.weights)


def test_rate_is_the_part_of_patches_and_its_bounds_hold_it(predictions: pd.DataFrame) -> None:
    resamples = resample_patients(predictions, num_resamples=500)
    interval = resamples.rate([1, 0] * 6 + [0] * 4, resamples.places(predictions["patient_id"]))
    assert interval is not None
    assert interval.estimate == 6 / 16
    assert interval.low is not None
    assert interval.high is not None
    assert 0 < interval.low < 6 / 16 < interval.high < 1


def test_a_rate_of_one_or_of_few_patients_has_no_bounds(predictions: pd.DataFrame) -> None:
    resamples = resample_patients(predictions, num_resamples=100)
    places = resamples.places(predictions["patient_id"])
    certain = resamples.rate(np.ones(16), places)
    few = resamples.rate([1, 0, 1, 1], places[:4])
    assert certain is not None
    assert (certain.estimate, certain.low, certain.high) == (1.0, None, None)
    assert few is not None
    assert (few.estimate, few.low, few.high) == (0.75, None, None)


def test_no_patch_no_rate(predictions: pd.DataFrame) -> None:
    resamples = resample_patients(predictions, num_resamples=10)
    assert resamples.rate([], np.array([], dtype=np.int64)) is None


def test_mean_of_any_size_is_symmetric(predictions: pd.DataFrame) -> None:
    resamples = resample_patients(predictions, num_resamples=500)
    interval = resamples.mean(np.arange(16) - 20.0, resamples.places(predictions["patient_id"]))
    assert interval is not None
    assert interval.low is not None
    assert interval.high is not None
    assert interval.estimate == pytest.approx(-12.5)
    assert interval.high - interval.estimate == pytest.approx(interval.estimate - interval.low)


def test_auc_counts_pairs_of_one_fold_and_ties_half() -> None:
    resamples = PatientResamples(patients=np.array(["a", "b"], dtype=object), weights=np.ones((10, 2)))
    # Fold 1 (a): 0.5 against 0.5 and 0.4, 1.5 of 2. Fold 2 (b): 0.1 against 0.3, 0 of 1. Across folds nothing counts.
    interval = resamples.auc(
        np.array([1, 0, 0, 1, 0]),
        np.array([0.5, 0.5, 0.4, 0.1, 0.3]),
        places=np.array([0, 0, 0, 1, 1]),
        folds=np.array([1, 1, 1, 2, 2]),
    )
    assert interval is not None
    assert interval.estimate == 1.5 / 3


def test_auc_without_a_pair_in_any_fold_is_none() -> None:
    resamples = PatientResamples(patients=np.array(["a", "b"], dtype=object), weights=np.ones((10, 2)))
    labels, scores = np.array([1, 0]), np.array([0.9, 0.1])
    assert resamples.auc(labels, scores, places=np.array([0, 1]), folds=np.array([1, 2])) is None
