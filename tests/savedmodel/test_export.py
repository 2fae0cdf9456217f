import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import keras
import numpy as np
import pytest
import tensorflow as tf

from mmgkeras.config import ModelConfig
from mmgkeras.errors import InputError
from mmgkeras.evaluation.operating_point import OperatingPoint
from mmgkeras.models.network import build_network
from mmgkeras.savedmodel.classifier import load
from mmgkeras.savedmodel.convert import convert
from mmgkeras.savedmodel.export import add_version, export, next_version
from mmgkeras.savedmodel.initial_weights import load_exported_weights
from mmgkeras.savedmodel.metadata import METADATA_FILE, ModelMetadata, patients_digest, read_metadata
from mmgkeras.savedmodel.model_card import MODEL_CARD
from mmgkeras.savedmodel.servable import write_servables
from mmgkeras.schema import PixelType
from mmgkeras.training.run_folder import check_writable

METADATA = ModelMetadata(
    network="small",
    patch_px=8,
    stride_px=8,
    pixel_type="uint16",
    spacing_mm=None,
    fold=3,
    test_subset="C",
    test_patients_sha256=patients_digest(["p1"]),
    store_checksum="ab" * 32,
    config={"train": {"epochs": 2}},
)


def small_network(patch_px: int = 8) -> keras.Model:
    """Convolution and batch normalisation with weights and population statistics that are not trivial."""
    keras.utils.set_random_seed(7)
    image = keras.Input((patch_px, patch_px, 1), name="image")
    x = keras.layers.Rescaling(1 / 65535)(image)
    x = keras.layers.Conv2D(4, 3)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    network = keras.Model(image, keras.layers.Dense(2, name="head")(x))
    rng = np.random.default_rng(7)
    network.set_weights([rng.uniform(0.1, 1, weight.shape).astype(np.float32) for weight in network.get_weights()])
    return network


def test_saved_model_gives_the_networks_probabilities_and_its_metadata(tmp_path: Path) -> None:
    network = small_network()
    patches = np.random.default_rng(1).integers(0, 65536, (70, 8, 8, 1), dtype=np.uint16)
    export(network, tmp_path / "small" / "1", METADATA)
    classifier = load(tmp_path / "small" / "1")
    logits = keras.ops.convert_to_numpy(network(patches.astype(np.float32), training=False)).astype(np.float64)
    expected = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    received = classifier.classify(patches)
    assert received.dtype == np.float32
    np.testing.assert_allclose(received, expected, atol=1e-6)
    assert classifier.metadata == METADATA


@pytest.mark.parametrize("pixel_type", ["uint8", "uint16"])
def test_saved_model_of_resnet18_gives_the_networks_probabilities(tmp_path: Path, pixel_type: PixelType) -> None:
    network = build_network(ModelConfig(weights="none"), patch_px=32, pixel_type=pixel_type)
    rng = np.random.default_rng(3)
    patches = rng.integers(0, np.iinfo(pixel_type).max, (5, 32, 32, 1), dtype=pixel_type, endpoint=True)
    metadata = METADATA.model_copy(
        update={"network": "resnet18", "patch_px": 32, "stride_px": 32, "pixel_type": pixel_type}
    )
    export(network, tmp_path / "resnet18" / "1", metadata)
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(network(patches, training=False)))[:, 1]
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(load(tmp_path / "resnet18" / "1").classify(patches), expected, atol=1e-6)


def test_the_endpoints_have_named_input_and_outputs_of_the_stores_type(model_path: Path) -> None:
    model = tf.saved_model.load(str(model_path))
    assert set(model.signatures) == {"classify_patches", "localise_patches", "serving_default"}
    for name, outputs in {
        "classify_patches": {"probability": ((None,), tf.float32)},
        "localise_patches": {"probability": ((None,), tf.float32), "activation": ((None, 4, 4), tf.float32)},
    }.items():
        inputs = model.signatures[name].structured_input_signature[1]
        assert _specs(inputs) == {"patches": ((None, 4, 4, 1), tf.uint8)}
        assert _specs(model.signatures[name].structured_outputs) == outputs


