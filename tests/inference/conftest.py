from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, export_mean_model: Callable[..., Path]) -> Path:
    return export_mean_model(tmp_path_factory.mktemp("models") / "1")


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Two films of one name in two folders, each a breast at the left with one bright spot, and a damaged one."""
    rows, cols = np.ogrid[:160, :160]
    pixels = np.where((rows - 80) ** 2 + cols**2 < 70**2, 90, 0).astype(np.uint8)
    pixels[64:80, 16:32] = 255
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels).save(tmp_path / folder / "=film L_CC.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    return tmp_path
