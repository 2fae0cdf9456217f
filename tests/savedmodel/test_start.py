"""A network that starts from an exported model has all of its variables; models of another kind or fold are refused."""

import keras
import numpy as np
import pytest

from mmgkeras.config import ModelConfig
from mmgkeras.errors import InputError, WeightsError
from mmgkeras.savedmodel.export import export
from mmgkeras.savedmodel.metadata import ModelMetadata
from mmgkeras.savedmodel.start import check_start, load_exported_weights

METADATA = ModelMetadata(
    network="resnet18",
    patch_px=8,
    stride_px=8,
    pixel_type="uint8",
    spacing_mm=0.2,
    fold=1,
    test_subset="A",
    test_patients_sha256="a" * 64,
    store_checksum="5" * 64,
    config={"model": {"network": "resnet18", "normalisation": "network"}},
)
CONFIG = ModelConfig(weights="none")


def small_network(*, patch_px: int = 8, filters: int = 3) -> keras.Model:
    image = keras.Input((patch_px, patch_px, 1))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(filters, 3)(image))
    return keras.Model(image, keras.layers.Dense(2, name="head")(keras.layers.GlobalAveragePooling2D()(x)))


@pytest.fixture(scope="module")
def trained():
    network = small_network()
    generator = np.random.default_rng(0)
    network.set_weights([generator.uniform(0.5, 1.5, weight.shape) for weight in network.get_weights()])
    return network


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "trained" / "1"
    export(trained, path, METADATA)
    return path


def check(folder, *, config=CONFIG, store="9" * 64, patients="b" * 64):
    check_start(folder, config=config, store_checksum=store, test_patients_sha256=patients)


def test_every_variable_is_the_exported_one_at_another_patch_size_too(folder, trained):
    check(folder)
    network = small_network(patch_px=16)
    load_exported_weights(network, folder)
    for weight, expected in zip(network.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_a_model_of_the_same_fold_of_the_same_store_is_allowed(folder):
    check(folder, store=METADATA.store_checksum, patients=METADATA.test_patients_sha256)


def test_a_model_that_learned_from_the_test_patients_is_refused(folder):
    with pytest.raises(InputError, match=r"was trained on fold 1 of this very store, so on this fold's test patients"):
        check(folder, store=METADATA.store_checksum)


@pytest.mark.parametrize(("key", "value"), [("network", "resnet50"), ("normalisation", "local")])
def test_a_model_of_another_kind_is_refused(folder, key, value):
    with pytest.raises(InputError, match=rf"^model\.{key}: .*to start from, has .*\. Received: '{value}'$"):
        check(folder, config=CONFIG.model_copy(update={key: value}))


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="is no SavedModel"):
        check(tmp_path)


def test_weights_of_another_shape_are_refused(folder):
    with pytest.raises(WeightsError, match="its weights are not those of"):
        load_exported_weights(small_network(filters=4), folder)


def test_missing_and_damaged_variables_are_refused(trained, tmp_path):
    path = tmp_path / "1"
    export(trained, path, METADATA)
    (index,) = (path / "variables").glob("*.index")
    index.write_bytes(index.read_bytes()[: index.stat().st_size // 2])
    with pytest.raises(WeightsError, match="its weights cannot be read"):
        load_exported_weights(small_network(), path)
    index.unlink()
    with pytest.raises(WeightsError, match="its weights cannot be read"):
        load_exported_weights(small_network(), path)
