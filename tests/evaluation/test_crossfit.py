import pandas as pd
import pytest

from mmgkeras.errors import InputError
from mmgkeras.evaluation.crossfit import fitting_sets


def predictions(rows: list[tuple[int, str, int]]) -> pd.DataFrame:
    """(fold, patient_id, label)."""
    return pd.DataFrame(rows, columns=["fold", "patient_id", "label"]).assign(probability=0.5)


FOLDS = predictions([(1, "a", 1), (1, "a", 0), (2, "b", 1), (2, "b", -1), (2, "c", 0), (3, "d", 0)])


def test_without_held_out_patients_the_other_folds_are_fitted_on() -> None:
    sets = fitting_sets(FOLDS, validation=None)
    assert sets.fitted_on == "the other folds"
    assert {fold: sorted(part["patient_id"]) for fold, part in sets.by_fold.items()} == {
        1: ["b", "c", "d"],
        2: ["a", "a", "d"],
        3: ["a", "a", "b", "c"],
    }


def test_held_out_patients_are_preferred() -> None:
    held_out = predictions([(1, "b", 1), (1, "c", 0), (2, "a", 1), (2, "a", 0), (3, "a", 1), (3, "c", 0)])
    sets = fitting_sets(FOLDS, validation=held_out)
    assert sets.fitted_on == "held-out patients"
    assert sorted(sets.by_fold[1]["patient_id"]) == ["b", "c"]


def test_held_out_patients_of_one_label_in_any_fold_are_not_enough() -> None:
    held_out = predictions([(1, "b", 1), (1, "c", 0), (2, "a", 1), (2, "a", 0), (3, "c", 0), (3, "b", -1)])
    assert fitting_sets(FOLDS, validation=held_out).fitted_on == "the other folds"


def test_one_fold_alone_has_nothing_to_be_fitted_on() -> None:
    sets = fitting_sets(FOLDS[FOLDS["fold"] == 1], validation=None)
    assert (sets.fitted_on, sets.by_fold) == (None, {})
    assert sets.reason == "needs two folds at least, or patients held out of the training, of both labels"


def test_other_folds_of_one_label_are_not_enough() -> None:
    sets = fitting_sets(FOLDS[FOLDS["fold"] != 2], validation=None)
    assert sets.fitted_on is None
    assert sets.reason == "the folds other than 1 do not hold patches of both labels"


def test_a_patient_whom_the_fold_tests_is_refused() -> None:
    both = pd.concat([FOLDS, predictions([(3, "a", 0)])])
    with pytest.raises(InputError, match=r"fold 1 on a patient whom it tests. Received: 'a' among the other folds"):
        fitting_sets(both, validation=None)
    held_out = predictions([(fold, patient, label) for fold in (1, 2, 3) for patient, label in (("c", 1), ("z", 0))])
    with pytest.raises(InputError, match=r"fold 2 on a patient whom it tests. Received: 'c' among held-out patients"):
        fitting_sets(FOLDS, validation=held_out)
