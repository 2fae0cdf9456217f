from pathlib import Path

import keras
import numpy as np
import openvino
import pytest

from mmgkeras.config import ModelConfig
from mmgkeras.models.network import build_network
from mmgkeras.savedmodel.export import export
from mmgkeras.savedmodel.metadata import ModelMetadata, read_metadata
from mmgkeras.savedmodel.openvino_graph import simplify, split_preparation

PATCH_PX = 32


def read(folder: Path, metadata: ModelMetadata, *, pixel_type: str = "uint8", **model: str) -> openvino.Model:
    """A network with weights of its own, as OpenVINO reads it."""
    keras.utils.set_random_seed(1)
    network = build_network(ModelConfig(weights="none", **model), patch_px=PATCH_PX, pixel_type=pixel_type)
    changes = {"patch_px": PATCH_PX, "stride_px": PATCH_PX, "pixel_type": pixel_type}
    export(network, folder / "1", metadata.model_copy(update=changes))
    return openvino.Core().read_model(folder / "1")


def answers(model: openvino.Model, pixel_type: str) -> np.ndarray:
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled([patches_of(pixel_type)])[0])


def patches_of(pixel_type: str) -> np.ndarray:
    shape = (5, PATCH_PX, PATCH_PX, 1)
    return np.random.default_rng(0).integers(0, np.iinfo(pixel_type).max + 1, shape).astype(pixel_type)


def before_the_first_convolution(model: openvino.Model) -> list[str]:
    """The names of the operations, from the patches on."""
    names = [node.get_type_name() for node in model.get_ordered_ops()]
    return [name for name in names[: names.index("Convolution")] if name not in ("Constant", "Parameter")]


def pads_before_pooling(model: openvino.Model) -> int:
    pooling = [node for node in model.get_ordered_ops() if node.get_type_name() == "MaxPool"]
    assert pooling
    return sum(node.input_value(0).get_node().get_type_name() == "Pad" for node in pooling)


@pytest.mark.parametrize("pixel_type", ["uint8", "uint16"])
@pytest.mark.parametrize("network", ["resnet18", "resnet50"])
def test_a_simpler_graph_gives_the_same(model_path: Path, tmp_path: Path, network: str, pixel_type: str) -> None:
    model = read(tmp_path, read_metadata(model_path), network=network, pixel_type=pixel_type)
    expected = answers(model, pixel_type)
    assert "Concat" in before_the_first_convolution(model)
    assert pads_before_pooling(model) == 1
    simplify(model)
    assert "Concat" not in before_the_first_convolution(model)
    assert pads_before_pooling(model) == 0
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(answers(model, pixel_type), expected, atol=1e-5)


def test_what_looks_at_neighbouring_pixels_is_left_alone(model_path: Path, tmp_path: Path) -> None:
    model = read(tmp_path, read_metadata(model_path), normalisation="local")
    before, expected = before_the_first_convolution(model), answers(model, "uint8")
    simplify(model)
    assert before_the_first_convolution(model) == before
    np.testing.assert_allclose(answers(model, "uint8"), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("pixel_type", "normalisation", "is_split"),
    [("uint8", "network", False), ("uint16", "network", True), ("uint8", "local", True)],
)
def test_what_needs_more_bits_than_bfloat16_has_is_split_off(
    model_path: Path, tmp_path: Path, pixel_type: str, normalisation: str, is_split: bool
) -> None:
    metadata = read_metadata(model_path)
    model = simplify(read(tmp_path, metadata, pixel_type=pixel_type, normalisation=normalisation))
    expected = answers(model, pixel_type)
    preparation, rest = split_preparation(model)
    assert (preparation is not None) == is_split
    if not is_split:
        assert rest is model
        return
    core = openvino.Core()
    prepared = core.compile_model(preparation, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([patches_of(pixel_type)])[0]
    compiled = core.compile_model(rest, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled([prepared])[0], expected, atol=1e-6)
