"""The grid's geometry by hand, and its inverses by property."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmgkeras.schema import Grid, ImageRecord, probability_text


def arange(height: int, width: int) -> np.ndarray:
    """Pixels counted from 1, so that padding's 0 is seen."""
    return np.arange(1, height * width + 1, dtype=np.uint16).reshape(height, width)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    patch_px = draw(st.integers(1, 9))
    return Grid(
        height=draw(st.integers(1, 25)),
        width=draw(st.integers(1, 25)),
        patch_px=patch_px,
        stride_px=draw(st.integers(1, patch_px)),
        chest_wall=draw(st.sampled_from(["left", "right"])),
    )


class TestAnchoring:
    """A 3 x 5 image in patches of 2 px: one row of padding above, one column away from the chest wall."""

    PIXELS = arange(3, 5)

    def test_right_chest_wall_pads_top_and_left(self) -> None:
        grid = Grid(height=3, width=5, patch_px=2, stride_px=2, chest_wall="right")
        assert (grid.rows, grid.cols) == (2, 3)
        assert (grid.pad_top, grid.pad_left, grid.pad_right) == (1, 1, 0)
        expected = [
            [[[0, 0], [0, 1]], [[0, 0], [2, 3]], [[0, 0], [4, 5]]],
            [[[0, 6], [0, 11]], [[7, 8], [12, 13]], [[9, 10], [14, 15]]],
        ]
        np.testing.assert_array_equal(grid.cut(self.PIXELS), expected)

    def test_left_chest_wall_pads_top_and_right(self) -> None:
        grid = Grid(height=3, width=5, patch_px=2, stride_px=2, chest_wall="left")
        assert (grid.pad_top, grid.pad_left, grid.pad_right) == (1, 0, 1)
        expected = [
            [[[0, 0], [1, 2]], [[0, 0], [3, 4]], [[0, 0], [5, 0]]],
            [[[6, 7], [11, 12]], [[8, 9], [13, 14]], [[10, 0], [15, 0]]],
        ]
        np.testing.assert_array_equal(grid.cut(self.PIXELS), expected)

    def test_overlapping_patches_are_anchored_the_same_way(self) -> None:
        grid = Grid(height=3, width=4, patch_px=3, stride_px=2, chest_wall="right")
        assert (grid.rows, grid.cols, grid.pad_top, grid.pad_left) == (1, 2, 0, 1)
        expected = [[[[0, 1, 2], [0, 5, 6], [0, 9, 10]], [[2, 3, 4], [6, 7, 8], [10, 11, 12]]]]
        np.testing.assert_array_equal(grid.cut(arange(3, 4)), expected)

    def test_image_that_divides_exactly_has_no_padding(self) -> None:
        grid = Grid(height=4, width=6, patch_px=2, stride_px=2, chest_wall="right")
        assert (grid.rows, grid.cols) == (2, 3)
        assert (grid.pad_top, grid.pad_left, grid.pad_right) == (0, 0, 0)

    @pytest.mark.parametrize(
        ("chest_wall", "expected"),
        [("right", [[0, 0, 0], [0, 1, 2], [0, 3, 4]]), ("left", [[0, 0, 0], [1, 2, 0], [3, 4, 0]])],
    )
    def test_image_smaller_than_a_patch_lies_in_the_bottom_corner(
        self, chest_wall: str, expected: list[list[int]]
    ) -> None:
        grid = Grid(height=2, width=2, patch_px=3, stride_px=3, chest_wall=chest_wall)
        np.testing.assert_array_equal(grid.cut(arange(2, 2)), [[expected]])

    def test_papers_image_gives_its_number_of_patches(self) -> None:
        """A 2355 x 1315 image in patches of 224 px: 11 rows and 6 columns."""
        grid = Grid(height=2355, width=1315, patch_px=224, stride_px=224, chest_wall="left")
        assert (grid.rows, grid.cols, grid.pad_top, grid.pad_right) == (11, 6, 109, 29)

    def test_boxes_are_in_image_pixels(self) -> None:
        grid = Grid(height=3, width=5, patch_px=2, stride_px=2, chest_wall="right")
        assert grid.boxes()[0].tolist() == [[-1, -1, 1, 1], [-1, 1, 1, 3], [-1, 3, 1, 5]]
        assert grid.boxes()[1].tolist() == [[1, -1, 3, 1], [1, 1, 3, 3], [1, 3, 3, 5]]


