"""Patch labels, by small grids counted by hand. Patches are 4 px wide and anchored at the bottom left."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmgkeras.config import PatchesConfig
from mmgkeras.errors import InputError
from mmgkeras.patches.labelling import label_patches, positive_patches
from mmgkeras.patches.region_masks import mask_region, region_mask
from mmgkeras.schema import Annotation, Grid, ImageRecord, Kind, Region, Shape

GRID = Grid(height=8, width=12, patch_px=4, stride_px=4, chest_wall="left")


def record(annotation: Annotation = "complete", pathology: str | None = None) -> ImageRecord:
    return ImageRecord("i", "i.png", "p", "L", "CC", annotation, pathology=pathology)


def region(kind: Kind, shape: Shape, *points: tuple[float, float]) -> Region:
    return Region(image_id="i", region_id="r", kind=kind, shape=shape, points=points)


def labels(*regions: Region, grid: Grid = GRID, of: ImageRecord | None = None, **settings: Any) -> list[list[int]]:
    result = label_patches(grid, regions, record=of or record(), config=PatchesConfig(**settings))
    assert result.dtype == np.int8
    return result.tolist()


class TestMarks:
    def test_one_pixel_of_a_mark_is_enough(self) -> None:
        assert labels(region("calcification", "box", (2, 3), (4, 4))) == [[1, 1, 0], [1, 1, 0]]

    def test_point_marks_its_own_patch(self) -> None:
        assert labels(region("calcification", "point", (7, 11))) == [[0, 0, 0], [0, 0, 1]]

    def test_hole_of_a_mark_is_not_touched(self) -> None:
        ring = np.ones((8, 12), dtype=np.bool_)
        ring[4:, 4:8] = False
        runs = mask_region(image_id="i", region_id="r", kind="calcification", top=0, left=0, mask=ring)
        assert labels(runs) == [[1, 1, 1], [1, 0, 1]]


class TestMinMarks:
    MARKS = tuple(region("calcification", "point", point) for point in ((0, 0), (1, 3), (3, 1), (5, 5), (6, 6), (7, 9)))

    def test_patch_with_fewer_is_unknown(self) -> None:
        """3 in the first patch, 2 and 1 in those of the lower row."""
        assert labels(*self.MARKS, min_marks=3) == [[1, 0, 0], [0, -1, -1]]
        assert labels(*self.MARKS, min_marks=2) == [[1, 0, 0], [0, 1, -1]]

    def test_a_mark_over_two_patches_counts_in_both(self) -> None:
        mark = region("calcification", "box", (0, 3), (0, 4))
        assert labels(mark, *self.MARKS[:1], min_marks=2) == [[1, -1, 0], [0, 0, 0]]

    def test_a_cluster_region_needs_none(self) -> None:
        assert labels(region("cluster", "box", (0, 0), (3, 3)), min_marks=3) == [[1, 0, 0], [0, 0, 0]]

    def test_two_halves_are_not_added_up(self) -> None:
        """A mark too few and less than half of a cluster region."""
        cluster = region("cluster", "box", (0, 2), (1, 4))
        assert labels(cluster, region("calcification", "point", (0, 5)), min_marks=2) == [[1, -1, 0], [0, 0, 0]]


class TestEnvelopes:
    def test_patch_with_half_of_the_envelope_is_positive(self) -> None:
        """The box is 2 x 4 pixels: 4 of its 8 in either patch."""
        assert labels(region("cluster", "box", (0, 2), (1, 5))) == [[1, 1, 0], [0, 0, 0]]

    def test_patch_with_less_is_unknown(self) -> None:
        """The box is 2 x 3 pixels: 4 of its 6 in the first patch, 2 in the second."""
        assert labels(region("cluster", "box", (0, 2), (1, 4))) == [[1, -1, 0], [0, 0, 0]]

    def test_patch_half_covered_by_a_large_envelope_is_positive(self) -> None:
        """8 x 6 = 48 pixels: 16 and 8 of each patch's 16; no patch holds half of the envelope."""
        assert labels(region("cluster", "box", (0, 0), (7, 5))) == [[1, 1, 0], [1, 1, 0]]

    def test_patch_covered_less_by_a_large_envelope_is_unknown(self) -> None:
        assert labels(region("cluster", "box", (0, 0), (7, 4))) == [[1, -1, 0], [1, -1, 0]]

    def test_fraction_is_configurable(self) -> None:
        envelope = region("cluster", "box", (0, 0), (7, 4))
        assert labels(envelope, cluster_fraction=0.25) == [[1, 1, 0], [1, 1, 0]]
        assert labels(envelope, cluster_fraction=1.0) == [[1, -1, 0], [1, -1, 0]]

    def test_area_of_an_envelope_is_that_inside_the_image(self) -> None:
        """Of the circle of radius 2 at the corner, 6 pixels lie in the image."""
        assert labels(region("cluster", "circle", (0, 0), (2, 2))) == [[1, 0, 0], [0, 0, 0]]

    def test_padding_counts_in_the_area_of_a_patch(self) -> None:
        """6 rows: 2 of padding above. The envelope fills the 8 image pixels of the top left patch: half of 16."""
        grid = Grid(height=6, width=12, patch_px=4, stride_px=4, chest_wall="left")
        assert labels(region("cluster", "box", (0, 0), (1, 11)), grid=grid) == [[1, 1, 1], [0, 0, 0]]
        narrow = Grid(height=5, width=12, patch_px=4, stride_px=4, chest_wall="left")
        assert labels(region("cluster", "box", (0, 0), (0, 11)), grid=narrow) == [[-1, -1, -1], [0, 0, 0]]


