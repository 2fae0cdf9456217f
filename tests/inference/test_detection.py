from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from mmgkeras.images import Breast, tissue_mask
from mmgkeras.inference.detection import Detection, detect, find_marks, mark_map, prepare, score
from mmgkeras.overlay.marks import mark_pixels
from mmgkeras.overlay.pixel_runs import stitch_cells
from mmgkeras.savedmodel.classifier import Classifier, load
from mmgkeras.schema import ActivationMap, Grid, ImageRecord, Mammogram, ScoreMap, Side


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory, export_mean_model: Callable[..., Path]) -> Classifier:
    """Patches of 8 px of 0.2 mm; the brighter, the more probable."""
    return load(export_mean_model(tmp_path_factory.mktemp("models") / "1"))


def mammogram(pixels: np.ndarray, *, spacing_mm: float | None = 0.2) -> Mammogram:
    return Mammogram(pixels, ImageRecord("x", "x.png", "p", "L", "CC", "none", spacing_mm=spacing_mm))


def breast_with_letters() -> np.ndarray:
    """(160, 160): the breast at the left, a bright spot in it, and bright lettering away from it."""
    rows, cols = np.ogrid[:160, :160]
    pixels = np.where((rows - 80) ** 2 + cols**2 < 70**2, 90, 0).astype(np.uint8)
    pixels[64:80, 16:32] = 255
    pixels[8:24, 120:152] = 255
    return pixels


def test_lettering_beside_the_breast_is_neither_scored_nor_marked(classifier: Classifier) -> None:
    seen = mammogram(breast_with_letters())
    plain = classifier.score(seen).probabilities
    detection = detect([classifier], seen)
    probabilities = detection.score_map.probabilities
    assert plain[1:3, 15:19].max() > 0.5
    assert probabilities[1:3, 15:19].max() == 0
    inside = np.s_[8:12, 1:5]
    np.testing.assert_array_equal(probabilities[inside], plain[inside])
    (mark,) = find_marks(detection, threshold=0.5, shape=seen.pixels.shape)
    assert (mark.top, mark.left, mark.bottom, mark.right) == (64, 16, 80, 32)
    assert mark.area_px == 256
    assert mark.probability == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-4)


def test_another_pixel_size_is_resampled_and_marks_are_told_in_the_files_pixels(classifier: Classifier) -> None:
    small = breast_with_letters()
    large = small.repeat(2, axis=0).repeat(2, axis=1)
    detection = detect([classifier], mammogram(large, spacing_mm=0.1))
    assert detection.resampled_to_mm == 0.2
    np.testing.assert_array_equal(
        detection.score_map.probabilities, detect([classifier], mammogram(small)).score_map.probabilities
    )
    (mark,) = find_marks(detection, threshold=0.5, shape=large.shape)
    assert (mark.top, mark.left, mark.bottom, mark.right) == (128, 32, 160, 64)
    assert mark.area_px == 1024


@given(
    shape=st.tuples(st.integers(20, 60), st.integers(20, 60)),
    factor=st.sampled_from([0.4, 0.5, 0.7, 1.3, 2.0]),
    side=st.sampled_from(["left", "right"]),
    place=st.integers(0, 1000),
)
def test_a_mark_of_a_resampled_image_is_told_drawn_and_segmented_on_the_same_pixels(
    shape: tuple[int, int], factor: float, side: Side, place: int
) -> None:
    height, width = (round(length * factor) for length in shape)
    grid = Grid(height, width, 7, 7, side)
    probabilities = np.zeros((grid.rows, grid.cols), np.float32)
    row, col = divmod(place % probabilities.size, grid.cols)
    probabilities[row, col] = 1
    scores = ScoreMap("x", grid, probabilities)
    drawn = mark_pixels(np.full(shape, 100, np.uint8), scores, threshold=0.5)
    segment = mark_map(Detection(scores, None, None), threshold=0.5, shape=shape)
    (mark,) = find_marks(Detection(scores, None, None), threshold=0.5, shape=shape)
    inside = np.zeros(shape, np.bool_)
    inside[mark.top : mark.bottom, mark.left : mark.right] = True
    # Where the middle of a pixel lies on the patch, scaled to the image.
    top, left, bottom, right = grid.boxes()[row, col]
    rows, cols = (
        (np.arange(length) + 0.5) * size / length for length, size in zip(shape, (height, width), strict=True)
    )
    expected = np.outer((rows >= top) & (rows < bottom), (cols >= left) & (cols < right))
    if expected.any():  # a sliver at the edge of the grid may be narrower than a pixel
        np.testing.assert_array_equal(inside, expected)
        np.testing.assert_array_equal((drawn != 100).any(axis=2), expected)
        np.testing.assert_array_equal(segment == 1, expected)


