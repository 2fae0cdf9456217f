"""A patch store of a few noise images, small enough to train on in seconds, and a training that takes no time."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mmgkeras.config import PatchesConfig, SplitConfig
from mmgkeras.patches.prepare import prepare
from mmgkeras.patches.split import fold_patches, split_store
from mmgkeras.patches.store import PatchStore
from mmgkeras.savedmodel.metadata import ModelMetadata, patients_digest, read_metadata, write_metadata
from mmgkeras.schema import ImageRecord, Pixels, Region
from mmgkeras.tables import write_images, write_regions

PATCH_PX = 32
NUM_PATIENTS = 6


@pytest.fixture(scope="session")
def training_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six patients with one image of 12 patches each, 2 of them positive: 8 positives and 40 negatives train a fold."""
    folder = tmp_path_factory.mktemp("training")
    data = folder / "data"
    data.mkdir()
    generator = np.random.default_rng(0)
    records, regions = [], []
    for number in range(NUM_PATIENTS):
        image_id = f"image{number}"
        pixels = generator.integers(0, 256, (4 * PATCH_PX, 3 * PATCH_PX), np.uint8)
        for mark, (row, col) in enumerate(((10, 10), (70, 40))):
            pixels[row : row + 8, col : col + 8] = 255
            box = ((row, col), (row + 7, col + 7))
            regions.append(Region(image_id, str(mark), "calcification", "box", box))
        Image.fromarray(pixels).save(data / f"{image_id}.png")
        records.append(ImageRecord(image_id, f"{image_id}.png", f"secret{number}", "L", "CC", "complete"))
    write_images(data / "images.csv", records)
    write_regions(data / "regions.csv", regions)
    store = prepare(data, folder / "store", PatchesConfig(patch_px=PATCH_PX))
    split_store(store, SplitConfig(num_subsets=3))
    return store.path


class MeanClassifier:
    """A model in numpy whose probability is the mean of the patch."""

    can_localise = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata = read_metadata(path)

    def classify(self, patches: Pixels) -> NDArray[np.float32]:
        return (patches.mean(axis=(1, 2, 3)) / 255).astype(np.float32)


def fake_point(classifier, store, *, data, indices, track):
    return store.patches.iloc[indices][["image_id", "row", "col"]]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """`fit` of a job replaced by the writing of a model of no training; the list gets the folder and seed of each."""
    from mmgkeras.training import job as job_module
    from mmgkeras.training.fit import Fitted

    trainings: list[tuple[str, int]] = []

    def fake_fit(store, *, fold, config, run, export, devices, track, report):
        opened = PatchStore.open(store)
        division = fold_patches(opened, fold)
        run.mkdir(parents=True)
        (run / "environment.json").write_text(json.dumps({"is_finished": True}))
        (run / "history.csv").write_text("epoch,step,patches_per_second\n1,60,128.0\n2,120,64.0\n")
        (export / "1").mkdir(parents=True)
        (export / "1" / "saved_model.pb").write_bytes(b"the network")
        metadata = ModelMetadata(
            network="mean",
            patch_px=8,
            stride_px=8,
            pixel_type="uint8",
            spacing_mm=0.2,
            fold=fold,
            test_subset=division.test_subset,
            test_patients_sha256=patients_digest(opened.patches["patient_id"].to_numpy()[division.test]),
            store_checksum=opened.checksum,
        )
        write_metadata(metadata, export / "1")
        trainings.append((str(run.parent), config.train.seed))
        return Fitted(export / "1", was_finished=False)

    monkeypatch.setattr(job_module, "fit", fake_fit)
    monkeypatch.setattr("keras.backend.clear_session", lambda: None)  # slow, and nothing is there to be cleared
    monkeypatch.setattr(job_module, "load", MeanClassifier)
    monkeypatch.setattr(job_module, "point", fake_point)
    monkeypatch.setattr("mmgkeras.training.devices.set_seeds", lambda config: None)
    monkeypatch.setattr("mmgkeras.savedmodel.timing.load", MeanClassifier)
    return trainings
