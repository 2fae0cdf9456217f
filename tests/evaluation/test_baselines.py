import numpy as np
import pytest

from mmgkeras.evaluation.baselines import BASELINE_SCORES, baseline_scores


def _disc(radius_px: float, *, size: int = 65) -> np.ndarray:
    rows, cols = np.ogrid[:size, :size]
    inside = (rows - size // 2) ** 2 + (cols - size // 2) ** 2 <= radius_px**2
    return np.where(inside, 180, 60).astype(np.uint8)


def test_names_are_the_documented_ones():
    scores = baseline_scores(np.zeros((2, 16, 16), np.uint8))
    assert tuple(scores) == BASELINE_SCORES
    assert len(BASELINE_SCORES) == 9
    assert all(score.shape == (2,) and score.dtype == np.float64 for score in scores.values())


def test_flat_patch_has_only_a_mean_and_a_maximum():
    scores = baseline_scores(np.full((1, 32, 32), 51, np.uint8))
    assert scores["mean"][0] == pytest.approx(0.2)
    assert scores["maximum"][0] == pytest.approx(0.2)
    for name in BASELINE_SCORES[2:]:
        assert scores[name][0] == pytest.approx(0.0, abs=1e-3)


def test_top_hat_is_the_height_of_what_is_narrower_than_seven_pixels():
    narrow, wide = np.full((2, 32, 32), 51, np.uint8)
    narrow[10:16, 10:16] = 102
    wide[10:18, 10:18] = 102
    np.testing.assert_allclose(baseline_scores(np.stack([narrow, wide]))["top_hat"], [0.2, 0.0], atol=1e-6)


@pytest.mark.parametrize("sigma", [1, 2, 4])
def test_each_laplacian_answers_most_to_discs_of_its_own_size(sigma):
    discs = np.stack([_disc(np.sqrt(2) * other) for other in (1, 2, 4)])
    assert np.argmax(baseline_scores(discs)[f"log_{sigma}"]) == (1, 2, 4).index(sigma)


def test_dark_spot_scores_below_a_bright_one():
    bright = _disc(1.5)
    scores = baseline_scores(np.stack([bright, (120 - bright.astype(int)).clip(0).astype(np.uint8)]))
    assert scores["log_1"][0] > scores["log_1"][1]


def test_normalised_answer_does_not_grow_with_contrast():
    noise = np.random.default_rng(0).normal(0, 4, (65, 65))
    patches = np.stack([(128 + factor * noise).astype(np.uint8) for factor in (1, 4)])
    scores = baseline_scores(patches)
    assert scores["log_2"][1] > 3 * scores["log_2"][0]
    assert scores["log_2_normalised"][1] == pytest.approx(scores["log_2_normalised"][0], rel=0.3)


def test_promoted_pixels_have_the_same_scores():
    patches = np.random.default_rng(0).integers(0, 256, (3, 24, 24), dtype=np.uint8)
    narrow, wide = baseline_scores(patches), baseline_scores(patches.astype(np.uint16) * 257)
    for name in BASELINE_SCORES:
        np.testing.assert_allclose(wide[name], narrow[name], rtol=1e-5)


def test_no_patches_have_no_scores():
    assert baseline_scores(np.zeros((0, 8, 8), np.uint8))["mean"].shape == (0,)


@pytest.mark.parametrize("patches", [np.zeros((8, 8), np.uint8), np.zeros((1, 8, 8), np.float32)])
def test_other_arrays_are_refused(patches):
    with pytest.raises(ValueError, match=r"Needs \(N, P, P\) uint8 or uint16. Received: "):
        baseline_scores(patches)