class TestInverses:
    @given(grid=grids())
    def test_join_gives_back_the_image(self, grid: Grid) -> None:
        pixels = arange(grid.height, grid.width)
        joined = grid.join(grid.cut(pixels))
        assert joined.dtype == pixels.dtype
        np.testing.assert_array_equal(joined, pixels)

    @given(grid=grids())
    def test_boxes_agree_with_cut(self, grid: Grid) -> None:
        pixels = arange(grid.height, grid.width)
        patches, boxes = grid.cut(pixels), grid.boxes()
        for row in range(grid.rows):
            for col in range(grid.cols):
                top, left, bottom, right = boxes[row, col]
                inside = pixels[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
                patch = patches[row, col]
                assert patch.shape == (bottom - top, right - left)
                assert patch[patch > 0].tolist() == inside.ravel().tolist()

    @given(grid=grids())
    def test_no_patch_is_padding_alone_and_padding_is_below_a_stride_beyond_one_patch(self, grid: Grid) -> None:
        assert (grid.cut(arange(grid.height, grid.width)) > 0).any(axis=(2, 3)).all()
        assert grid.pad_top < max(grid.stride_px, grid.patch_px - grid.height + 1)
        assert grid.pad_left + grid.pad_right < max(grid.stride_px, grid.patch_px - grid.width + 1)

    @given(grid=grids())
    def test_stitch_is_the_mean_over_the_patches_of_each_pixel(self, grid: Grid) -> None:
        scores = np.random.default_rng(0).random((grid.rows, grid.cols))
        covering: list[list[list[float]]] = [[[] for _ in range(grid.width)] for _ in range(grid.height)]
        for (top, left, bottom, right), score in zip(grid.boxes().reshape(-1, 4), scores.ravel(), strict=True):
            for row in range(max(top, 0), min(bottom, grid.height)):
                for col in range(max(left, 0), min(right, grid.width)):
                    covering[row][col].append(score)
        expected = [[np.mean(values) for values in row] for row in covering]
        stitched = grid.stitch(scores)
        assert stitched.dtype == np.float32
        np.testing.assert_allclose(stitched, expected, rtol=1e-6)

    @given(grid=grids(), data=st.data())
    def test_what_is_stitched_for_some_pixels_is_theirs(self, grid: Grid, data: st.DataObject) -> None:
        scores = np.random.default_rng(0).random((grid.rows, grid.cols), dtype=np.float32)
        rows, cols = (
            np.array(sorted(data.draw(st.sets(st.integers(0, length - 1), min_size=1))))
            for length in (grid.height, grid.width)
        )
        np.testing.assert_array_equal(grid.stitch_at(scores, rows, cols), grid.stitch(scores)[np.ix_(rows, cols)])

    @given(grid=grids(), data=st.data())
    def test_chosen_patches_are_those_of_all(self, grid: Grid, data: st.DataObject) -> None:
        pixels = arange(grid.height, grid.width)
        chosen = np.random.default_rng(data.draw(st.integers(0, 99))).random((grid.rows, grid.cols)) < 0.5
        received = grid.cut_chosen(pixels, chosen)
        assert received.dtype == pixels.dtype
        np.testing.assert_array_equal(received, grid.cut(pixels)[chosen])

    @given(grid=grids(), part_px=st.integers(1, 9))
    def test_a_run_lies_in_the_same_parts_of_the_same_patches(self, grid: Grid, part_px: int) -> None:
        """What each row of pixels lies in: pairs of a patch and a part of it."""
        parts_px = range(0, grid.patch_px, part_px)
        rows, _ = grid.runs(parts_px=parts_px)
        lies_in = [
            [
                (patch, (row - top) // part_px)
                for patch, top in enumerate(grid.boxes()[:, 0, 0])
                if 0 <= row - top < grid.patch_px
            ]
            for row in range(grid.height)
        ]
        assert rows.tolist() == [row for row in range(grid.height) if row == 0 or lies_in[row] != lies_in[row - 1]]

    def test_stitch_without_overlap_repeats_each_score(self) -> None:
        grid = Grid(height=3, width=3, patch_px=2, stride_px=2, chest_wall="right")
        expected = [[1, 2, 2], [3, 4, 4], [3, 4, 4]]
        np.testing.assert_array_equal(grid.stitch(np.array([[1.0, 2.0], [3.0, 4.0]])), expected)

    def test_mask_is_cut_as_a_mask(self) -> None:
        grid = Grid(height=1, width=1, patch_px=2, stride_px=2, chest_wall="left")
        patches = grid.cut(np.ones((1, 1), dtype=np.bool_))
        assert patches.dtype == np.bool_
        assert patches.tolist() == [[[[False, False], [True, False]]]]


class TestRefused:
    @pytest.mark.parametrize(
        "changes", [{"height": 0}, {"width": 0}, {"patch_px": 0}, {"stride_px": 0}, {"stride_px": 5}, {"patch_px": -4}]
    )
    def test_grid_that_leaves_pixels_out(self, changes: dict[str, int]) -> None:
        sizes = {"height": 8, "width": 8, "patch_px": 4, "stride_px": 4}
        with pytest.raises(ValueError, match="A grid needs sizes of at least 1 and 1 <= stride_px <= patch_px"):
            Grid(**{**sizes, **changes}, chest_wall="left")

    def test_unknown_side(self) -> None:
        with pytest.raises(ValueError, match="chest_wall must be one of"):
            Grid(height=8, width=8, patch_px=4, stride_px=4, chest_wall="top")

    def test_array_of_another_shape(self) -> None:
        grid = Grid(height=3, width=5, patch_px=2, stride_px=2, chest_wall="left")
        with pytest.raises(ValueError, match=r"shape \(3, 5\). Received: \(5, 3\)"):
            grid.cut(np.zeros((5, 3), dtype=np.uint8))
        with pytest.raises(ValueError, match=r"shape \(2, 3, 2, 2\). Received"):
            grid.join(np.zeros((3, 2, 2, 2), dtype=np.uint8))
        with pytest.raises(ValueError, match=r"shape \(2, 3\). Received"):
            grid.stitch(np.zeros((3, 2)))
        with pytest.raises(ValueError, match=r"shape \(3, 5\). Received"):
            grid.cut_chosen(np.zeros((5, 3), dtype=np.uint8), np.ones((2, 3), dtype=np.bool_))


class TestImageRecord:
    @pytest.mark.parametrize(
        ("laterality", "chest_wall", "expected"),
        [("R", None, "right"), ("L", None, "left"), ("R", "left", "left"), ("L", "right", "right")],
    )
    def test_chest_wall_wins_over_standard_hanging(
        self, laterality: str, chest_wall: str | None, expected: str
    ) -> None:
        record = ImageRecord("i", "i.png", "p", laterality, "CC", "none", chest_wall=chest_wall)
        assert record.chest_wall_side == expected

    @pytest.mark.parametrize(
        ("pathology", "expected"),
        [(None, False), ("normal", True), ("Normal", True), ("CALC B", False), ("abnormal", False)],
    )
    def test_only_normal_is_called_normal(self, pathology: str | None, expected: bool) -> None:
        record = ImageRecord("i", "i.png", "p", "L", "CC", "none", pathology=pathology)
        assert record.is_called_normal is expected


@pytest.mark.parametrize(
    ("probability", "expected"),
    [
        (0.5, "0.500"),
        (0.948, "0.948"),
        (0.9996, "0.99960"),
        (0.99966465, "0.99966"),
        (0.0004, "0.00040"),
        (0.9999998, "0.99999980"),
        (0.0, "0.000"),
        (1.0, "1.000"),
    ],
)
def test_no_probability_is_written_as_0_or_1_but_these(probability: float, expected: str) -> None:
    assert probability_text(probability) == expected


def test_a_probability_has_the_decimals_that_are_asked_for() -> None:
    assert [probability_text(0.73, decimals=number) for number in (2, 4)] == ["0.73", "0.7300"]
