from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgkeras.images import at_spacing
from mmgkeras.overlay.draw import (
    BACKGROUND,
    TEXT,
    DrawOptions,
    Item,
    add_legend,
    draw,
    draw_with_preview,
    scale_item,
)
from mmgkeras.overlay.marks import STRONG, TRUTH, UNKNOWN_COLOUR, WEAK, Truth
from mmgkeras.schema import ActivationMap, Grid, ImageRecord, Mammogram, Region, ScoreMap


def mammogram(height: int, width: int, *, spacing_mm: float | None = None) -> Mammogram:
    record = ImageRecord("p7-left", "a.png", "p7", "L", "CC", "complete", spacing_mm=spacing_mm)
    return Mammogram(np.full((height, width), 100, np.uint8), record)


def scores(height: int, width: int, *, patch_px: int = 50) -> ScoreMap:
    grid = Grid(height, width, patch_px, patch_px, "left")
    return ScoreMap("p7-left", grid, np.zeros((grid.rows, grid.cols), np.float32))


def has_colour(picture: Image.Image, colour: tuple[int, int, int], *, from_row: int) -> bool:
    return bool((np.asarray(picture)[from_row:] == colour).all(axis=2).any())


def test_the_image_is_at_native_resolution_and_the_legend_below_it() -> None:
    picture = draw(mammogram(300, 400), scores(300, 400))
    pixels = np.asarray(picture)
    assert pixels.shape[1:] == (400, 3)
    assert pixels.shape[0] > 300
    assert (pixels[:300] == 100).all()
    assert (pixels[300] == BACKGROUND).all()
    assert (pixels[300:] == TEXT).all(axis=2).any()


def test_the_preview_is_800_pixels_high_with_a_legend_of_its_own() -> None:
    drawing = draw_with_preview(mammogram(1600, 1000), scores(1600, 1000))
    assert drawing.native.size[0] == 1000
    assert drawing.preview.size[0] == 500
    pixels = np.asarray(drawing.preview)
    assert (pixels[:800] == 100).all()
    assert (pixels[800] == BACKGROUND).all()


def test_an_image_that_is_small_is_its_own_preview() -> None:
    drawing = draw_with_preview(mammogram(300, 400), scores(300, 400))
    assert drawing.preview == drawing.native


def test_the_legend_shows_what_is_in_the_picture_and_no_more() -> None:
    plain = draw(mammogram(300, 400), scores(300, 400))
    assert has_colour(plain, WEAK, from_row=300)
    assert has_colour(plain, STRONG, from_row=300)
    assert not has_colour(plain, TRUTH, from_row=300)
    assert not has_colour(plain, UNKNOWN_COLOUR, from_row=300)
    labels = np.zeros((6, 8), np.int8)
    labels[0, 0] = -1
    unknown = draw(mammogram(300, 400), scores(300, 400), options=DrawOptions(truth=Truth((), labels)))
    assert has_colour(unknown, UNKNOWN_COLOUR, from_row=300)
    assert not has_colour(unknown, TRUTH, from_row=300)
    region = Region("p7-left", "1", "cluster", "circle", ((100.0, 100.0), (20.0, 20.0)))
    annotated = draw(mammogram(300, 400), scores(300, 400), options=DrawOptions(truth=Truth((region,), labels)))
    assert has_colour(annotated, TRUTH, from_row=300)


def test_the_legend_tells_of_class_activation_where_it_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    legends: list[str] = []

    def noted(picture: Image.Image, *, title: str, items: Sequence[Item]) -> Image.Image:
        legends.append("; ".join(item.text for item in items))
        return add_legend(picture, title=title, items=items)

    monkeypatch.setattr("mmgkeras.overlay.draw.add_legend", noted)
    values, centres = np.zeros((6, 8, 5, 5), np.float32), np.arange(5, dtype=np.float32) * 10 + 4.5
    activation = ActivationMap(values, centres)
    plain, with_cells = (
        np.asarray(draw(mammogram(300, 400), scores(300, 400), options=DrawOptions(activation=cells)))
        for cells in (None, activation)
    )
    assert with_cells.shape[0] > plain.shape[0]
    assert ["cells of 10 px" in text for text in legends] == [False, False, True, True]
    wrong = ActivationMap(values[:3], centres)
    with pytest.raises(ValueError, match=r"needs activations \(6, 8, h, w\)"):
        draw(mammogram(300, 400), scores(300, 400), options=DrawOptions(activation=wrong))


