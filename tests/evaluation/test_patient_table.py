import numpy as np
import pandas as pd
import pytest

from mmgkeras.evaluation.metrics import (
    SENSITIVITY_AT_SPECIFICITY,
    WITHIN_IMAGE_AUC,
    measure,
    measure_mammograms,
    within_image_pairs,
)
from mmgkeras.evaluation.patient_table import BOOTSTRAPPED, MAMMOGRAM_ACCURACY, tabulate_patients


def patches(seed: int = 0, *, num_patients: int = 7) -> pd.DataFrame:
    """Patients in two folds with up to three images each, scores of one decimal so that many tie, and all labels."""
    random = np.random.default_rng(seed)
    size = 160
    patient = random.integers(num_patients, size=size)
    image = random.integers(3, size=size)
    return pd.DataFrame(
        {
            "image_id": [f"p{p}-{i}" for p, i in zip(patient, image, strict=True)],
            "patient_id": [f"p{p}" for p in patient],
            "fold": 1 + patient % 2,
            "row": 0,
            "col": np.arange(size),
            "label": random.choice([1, 0, 0, -1], size=size).astype(np.int8),
            "probability": np.round(random.random(size), 1),
        }
    )


def repeated(frame: pd.DataFrame, counts: dict[str, int]) -> pd.DataFrame:
    """The frame with each patient as often as `counts` says, each time as another patient with other images."""
    copies = [
        frame[frame["patient_id"] == patient].assign(
            patient_id=f"{patient}/{copy}", image_id=lambda part, copy=copy: part["image_id"] + f"/{copy}"
        )
        for patient, count in counts.items()
        for copy in range(count)
    ]
    return pd.concat(copies, ignore_index=True)


def metric_of(frame: pd.DataFrame, name: str) -> float:
    """The metric by the code that needs the patches themselves; NaN without meaning."""
    if name == MAMMOGRAM_ACCURACY:
        return float(measure_mammograms(frame)["accuracy"].mean())
    known = frame[frame["label"] >= 0]
    if name == SENSITIVITY_AT_SPECIFICITY:
        positives, negatives = (known.loc[known["label"] == label, "probability"].to_numpy() for label in (1, 0))
        if not len(positives) or not len(negatives):
            return np.nan
        reached = (negatives >= positives[:, np.newaxis]).mean(axis=1)
        return float(np.mean(reached <= 0.02 + 1e-9))
    if name == WITHIN_IMAGE_AUC:
        pairs = within_image_pairs(known)
        return float(pairs["wins"].sum() / pairs["pairs"].sum()) if len(pairs) else np.nan
    value = getattr(measure(frame), name)
    return np.nan if value is None else value


@pytest.mark.parametrize("name", BOOTSTRAPPED)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_weighted_metrics_are_those_of_patches_repeated_as_often(name: str, seed: int) -> None:
    frame = patches(seed)
    table = tabulate_patients(frame)
    random = np.random.default_rng(seed)
    patients = sorted(frame["patient_id"].unique())
    draws = random.integers(0, 4, size=(5, len(patients)))
    weights = draws[:, table.patients].astype(np.float64)
    for fold in (1, 2, None):
        found = table.metric(name, weights, fold=fold)
        part = frame if fold is None else frame[frame["fold"] == fold]
        expected = [metric_of(repeated(part, dict(zip(patients, draw, strict=True))), name) for draw in draws]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_sensitivity_at_a_specificity_lets_as_many_negatives_pass_as_it_allows() -> None:
    # Of 100 negatives 0.00 to 0.99 two may be called: 0.98 and 0.99. Positives above 0.97 are found.
    frame = patches().iloc[:104].assign(fold=1, patient_id="p", label=np.repeat([0, 1], [100, 4]))
    frame["probability"] = np.concatenate([np.arange(100) / 100, [0.995, 0.985, 0.98, 0.97]])
    table = tabulate_patients(frame)
    assert table.metric(SENSITIVITY_AT_SPECIFICITY, np.ones((1, 1))).tolist() == [0.75]


def test_units_are_patients_within_folds_sorted_by_fold() -> None:
    frame = patches()
    twice = pd.concat([frame, frame.assign(fold=3)])
    table = tabulate_patients(twice)
    assert table.folds.tolist() == [1] * 4 + [2] * 3 + [3] * 7
    assert table.patients.tolist() == [0, 2, 4, 6, 1, 3, 5, 0, 1, 2, 3, 4, 5, 6]
    assert table.units(2) == slice(4, 7)
    assert table.units(None) == slice(0, 14)
    assert table.units(9) == slice(14, 14)


def test_wins_count_pairs_of_a_positive_of_one_patient_and_a_negative_of_another() -> None:
    frame = pd.DataFrame(
        {
            "image_id": ["p", "p", "q", "q", "q"],
            "patient_id": ["p", "p", "q", "q", "q"],
            "fold": 1,
            "label": [1, 0, 1, 0, 0],
            "probability": [0.5, 0.2, 0.9, 0.5, 0.1],
        }
    )
    # p's 0.5 beats its own 0.2, q's 0.1, and half of q's 0.5; q's 0.9 beats all.
    np.testing.assert_array_equal(tabulate_patients(frame).wins, [[1, 1.5], [1, 2]])


def test_a_metric_stands_on_the_patients_with_anything_below_its_line() -> None:
    frame = pd.DataFrame(
        {
            "image_id": ["p", "q", "r"],
            "patient_id": ["p", "q", "r"],
            "fold": 1,
            "label": [1, 0, 0],
            "probability": [0.9, 0.2, 0.9],
        }
    )
    table = tabulate_patients(frame)
    assert table.shares("sensitivity").tolist() == [1, 0, 0]
    assert table.shares("ppv").tolist() == [1, 0, 1]
    assert table.shares("auc").tolist() == [1, 0, 0]
    assert table.shares("accuracy").tolist() == [1, 1, 1]


def test_metrics_without_meaning_are_nan() -> None:
    frame = patches().assign(label=0, probability=0.1)
    table = tabulate_patients(frame)
    once = np.ones((1, len(table.folds)))
    for name in ("auc", "average_precision", "sensitivity", "ppv", "f1"):
        assert np.isnan(table.metric(name, once)).all()
    assert table.metric("specificity", once) == 1
    assert np.isnan(table.metric("specificity", once, fold=9)).all()
    assert np.isnan(tabulate_patients(frame.assign(label=-1)).metric("accuracy", np.ones((1, 0)))).all()
