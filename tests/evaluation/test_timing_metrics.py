import numpy as np
import pandas as pd
import pytest

from mmgkeras.evaluation.timing_metrics import inference_seconds, part_seconds

NAN = np.nan


@pytest.fixture
def timing() -> pd.DataFrame:
    """One cold row, and three warm ones, of which one lacks its drawing and one its inference."""
    return pd.DataFrame(
        {
            "is_cold": [1, 0, 0, 0],
            "num_patches": [10, 10, 20, 30],
            "infer_s": [9.0, 1.0, 3.0, NAN],
            "draw_s": [NAN, 0.5, NAN, 0.1],
        }
    )


def test_cold_rows_stand_apart(timing: pd.DataFrame) -> None:
    found = inference_seconds(timing)
    assert found[:4] == (2.0, pytest.approx(2.9), 2.0, 9.0)
    assert found[4:] == (2, 15)


def test_what_was_not_measured_is_none(timing: pd.DataFrame) -> None:
    assert inference_seconds(timing.assign(infer_s=NAN)) == (None, None, None, None, 0, None)


def test_the_whole_is_of_mammograms_all_of_whose_parts_were_measured(timing: pd.DataFrame) -> None:
    assert part_seconds(timing, ["infer_s", "draw_s"]) == (2.0, pytest.approx(0.3), 1.5)