def test_a_threshold_near_1_is_not_1_in_the_legend(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []

    def noted(picture: Image.Image, *, title: str, items: Sequence[Item]) -> Image.Image:
        texts.extend([title, items[0].text])
        return picture

    monkeypatch.setattr("mmgkeras.overlay.draw.add_legend", noted)
    draw(mammogram(300, 400), scores(300, 400), options=DrawOptions(threshold=0.9996))
    assert texts[0].endswith("patches at or above 0.99960")
    assert texts[1] == "model: calcification, probability 0.99960 to 1.00"


def test_a_name_that_is_no_text_is_escaped_in_the_legend(monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []

    def noted(picture: Image.Image, *, title: str, items: Sequence[Item]) -> Image.Image:
        titles.append(title)
        return picture

    monkeypatch.setattr("mmgkeras.overlay.draw.add_legend", noted)
    plain = mammogram(300, 400)
    draw(replace(plain, record=replace(plain.record, image_id="M\udcfcller")), scores(300, 400))
    assert titles[0].startswith("M\\udcfcller, L CC: 0 of 48 patches")


@pytest.mark.parametrize(
    ("shown", "width_px", "text", "length_px"),
    [(1.0, 1000, "20 mm", 200), (0.5, 500, "20 mm", 100), (1.0, 200, "5 mm", 50), (1.0, 20, "1 mm", 10)],
)
def test_the_scale_bar_is_as_long_as_it_says(shown: float, width_px: int, text: str, length_px: int) -> None:
    item = scale_item(0.1, shown_px_per_px=shown, width_px=width_px)
    assert item.text.startswith(text)
    assert item.swatch is not None
    assert item.swatch(16).width == length_px


def test_an_unknown_pixel_size_is_said() -> None:
    assert scale_item(None, shown_px_per_px=1.0, width_px=1000) == Item("pixel size unknown")


def test_text_is_wrapped_to_a_narrow_picture() -> None:
    narrow = add_legend(Image.new("RGB", (160, 10)), title="a title of several words", items=[])
    wide = add_legend(Image.new("RGB", (800, 10)), title="a title of several words", items=[])
    assert narrow.width == 160
    assert narrow.height > wide.height
    strip = np.asarray(narrow)[10:]
    assert (strip[:, :12] == BACKGROUND).all()
    assert (strip[:, -10:] == BACKGROUND).all()


def test_a_score_map_of_another_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"The grid must be of the image, 300 x 400"):
        draw(mammogram(300, 400), scores(300, 401))


@pytest.mark.parametrize(("height", "width"), [(150, 200), (100, 133), (420, 560)])
def test_a_score_map_of_the_resampled_image_is_drawn_on_the_image(height: int, width: int) -> None:
    assert draw(mammogram(300, 400), scores(height, width)).width == 400


def test_a_mammogram_resampled_by_hardly_over_one_percent_is_drawn_on() -> None:
    """130 x 1.0101 is 131.3, and 131 / 130 is less than one per cent."""
    seen = at_spacing(mammogram(130, 100, spacing_mm=0.1), 0.099)
    assert seen.pixels.shape == (131, 101)
    assert draw(mammogram(130, 100, spacing_mm=0.1), scores(131, 101)).width == 100


@pytest.mark.parametrize(("height", "width"), [(150, 203), (400, 300), (300, 200)])
def test_a_score_map_of_another_shape_is_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match="The grid must be of the image"):
        draw(mammogram(300, 400), scores(height, width))


def marked_preview() -> Image.Image:
    """Of 400 x 640 pixels at half size: patches just at, above and below the threshold, what is known, a scale bar."""
    score_map = scores(400, 640, patch_px=100)
    score_map.probabilities[1, 1:5] = (0.5, 0.49, 0.9, 0.6)
    labels = np.zeros((4, 7), np.int8)
    labels[1, 3], labels[2, 2] = 1, -1
    region = Region("p7-left", "1", "calcification", "circle", ((150.0, 350.0), (20.0, 20.0)))
    options = DrawOptions(truth=Truth((region,), labels))
    return draw_with_preview(mammogram(400, 640, spacing_mm=0.1), score_map, options=options).preview


def test_a_preview_looks_as_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmgkeras.overlay.draw.PREVIEW_HEIGHT_PX", 200)
    drawn = np.asarray(marked_preview()).astype(int)
    with Image.open(Path(__file__).parent / "reference" / "preview.png") as reference:
        expected = np.asarray(reference).astype(int)
    assert drawn.shape == expected.shape
    # Another build of FreeType may shade the edges of a few letters otherwise.
    assert (np.abs(drawn - expected).max(axis=2) > 48).mean() < 0.0001


@pytest.mark.parametrize("letters", ["ÄÜ", "éñ", "łş", "жш", "αω"])
def test_a_title_shows_the_letters_of_its_file(letters: str) -> None:
    first, second = (
        np.asarray(add_legend(Image.new("RGB", (400, 20)), title=f"scan {letter}", items=[])) for letter in letters
    )
    assert (first != second).any()
