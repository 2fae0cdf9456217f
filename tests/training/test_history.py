import math

import numpy as np
import pytest

from mmgkeras.errors import InputError
from mmgkeras.study.run_files import EpochRow, write_history
from mmgkeras.training.history import EpochSamples, History, discrimination


def test_discrimination_by_hand():
    labels = np.array([1, 1, 1, 0, 0])
    probabilities = np.array([0.9, 0.5, 0.2, 0.4, 0.6], np.float32)
    metrics = discrimination(labels, probabilities)
    assert metrics.auc == pytest.approx(3 / 6)  # of six pairs: 0.9 beats both, 0.5 beats one, 0.2 none
    assert metrics.sensitivity == pytest.approx(2 / 3)
    assert metrics.specificity == pytest.approx(1 / 2)
    assert metrics.confusion.tolist() == [[1, 1], [1, 2]]


def test_metrics_of_a_missing_class_are_nan():
    metrics = discrimination(np.array([0, 0]), np.array([0.1, 0.7], np.float32))
    assert math.isnan(metrics.auc)
    assert math.isnan(metrics.sensitivity)
    assert metrics.specificity == 0.5


def samples(*numbers):
    values = np.array(numbers, np.float32)
    return EpochSamples(losses=values, probabilities=values / 10, labels=np.ones(len(values), np.int8))


def test_samples_keep_their_order_and_types():
    joined = EpochSamples().extended(samples(1, 2)).extended(samples(3))
    assert joined.losses.tolist() == [1, 2, 3]
    assert (joined.losses.dtype, joined.probabilities.dtype, joined.labels.dtype) == (np.float32, np.float32, np.int8)
    assert joined.loss == 2
    assert joined.last(2).losses.tolist() == [2, 3]
    assert len(joined.last(5)) == 3


def make_row(**changes):
    values = {"epoch": 1, "step": 12, "learning_rate": 0.001, "loss": 0.5, "auc": 0.75, "sensitivity": 1.0}
    return EpochRow(**{**values, "specificity": 0.25, "patches_per_second": 1234.5678, **changes})


def test_history_without_validation_has_no_columns_for_it(tmp_path):
    path = tmp_path / "history.csv"
    write_history([make_row(), make_row(epoch=2, step=24, auc=math.nan)], path)
    assert path.read_text().splitlines() == [
        "epoch,step,learning_rate,loss,auc,sensitivity,specificity,patches_per_second",
        "1,12,0.001,0.5,0.75,1,0.25,1234.57",
        "2,24,0.001,0.5,,1,0.25,1234.57",
    ]


def test_history_with_validation_has_its_columns(tmp_path):
    path = tmp_path / "history.csv"
    row = make_row(validation_auc=0.5, validation_sensitivity=0.25, validation_specificity=0.125)
    write_history([row], path)
    header, line = path.read_text().splitlines()
    assert header.endswith("patches_per_second,validation_auc,validation_sensitivity,validation_specificity")
    assert line.endswith(",1234.57,0.5,0.25,0.125")


def test_history_survives_a_checkpoint():
    history = History([make_row(validation_auc=0.5, validation_sensitivity=0.1, validation_specificity=0.2)])
    assert History.from_array(history.array()) == history
    assert History.from_array(History().array()) == History()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_history([make_row()], tmp_path / "file" / "history.csv")
