import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgkeras.config import PatchesConfig
from mmgkeras.errors import InputError
from mmgkeras.inference.scoring import predict_store
from mmgkeras.patches.prepare import prepare
from mmgkeras.patches.store import PatchStore
from mmgkeras.savedmodel.classifier import Classifier, load
from mmgkeras.study.run_files import SECONDS, TIMING

OTHERS = ["read_s", "divide_s", "draw_s"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, export_mean_model: Callable[..., Path]) -> Path:
    return export_mean_model(tmp_path_factory.mktemp("models") / "1")


def rows_of(store: PatchStore, *image_ids: str) -> "np.ndarray":
    return np.concatenate([np.flatnonzero(store.patches["image_id"] == image_id) for image_id in image_ids])


def test_each_part_of_each_mammogram_is_timed_and_the_cold_run_comes_first(
    model: Path, quadrant_store: Path, quadrant_data: Path
) -> None:
    store = PatchStore.open(quadrant_store)
    scored = predict_store(load(model), store, indices=rows_of(store, "c", "a"), fold=1, data=quadrant_data)
    frame = scored.timing
    assert list(frame.columns) == list(TIMING)
    assert frame["image_id"].to_list() == ["c", "c", "a"]
    assert frame["is_cold"].to_list() == [1, 0, 0]
    assert frame["num_patches"].to_list() == [4, 4, 4]
    assert (frame[list(SECONDS)] > 0).all(axis=None)


def test_every_mammogram_is_inferred_once_and_the_first_once_more(
    model: Path, quadrant_store: Path, quadrant_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    original = Classifier.classify

    def classify(self: Classifier, patches: np.ndarray) -> np.ndarray:
        seen.append(patches)
        return original(self, patches)

    monkeypatch.setattr(Classifier, "classify", classify)
    store = PatchStore.open(quadrant_store)
    rows = rows_of(store, "b", "d")
    frames = [
        predict_store(load(model), store, indices=rows, fold=1, data=data).predictions for data in (quadrant_data, None)
    ]
    assert frames[0].equals(frames[1])
    for passed in (seen[:3], seen[3:]):
        for patches, chosen in zip(passed, (rows[:4], rows[:4], rows[4:]), strict=True):
            np.testing.assert_array_equal(patches, store.gather(chosen))


def test_without_the_data_folder_only_the_inference_is_timed(model: Path, quadrant_store: Path) -> None:
    store = PatchStore.open(quadrant_store)
    frame = predict_store(load(model), store, indices=rows_of(store, "a", "b"), fold=1).timing
    assert frame["infer_s"].gt(0).all()
    assert frame[OTHERS].isna().all(axis=None)


def test_pixels_of_eight_bits_are_those_of_a_store_of_sixteen(
    export_mean_model: Callable[..., Path], quadrant_data: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(quadrant_data, tmp_path / "data")
    Image.fromarray(np.array(Image.open(data / "d.png")).astype(np.uint16) * 200).save(data / "d.png")
    store = prepare(data, tmp_path / "store", PatchesConfig(patch_px=8))
    classifier = load(export_mean_model(tmp_path / "1", changes={"pixel_type": "uint16"}))
    scored = predict_store(classifier, store, indices=rows_of(store, "a"), fold=1, data=data)
    assert scored.timing["read_s"].gt(0).all()


@pytest.mark.parametrize("size", [(16, 24), (16, 16)])
def test_a_data_folder_of_other_pixels_is_refused(
    model: Path, quadrant_store: Path, quadrant_data: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    data = shutil.copytree(quadrant_data, tmp_path / "data")
    Image.fromarray(np.zeros(size, np.uint8)).save(data / "a.png")
    store = PatchStore.open(quadrant_store)
    rule = rf"image a has {size[0]} x {size[1]} pixels, in the store 16 x 16, or other gray values$"
    with pytest.raises(InputError, match=rule):
        predict_store(load(model), store, indices=rows_of(store, "a"), fold=1, data=data)


def test_a_data_folder_without_an_image_is_refused(
    model: Path, quadrant_store: Path, quadrant_data: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(quadrant_data, tmp_path / "data")
    lines = (data / "images.csv").read_text().splitlines()
    (data / "images.csv").write_text("\n".join(lines[:2]) + "\n")
    store = PatchStore.open(quadrant_store)
    with pytest.raises(InputError, match=r"images.csv: lists no image d; give the data folder that the store was made"):
        predict_store(load(model), store, indices=rows_of(store, "d"), fold=1, data=data)


def test_images_of_a_resampled_store_are_resampled_as_they_are_divided(
    model: Path, quadrant_data: Path, tmp_path: Path
) -> None:
    store = prepare(quadrant_data, tmp_path / "store", PatchesConfig(patch_px=8, spacing_mm=0.4))
    scored = predict_store(load(model), store, indices=rows_of(store, "c"), fold=1, data=quadrant_data)
    assert scored.timing["num_patches"].to_list() == [1, 1]
    assert (scored.timing[list(SECONDS)] > 0).all(axis=None)
