from dataclasses import replace

import numpy as np
import pytest

from mmgkeras.errors import InputError
from mmgkeras.overlay.marks import (
    CELL_LINE_OPACITY,
    CELL_OPACITY,
    LINE_OPACITY,
    STRONG,
    TINT_OPACITY,
    TRUTH,
    UNKNOWN_COLOUR,
    WEAK,
    Truth,
    dashes,
    line_width,
    mark_pixels,
    ramp,
    strength,
    to_eight_bits,
)
from mmgkeras.schema import ActivationMap, Grid, Region, ScoreMap, Side

GRAY = 100


def score_map(
    rows: list[list[float]], *, height: int = 40, width: int = 40, stride_px: int = 20, chest_wall: Side = "left"
) -> ScoreMap:
    return ScoreMap("a", Grid(height, width, 20, stride_px, chest_wall), np.array(rows, np.float32))


def gray(height: int = 40, width: int = 40) -> np.ndarray:
    return np.full((height, width), GRAY, np.uint8)


def blended(colour: tuple[int, int, int], opacity: float, *, below: int = GRAY) -> list[int]:
    return [round(below + opacity * (part - below)) for part in colour]


def truth(labels: list[list[int]], regions: tuple[Region, ...] = ()) -> Truth:
    return Truth(regions, np.array(labels, np.int8))


def test_only_patches_at_the_threshold_or_above_are_marked() -> None:
    picture = mark_pixels(gray(), score_map([[0.49, 0.5], [0.0, 1.0]]), threshold=0.5)
    assert (picture[:20, :20] == GRAY).all()
    assert (picture[20:, :20] == GRAY).all()
    assert (picture[:20, 20:] != GRAY).any(axis=2).all()
    assert (picture[20:, 20:] != GRAY).any(axis=2).all()


def test_scores_of_the_resampled_image_are_drawn_where_they_belong() -> None:
    picture = mark_pixels(gray(80, 60), score_map([[0.0], [1.0]], height=40, width=20), threshold=0.5)
    assert (picture[:40] == GRAY).all()
    assert (picture[40:] != GRAY).any(axis=2).all()
    known = truth([[1], [-1]], (Region("a", "1", "calcification", "point", ((20.0, 30.0),)),))
    with_truth = mark_pixels(gray(80, 60), score_map([[0.0], [0.0]], height=40, width=20), threshold=0.5, truth=known)
    is_drawn = (with_truth != GRAY).any(axis=2)
    assert is_drawn[16:25, 26:35].any()  # the annotation, in pixels of the image
    assert is_drawn[25:40].any()  # the dashes of the upper patch, twice as large in the image
    assert (with_truth[40:] == blended(UNKNOWN_COLOUR, 0.8)).all(axis=2).any()


def test_nothing_is_marked_off_the_breast() -> None:
    breast = np.zeros((40, 40), np.bool_)
    breast[5:30, :30] = True
    scores = replace(score_map([[1.0, 1.0], [1.0, 1.0]]), breast=breast)
    assert (scores.stitch() > 0).tolist() == breast.tolist()
    picture = mark_pixels(gray(), scores, threshold=0.5)
    assert ((picture != GRAY).any(axis=2) == breast).all()


def test_a_mark_inside_the_box_of_another_looks_as_it_does_alone() -> None:
    alone, around = np.zeros((2, 5, 5))
    alone[2, 2] = 0.7
    around[[0, 4]] = around[:, [0, 4]] = 0.9
    pictures = [
        mark_pixels(gray(100, 100), score_map(scores.tolist(), height=100, width=100), threshold=0.5)
        for scores in (alone, around, alone + around)
    ]
    only_one, only_other, both = pictures
    np.testing.assert_array_equal(both, np.where(only_one != GRAY, only_one, only_other))


def test_colour_and_opacity_grow_from_the_threshold_to_certainty() -> None:
    picture = mark_pixels(gray(), score_map([[0.0, 0.5], [0.0, 1.0]]), threshold=0.5)
    assert picture[10, 30].tolist() == blended(WEAK, TINT_OPACITY[0])
    assert picture[0, 30].tolist() == blended(WEAK, LINE_OPACITY[0])
    assert picture[30, 30].tolist() == blended(STRONG, TINT_OPACITY[1])
    assert picture[39, 39].tolist() == blended(STRONG, LINE_OPACITY[1])


def test_a_calcification_inside_a_mark_still_stands_out() -> None:
    pixels = gray()
    pixels[30, 30] = 200
    picture = mark_pixels(pixels, score_map([[0.0, 0.0], [0.0, 1.0]]), threshold=0.5).astype(int)
    assert (picture[30, 30] - picture[31, 30] > 80).all()