@pytest.mark.parametrize("spacing_mm", [None, 0.2, 0.2001])
def test_an_unknown_or_equal_pixel_size_is_taken_as_it_is(classifier: Classifier, spacing_mm: float | None) -> None:
    assert detect([classifier], mammogram(breast_with_letters(), spacing_mm=spacing_mm)).resampled_to_mm is None


def test_a_mark_points_at_the_peak_of_its_activation_and_the_most_probable_comes_first() -> None:
    grid = Grid(24, 24, 8, 8, "left")
    probabilities = np.zeros((3, 3), np.float32)
    probabilities[0, 0], probabilities[2, 1:] = 0.7, 0.9
    values = np.zeros((3, 3, 2, 2), np.float32)
    values[0, 0, 1, 0] = 3
    values[2, 2, 0, 1] = 5
    activation = ActivationMap(values, np.array([1.5, 5.5], np.float32))
    marks = find_marks(Detection(ScoreMap("x", grid, probabilities), activation, None), threshold=0.5, shape=(24, 24))
    assert [round(mark.probability, 3) for mark in marks] == [0.9, 0.7]
    assert [(mark.row, mark.col) for mark in marks] == [(17.5, 21.5), (5.5, 1.5)]
    assert [(mark.top, mark.left, mark.bottom, mark.right) for mark in marks] == [(16, 8, 24, 24), (0, 0, 8, 8)]


def test_the_map_of_marks_numbers_them_as_they_are_listed() -> None:
    grid = Grid(24, 24, 8, 8, "left")
    probabilities = np.zeros((3, 3), np.float32)
    probabilities[0, 0], probabilities[2, 1:] = 0.7, 0.9
    detection = Detection(ScoreMap("x", grid, probabilities), None, None)
    expected = np.zeros((3, 3), np.uint16)
    expected[0, 0], expected[2, 1:] = 2, 1
    for factor in (1, 2):
        places = mark_map(detection, threshold=0.5, shape=(24 * factor, 24 * factor))
        np.testing.assert_array_equal(places, expected.repeat(8 * factor, axis=0).repeat(8 * factor, axis=1))
    assert not mark_map(detection, threshold=0.95, shape=(24, 24)).any()


def test_a_mark_smaller_than_a_pixel_of_the_image_has_one_all_the_same() -> None:
    grid = Grid(20, 20, 4, 4, "left")
    breast = np.zeros((20, 20), dtype=np.bool_)
    breast[9, 9] = breast[17, 2] = True
    detection = Detection(ScoreMap("x", grid, np.full((5, 5), 0.9, np.float32), breast=breast), None, None)
    marks = find_marks(detection, threshold=0.5, shape=(5, 5))
    places = mark_map(detection, threshold=0.5, shape=(5, 5))
    assert sorted(places[places > 0]) == [1, 2]
    assert [places[round(mark.row), round(mark.col)] for mark in marks] == [1, 2]


