"""Regions to pixels, by small arrays drawn by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mmgkeras.errors import InputError
from mmgkeras.patches.region_masks import (
    RegionMask,
    cells_of_pixels,
    check_region,
    mask_region,
    reaches_beyond,
    region_mask,
    scaled_region,
)
from mmgkeras.schema import Region, Shape


def region(shape: Shape, *points: tuple[float, float]) -> Region:
    return Region(image_id="i1", region_id="r7", kind="cluster", shape=shape, points=points)


def drawn(region_: Region, *, height: int, width: int) -> list[str]:
    """The image as text, "#" where the region is."""
    covered = region_mask(region_, height=height, width=width)
    return ["".join(".#"[int(pixel)] for pixel in row) for row in whole(covered, height=height, width=width)]


def whole(covered: RegionMask, *, height: int, width: int) -> np.ndarray:
    image = np.zeros((height, width), dtype=np.bool_)
    image[covered.window] = covered.mask
    return image


class TestRegionMask:
    def test_box_holds_both_corners(self) -> None:
        expected = ["......", "..###.", "..###.", "......"]
        assert drawn(region("box", (1, 2), (2, 4)), height=4, width=6) == expected

    def test_box_takes_its_corners_in_any_order(self) -> None:
        expected = ["......", "..###.", "..###.", "......"]
        assert drawn(region("box", (2, 2), (1, 4)), height=4, width=6) == expected

    def test_box_between_pixels_holds_those_whose_centre_is_inside(self) -> None:
        assert drawn(region("box", (0.5, 0.5), (2.4, 1.0)), height=4, width=3) == ["...", ".#.", ".#.", "..."]

    def test_circle_holds_pixels_on_its_outline(self) -> None:
        expected = [".......", "...#...", "..###..", ".#####.", "..###..", "...#...", "......."]
        assert drawn(region("circle", (3, 3), (2, 2)), height=7, width=7) == expected

    def test_circle_of_radius_5_passes_exactly_through_3_and_4(self) -> None:
        mask = whole(region_mask(region("circle", (10, 10), (5, 5)), height=21, width=21), height=21, width=21)
        assert mask[13, 14]
        assert mask[14, 7]
        assert mask.sum() == 81

    def test_circle_beyond_the_image_is_cut_off(self) -> None:
        assert drawn(region("circle", (0, 0), (1, 1)), height=3, width=3) == ["##.", "#..", "..."]

    def test_ellipse_has_its_first_axis_along_rows(self) -> None:
        expected = ["..#..", ".###.", ".###.", ".###.", "..#.."]
        assert drawn(region("ellipse", (2, 2), (2, 1.5)), height=5, width=5) == expected

    def test_point_is_its_nearest_pixel(self) -> None:
        assert drawn(region("point", (1.4, 0.6)), height=3, width=3) == ["...", ".#.", "..."]

    @pytest.mark.parametrize("corner", [(-0.5, -0.5), (2.5, 2.5)])
    def test_point_at_the_images_very_edge_is_in_it(self, corner: tuple[float, float]) -> None:
        mask = whole(region_mask(region("point", corner), height=3, width=3), height=3, width=3)
        assert mask.sum() == 1
        assert mask[0, 0] or mask[2, 2]

    def test_polygon_holds_its_outline(self) -> None:
        expected = ["#....", "##...", "###..", "####.", "#####"]
        assert drawn(region("polygon", (0, 0), (4, 0), (4, 4)), height=5, width=5) == expected

    def test_polygon_need_not_be_convex(self) -> None:
        points = ((0, 0), (0, 4), (4, 4), (4, 3), (1, 3), (1, 1), (4, 1), (4, 0))
        expected = ["#####", "#####", "##.##", "##.##", "##.##"]
        assert drawn(region("polygon", *points), height=5, width=5) == expected

    def test_polygon_that_covers_a_part_twice_leaves_it_out(self) -> None:
        points = ((0, 0), (0, 8), (8, 8), (8, 0), (0, 0), (2, 2), (6, 2), (6, 6), (2, 6), (2, 2))
        mask = whole(region_mask(region("polygon", *points), height=9, width=9), height=9, width=9)
        assert mask.sum() == 81 - 9
        assert not mask[3:6, 3:6].any()

    def test_vertex_where_two_edges_go_on_counts_once(self) -> None:
        expected = ["...#...", "..###..", ".#####.", "#######", ".#####.", "..###..", "...#..."]
        assert drawn(region("polygon", (0, 3), (3, 6), (6, 3), (3, 0)), height=7, width=7) == expected

    @pytest.mark.parametrize(
        "small",
        [
            region("circle", (2.4, 1.6), (0.2, 0.2)),
            region("box", (2.1, 1.7), (2.3, 1.8)),
            region("polygon", (2.1, 2.2), (2.3, 2.2), (2.2, 2.4)),
            region("ellipse", (1.6, 2.3), (0.1, 0.2)),
        ],
        ids=lambda small: small.shape,
    )
    def test_region_between_pixel_centres_marks_its_nearest_pixel(self, small: Region) -> None:
        assert drawn(small, height=4, width=4) == ["....", "....", "..#.", "...."]

    def test_mask_is_decoded_row_by_row(self) -> None:
        runs = region("mask", (1, 2), (2, 3), (1, 3), (5, 1))
        assert drawn(runs, height=4, width=6) == ["......", "...##.", "..#.#.", "......"]

    @given(
        mask=arrays.arrays(np.bool_, st.tuples(st.integers(1, 6), st.integers(1, 6))).filter(np.any),
        top=st.integers(0, 4),
        left=st.integers(0, 4),
    )
    def test_mask_region_is_the_inverse(self, mask: np.ndarray, top: int, left: int) -> None:
        encoded = mask_region(image_id="i", region_id="r", kind="calcification", top=top, left=left, mask=mask)
        covered = region_mask(encoded, height=10, width=10)
        assert (covered.top, covered.left) == (top, left)
        np.testing.assert_array_equal(covered.mask, mask)

    @given(
        vertices=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=3, max_size=7),
    )
    def test_polygon_equals_the_even_odd_rule_pixel_by_pixel(self, vertices: list[tuple[int, int]]) -> None:
        mask = whole(region_mask(region("polygon", *vertices), height=13, width=13), height=13, width=13)
        expected = [[belongs(vertices, row=row, col=col) for col in range(13)] for row in range(13)]
        np.testing.assert_array_equal(mask, expected)

    def test_a_circle_between_the_centres_at_the_edge_is_the_nearest_pixel(self) -> None:
        covered = region_mask(region("circle", (1.5, -0.5), (0.51, 0.51)), height=8, width=8)
        assert (covered.top, covered.left, covered.mask.shape) == (2, 0, (1, 1))

    @pytest.mark.parametrize(
        "flat",
        [
            region("ellipse", (0.5, 0.5), (0.51, 1.02)),
            region("ellipse", (3.5, 4), (0.4, 9)),
            region("box", (3.2, -2), (3.8, 9)),
            region("polygon", (3.2, -2), (3.8, 9), (3.6, 9.5)),
        ],
    )
    def test_a_flat_one_between_the_centres_that_reaches_beyond_is_the_nearest_pixel_too(self, flat: Region) -> None:
        covered = region_mask(flat, height=8, width=8)
        assert covered.mask.shape == (1, 1)
        assert covered.top in (1, 4)

    def test_a_polygon_around_the_image_that_does_not_meet_it_is_refused(self) -> None:
        """The mean of its points, (0, 7.3), lies in the image and not in it."""
        hook = region("polygon", (-9, -9), (-9, 16), (17, 16), (17, 15), (-8, 15), (-8, -9))
        with pytest.raises(InputError, match="must overlap the image"):
            region_mask(hook, height=8, width=8)

    @given(
        shape=st.sampled_from(["circle", "ellipse", "polygon", "box"]),
        numbers=st.lists(st.floats(-0.5, 7.5), min_size=6, max_size=10),
    )
    def test_every_region_inside_the_image_marks_a_pixel_of_it(self, shape: Shape, numbers: list[float]) -> None:
        points = list(zip(numbers[::2], numbers[1::2], strict=False))
        if shape in ("circle", "ellipse"):
            axis = abs(numbers[2]) + 0.01
            points = [points[0], (axis, axis if shape == "circle" else 2 * axis)]
        covered = region_mask(region(shape, *(points[:2] if shape == "box" else points)), height=8, width=8)
        rows, cols = covered.mask.shape
        assert covered.mask.any()
        assert covered.top >= 0
        assert covered.left >= 0
        assert covered.top + rows <= 8
        assert covered.left + cols <= 8

    @given(
        shape=st.sampled_from(["circle", "ellipse", "polygon", "box"]),
        numbers=st.lists(st.integers(-12, 20), min_size=6, max_size=10),
    )
    def test_region_beyond_the_image_is_that_of_a_larger_image_cut_to_it(
        self, shape: Shape, numbers: list[int]
    ) -> None:
        points = list(zip(numbers[::2], numbers[1::2], strict=False))
        if shape in ("circle", "ellipse"):
            axis = abs(numbers[2]) + 1
            points = [points[0], (axis, axis if shape == "circle" else axis + 3)]
        points = points[:2] if shape == "box" else points
        beyond = region(shape, *points)
        axes = shape in ("circle", "ellipse")
        moved = [(row, col) if axes and index else (row + 50, col + 50) for index, (row, col) in enumerate(points)]
        larger = whole(region_mask(region(shape, *moved), height=120, width=120), height=120, width=120)
        expected = larger[50:58, 50:56]
        if expected.any():
            np.testing.assert_array_equal(whole(region_mask(beyond, height=8, width=6), height=8, width=6), expected)
        else:
            with pytest.raises(InputError, match="must overlap the image"):
                region_mask(beyond, height=8, width=6)


def belongs(vertices: list[tuple[int, int]], *, row: int, col: int) -> bool:
    """Whether a pixel is on an edge, or an odd number of edges lies to its left; whole numbers, so exact."""
    crossings = 0
    for (row_a, col_a), (row_b, col_b) in zip(vertices, [*vertices[1:], vertices[0]], strict=True):
        area = (row_b - row_a) * (col - col_a) - (col_b - col_a) * (row - row_a)
        between = min(row_a, row_b) <= row <= max(row_a, row_b) and min(col_a, col_b) <= col <= max(col_a, col_b)
        if area == 0 and between:
            return True
        if min(row_a, row_b) <= row < max(row_a, row_b) and (area > 0) == (row_b > row_a):
            crossings += 1
    return crossings % 2 == 1


class TestCheckRegion:
    @pytest.mark.parametrize(
        ("wrong", "rule"),
        [
            (region("box", (0, 0)), "a box must have 2 points. Received: 1"),
            (region("circle", (0, 0)), "a circle must have 2 points. Received: 1"),
            (region("polygon", (0, 0), (1, 1)), "a polygon must have 3 or more points. Received: 2"),
            (region("point", (0, 0), (1, 1)), "a point must have 1 points. Received: 2"),
            (region("mask", (0, 0), (1, 1)), "a mask must have 3 or more points. Received: 2"),
            (region("box", (8, 0), (9, 3)), "the box must overlap the image of 8 rows and 6 columns"),
            (region("box", (8, 0), (9, 3)), "Received: rows 8 to 9, columns 0 to 3"),
            (region("polygon", (0, -3), (1, -1), (2, -0.6)), "the polygon must overlap"),
            (
                region("polygon", (-4, -4), (12, -4), (12, 20), (13, 20), (13, -5), (-4, -5)),
                "rows -4 to 13, columns -5 to 20",
            ),
            (region("point", (0, 6)), "Received: rows 0 to 0, columns 6 to 6"),
            (region("point", (float("nan"), 0)), "numbers must not be beyond 1,000,000,000. Received: nan, 0"),
            (region("box", (0, 0), (1e10, 3)), "numbers must not be beyond"),
            (region("circle", (-3, 2), (2, 2)), "the circle must overlap"),
            (region("circle", (1, 2), (0, 0)), "semi-axes must be above 0. Received: 0, 0"),
            (region("ellipse", (1, 2), (2, -1)), "semi-axes must be above 0. Received: 2, -1"),
            (region("ellipse", (1, 2), (float("inf"), 1)), "semi-axes must be above 0. Received: inf, 1"),
            (region("circle", (1, 2), (2, 3)), "a circle has equal semi-axes. Received: 2, 3"),
            (region("mask", (0, 0), (2, 2), (0.5, 1)), "a mask holds whole numbers only"),
            (region("mask", (7, 0), (2, 2), (0, 1)), "the mask's box must lie in the image"),
            (region("mask", (0, 0), (0, 2), (0, 1)), "the mask's box must lie in the image"),
            (region("mask", (0, 0), (2, 2), (0, 5)), "runs must rise, not overlap and end within 4 pixels"),
            (region("mask", (0, 0), (2, 2), (2, 1), (0, 1)), "runs must rise, not overlap"),
            (region("mask", (0, 0), (2, 2), (0, 2), (1, 1)), "runs must rise, not overlap"),
            (region("mask", (0, 0), (2, 2), (0, 0)), "runs must rise, not overlap"),
        ],
    )
    def test_fault_names_image_region_and_rule(self, wrong: Region, rule: str) -> None:
        with pytest.raises(InputError, match=rule) as caught:
            check_region(wrong, height=8, width=6)
        assert str(caught.value).startswith("image i1, region r7: ")
        with pytest.raises(InputError, match=rule):
            region_mask(wrong, height=8, width=6)

    @pytest.mark.parametrize(
        "beyond",
        [
            region("circle", (0, 0), (50, 50)),
            region("circle", (-1, 2), (3, 3)),
            region("box", (-9, 4), (1, 400)),
            region("polygon", (-1, -1), (20, 3), (2, 3)),
            region("ellipse", (4, -2), (1, 3)),
        ],
        ids=lambda beyond: beyond.shape,
    )
    def test_region_may_reach_beyond_the_image(self, beyond: Region) -> None:
        check_region(beyond, height=8, width=6)
        assert reaches_beyond(beyond, height=8, width=6)

    @pytest.mark.parametrize(
        "inside",
        [
            region("circle", (3, 2), (2.5, 2.5)),
            region("box", (-0.5, -0.5), (7.5, 5.5)),
            region("point", (0, 0)),
            region("mask", (0, 0), (2, 2), (0, 1)),
        ],
        ids=lambda inside: inside.shape,
    )
    def test_region_inside_the_image_does_not_reach_beyond(self, inside: Region) -> None:
        assert not reaches_beyond(inside, height=8, width=6)


def test_empty_mask_is_no_region() -> None:
    with pytest.raises(ValueError, match="needs at least one pixel"):
        mask_region(image_id="i", region_id="r", kind="other", top=0, left=0, mask=np.zeros((2, 2), dtype=np.bool_))


def test_centres_in_the_middle_of_equal_shares_give_equal_shares() -> None:
    cells = cells_of_pixels(np.arange(7) * 32 + 15.5, patch_px=224)
    np.testing.assert_array_equal(cells, np.repeat(np.arange(7), 32))


def test_centres_half_a_cell_before_give_the_first_cell_half_and_the_last_the_rest() -> None:
    cells = cells_of_pixels(np.arange(7) * 32.0, patch_px=224)
    np.testing.assert_array_equal(cells, np.repeat(np.arange(7), [16, 32, 32, 32, 32, 32, 48]))


@pytest.mark.parametrize("centre", [0.0, 15.5])
def test_one_cell_has_all_pixels(centre: float) -> None:
    assert cells_of_pixels(np.array([centre]), patch_px=32).tolist() == [0] * 32


def scaled_pixels(region: Region, *, shape: tuple[int, int], to: tuple[int, int]) -> np.ndarray:
    """(h, w) the pixels of the region on the resampled image."""
    covered = region_mask(scaled_region(region, shape=shape, to=to), height=to[0], width=to[1])
    pixels = np.zeros(to, dtype=np.bool_)
    pixels[covered.window] = covered.mask
    return pixels


class TestScaledRegion:
    @given(arrays.arrays(np.bool_, (12, 18)), st.sampled_from([(6, 9), (4, 6), (24, 36), (8, 12)]))
    def test_a_mask_covers_the_pixels_that_it_covers_by_half_or_the_most_covered(self, mask, to):
        if not mask.any():
            return
        region = mask_region(image_id="a", region_id="1", kind="calcification", top=0, left=0, mask=mask)
        # Each new pixel as the mean of the 72nds of an edge that it is made of.
        fine = np.kron(mask, np.ones((6, 6)))
        part = fine.reshape(to[0], 72 // to[0], to[1], 108 // to[1]).mean(axis=(1, 3))
        expected = part >= 0.5 - 1e-9 if (part >= 0.5 - 1e-9).any() else part == part.max()
        found = scaled_pixels(region, shape=(12, 18), to=to)
        if to != (8, 12):  # two thirds: an edge's halves stand for its thirds
            np.testing.assert_array_equal(found, expected)
        assert found.any()

    def test_a_box_keeps_its_place(self):
        region = Region("a", "1", "cluster", "box", ((4.0, 8.0), (11.0, 19.0)))
        expected = np.zeros((10, 20), dtype=np.bool_)
        expected[2:6, 4:10] = True
        np.testing.assert_array_equal(scaled_pixels(region, shape=(20, 40), to=(10, 20)), expected)

    def test_a_circle_becomes_an_ellipse_where_the_lengths_were_rounded_unequally(self):
        region = Region("a", "1", "cluster", "circle", ((10.0, 10.0), (4.0, 4.0)))
        scaled = scaled_region(region, shape=(21, 40), to=(10, 20))
        assert scaled.shape == "ellipse"
        assert scaled.points == (((10.5 * 10 / 21) - 0.5, 4.75), (4 * 10 / 21, 2.0))

    @pytest.mark.parametrize("place", [(-0.5, -0.5), (40.5, 36.5), (3.0, 5.0)])
    def test_a_point_stays_on_the_image(self, place):
        region = Region("a", "1", "calcification", "point", (place,))
        assert scaled_pixels(region, shape=(41, 37), to=(13, 12)).sum() == 1

    def test_a_region_beyond_its_image_is_cut_at_the_same_place(self):
        region = Region("a", "1", "cluster", "polygon", ((-10.5, -10.5), (-10.5, 9.5), (9.5, 9.5), (9.5, -10.5)))
        expected = np.zeros((10, 20), dtype=np.bool_)
        expected[:5, :5] = True
        np.testing.assert_array_equal(scaled_pixels(region, shape=(20, 40), to=(10, 20)), expected)

    def test_the_same_size_is_the_same_region(self):
        region = Region("a", "1", "calcification", "point", ((3.0, 5.0),))
        assert scaled_region(region, shape=(9, 9), to=(9, 9)) is region

    def test_a_region_off_its_image_is_refused(self):
        region = Region("a", "1", "calcification", "point", ((30.0, 5.0),))
        with pytest.raises(InputError, match="must overlap the image of 9 rows"):
            scaled_region(region, shape=(9, 9), to=(4, 4))
