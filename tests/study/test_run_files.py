import math

import pytest

from mmgkeras.errors import InputError
from mmgkeras.study.run_files import EpochRow, write_history


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


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_history([make_row()], tmp_path / "file" / "history.csv")
