from collections.abc import Callable
from pathlib import Path

import pytest

from mmgkeras.overlay.draw import DISCLAIMER
from mmgkeras.pacs.algorithm import Algorithm, model_sha256
from mmgkeras.savedmodel.classifier import load


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, export_mean_model: Callable[..., Path]) -> Path:
    return export_mean_model(tmp_path_factory.mktemp("models") / "Brüste" / "3")


def test_it_is_named_by_its_folder_in_ascii(model: Path) -> None:
    algorithm = Algorithm.of(load(model), threshold=0.25, stride_px=8)
    assert (algorithm.name, algorithm.version) == ("Br?ste", "3")
    assert algorithm.parameters == {
        "threshold": "0.25",
        "stride": "8 px",
        "pixel size": "0.2 mm",
        "network": "mean",
        "model sha256": model_sha256(model),
        "training store sha256": "0" * 64,
        "use": DISCLAIMER,
    }
    assert Algorithm.of(load(model), threshold=0.25, stride_px=4).parameters["stride"] == "4 px"


@pytest.mark.parametrize("changed", ["saved_model.pb", "variables/variables.index"])
def test_its_checksum_is_of_graph_and_weights(model: Path, changed: str) -> None:
    before, path = model_sha256(model), model / changed
    data = path.read_bytes()
    try:
        path.write_bytes(data + b"x")
        assert model_sha256(model) != before
    finally:
        path.write_bytes(data)
    (model / "assets.extra" / "note.txt").write_text("not of the model")
    (model / "variables" / "._variables.index").write_text("of macOS")
    assert model_sha256(model) == before
