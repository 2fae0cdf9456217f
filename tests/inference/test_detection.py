from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmgkeras.inference.detection import Detection, detect, find_marks, mark_map
from mmgkeras.savedmodel.classifier import Classifier, load
from mmgkeras.schema import ActivationMap, Grid, ImageRecord, Mammogram, ScoreMap


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
