import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmgkeras.errors import InputError
from mmgkeras.inference.timing import TIMING_COLUMNS, time_mammograms, write_timing
from mmgkeras.patches.store import PatchStore

PARTS = ["read_s", "divide_s", "infer_s", "draw_s"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, export_mean_model: Callable[..., Path]) -> Path:
    return export_mean_model(tmp_path_factory.mktemp("models") / "1")


def test_each_part_of_each_mammogram_is_timed_and_the_cold_run_comes_first(
    model: Path, quadrant_store: Path, quadrant_data: Path
) -> None:
    store = PatchStore.open(quadrant_store)
    frame = time_mammograms(model, store, image_ids=["c", "a"], data=quadrant_data)
    assert frame["image_id"].to_list() == ["c", "c", "a"]
    assert frame["is_cold"].to_list() == [1, 0, 0]
    assert frame["num_patches"].to_list() == [4, 4, 4]
    assert (frame[PARTS] > 0).all(axis=None)
    # The first call of a model that was just loaded is its slowest.
    assert frame["infer_s"].iloc[0] == frame["infer_s"].max()


def test_the_model_is_given_what_it_is_given_from_the_store(
    model: Path, quadrant_store: Path, quadrant_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmgkeras.savedmodel.classifier import Classifier

    seen = []

    def classify(self: Classifier, patches: np.ndarray) -> np.ndarray:
        seen.append(patches)
        return np.zeros(len(patches), np.float32)

    monkeypatch.setattr(Classifier, "classify", classify)
    store = PatchStore.open(quadrant_store)
    for data in (quadrant_data, None):
        time_mammograms(model, store, image_ids=["b"], data=data)
    assert len(seen) == 4
    for patches in seen[1:]:
        np.testing.assert_array_equal(patches, seen[0])


def test_without_the_data_folder_only_the_inference_is_timed(model: Path, quadrant_store: Path, tmp_path: Path) -> None:
    store = PatchStore.open(quadrant_store)
    write_timing(tmp_path / "timing.csv", time_mammograms(model, store, image_ids=["a", "b"]))
    header, cold, *_ = (tmp_path / "timing.csv").read_text().splitlines()
    assert header == ",".join(TIMING_COLUMNS)
    assert cold.startswith("a,4,1,,,0.")
    assert cold.endswith(",")
    frame = pd.read_csv(tmp_path / "timing.csv")
    assert frame["infer_s"].gt(0).all()
    assert frame[["read_s", "divide_s", "draw_s"]].isna().all(axis=None)


def test_no_images_take_no_time(model: Path, quadrant_store: Path) -> None:
    frame = time_mammograms(model, PatchStore.open(quadrant_store), image_ids=[])
    assert list(frame.columns) == list(TIMING_COLUMNS)
    assert frame.empty


def test_a_data_folder_of_another_store_is_refused(
    model: Path, quadrant_store: Path, quadrant_data: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(quadrant_data, tmp_path / "data")
    Image.fromarray(np.zeros((16, 24), np.uint8)).save(data / "a.png")
    store = PatchStore.open(quadrant_store)
    with pytest.raises(InputError, match=r"image a has 16 x 24 pixels, in the store 16 x 16$"):
        time_mammograms(model, store, image_ids=["a"], data=data)
    lines = (data / "images.csv").read_text().splitlines()
    (data / "images.csv").write_text("\n".join(lines[:2]) + "\n")
    with pytest.raises(InputError, match=r"images.csv: lists no image d; give the data folder that the store was made"):
        time_mammograms(model, store, image_ids=["d"], data=data)
