"""A network that starts from an exported model has all of its variables; models of another kind or fold are refused."""

from pathlib import Path

import keras
import numpy as np
import pytest

from mmgkeras.config import Config, ModelConfig, PatchesConfig, SplitConfig, TrainConfig
from mmgkeras.errors import InputError, WeightsError
from mmgkeras.inference.scoring import unseen_patches
from mmgkeras.models.weights import DETECTOR_FOLDER, check_detector
from mmgkeras.patches.prepare import prepare
from mmgkeras.patches.split import fold_patches, split_store
from mmgkeras.savedmodel.classifier import load
from mmgkeras.savedmodel.export import export
from mmgkeras.savedmodel.initial_weights import (
    check_initial_model,
    initial_model,
    load_exported_weights,
    with_initial_model,
)
from mmgkeras.savedmodel.metadata import METADATA_FILE, patients_digest, read_metadata

CONFIG = Config(model=ModelConfig(weights="none"))


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
def store(quadrant_data, tmp_path_factory):
    """Four patients in two subsets."""
    path = tmp_path_factory.mktemp("start") / "store"
    store = prepare(quadrant_data, path, PatchesConfig(patch_px=8))
    split_store(store, SplitConfig(num_subsets=2))
    return store


@pytest.fixture(scope="module")
def make(export_mean_model, tmp_path_factory):
    """Exports a model with changed metadata; by default it knows nothing of the store."""

    def export_changed(**changes):
        path = tmp_path_factory.mktemp("models") / "mean" / "1"
        return export_mean_model(path, changes={"network": "resnet18", **changes})

    return export_changed


@pytest.fixture(scope="module")
def export_network(make):
    """Exports any network; what it says of itself is not read where weights are."""
    metadata = read_metadata(make())
    return lambda network, path: export(network, path, metadata)


def digest(store, fold):
    return patients_digest(store.patches["patient_id"].to_numpy()[fold_patches(store, fold).test])


