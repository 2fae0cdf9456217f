"""A data folder small enough to compute by hand, and stores made of it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmgkeras.config import PatchesConfig
from mmgkeras.patches.prepare import prepare
from mmgkeras.patches.store import PatchStore
from mmgkeras.schema import ImageRecord, Region
from mmgkeras.tables import write_images, write_regions

MakeData = Callable[..., Path]
MakeStore = Callable[..., PatchStore]


@pytest.fixture
def make_data(tmp_path: Path) -> MakeData:
    """Writes images (image_id to pixels, patients "P<first letter>", left CC, complete) and regions to a data folder.

    `changes` gives fields of records that differ, by image_id.
    """

    def make(
        images: dict[str, np.ndarray],
        regions: Sequence[Region] = (),
        *,
        changes: dict[str, dict[str, Any]] | None = None,
        name: str = "data",
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        records = []
        for image_id, pixels in images.items():
            Image.fromarray(pixels).save(folder / f"{image_id}.png")
            fields = {
                "image_id": image_id,
                "path": f"{image_id}.png",
                "patient_id": f"P{image_id[0]}",
                "laterality": "L",
                "view": "CC",
                "annotation": "complete",
            }
            records.append(ImageRecord(**{**fields, **(changes or {}).get(image_id, {})}))
        write_images(folder / "images.csv", records)
        write_regions(folder / "regions.csv", regions)
        return folder

    return make


@pytest.fixture
def make_store(make_data: MakeData, tmp_path: Path) -> MakeStore:
    """A store of patches of 8 px of such a data folder."""

    def make(images: dict[str, np.ndarray], regions: Sequence[Region] = (), *, name: str = "store") -> PatchStore:
        data = make_data(images, regions, name=f"{name}-data")
        return prepare(data, tmp_path / name, PatchesConfig(patch_px=8))

    return make