def _specs(tensors: Mapping[str, tf.TensorSpec]) -> dict[str, tuple[tuple[int | None, ...], tf.DType]]:
    return {name: (tuple(spec.shape), spec.dtype) for name, spec in tensors.items()}


def test_both_endpoints_share_the_variables_which_are_equal_files_however_often_exported(tmp_path: Path) -> None:
    network = small_network()
    for number in (1, 2):
        export(network, tmp_path / str(number), METADATA)
    stored = tf.train.list_variables(str(tmp_path / "1" / "variables" / "variables"))
    assert len(stored) == len(network.variables) + 1  # and the graph of objects
    for path in (tmp_path / "1" / "variables").iterdir():
        assert path.read_bytes() == (tmp_path / "2" / "variables" / path.name).read_bytes()


def test_a_network_without_average_pooling_has_one_endpoint(tmp_path: Path) -> None:
    image = keras.Input((8, 8, 1), name="image")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 65535)(image))
    export(keras.Model(image, keras.layers.Dense(2)(flat)), tmp_path / "1", METADATA)
    classifier = load(tmp_path / "1")
    assert not classifier.can_localise
    with pytest.raises(InputError, match=r"1: gives no class activation, it has no endpoint localise_patches; export"):
        classifier.localise(np.zeros((1, 8, 8, 1), np.uint16))
    with pytest.raises(InputError, match="gives no class activation"):
        _ = classifier.cell_centres_px


def test_resnet18_localises_in_cells_of_32_pixels(tmp_path: Path) -> None:
    network = build_network(ModelConfig(weights="none"), patch_px=64, pixel_type="uint8")
    metadata = METADATA.model_copy(
        update={"network": "resnet18", "patch_px": 64, "stride_px": 64, "pixel_type": "uint8"}
    )
    export(network, tmp_path / "1", metadata)
    classifier = load(tmp_path / "1")
    patches = np.random.default_rng(3).integers(0, 256, (3, 64, 64, 1), dtype=np.uint8)
    probability, activation = classifier.localise(patches)
    assert activation.shape == (3, 2, 2)
    assert classifier.cell_centres_px.tolist() == [0, 32]
    np.testing.assert_allclose(probability, classifier.classify(patches), atol=1e-6)
    np.testing.assert_allclose(activation.mean(axis=(1, 2)), np.log(probability / (1 - probability)), atol=1e-3)


@pytest.mark.parametrize("pooling", ["log_mean_exp", "top_k"])
def test_a_pooling_of_cells_survives_the_export_and_lends_its_weights_to_the_average(
    tmp_path: Path, pooling: Literal["log_mean_exp", "top_k"]
) -> None:
    config = ModelConfig(weights="none", pooling=pooling)
    network = build_network(config, patch_px=64, pixel_type="uint8")
    metadata = METADATA.model_copy(
        update={"network": "resnet18", "patch_px": 64, "stride_px": 64, "pixel_type": "uint8"}
    )
    export(network, tmp_path / "1", metadata)
    classifier = load(tmp_path / "1")
    patches = np.random.default_rng(3).integers(0, 256, (3, 64, 64, 1), dtype=np.uint8)
    probability, activation = classifier.localise(patches)
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(network(patches, training=False)))[:, 1]
    np.testing.assert_allclose(probability, expected, atol=1e-6)
    cells = np.sort(activation.reshape(3, 4))
    pooled = np.log(np.exp(cells).mean(axis=1)) if pooling == "log_mean_exp" else cells[:, 1:].mean(axis=1)
    np.testing.assert_allclose(pooled, np.log(probability / (1 - probability)), atol=1e-3)
    average = build_network(ModelConfig(weights="none"), patch_px=64, pixel_type="uint8")
    load_exported_weights(average, tmp_path / "1")
    for variable, source in zip(average.variables, network.variables, strict=True):
        np.testing.assert_array_equal(variable, source)