@st.composite
def detections(draw: st.DrawFn) -> Detection:
    """Of scores in tenths, so that some are equal, on a breast of any shape."""
    patch_px = draw(st.integers(2, 8))
    grid = Grid(
        height=draw(st.integers(1, 30)),
        width=draw(st.integers(1, 30)),
        patch_px=patch_px,
        stride_px=draw(st.integers(1, patch_px)),
        chest_wall=draw(st.sampled_from(["left", "right"])),
    )
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    probabilities = generator.integers(0, 11, (grid.rows, grid.cols)).astype(np.float32) / 10
    breast = generator.random((grid.height, grid.width)) < 0.8 if draw(st.booleans()) else None
    activation = None
    if draw(st.booleans()):
        values = generator.integers(0, 4, (grid.rows, grid.cols, 2, 2)).astype(np.float32)
        activation = ActivationMap(values, np.array([0, patch_px - 1], np.float32))
    return Detection(ScoreMap("x", grid, probabilities, breast=breast), activation, None)


def first_pixel(edge: int, *, length: int, of: int) -> int:
    """The first of `length` pixels whose middle lies on pixel `edge` of `of` over the same extent, or beyond it."""
    return sum((2 * pixel + 1) * of < 2 * length * edge for pixel in range(length))


def smoothed(detection: Detection) -> np.ndarray:
    """The class activation of every pixel by a Gaussian of an eighth of a patch; off the breast it is the lowest."""
    score_map, activation = detection.score_map, detection.activation
    assert activation is not None
    cells = stitch_cells(score_map.grid, activation).astype(np.float64)
    lowest = activation.values.min()
    on_breast = cells if score_map.breast is None else np.where(score_map.breast, cells, lowest)
    return ndimage.gaussian_filter(on_breast, score_map.grid.patch_px / 8, mode="constant", cval=lowest)


@given(detection=detections(), factor=st.sampled_from([1, 2, 0.7]))
def test_marks_are_those_of_the_pixels_one_by_one(detection: Detection, factor: float) -> None:
    grid = detection.score_map.grid
    shape = (max(1, round(grid.height * factor)), max(1, round(grid.width * factor)))
    down, across = shape[0] / grid.height, shape[1] / grid.width
    mean = detection.score_map.stitch()
    inside = mean if detection.activation is None else smoothed(detection).round(4)
    parts, count = ndimage.label(mean >= 0.5)
    expected = []
    for number in range(1, count + 1):
        is_part = parts == number
        rows, cols = np.nonzero(is_part)
        peaks, _ = ndimage.label(is_part & (inside == inside[is_part].max()))
        row, col = (places.mean() for places in np.nonzero(peaks == 1))
        expected.append(
            (
                round(float(mean[is_part].max()), 6),
                pytest.approx((row + 0.5) * down - 0.5, abs=0.0501),
                pytest.approx((col + 0.5) * across - 0.5, abs=0.0501),
                first_pixel(rows.min(), length=shape[0], of=grid.height),
                first_pixel(cols.min(), length=shape[1], of=grid.width),
                first_pixel(rows.max() + 1, length=shape[0], of=grid.height),
                first_pixel(cols.max() + 1, length=shape[1], of=grid.width),
                round(is_part.sum() * down * across),
            )
        )
    received = [astuple(mark) for mark in find_marks(detection, threshold=0.5, shape=shape)]
    assert received == sorted(expected, key=lambda mark: (-mark[0], mark[3], mark[4]))
    places = mark_map(detection, threshold=0.5, shape=(grid.height, grid.width))
    np.testing.assert_array_equal(places > 0, mean >= 0.5)