class TestOthers:
    def test_other_kind_is_unknown(self) -> None:
        assert labels(region("other", "box", (0, 0), (7, 3))) == [[-1, 0, 0], [-1, 0, 0]]

    def test_calcification_beats_unknown_in_any_order(self) -> None:
        mark, other = region("calcification", "point", (0, 0)), region("other", "box", (0, 0), (0, 7))
        assert labels(mark, other) == labels(other, mark) == [[1, -1, 0], [0, 0, 0]]

    def test_two_envelopes_are_not_added_up(self) -> None:
        """Each leaves a third of itself in the second patch."""
        first, second = region("cluster", "box", (0, 2), (0, 4)), region("cluster", "box", (3, 2), (3, 4))
        assert labels(first, second) == [[1, -1, 0], [0, 0, 0]]


class TestUnmarked:
    @pytest.mark.parametrize(
        ("annotation", "pathology", "label_source", "expected"),
        [
            ("complete", None, "annotated", 0),
            ("complete", "CALC B", "annotated", 0),
            ("partial", None, "annotated", -1),
            ("partial", "CALC B", "assumed", -1),
            ("none", None, "annotated", -1),
            ("none", None, "assumed", -1),
            ("none", "CALC M", "assumed", -1),
            ("none", "normal", "annotated", -1),
            ("none", "normal", "assumed", 0),
            ("none", "Normal ", "assumed", 0),
            ("partial", "normal", "assumed", 0),
        ],
    )
    def test_unmarked_patch(self, annotation: Annotation, pathology: str, label_source: str, expected: int) -> None:
        found = labels(of=record(annotation, pathology), label_source=label_source)
        assert found == [[expected] * 3] * 2

    def test_marked_patches_of_a_partly_annotated_image_are_positive(self) -> None:
        mark = region("calcification", "point", (0, 0))
        assert labels(mark, of=record("partial")) == [[1, -1, -1], [-1, -1, -1]]


class TestGrids:
    def test_right_chest_wall_pads_left(self) -> None:
        """10 columns: 2 of padding at the left, so column 1 is in patch 0 and column 2 in patch 1."""
        grid = Grid(height=8, width=10, patch_px=4, stride_px=4, chest_wall="right")
        assert labels(region("calcification", "point", (7, 1)), grid=grid) == [[0, 0, 0], [1, 0, 0]]
        assert labels(region("calcification", "point", (7, 2)), grid=grid) == [[0, 0, 0], [0, 1, 0]]

    def test_overlapping_patches_share_a_mark(self) -> None:
        grid = Grid(height=4, width=8, patch_px=4, stride_px=2, chest_wall="left")
        assert labels(region("calcification", "point", (0, 3)), grid=grid) == [[1, 1, 0]]

    def test_image_smaller_than_a_patch(self) -> None:
        grid = Grid(height=2, width=2, patch_px=4, stride_px=4, chest_wall="right")
        assert labels(region("calcification", "point", (1, 1)), grid=grid) == [[1]]

    def test_region_outside_the_image_is_refused(self) -> None:
        with pytest.raises(InputError, match="image i, region r: the point must overlap the image"):
            labels(region("calcification", "point", (8, 0)))


@given(data=st.data())
def test_labels_equal_the_rule_applied_to_cut_masks(data: st.DataObject) -> None:
    patch_px = data.draw(st.integers(1, 6))
    grid = Grid(
        height=data.draw(st.integers(1, 15)),
        width=data.draw(st.integers(1, 15)),
        patch_px=patch_px,
        stride_px=data.draw(st.integers(1, patch_px)),
        chest_wall=data.draw(st.sampled_from(["left", "right"])),
    )
    row, col = st.integers(0, grid.height - 1), st.integers(0, grid.width - 1)
    kinds = st.sampled_from(["calcification", "cluster", "other"])
    regions = [
        region(kind, "box", first, second)
        for kind, first, second in data.draw(
            st.lists(st.tuples(kinds, st.tuples(row, col), st.tuples(row, col)), max_size=4)
        )
    ]
    expected = np.zeros((grid.rows, grid.cols), dtype=np.int8)
    positive = np.zeros(expected.shape, dtype=np.bool_)
    for one in regions:
        covered = region_mask(one, height=grid.height, width=grid.width)
        image = np.zeros((grid.height, grid.width), dtype=np.int64)
        image[covered.window] = covered.mask
        held = grid.cut(image).sum(axis=(2, 3))
        expected[held > 0] = -1
        if one.kind == "calcification":
            positive |= held > 0
        if one.kind == "cluster":
            positive |= (2 * held >= image.sum()) | (2 * held >= patch_px**2)
    expected[positive] = 1
    assert labels(*regions, grid=grid) == expected.tolist()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("calcification", [[True, True, False], [True, True, False]]),
        ("cluster", [[False, False, False], [True, False, False]]),
        ("other", [[False, False, False], [False, False, False]]),
    ],
)
def test_the_patches_that_one_region_makes_positive(kind: Kind, expected: list[list[bool]]) -> None:
    # Rows 3 to 6 and columns 1 to 4: 3 x 3 px of 16 in the lower left patch, 9 of them at least half.
    box = region(kind, "box", (3, 1), (6, 4))
    made_positive = positive_patches(GRID, box, cluster_fraction=0.5)
    assert made_positive.tolist() == expected
    assert (made_positive == (np.array(labels(box)) == 1)).all()
