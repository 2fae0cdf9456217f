"""A patch store of a few noise images, divided into three subsets, small enough to train on in seconds."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgkeras.config import PatchesConfig, SplitConfig
from mmgkeras.patches.prepare import prepare
from mmgkeras.patches.split import split_store
from mmgkeras.schema import ImageRecord, Region
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
