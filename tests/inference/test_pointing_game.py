from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgkeras.config import PatchesConfig
from mmgkeras.errors import InputError
from mmgkeras.inference.pointing_game import point
from mmgkeras.patches.prepare import prepare
from mmgkeras.patches.store import PatchStore
from mmgkeras.savedmodel.classifier import load
from mmgkeras.schema import ImageRecord, Region
from mmgkeras.study.run_files import POINTING
from mmgkeras.tables import write_images, write_labels, write_regions

ExportModel = Callable[..., Path]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, export_mean_model: ExportModel) -> Path:
    """Its activation is highest at the brightest pixel; a cell is a pixel."""
    return export_mean_model(tmp_path_factory.mktemp("models") / "1")


def make_store(folder: Path, *, bright: Sequence[tuple[int, int]], regions: Sequence[Region]) -> PatchStore:
    """One image "a" of 12 x 16 pixels, gray 50 but for these pixels: 2 x 2 patches, four rows of padding on top."""
    pixels = np.full((12, 16), 50, np.uint8)
    for place in bright:
        pixels[place] = 250
    data = folder / "data"
    data.mkdir()
    Image.fromarray(pixels).save(data / "a.png")
    write_images(data / "images.csv", [ImageRecord("a", "a.png", "p1", "L", "CC", "complete")])
    write_regions(data / "regions.csv", list(regions))
    return prepare(data, folder / "store", PatchesConfig(patch_px=8))


def mark(row: float, col: float, *, name: str = "1") -> Region:
    return Region("a", name, "calcification", "point", ((row, col),))


def box(top: float, left: float, bottom: float, right: float) -> Region:
    return Region("a", "envelope", "cluster", "box", ((top, left), (bottom, right)))


def pointed(model: Path, store: PatchStore, indices: Sequence[int] = range(4)) -> list[list[object]]:
    frame = point(load(model), store, data=store.path.parent / "data", indices=np.array(indices, np.int64))
    assert list(frame.columns) == list(POINTING)
    return frame.values.tolist()


def test_a_peak_on_the_mark_is_a_hit_and_lies_in_pixels_of_the_image(model: Path, tmp_path: Path) -> None:
    store = make_store(tmp_path, bright=[(2, 3), (9, 12)], regions=[mark(2, 3), mark(10, 12, name="2")])
    assert pointed(model, store) == [
        ["a", "p1", 0, 0, 2.0, 3.0, 1, 1 / 64],
        ["a", "p1", 1, 1, 9.0, 12.0, 0, 1 / 64],
    ]


def test_only_the_patches_asked_for_are_pointed_at(model: Path, tmp_path: Path) -> None:
    store = make_store(tmp_path, bright=[(2, 3)], regions=[mark(2, 3), mark(10, 12, name="2")])
    assert [row[2:4] for row in pointed(model, store, [0, 1, 2])] == [[0, 0]]


def test_an_envelope_counts_only_where_no_mark_lies(model: Path, tmp_path: Path) -> None:
    store = make_store(tmp_path, bright=[(5, 1), (5, 9)], regions=[box(4, 0, 11, 15), mark(4, 1)])
    assert [row[2:4] + row[6:] for row in pointed(model, store)] == [
        [1, 0, 0, 1 / 64],  # beside the mark, though inside the envelope
        [1, 1, 1, 1.0],
    ]


def test_findings_of_another_kind_and_negative_patches_are_no_targets(model: Path, tmp_path: Path) -> None:
    other = Region("a", "1", "other", "point", ((2.0, 3.0),))
    assert pointed(model, make_store(tmp_path, bright=[], regions=[other])) == []


def test_a_positive_patch_by_label_alone_has_no_target(model: Path, tmp_path: Path) -> None:
    make_store(tmp_path, bright=[], regions=[mark(2, 3)])
    data = tmp_path / "data"
    write_labels(data / "labels.csv", [("a", 0, 0, 1), ("a", 1, 1, 1)])
    (tmp_path / "again").mkdir()
    store = prepare(data, tmp_path / "labelled", PatchesConfig(patch_px=8))
    assert [row[2:4] for row in pointed(model, store)] == [[0, 0]]


def test_regions_that_are_not_there_or_lie_outside_are_named(model: Path, tmp_path: Path) -> None:
    store = make_store(tmp_path, bright=[], regions=[mark(2, 3)])
    path = tmp_path / "data" / "regions.csv"
    with path.open("a") as file:
        file.write('a,2,calcification,point,"99,3"\n')
    with pytest.raises(InputError, match=r"regions.csv:3: image a, region 2: the point must overlap"):
        pointed(model, store)
    path.unlink()
    with pytest.raises(InputError, match=r"regions.csv"):
        pointed(model, store)


def test_a_store_of_other_patches_is_refused(tmp_path: Path, export_mean_model: ExportModel) -> None:
    store = make_store(tmp_path, bright=[], regions=[mark(2, 3)])
    other = export_mean_model(tmp_path / "model" / "1", changes={"patch_px": 16, "stride_px": 16})
    with pytest.raises(InputError, match=r"has patches of 8 px, and .* takes 16 px"):
        pointed(other, store)


def test_on_a_resampled_store_the_peak_lies_in_pixels_of_the_image(model: Path, tmp_path: Path) -> None:
    make_store(tmp_path, bright=[(4, 6), (4, 7), (5, 6), (5, 7)], regions=[mark(5, 7)])
    data = tmp_path / "data"
    write_images(
        data / "images.csv", [ImageRecord("a", "a.png", "p1", "L", "CC", "complete", spacing_mm=0.1)], overwrite=True
    )
    store = prepare(data, tmp_path / "resampled", PatchesConfig(patch_px=8, spacing_mm=0.2))
    # The brightest pixel of 6 x 8 is (2, 3): the middle of these four.
    assert pointed(model, store, [0]) == [["a", "p1", 0, 0, 4.5, 6.5, 1, 1 / 64]]