def test_only_patches_with_breast_reach_the_model(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = mammogram(breast_with_letters())
    detection = detect([classifier], seen)
    num_run = []
    localise = classifier.localise
    monkeypatch.setattr(classifier, "localise", lambda patches: (num_run.append(len(patches)), localise(patches))[1])
    np.testing.assert_array_equal(detect([classifier], seen).score_map.probabilities, detection.score_map.probabilities)
    assert num_run == [detection.score_map.grid.cut(tissue_mask(seen.pixels)).any(axis=(2, 3)).sum()]


def test_a_breast_that_was_found_is_not_sought_again_unless_the_image_is_resampled(classifier: Classifier) -> None:
    pixels = breast_with_letters()
    found = Breast(np.zeros(pixels.shape, np.bool_), 1, pixels.shape, 0.0, looks_inverted=False)
    prepared = prepare(mammogram(pixels), [classifier], breast=found)
    assert not prepared.mammogram.pixels.any()
    assert not prepared.holds_breast.any()
    assert not score(prepared).score_map.probabilities.any()
    assert prepare(mammogram(pixels, spacing_mm=0.1), [classifier], breast=found).holds_breast.any()


class Says:
    """A model that says one probability of every patch, with or without a finer one."""

    def __init__(
        self, probability: float, *, patch_px: int = 8, spacing_mm: float = 0.2, finer: "Says | None" = None
    ) -> None:
        self.metadata = SimpleNamespace(patch_px=patch_px, stride_px=patch_px, spacing_mm=spacing_mm, threshold=0.5)
        self.probability, self.finer = probability, finer

    def scan(
        self, mammogram: Mammogram, *, stride_px: int | None = None, chosen: np.ndarray | None = None
    ) -> tuple[ScoreMap, None]:
        px = self.metadata.patch_px
        grid = Grid(*mammogram.pixels.shape, px, stride_px or px, mammogram.record.chest_wall_side)
        assert chosen is not None
        assert chosen.shape == (grid.rows, grid.cols)
        return ScoreMap("x", grid, np.where(chosen, np.float32(self.probability), np.float32(0))), None


class TestFiner:
    @staticmethod
    def model(coarse: float = 0.2, fine: float = 0.8) -> Says:
        return Says(coarse, finer=Says(fine, patch_px=12, spacing_mm=0.4 / 3))

    @staticmethod
    def seen(spacing_mm: float | None) -> Mammogram:
        record = ImageRecord("x", "x.png", "p", "L", "CC", "none", spacing_mm=spacing_mm)
        return Mammogram(np.full((320, 300), 90, np.uint8), record)

    @pytest.mark.parametrize(
        ("spacing_mm", "is_asked"),
        [(0.05, True), (0.1, True), (0.14, True), (0.15, False), (0.2, False), (None, False)],
    )
    def test_it_is_asked_in_place_of_the_other_of_images_as_fine(
        self, spacing_mm: float | None, is_asked: bool
    ) -> None:
        detection = detect([self.model()], self.seen(spacing_mm))
        assert detection.score_map.probabilities.max() == pytest.approx(0.8 if is_asked else 0.2)
        assert detection.score_map.grid.patch_px == (12 if is_asked else 8)
        if is_asked:
            assert detection.resampled_to_mm == pytest.approx(0.4 / 3) or spacing_mm == 0.14
        else:
            assert detection.resampled_to_mm in (0.2, None)

    @pytest.mark.parametrize(("stride_px", "expected"), [(4, 6), (5, 7), (None, 12)])
    def test_its_stride_is_as_long_but_for_less_than_a_pixel(self, stride_px: int | None, expected: int) -> None:
        assert detect([self.model()], self.seen(0.1), stride_px=stride_px).score_map.grid.stride_px == expected

    def test_several_are_averaged(self) -> None:
        models = [self.model(fine=0.8), self.model(fine=0.4)]
        assert detect(models, self.seen(0.1)).score_map.probabilities.max() == pytest.approx(0.6)

    @pytest.mark.parametrize("other", [Says(0.2), Says(0.2, finer=Says(0.8, patch_px=16, spacing_mm=0.1))])
    def test_none_is_asked_where_another_model_has_none_alike(self, other: Says) -> None:
        assert detect([self.model(), other], self.seen(0.1)).score_map.probabilities.max() == pytest.approx(0.2)
