import keras
import numpy as np
import pytest

from mmgkeras.config import ModelConfig
from mmgkeras.models.localisation import ACTIVATION, LOGITS, cell_centres_px, localising_model
from mmgkeras.models.network import HEAD, build_network
from mmgkeras.models.pooling import CellClassifier, log_mean_exp, mean_of_highest

# Keras' own reading of its variables on JAX is behind numpy's.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CELLS = np.array([[[0.0, 2.0], [-1.0, 4.0]]], dtype=np.float32)
POOLINGS = [{"pooling": "log_mean_exp"}, {"pooling": "top_k"}]


def numpy_of(tensor):
    return keras.ops.convert_to_numpy(tensor)


def some_patches(patch_px):
    return np.random.default_rng(2).integers(0, 256, (3, patch_px, patch_px, 1), dtype=np.uint8)


def built(patch_px=64, **model):
    keras.utils.set_random_seed(1)
    return build_network(ModelConfig(weights="none", **model), patch_px=patch_px, pixel_type="uint8")


class TestLogMeanExp:
    def test_by_hand(self):
        odds = (1 + np.e**2 + np.e**-1 + np.e**4) / 4
        assert numpy_of(log_mean_exp(CELLS, sharpness=1.0)) == pytest.approx([np.log(odds)], rel=1e-6)
        sharper = (1 + np.e**4 + np.e**-2 + np.e**8) / 4
        assert numpy_of(log_mean_exp(CELLS, sharpness=2.0)) == pytest.approx([np.log(sharper) / 2], rel=1e-6)

    def test_is_the_mean_at_one_end_and_the_highest_cell_at_the_other(self):
        assert numpy_of(log_mean_exp(CELLS, sharpness=1e-3)) == pytest.approx([1.25], abs=5e-3)
        assert numpy_of(log_mean_exp(CELLS, sharpness=100.0)) == pytest.approx([4.0], abs=0.02)

    def test_large_log_odds_do_not_overflow(self):
        assert numpy_of(log_mean_exp(CELLS * 1000, sharpness=1.0)) == pytest.approx([4000 - np.log(4)], rel=1e-6)


class TestMeanOfHighest:
    @pytest.mark.parametrize(("top_k", "expected"), [(1, 4.0), (2, 3.0), (3, 2.0), (9, 1.25)])
    def test_by_hand(self, top_k, expected):
        assert numpy_of(mean_of_highest(CELLS, top_k=top_k)).tolist() == [expected]


class TestCellClassifier:
    @pytest.mark.parametrize("model", POOLINGS)
    def test_equal_cells_give_the_answer_of_a_dense_layer(self, model):
        features = np.broadcast_to(np.array([1.0, -2.0, 0.5], np.float32), (2, 3, 4, 3))
        layer, dense = CellClassifier(**model), keras.layers.Dense(2)
        for each, shape in ((layer, features.shape), (dense, (2, 3))):
            each.build(shape)
            each.set_weights([np.array([[1.0, 4.0], [2.0, 1.0], [0.0, 3.0]]), np.array([0.5, 1.0])])
        expected = numpy_of(keras.ops.softmax(dense(features[:, 0, 0])))
        np.testing.assert_allclose(numpy_of(keras.ops.softmax(layer(features))), expected, rtol=1e-5)

    def test_survives_its_configuration(self):
        layer = CellClassifier(pooling="top_k", top_k=5, name="head")
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
        assert again.get_config() == layer.get_config()
        assert again.get_config()["top_k"] == 5


class TestNetwork:
    def test_average_is_the_default_and_has_the_classifier_that_it_had(self):
        network = built()
        assert type(network.layers[-1]) is keras.layers.Dense
        assert type(network.layers[-2].layers[-1]) is keras.layers.GlobalAveragePooling2D

    @pytest.mark.parametrize("model", POOLINGS)
    @pytest.mark.parametrize("name", ["resnet18", "MobileNetV2"])
    def test_other_poolings_take_the_weights_of_the_average(self, name, model):
        average, other = built(network=name), built(network=name, **model)
        assert [v.shape for v in other.variables] == [v.shape for v in average.variables]
        assert [v.path.split("/")[-2:] for v in other.variables[-2:]] == [[HEAD, "kernel"], [HEAD, "bias"]]
        other.set_weights(average.get_weights())
        localiser = localising_model(average)
        cells = numpy_of(localiser(some_patches(64), training=False)[ACTIVATION])
        logits = numpy_of(other(some_patches(64), training=False))
        pool = {
            "log_mean_exp": lambda x: log_mean_exp(x, sharpness=1.0),
            "top_k": lambda x: mean_of_highest(x, top_k=3),
        }
        np.testing.assert_allclose(logits[:, 1] - logits[:, 0], numpy_of(pool[model["pooling"]](cells)), atol=1e-4)

    @pytest.mark.parametrize("model", POOLINGS)
    def test_class_activation_is_what_is_pooled(self, model):
        network = built(**model)
        network.layers[-1].bias.assign([0.0, 5.0])
        outputs = {name: numpy_of(value) for name, value in localising_model(network)(some_patches(64)).items()}
        assert outputs[ACTIVATION].shape == (3, 2, 2)
        assert np.ptp(outputs[ACTIVATION][0]) > 1e-4
        np.testing.assert_allclose(outputs[LOGITS], numpy_of(network(some_patches(64), training=False)), atol=1e-5)
        cells = outputs[ACTIVATION].reshape(3, 4)
        expected = np.log(np.exp(cells).mean(axis=1)) if model["pooling"] == "log_mean_exp" else None
        if expected is None:
            expected = np.sort(cells)[:, 1:].mean(axis=1)
        np.testing.assert_allclose(outputs[LOGITS][:, 1] - outputs[LOGITS][:, 0], expected, atol=1e-4)
        assert cell_centres_px(network).tolist() == [0, 32]

    @pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="takes TensorFlow's gradient")
    @pytest.mark.parametrize("model", POOLINGS)
    def test_every_cell_that_counts_learns(self, model):
        import tensorflow as tf

        layer = CellClassifier(**model)
        features = tf.Variable(np.random.default_rng(3).normal(size=(1, 2, 2, 4)).astype(np.float32))
        with tf.GradientTape() as tape:
            loss = keras.losses.sparse_categorical_crossentropy(tf.constant([1]), layer(features), from_logits=True)
        of_kernel, of_features = tape.gradient(loss, [layer.kernel.value, features])
        assert np.abs(of_kernel.numpy()).min() > 0
        has_gradient = np.abs(of_features.numpy()).sum(axis=-1) > 0
        assert has_gradient.sum() == (4 if model["pooling"] == "log_mean_exp" else 3)