def test_each_patch_has_its_own_outline_of_one_pixel_on_a_small_image() -> None:
    picture = mark_pixels(gray(), score_map([[1.0, 1.0], [0.0, 0.0]]), threshold=0.5)
    is_line = (picture == blended(STRONG, LINE_OPACITY[1])).all(axis=2)
    expected = np.zeros((40, 40), bool)
    expected[[0, 19], :] = True
    expected[:20, [0, 19, 20, 39]] = True
    np.testing.assert_array_equal(is_line, expected)


def test_marks_of_a_right_breast_lie_where_its_patches_are() -> None:
    marked = score_map([[0.0, 1.0], [0.0, 0.0]], height=30, width=35, chest_wall="right")
    is_marked = (mark_pixels(gray(30, 35), marked, threshold=0.5) != GRAY).any(axis=2)
    expected = np.zeros((30, 35), bool)
    expected[:10, 15:] = True  # the padding is above and to the left
    np.testing.assert_array_equal(is_marked, expected)


def test_overlapping_patches_are_averaged_before_they_are_held_against_the_threshold() -> None:
    # Patches at columns 0, 10, 20: columns 0-9 have 0.9, 10-19 the mean of 0.9 and 0.3, 20-29 of 0.3 and 0, 30-39 0.
    picture = mark_pixels(gray(20), score_map([[0.9, 0.3, 0.0]], height=20, stride_px=10), threshold=0.6)
    is_marked = (picture != GRAY).any(axis=2)
    assert is_marked[:, :20].all()
    assert not is_marked[:, 20:].any()
    weak, strong = picture[5, 15], picture[5, 5]
    assert weak.tolist() == blended(WEAK, TINT_OPACITY[0])
    assert strong.tolist() != weak.tolist()


def test_the_outline_of_overlapping_patches_divides_levels_and_not_patches() -> None:
    picture = mark_pixels(gray(20), score_map([[1.0, 1.0, 1.0]], height=20, stride_px=10), threshold=0.5)
    is_line = (picture == blended(STRONG, LINE_OPACITY[1])).all(axis=2)
    expected = np.zeros((20, 40), bool)
    expected[[0, -1], :] = expected[:, [0, -1]] = True
    np.testing.assert_array_equal(is_line, expected)


def test_positive_patches_have_blue_dashes_inside_and_nothing_at_their_heart() -> None:
    picture = mark_pixels(gray(), score_map([[0.0, 0.0]] * 2), threshold=0.5, truth=truth([[0, 1], [0, 0]]))
    is_blue = (picture == blended(TRUTH, 0.9)).all(axis=2)
    on_box = np.zeros((40, 40), bool)
    on_box[2:18, 22:38] = True
    on_box[3:17, 23:37] = False
    np.testing.assert_array_equal(is_blue, on_box & dashes((40, 40), length_px=4))
    assert (picture[~is_blue] == GRAY).all()


def test_a_line_around_an_annotation_leaves_the_annotation_free() -> None:
    region = Region("a", "1", "calcification", "point", ((10.0, 10.0),))
    marked = mark_pixels(gray(), score_map([[0.0, 0.0]] * 2), threshold=0.5, truth=truth([[0, 0]] * 2, (region,)))
    is_blue = (marked == blended(TRUTH, 0.9)).all(axis=2)
    expected = np.zeros((40, 40), bool)
    expected[7:14, 7:14] = True
    expected[8:13, 8:13] = False
    np.testing.assert_array_equal(is_blue, expected)


def test_lines_cross_no_annotated_calcification() -> None:
    near = tuple(Region("a", str(col), "calcification", "point", ((10.0, col),)) for col in (10.0, 12.0))
    envelope = Region("a", "e", "cluster", "box", ((10.0, 0.0), (20.0, 9.0)))
    marked = mark_pixels(
        gray(), score_map([[0.0, 0.0]] * 2), threshold=0.5, truth=truth([[0, 0]] * 2, (*near, envelope))
    )
    assert (marked[8:13, 8:15] == GRAY).all()
    is_blue = (marked == blended(TRUTH, 0.9)).all(axis=2)
    assert is_blue[7, 7:16].all()
    assert is_blue[7, :7].all()


def test_a_line_around_an_annotation_at_the_border_is_cut_off() -> None:
    region = Region("a", "1", "cluster", "box", ((0.0, 35.0), (5.0, 39.0)))
    marked = mark_pixels(gray(), score_map([[0.0, 0.0]] * 2), threshold=0.5, truth=truth([[0, 0]] * 2, (region,)))
    is_blue = (marked == blended(TRUTH, 0.9)).all(axis=2)
    expected = np.zeros((40, 40), bool)
    expected[:9, 32:] = True
    expected[:8, 33:] = False
    np.testing.assert_array_equal(is_blue, expected)


