import numpy as np
import pandas as pd
import pytest

from mmgkeras.evaluation.behaviour import Pointing, inference_seconds, part_seconds, point_at

CENTRES_PX = np.array([0.5, 2.5])


def finding(*pixels: tuple[int, int]) -> np.ndarray:
    """Of a patch of 4 x 4 pixels, which 2 x 2 cells divide into squares of two."""
    mask = np.zeros((4, 4), dtype=bool)
    for pixel in pixels:
        mask[pixel] = True
    return mask


def test_cells_are_where_their_centres_are() -> None:
    activation = np.array([[0.0, 0.0], [0.0, 1.0]])
    assert not point_at(activation, finding((1, 1)), centres_px=CENTRES_PX).is_hit
    assert point_at(activation, finding((1, 1)), centres_px=np.array([0.0, 2.0])).is_hit


def test_the_peak_on_the_finding_is_a_hit_and_chance_its_share_of_cells() -> None:
    activation = np.array([[0.0, -1.0], [0.5, 2.0]])
    assert point_at(activation, finding((3, 3)), centres_px=CENTRES_PX) == Pointing((1, 1), is_hit=True, chance=0.25)
    assert point_at(activation, finding((0, 0), (0, 1), (0, 2), (3, 1)), centres_px=CENTRES_PX) == Pointing(
        (1, 1), is_hit=False, chance=0.75
    )


def test_the_peak_counts_even_where_every_activation_is_negative() -> None:
    assert point_at(np.array([[-3.0, -1.0], [-2.0, -4.0]]), finding((0, 3)), centres_px=CENTRES_PX).is_hit


def test_of_equal_peaks_the_first_in_reading_order_counts() -> None:
    assert point_at(np.array([[0.0, 7.0], [7.0, 7.0]]), finding((3, 3)), centres_px=CENTRES_PX) == Pointing(
        (0, 1), is_hit=False, chance=0.25
    )


def test_a_finding_that_covers_the_patch_is_always_hit() -> None:
    assert point_at(np.zeros((2, 2)), np.ones((4, 4), dtype=bool), centres_px=CENTRES_PX) == Pointing(
        (0, 0), is_hit=True, chance=1.0
    )


def test_a_patch_without_a_finding_is_refused() -> None:
    with pytest.raises(ValueError, match=r"only if it holds a pixel of the finding. Received: none"):
        point_at(np.zeros((2, 2)), finding(), centres_px=CENTRES_PX)


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
