import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner
from mmgkeras.cli import main

from mmgkeras.config import ModelConfig
from mmgkeras.errors import InputError
from mmgkeras.models.network import build_network
from mmgkeras.savedmodel.classifier import Classifier, load
from mmgkeras.savedmodel.convert import Format, convert
from mmgkeras.savedmodel.export import export
from mmgkeras.savedmodel.metadata import read_metadata

ALONE = """
import json, sys
import numpy as np
import openvino
model, patches = sys.argv[1:]
core = openvino.Core()
compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
print(json.dumps(["tensorflow" in sys.modules, compiled([np.load(patches)])[0].tolist()]))
"""


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory, model_path: Path) -> Classifier:
    """A ResNet18 on patches of 32 px whose probabilities differ."""
    network = build_network(ModelConfig(weights="none"), patch_px=32, pixel_type="uint16")
    changes = {"network": "resnet18", "patch_px": 32, "stride_px": 32, "pixel_type": "uint16"}
    path = tmp_path_factory.mktemp("models") / "resnet18" / "1"
    export(network, path, read_metadata(model_path).model_copy(update=changes))
    return load(path)


@pytest.fixture(scope="module")
def converted(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("converted") / "openvino"
    assert convert(classifier, out) <= 1e-4
    return out


@pytest.mark.parametrize("what", ["the SavedModel itself", "what was converted"])
def test_openvino_without_tensorflow_gives_the_models_probabilities(
    classifier: Classifier, converted: Path, tmp_path: Path, what: str
) -> None:
    patches = np.random.default_rng(3).integers(0, 65536, (7, 32, 32, 1), dtype=np.uint16)
    np.save(tmp_path / "patches.npy", patches)
    model = classifier.path if what == "the SavedModel itself" else converted / "classify_patches.xml"
    command = [sys.executable, "-W", "ignore", "-c", ALONE, str(model), str(tmp_path / "patches.npy")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    has_tensorflow, probabilities = json.loads(result.stdout.splitlines()[-1])
    assert not has_tensorflow
    expected = classifier.classify(patches)
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)


def test_the_metadata_come_along(classifier: Classifier, converted: Path) -> None:
    assert sorted(path.name for path in converted.iterdir()) == [
        "classify_patches.bin",
        "classify_patches.xml",
        "mmgkeras.json",
    ]
    assert json.loads((converted / "mmgkeras.json").read_text())["patch_px"] == 32


def test_onnx_gives_the_models_probabilities(classifier: Classifier, tmp_path: Path) -> None:
    assert convert(classifier, tmp_path / "out", to="onnx") <= 1e-4
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["classify_patches.onnx", "mmgkeras.json"]
    patches = np.random.default_rng(3).integers(0, 65536, (7, 32, 32, 1), dtype=np.uint16)
    session = onnxruntime.InferenceSession(
        tmp_path / "out" / "classify_patches.onnx", providers=["CPUExecutionProvider"]
    )
    (received,) = session.run(["probability"], {"patches": patches})
    np.testing.assert_allclose(received, classifier.classify(patches), atol=1e-4)


@pytest.mark.parametrize(("to", "name"), [("openvino", "OpenVINO"), ("onnx", "ONNX Runtime")])
def test_a_model_that_would_say_something_else_is_not_written(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: Format, name: str
) -> None:
    monkeypatch.setattr(classifier, "classify", lambda patches: np.full(len(patches), 2.0, np.float32))
    with pytest.raises(InputError, match=rf"{name}'s probabilities differ by .*, at most 0.0001 allowed; nothing"):
        convert(classifier, tmp_path / "out", to=to)
    assert list(tmp_path.iterdir()) == []


def test_the_command(classifier: Classifier, tmp_path: Path) -> None:
    arguments = ["convert", "--model", str(classifier.path), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'out' / 'classify_patches.xml'}\n")
    assert "its probabilities are the model's to " in result.stderr
    assert CliRunner().invoke(main, arguments).exit_code == 1
