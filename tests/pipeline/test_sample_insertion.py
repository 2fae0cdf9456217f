"""Which samples of the stream get marks: the same whatever the devices and restarts, negatives on tissue alone."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgkeras.config import PatchesConfig
from mmgkeras.errors import InputError
from mmgkeras.patches.prepare import prepare
from mmgkeras.patches.store import PatchStore
from mmgkeras.pipeline.batches import training_batches
from mmgkeras.pipeline.epoch import EpochPlan
from mmgkeras.pipeline.sample_insertion import Insertion
from mmgkeras.schema import ImageRecord, Region
from mmgkeras.tables import write_images, write_regions


def make_store(folder: Path, *spacings_mm: float | None) -> PatchStore:
    """An image of 12 patches of 32 px for each pixel size: noise around gray 100, one mark, black on the right."""
    generator, data = np.random.default_rng(0), folder / "data"
    data.mkdir()
    records, regions = [], []
    for number, spacing_mm in enumerate(spacings_mm):
        image_id = f"image{number}"
        pixels = generator.normal(100, 3, (128, 96)).astype(np.uint8)
        pixels[10:14, 10:14] = 200
        pixels[:, 70:] = 0
        Image.fromarray(pixels).save(data / f"{image_id}.png")
        records.append(
            ImageRecord(image_id, f"{image_id}.png", f"p{number}", "L", "CC", "complete", spacing_mm=spacing_mm)
        )
        regions.append(Region(image_id, "1", "calcification", "box", ((10, 10), (13, 13))))
    write_images(data / "images.csv", records)
    write_regions(data / "regions.csv", regions)
    return prepare(data, folder / "store", PatchesConfig(patch_px=32))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PatchStore:
    return make_store(tmp_path_factory.mktemp("insertion"), 0.2, 0.2, None)


def make_plan(store: PatchStore) -> EpochPlan:
    labels = store.patches["label"].to_numpy()
    return EpochPlan(
        positives=np.flatnonzero(labels == 1),
        negatives=np.flatnonzero(labels == 0),
        num_positive_ops=8,
        negative_ops=(0, 4),
        batch_size=30,
        seed=5,
    )


def listed(store: PatchStore, **options: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The pixels and labels of the stream, in one array for each."""
    steps = {"first_step": 0, "last_step": 6} | options
    stream = training_batches(store, make_plan(store), insertion=Insertion(store, 0.4, seed=9), **steps)
    return [(inputs["image"].numpy(), labels.numpy()) for inputs, labels in stream]


def test_a_part_of_the_tissue_negatives_becomes_positive_and_nothing_else_changes(store: PatchStore) -> None:
    plan = make_plan(store)
    numbers = np.concatenate([np.asarray(plan.ids(step)) for step in range(6)])
    patches, _, labels = plan.locate(numbers)
    stream = listed(store)
    pixels, found = (np.concatenate([batch[part] for batch in stream]) for part in (0, 1))
    is_changed = (pixels != store.gather(patches)).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(found, np.where(is_changed, 1, labels))
    can_have = (labels == 0) & (store.patches["tissue"].to_numpy()[patches] >= 0.5)
    assert not is_changed[~can_have].any()
    assert 0.25 < is_changed[can_have].mean() < 0.5  # 0.4, less those into which none could be put


def test_the_same_samples_come_whatever_the_pieces_and_the_first_step(store: PatchStore) -> None:
    whole = listed(store)
    for others in (listed(store, first_step=2), listed(store, pieces_per_batch=2), listed(store)):
        for place in (0, 1):
            joined = np.concatenate([batch[place] for batch in others])
            expected = np.concatenate([batch[place] for batch in whole])
            np.testing.assert_array_equal(joined, expected[-len(joined) :])


def test_a_store_without_a_pixel_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"^augmentation.insertion: needs the size of a pixel, and no image of .*store"
    ):
        Insertion(make_store(tmp_path, None), 0.1, seed=0)


def test_a_store_of_several_pixel_sizes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"have 0.05 to 0.1 mm; prepare the store again with patches.spacing_mm"):
        Insertion(make_store(tmp_path, 0.05, 0.1), 0.1, seed=0)