def test_unknown_patches_have_angles_in_their_corners() -> None:
    picture = mark_pixels(gray(), score_map([[0.0, 0.0]] * 2), threshold=0.5, truth=truth([[0, 0], [-1, 0]]))
    is_lilac = (picture == blended(UNKNOWN_COLOUR, 0.8)).all(axis=2)
    corner = np.array([[True, True], [True, False]])
    expected = np.zeros((40, 40), bool)
    expected[22:24, 2:4] = corner
    expected[22:24, 16:18] = corner[:, ::-1]
    expected[36:38, 2:4] = corner[::-1]
    expected[36:38, 16:18] = corner[::-1, ::-1]
    np.testing.assert_array_equal(is_lilac, expected)


def test_where_a_known_patch_overlaps_an_unknown_one_nothing_is_unknown() -> None:
    labels = truth([[-1, 0, -1]])
    picture = mark_pixels(gray(20), score_map([[0.0] * 3], height=20, stride_px=10), threshold=0.5, truth=labels)
    is_lilac = (picture == blended(UNKNOWN_COLOUR, 0.8)).all(axis=2)
    assert is_lilac[:, :10].any()
    assert not is_lilac[:, 10:30].any()


def test_a_region_that_cannot_be_drawn_is_an_error() -> None:
    region = Region("a", "1", "calcification", "point", ((99.0, 10.0),))
    with pytest.raises(InputError, match="must overlap the image"):
        mark_pixels(gray(), score_map([[0.0, 0.0]] * 2), threshold=0.5, truth=truth([[0, 0]] * 2, (region,)))


def test_sixteen_bits_are_shown_by_the_nearest_of_256_levels() -> None:
    pixels = np.array([[0, 128, 129, 257, 65535]], np.uint16)
    assert to_eight_bits(pixels).tolist() == [[0, 0, 1, 1, 255]]
    assert to_eight_bits(np.array([[7]], np.uint8)).tolist() == [[7]]


def test_strength_and_its_colours_run_from_end_to_end() -> None:
    np.testing.assert_allclose(strength(np.array([0.2, 0.6, 0.8, 1.0]), threshold=0.6), [0, 0, 0.5, 1], atol=1e-6)
    assert strength(np.array([1.0]), threshold=1.0).tolist() == [0]
    assert ramp(np.array([0.0, 1.0])).tolist() == [list(WEAK), list(STRONG)]


@pytest.mark.parametrize(("height", "px"), [(40, 1), (1024, 2), (2355, 5)])
def test_lines_grow_with_the_image(height: int, px: int) -> None:
    assert line_width((height, height // 2)) == px


GRAY = 100


def blended_strong(opacity: float) -> list[int]:
    return [round(GRAY + opacity * (part - GRAY)) for part in STRONG]


def test_the_strong_cells_are_tinted_inside_a_thin_line_and_the_weak_left_alone() -> None:
    grid = Grid(40, 40, 40, 40, "left")
    score_map = ScoreMap("a", grid, np.ones((1, 1), np.float32))
    values = np.zeros((1, 1, 4, 4), np.float32)
    values[0, 0, 1, 2] = 1
    cells = ActivationMap(values, np.arange(4, dtype=np.float32) * 10 + 4.5)
    picture = mark_pixels(np.full((40, 40), GRAY, np.uint8), score_map, threshold=0.5, activation=cells)
    inside = picture[1:39, 1:39]
    assert picture[15, 25].tolist() == blended_strong(CELL_OPACITY)
    is_line = (picture == blended_strong(CELL_LINE_OPACITY)).all(axis=2)
    ring = np.zeros((40, 40), bool)
    ring[10:20, 20:30] = True
    ring[11:19, 21:29] = False
    np.testing.assert_array_equal(is_line, ring)
    is_plain = (inside == GRAY).all(axis=2)
    assert is_plain.sum() == 38 * 38 - 10 * 10


def test_activation_is_drawn_where_patches_overlap() -> None:
    score_map = ScoreMap("a", Grid(20, 40, 20, 10, "left"), np.array([[1.0, 1.0, 0.0]], np.float32))
    values = np.zeros((1, 3, 2, 2), np.float32)
    values[0, 1, 0, 0] = 1
    cells = ActivationMap(values, np.array([4.5, 14.5], np.float32))
    picture = mark_pixels(np.full((20, 40), GRAY, np.uint8), score_map, threshold=0.6, activation=cells)
    assert picture[5, 15].tolist() == blended_strong(CELL_OPACITY)
    assert picture[15, 15].tolist() == [GRAY] * 3
