import os
import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmgkeras.config import PatchesConfig
from mmgkeras.errors import InputError
from mmgkeras.images import read_pixels
from mmgkeras.inference.marking import file_stem, is_overlay, mark_folder, picture_bytes, save_picture
from mmgkeras.savedmodel.classifier import load
from mmgkeras.savedmodel.export import export
from mmgkeras.savedmodel.metadata import ModelMetadata

ExportModel = Callable[..., Path]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, export_mean_model: ExportModel) -> Path:
    return export_mean_model(tmp_path_factory.mktemp("models") / "1")


def test_every_image_is_drawn_at_native_resolution_and_small(model: Path, quadrant_data: Path, tmp_path: Path) -> None:
    marked = mark_folder(model, quadrant_data, out=tmp_path / "out")
    assert list(marked.pictures) == ["a", "b", "c", "d"]
    assert marked.skipped == {}
    picture = np.asarray(Image.open(marked.pictures["a"]))
    assert picture.shape[1:] == (16, 3)
    np.testing.assert_array_equal(picture[:8, 8:16], 50)
    assert (picture[:8, :8] != 200).any()
    assert (tmp_path / "out" / "previews" / "a.png").is_file()


def test_a_picture_is_a_sound_png_that_says_who_made_it(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    save_picture(Image.fromarray(pixels), tmp_path / "out" / "colour.png")
    with Image.open(tmp_path / "out" / "colour.png") as picture:
        assert (picture.mode, picture.info) == ("RGB", {"Software": "mmgkeras overlay"})
        np.testing.assert_array_equal(np.asarray(picture), pixels)
    gray = pixels[..., :1].repeat(3, axis=2)
    save_picture(Image.fromarray(gray), tmp_path / "out" / "gray.png")
    np.testing.assert_array_equal(read_pixels(tmp_path / "out" / "gray.png"), gray[..., 0])
    assert is_overlay(tmp_path / "out" / "gray.png")
    Image.fromarray(gray).save(tmp_path / "other.png")
    assert not is_overlay(tmp_path / "other.png")


def test_an_image_that_cannot_be_read_is_listed_and_the_others_are_drawn(
    model: Path, quadrant_data: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(quadrant_data, tmp_path / "data")
    (data / "b.png").write_bytes(b"")
    marked = mark_folder(model, data, out=tmp_path / "out", image_ids=["c", "b", "a", "c"])
    assert list(marked.pictures) == ["c", "a"]
    assert list(marked.skipped) == ["b"]
    assert "b.png" in marked.skipped["b"]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["a.png", "c.png"]


def test_an_unknown_image_is_named(model: Path, quadrant_data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"images.csv: lists no image x, y"):
        mark_folder(model, quadrant_data, out=tmp_path / "out", image_ids=["a", "x", "y"])


def test_a_picture_that_is_there_is_refused_before_the_work(quadrant_data: Path, tmp_path: Path) -> None:
    (tmp_path / "d.png").write_text("mine")
    with pytest.raises(InputError, match=r"d.png: already exists"):
        mark_folder(tmp_path / "no model", quadrant_data, out=tmp_path)
    assert (tmp_path / "d.png").read_text() == "mine"


def test_a_picture_that_predict_made_is_not_replaced(model: Path, quadrant_data: Path, tmp_path: Path) -> None:
    picture = picture_bytes(Image.new("RGB", (9, 9)), made_by="mmgkeras predict")
    (tmp_path / "a.png").write_bytes(picture)
    with pytest.raises(InputError, match=r"a.png: was not made by this command"):
        mark_folder(model, quadrant_data, out=tmp_path, image_ids=["a"], overwrite=True)


def test_the_truth_is_drawn_by_the_label_rule(model: Path, quadrant_data: Path, tmp_path: Path) -> None:
    plain = mark_folder(model, quadrant_data, out=tmp_path / "plain", image_ids=["b"]).pictures["b"]
    truth = PatchesConfig(patch_px=8)
    known = mark_folder(model, quadrant_data, out=tmp_path / "truth", image_ids=["b"], truth=truth).pictures["b"]
    with_truth, without = np.asarray(Image.open(known))[:16], np.asarray(Image.open(plain))[:16]
    assert (with_truth[:8, :8] != without[:8, :8]).any()
    np.testing.assert_array_equal(with_truth[8:], without[8:])


def test_class_activation_is_drawn_inside_marked_patches_alone(
    model: Path, quadrant_data: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(quadrant_data, tmp_path / "data")
    pixels = np.array(Image.open(data / "a.png"))
    pixels[3:5, 3:5] = 255
    Image.fromarray(pixels).save(data / "a.png")
    plain, cells = (
        np.asarray(Image.open(marked.pictures["a"]))[:16]
        for marked in (
            mark_folder(model, data, out=tmp_path / "plain", image_ids=["a"]),
            mark_folder(model, data, out=tmp_path / "cells", image_ids=["a"], with_activation=True),
        )
    )
    assert (plain[:8, :8] != cells[:8, :8]).any()
    assert (plain != cells)[8:].sum() == (plain != cells)[:, 8:].sum() == 0


def test_a_model_that_cannot_localise_is_refused_before_the_work(quadrant_data: Path, tmp_path: Path) -> None:
    image = keras.Input((8, 8, 1), name="image")
    network = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(image)))
    metadata = ModelMetadata(
        network="flat",
        patch_px=8,
        stride_px=8,
        pixel_type="uint8",
        spacing_mm=None,
        fold=1,
        test_subset="A",
        test_patients_sha256="0" * 64,
        store_checksum="0" * 64,
    )
    export(network, tmp_path / "flat" / "1", metadata)
    with pytest.raises(InputError, match=r"flat/1: gives no class activation"):
        mark_folder(tmp_path / "flat" / "1", quadrant_data, out=tmp_path / "out", with_activation=True)
    assert not (tmp_path / "out").exists()


def test_pictures_among_the_files_of_a_store_are_refused(model: Path, quadrant_data: Path, tmp_path: Path) -> None:
    (tmp_path / "store.json").touch()
    with pytest.raises(InputError, match="is a patch store, and nothing else goes there"):
        mark_folder(model, quadrant_data, out=tmp_path / "out")


def test_a_region_outside_its_image_skips_that_image(model: Path, quadrant_data: Path, tmp_path: Path) -> None:
    data = shutil.copytree(quadrant_data, tmp_path / "data")
    with (data / "regions.csv").open("a") as file:
        file.write('d,9,calcification,point,"99,3"\n')
    marked = mark_folder(model, data, out=tmp_path / "out", truth=PatchesConfig())
    assert list(marked.skipped) == ["d"]
    assert "must overlap the image" in marked.skipped["d"]


def test_a_stride_that_the_model_does_not_take_is_no_fault_of_the_images(
    model: Path, quadrant_data: Path, tmp_path: Path
) -> None:
    mark_folder(model, quadrant_data, out=tmp_path)
    with pytest.raises(InputError, match=rf"^{model}: takes a stride of 1 to 8 pixels. Received: 9$"):
        mark_folder(model, quadrant_data, out=tmp_path, stride_px=9, overwrite=True)
    assert (tmp_path / "a.png").exists()


def test_labels_of_patches_do_not_fit_another_stride(model: Path, quadrant_data: Path, tmp_path: Path) -> None:
    data = shutil.copytree(quadrant_data, tmp_path / "data")
    (data / "labels.csv").write_text("image_id,row,col,label\na,0,0,1\n")
    assert mark_folder(model, data, out=tmp_path / "out", truth=PatchesConfig()).skipped == {}
    with pytest.raises(InputError, match=r"labels.csv: its labels are of the model's patches, every 8 px"):
        mark_folder(model, data, out=tmp_path / "other", truth=PatchesConfig(), stride_px=4)


@pytest.mark.parametrize(
    ("image_id", "stem"),
    [
        ("p7-left_CC.1", "p7-left_CC.1"),
        ("a/b\\c", "a%2Fb%5Cc"),
        ("../up", "%2E.%2Fup"),
        (".hidden", "%2Ehidden"),
        ("%2E", "%252E"),
        ("CON:1", "CON%3A1"),
        ("ü", "%C3%BC"),
        (os.fsdecode(b"\xfc"), "%FC"),
    ],
)
def test_file_names_are_harmless(image_id: str, stem: str) -> None:
    assert file_stem(image_id) == stem


def test_long_ids_that_begin_alike_have_names_of_their_own() -> None:
    first, second = file_stem("x" * 300), file_stem("x" * 299 + "y")
    assert first != second
    assert max(len(first), len(second)) < 200
    assert file_stem(os.fsdecode(b"\xfc" * 300)) not in (first, file_stem(os.fsdecode(b"\xfc" * 299)))


def with_spacings(data: Path, spacings: dict[str, str], folder: Path) -> Path:
    """A copy of the data whose images have these sizes of pixel, in mm."""
    copy = Path(shutil.copytree(data, folder))
    table = pd.read_csv(copy / "images.csv", dtype=str, keep_default_na=False)
    table["spacing_mm"] = [spacings[image_id] for image_id in table["image_id"]]
    table.to_csv(copy / "images.csv", index=False)
    return copy


def test_each_size_of_pixel_that_is_not_the_models_is_noted_once(
    model: Path, quadrant_data: Path, tmp_path: Path
) -> None:
    spacings = {"a": "0.1", "b": "0.2", "c": "0.1", "d": "0.25"}
    marked = mark_folder(model, with_spacings(quadrant_data, spacings, tmp_path / "data"), out=tmp_path / "out")
    assert [note.partition(" was trained at ")[2].partition(":")[0] for note in marked.notes] == [
        "0.2 mm a pixel and 2 of the images have 0.1",
        "0.2 mm a pixel and 1 of the images have 0.25",
    ]


@pytest.mark.parametrize("spacing", ["0.2", "0.17", "0.24", ""])
def test_a_size_of_pixel_near_the_models_or_unknown_is_not_noted(
    model: Path, quadrant_data: Path, tmp_path: Path, spacing: str
) -> None:
    data = with_spacings(quadrant_data, dict.fromkeys("abcd", spacing), tmp_path / "data")
    assert mark_folder(model, data, out=tmp_path / "out", image_ids=["a"]).notes == []


def test_an_activation_of_one_cell_a_patch_is_said(
    model: Path, quadrant_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mark_folder(model, quadrant_data, out=tmp_path / "many", image_ids=["a"], with_activation=True).notes == []
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(2, 8)(keras.layers.Rescaling(1 / 255)(image))
    network = keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    export(network, tmp_path / "one" / "1", load(model).metadata)
    marked = mark_folder(
        tmp_path / "one" / "1", quadrant_data, out=tmp_path / "out", image_ids=["a"], with_activation=True
    )
    (note,) = marked.notes
    assert "one cell for a patch of 8 px" in note


@pytest.mark.parametrize("threshold", [float("nan"), 0, -1, 1.5])
def test_a_threshold_that_is_no_probability_is_refused(
    model: Path, quadrant_data: Path, tmp_path: Path, threshold: float
) -> None:
    with pytest.raises(InputError, match=r"threshold: must be above 0 and at most 1. Received: "):
        mark_folder(model, quadrant_data, out=tmp_path / "out", threshold=threshold)


def test_a_model_that_answers_nan_draws_nothing(model: Path, quadrant_data: Path, tmp_path: Path) -> None:
    image = keras.Input((8, 8, 1), name="image")
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    network = keras.Model(image, keras.layers.Dense(2, bias_initializer=keras.initializers.Constant(np.nan))(pooled))
    export(network, tmp_path / "nan" / "1", load(model).metadata)
    marked = mark_folder(tmp_path / "nan" / "1", quadrant_data, out=tmp_path / "out")
    assert marked.pictures == {}
    assert list(marked.skipped) == ["a", "b", "c", "d"]
    assert "must give probabilities from 0 to 1. Received: nan" in marked.skipped["a"]


def test_a_model_of_resampled_images_marks_the_image_as_it_is_stored(
    quadrant_data: Path, tmp_path: Path, export_mean_model: ExportModel
) -> None:
    """At 0.1 mm the upper left 8 px are 16 px, two patches high and wide; the truth is drawn where it was marked."""
    changes = {"spacing_mm": 0.1, "config": {"patches": {"spacing_mm": 0.1}}}
    model = export_mean_model(tmp_path / "model" / "1", changes=changes)
    data = shutil.copytree(quadrant_data, tmp_path / "data")
    text = (data / "images.csv").read_text()
    (data / "images.csv").write_text(text.replace("d.png,p4,L,CC,complete,,0.2", "d.png,p4,L,CC,complete,,"))
    marked = mark_folder(model, data, out=tmp_path / "out", truth=PatchesConfig(patch_px=8, spacing_mm=0.1))
    assert marked.skipped == {}
    picture = np.asarray(Image.open(marked.pictures["a"]))
    assert picture.shape[1:] == (16, 3)
    np.testing.assert_array_equal(picture[:8, 9:15], 50)
    assert (picture[:8, :8] != 200).any()
    assert marked.notes == [f"1 of the images have no spacing_mm and were taken as they are, {model} has 0.1"]
