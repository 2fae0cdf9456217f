"""The detector's weights: written in float16 with their provenance, and what is refused when they are read."""

import json

import keras
import numpy as np
import pytest

from mmgkeras.config import ModelConfig
from mmgkeras.errors import ConfigError, WeightsError
from mmgkeras.models.network import build_network
from mmgkeras.models.weights import PROVENANCE, WEIGHTS, load_detector, load_weights, save_detector

# Keras' own reading of its variables is behind numpy's.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CONFIG = ModelConfig(width=0.25, weights="none", normalisation="local", pooling="log_mean_exp")


def built(config=CONFIG, *, seed=1):
    keras.utils.set_random_seed(seed)
    return build_network(config, patch_px=64, pixel_type="uint8")


@pytest.fixture
def folder(tmp_path):
    save_detector(built(), CONFIG, tmp_path, provenance={"seed": 7})
    return tmp_path


def test_weights_come_back_as_float16_holds_them_head_included(folder):
    source, target = built(), built(seed=2)
    load_detector(target, CONFIG, folder=folder)
    for before, after in zip(source.variables, target.variables, strict=True):
        values = keras.ops.convert_to_numpy(before)
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(after), values.astype(np.float16).astype(np.float32))
    assert (folder / WEIGHTS).stat().st_size < 2.2 * sum(np.prod(v.shape) for v in source.variables)


def test_another_pooling_and_patch_size_take_them_too(folder):
    average = ModelConfig(**{**CONFIG.model_dump(), "pooling": "average"})
    target = build_network(average, patch_px=32, pixel_type="uint16")
    load_detector(target, average, folder=folder)
    kernel = keras.ops.convert_to_numpy(target.layers[-1].kernel)
    np.testing.assert_allclose(kernel, keras.ops.convert_to_numpy(built().layers[-1].kernel), rtol=1e-3)


def test_provenance_is_written_beside_them(folder):
    described = json.loads((folder / PROVENANCE).read_text())
    assert described["seed"] == 7
    assert described["model"]["width"] == 0.25
    assert len(described["weights_sha256"]) == 64


@pytest.mark.parametrize(
    ("key", "value", "has"), [("width", 0.5, "0.25"), ("normalisation", "network", "'local'"), ("network", "x", "'r")]
)
def test_a_network_of_another_kind_is_refused(folder, key, value, has):
    other = CONFIG.model_copy(update={key: value})
    with pytest.raises(ConfigError, match=rf"^model\.{key}: the detector has {has}.*Received: "):
        load_detector(built(), other, folder=folder)


def test_weights_that_are_not_the_described_ones_are_refused(folder):
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(WeightsError, match=r"detector\.safetensors: is not the file that detector\.json describes"):
        load_detector(built(), CONFIG, folder=folder)


@pytest.mark.parametrize("name", [PROVENANCE, WEIGHTS])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(WeightsError, match=rf"the detector is not there, .*{name} is missing; make detector"):
        load_detector(built(), CONFIG, folder=folder)


def test_a_damaged_description_is_refused(folder):
    (folder / PROVENANCE).write_text("[]")
    with pytest.raises(WeightsError, match=r"detector\.json: cannot be read"):
        load_detector(built(), CONFIG, folder=folder)


def test_the_configurations_word_takes_them_from_the_package(folder, monkeypatch):
    monkeypatch.setattr("mmgkeras.models.weights.DETECTOR_FOLDER", folder)
    target = built(seed=2)
    load_weights(target, ModelConfig(**{**CONFIG.model_dump(), "weights": "detector"}))
    bias = keras.ops.convert_to_numpy(target.layers[-1].kernel)
    np.testing.assert_allclose(bias, keras.ops.convert_to_numpy(built().layers[-1].kernel), rtol=1e-3)
