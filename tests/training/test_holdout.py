import numpy as np
import pandas as pd
import pytest

from mmgkeras.errors import InputError
from mmgkeras.training.holdout import hold_out_patients


def make_patches(*, with_calcification=4, without=6):
    """Three patches of each patient; of those with calcification the last is positive."""
    rows = [
        {"patient_id": f"{'yn'[kind]}{number}", "label": int(kind == 0 and patch == 2)}
        for kind, count in enumerate((with_calcification, without))
        for number in range(count)
        for patch in range(3)
    ]
    return pd.DataFrame(rows)


def patients_of(patches, places):
    return set(patches["patient_id"].iloc[places])


def test_whole_patients_of_both_kinds_are_held_out():
    patches = make_patches()
    train = np.arange(3, len(patches))  # one patient is not ours to use
    learned, held_out = hold_out_patients(patches, train, part=0.34, seed=0)
    assert sorted([*learned, *held_out]) == train.tolist()
    watched = patients_of(patches, held_out)
    assert not watched & patients_of(patches, learned)
    assert sorted(patient[0] for patient in watched) == ["n", "n", "y"]
    assert patches["label"].iloc[learned].any()


def test_the_draw_depends_on_the_seed_alone():
    patches = make_patches()
    train = np.arange(len(patches))
    draws = [hold_out_patients(patches, train, part=0.3, seed=seed)[1].tolist() for seed in (0, 0, 1, 2, 3)]
    assert draws[0] == draws[1]
    assert len({tuple(draw) for draw in draws}) > 1


def test_nobody_is_held_out_by_default():
    train = np.arange(6)
    learned, held_out = hold_out_patients(make_patches(), train, part=0, seed=0)
    assert (learned.tolist(), held_out.tolist()) == (train.tolist(), [])


@pytest.mark.parametrize("part", [0.01, 0.99])
def test_each_side_keeps_a_patient_with_calcification(part):
    patches = make_patches(with_calcification=2, without=3)
    learned, held_out = hold_out_patients(patches, np.arange(len(patches)), part=part, seed=0)
    assert patches["label"].iloc[learned].sum() == patches["label"].iloc[held_out].sum() == 1


def test_one_patient_with_calcification_cannot_be_on_both_sides():
    patches = make_patches(with_calcification=1)
    with pytest.raises(InputError, match=r"train.validation_patients: needs at least two .* Received: 1"):
        hold_out_patients(patches, np.arange(len(patches)), part=0.5, seed=0)