def test_every_variable_is_the_exported_one_at_another_patch_size_too(export_network, trained, tmp_path):
    export_network(trained, tmp_path / "1")
    network = small_network(patch_px=16)
    load_exported_weights(network, tmp_path / "1")
    for weight, expected in zip(network.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_a_model_of_the_same_fold_is_allowed_unless_patients_are_held_out(make, store):
    folder = make(store_checksum=store.checksum, test_patients_sha256=digest(store, 1))
    check_initial_model(folder, config=CONFIG, store=store, fold=1)
    holding_out = CONFIG.model_copy(update={"train": TrainConfig(validation_patients=0.5)})
    with pytest.raises(InputError, match="none of them can be held out"):
        check_initial_model(folder, config=holding_out, store=store, fold=1)


@pytest.mark.parametrize("checksum", [None, "7" * 64])
def test_a_model_that_learned_from_the_test_patients_is_refused(make, store, checksum):
    """From the same store, or from one of the same division, such as other patches of the same mammograms."""
    folder = make(store_checksum=checksum or store.checksum, test_patients_sha256=digest(store, 1))
    with pytest.raises(InputError, match="so from the test patients of fold 2"):
        check_initial_model(folder, config=CONFIG, store=store, fold=2)


def test_a_model_whose_own_start_learned_from_the_test_patients_is_refused(make, store):
    first = make(store_checksum=store.checksum, test_patients_sha256=digest(store, 1))
    origins = check_initial_model(first, config=CONFIG, store=store, fold=1)
    second = make(started_from=origins)
    with pytest.raises(InputError, match="so from the test patients of fold 2"):
        check_initial_model(second, config=CONFIG, store=store, fold=2)
    allowed = check_initial_model(second, config=CONFIG, store=store, fold=1)
    assert allowed[:-1] == origins
    assert read_metadata(second).started_from == origins


@pytest.mark.parametrize("checksum", [None, "7" * 64])
def test_a_store_that_the_start_learned_from_is_not_unseen(make, store, checksum):
    """Nor is one that is divided alike."""
    first = make(store_checksum=checksum or store.checksum, test_patients_sha256=digest(store, 1))
    second = make(started_from=check_initial_model(first, config=CONFIG, store=store, fold=1))
    with pytest.raises(InputError, match="started from a model that was trained on it"):
        unseen_patches(load(second), store)


def test_the_fold_that_both_left_out_is_unseen(make, store):
    own = {"store_checksum": store.checksum, "test_patients_sha256": digest(store, 1)}
    first = make(**own)
    second = make(started_from=check_initial_model(first, config=CONFIG, store=store, fold=1), **own)
    np.testing.assert_array_equal(unseen_patches(load(second), store), fold_patches(store, 1).test)


def test_a_model_of_another_network_is_refused(make, store):
    config = CONFIG.model_copy(update={"model": ModelConfig(network="resnet50", weights="none")})
    assert with_initial_model(config)[0] == config
    with pytest.raises(InputError, match=r"^model\.network: .*to start from, has 'resnet18'\. Received: 'resnet50'$"):
        check_initial_model(make(), config=config, store=store, fold=1)


NARROW = {"width": 0.5, "normalisation": "local", "pooling": "log_mean_exp", "pooling_sharpness": 2.0}


def test_what_the_weights_need_is_taken_from_their_model_and_said(make):
    folder = make(config={"model": NARROW})
    config, notes = with_initial_model(Config(model=ModelConfig(weights=str(folder))))
    assert config.model == ModelConfig(weights=str(folder), **NARROW)
    assert notes == [f"model.{key} = {value!r}, that of the initial weights, {folder}" for key, value in NARROW.items()]
    assert with_initial_model(config) == (config, [])


def test_a_pooling_that_was_set_wins_and_a_normalisation_does_not(make):
    asked = ModelConfig(weights=str(make(config={"model": NARROW})), normalisation="network", pooling="average")
    config, notes = with_initial_model(Config(model=asked))
    assert (config.model.normalisation, config.model.pooling) == ("local", "average")
    said = {line.split(" = ")[0]: line for line in notes}
    assert said["model.normalisation"].endswith("whatever was set ('network')")
    assert said["model.pooling"].startswith("model.pooling = 'average', as set; ")


def test_the_detector_brings_its_settings_along():
    config, notes = with_initial_model(Config(model=ModelConfig(weights="detector")))
    has = check_detector(DETECTOR_FOLDER)["model"]
    for key in ("network", "width", "normalisation", "pooling"):
        assert getattr(config.model, key) == has[key]
    assert notes[0].endswith("that of the initial weights, detector")


@pytest.mark.parametrize("weights", ["imagenet", "none", "elsewhere.safetensors"])
def test_weights_of_no_whole_network_change_nothing(weights):
    config = Config(model=ModelConfig(weights=weights))
    assert with_initial_model(config) == (config, [])


def test_settings_that_no_network_has_are_one_line(make):
    folder = make(config={"model": {"width": 7}})
    with pytest.raises(InputError, match=rf"^{folder}: says of its network what cannot be: width: .* Received: 7$"):
        with_initial_model(Config(model=ModelConfig(weights=str(folder))))


def test_a_model_from_before_the_choice_of_normalisation_has_the_default(make):
    config = Config(model=ModelConfig(weights=str(make(config={}))))
    assert with_initial_model(config) == (config, [])


def test_damaged_ancestry_is_refused(make, store):
    folder = make()
    path = folder / METADATA_FILE
    path.write_text(path.read_text().replace('"started_from": []', '"started_from": [{"fold": 1}]'))
    with pytest.raises(InputError, match=r"started_from\.0\.store_checksum is missing"):
        check_initial_model(folder, config=CONFIG, store=store, fold=1)


@pytest.mark.parametrize("word", ["imagenet", "none"])
def test_a_folder_called_like_a_keyword_is_not_taken_for_a_model(word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / word).mkdir()
    assert initial_model(ModelConfig(weights=word)) is None


def test_a_folder_that_is_no_model_is_refused(store, tmp_path):
    with pytest.raises(InputError, match="is no SavedModel"):
        check_initial_model(tmp_path, config=CONFIG, store=store, fold=1)


def test_weights_that_are_not_finite_are_refused_and_change_nothing(export_network, tmp_path):
    diverged = small_network()
    diverged.set_weights([np.full_like(weight, np.nan) for weight in diverged.get_weights()])
    export_network(diverged, tmp_path / "1")
    network = small_network()
    before = network.get_weights()
    with pytest.raises(WeightsError, match="its weights are not finite"):
        load_exported_weights(network, tmp_path / "1")
    for weight, expected in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_weights_of_another_shape_are_refused(make):
    with pytest.raises(WeightsError, match="its weights are not those of"):
        load_exported_weights(small_network(filters=4), make())


def test_missing_and_damaged_variables_are_refused(export_network, trained, tmp_path):
    path = tmp_path / "1"
    export_network(trained, path)
    (index,) = (path / "variables").glob("*.index")
    index.write_bytes(index.read_bytes()[: index.stat().st_size // 2])
    with pytest.raises(WeightsError, match="its weights cannot be read"):
        load_exported_weights(small_network(), path)
    index.unlink()
    with pytest.raises(WeightsError, match="its weights cannot be read"):
        load_exported_weights(small_network(), path)


def test_a_folder_that_is_called_as_the_detector_is_not_taken_for_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("detector", "other"):
        (tmp_path / name).mkdir()
    assert initial_model(ModelConfig(weights="detector")) is None
    assert initial_model(ModelConfig(weights="other")) == Path("other")


def test_truncated_variables_are_refused(export_network, trained, tmp_path):
    export_network(trained, tmp_path / "1")
    path = tmp_path / "1" / "variables" / "variables.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(WeightsError, match="its weights cannot be read: ") as fault:
        load_exported_weights(small_network(), tmp_path / "1")
    assert "\n" not in str(fault.value)
