from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
import pytest
from click.testing import CliRunner
from mmgkeras.cli import main

from mmgkeras.errors import InputError
from mmgkeras.inference import quantise as quantise_module
from mmgkeras.inference.quantise import quantise
from mmgkeras.patches.store import PatchStore
from mmgkeras.savedmodel.classifier import Classifier, load


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory, export_mean_model: Callable[..., Path]) -> Classifier:
    """The brighter a patch, the more probable."""
    path = tmp_path_factory.mktemp("models") / "1"
    return load(export_mean_model(path, changes={"patch_px": 32, "stride_px": 32}))


def test_a_model_is_written_in_int8_where_its_auc_stays(
    classifier: Classifier, training_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantise_module, "LARGEST_LOSS", 0.1)
    store = PatchStore.open(training_store)
    found = quantise(classifier, store, tmp_path / "out")
    assert 0 < found.auc - found.auc_int8 <= 0.1
    assert found.num_patches == 5 * 12  # a sixth of the patients was for calibration
    assert found.speed > 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "classify_patches.bin",
        "classify_patches.xml",
        "mmgkeras.json",
    ]
    core = openvino.Core()
    model = core.read_model(tmp_path / "out" / "classify_patches.xml")
    assert "FakeQuantize" in [node.get_type_name() for node in model.get_ordered_ops()]
    patches = store.gather(np.arange(12))
    received = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([patches])[0]
    np.testing.assert_allclose(received, classifier.classify(patches), atol=0.02)


def test_one_whose_auc_changes_is_not_written(classifier: Classifier, training_store: Path, tmp_path: Path) -> None:
    """256 levels are too few for the means of patches of noise."""
    with pytest.raises(InputError, match=r"its AUC may change by 0.002; nothing is written. Received: on 60 patches"):
        quantise(classifier, PatchStore.open(training_store), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_command(
    classifier: Classifier, training_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantise_module, "LARGEST_LOSS", 0.1)
    arguments = [
        "convert",
        "--model",
        str(classifier.path),
        "--int8",
        str(training_store),
        "--out",
        str(tmp_path / "a"),
    ]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'a' / 'classify_patches.xml'}\n")
    assert "AUC" in result.stderr
    assert "patches a second" in result.stderr
    result = CliRunner().invoke(main, [*arguments, "--to", "onnx"])
    assert result.exit_code == 2
    assert "--int8 is for OpenVINO's format alone" in result.stderr