def test_export_refuses_an_existing_folder_and_leaves_nothing_half_written(model_path: Path) -> None:
    with pytest.raises(InputError, match="already exists"):
        export(small_network(), model_path, METADATA)
    assert read_metadata(model_path).network == "mean"
    assert [path.name for path in model_path.parent.iterdir()] == ["1"]


def test_a_path_that_no_engine_takes_is_refused(model_path: Path, tmp_path: Path) -> None:
    place, classifier = tmp_path / os.fsdecode(b"M\xfc") / "1", load(model_path)
    rule = r"M\\udcfc(/1)?: must be UTF-8, for the engines of models take no other path"
    with pytest.raises(InputError, match=rule):
        export(small_network(), place, METADATA)
    with pytest.raises(InputError, match=rule):
        convert(classifier, place)
    with pytest.raises(InputError, match=rule):
        write_servables(classifier, place.parent, name="mine", version=1)
    with pytest.raises(InputError, match=rule):
        check_writable(place)
    assert not place.parent.exists()
    shutil.copytree(model_path, place)
    with pytest.raises(InputError, match=rule):
        load(place)


POINT = OperatingPoint(0.3, "sensitivity", 0.9, "patients held out")


@pytest.fixture
def model(tmp_path: Path, model_path: Path) -> Path:
    return Path(shutil.copytree(model_path, tmp_path / "mean" / "1"))


def test_the_next_version_follows_the_highest(tmp_path: Path) -> None:
    assert next_version(tmp_path / "model") == 1
    for name in ("1", "10", "notes", ".11.partial"):
        (tmp_path / "model" / name).mkdir(parents=True)
    assert next_version(tmp_path / "model") == 11


def test_a_new_version_carries_the_point_and_gives_the_same_scores(model: Path) -> None:
    (model.with_name("7")).mkdir()
    new = add_version(model, POINT)
    assert new == model.with_name("8")
    assert sorted(path.name for path in model.parent.iterdir()) == ["1", "7", "8"]
    assert read_metadata(new).operating_point == POINT
    assert read_metadata(new).threshold == 0.3
    section = (new / MODEL_CARD).read_text().partition("## Operating point")[2]
    assert "0.3" in section
    assert "sensitivity of 0.9" in section
    assert read_metadata(model).operating_point is None
    assert read_metadata(model).threshold == 0.5
    patches = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), dtype=np.uint8)
    np.testing.assert_array_equal(load(new).classify(patches), load(model).classify(patches))
    later = OperatingPoint(0.2, "given", None, "nothing")
    assert read_metadata(add_version(new, later)).operating_point == later


def test_a_folder_that_is_no_version_is_refused(model: Path) -> None:
    named = model.rename(model.with_name("best"))
    with pytest.raises(InputError, match=r"must be a version's folder, saved_models/NAME/1. Received: 'best' as last"):
        add_version(named, POINT)


def test_nothing_is_left_half_written(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mmgkeras.savedmodel.export.write_metadata", fail)
    with pytest.raises(InputError, match="cannot be written: No space left on device"):
        add_version(model, POINT)
    assert [path.name for path in model.parent.iterdir()] == ["1"]


def test_metadata_of_older_models_have_no_operating_point(model: Path) -> None:
    path = model / METADATA_FILE
    values = json.loads(path.read_text())
    del values["operating_point"]
    path.write_text(json.dumps(values))
    assert read_metadata(model).operating_point is None


@pytest.mark.parametrize(
    "value",
    [
        0.3,
        {"threshold": 0.3},
        {"threshold": 0, "kind": "given", "target": None, "fitted_on": ""},
        {"threshold": "0.3", "kind": "given", "target": None, "fitted_on": ""},
        {"threshold": 0.3, "kind": "youden", "target": None, "fitted_on": ""},
    ],
)
def test_a_damaged_operating_point_is_refused(model: Path, value: object) -> None:
    path = model / METADATA_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"operating_point": value}))
    with pytest.raises(InputError, match=r"mmgkeras.json: operating_point.*; export the model again$"):
        read_metadata(model)
