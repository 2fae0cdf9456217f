"""SavedModels of 4 px patches, quick to make and exact to predict."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory, export_mean_model: Callable[..., Path]) -> Path:
    """For patches of 8 bits."""
    path = tmp_path_factory.mktemp("models") / "mean" / "1"
    return export_mean_model(path, changes={"patch_px": 4, "stride_px": 4})


@pytest.fixture(scope="session")
def deep_model_path(tmp_path_factory: pytest.TempPathFactory, export_mean_model: Callable[..., Path]) -> Path:
    """The same for patches of 16 bits."""
    path = tmp_path_factory.mktemp("models") / "mean" / "2"
    return export_mean_model(path, changes={"patch_px": 4, "stride_px": 4, "pixel_type": "uint16"})
