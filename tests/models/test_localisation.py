import keras
import numpy as np
import pytest

from mmgkeras.config import ModelConfig
from mmgkeras.models.localisation import ACTIVATION, LOGITS, ClassActivation, cell_centres_px, localising_model
from mmgkeras.models.network import build_network

# Keras' own reading of its variables on JAX is behind numpy's.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def outputs_of(model, patches):
    outputs = model(patches, training=False)
    return {name: keras.ops.convert_to_numpy(value) for name, value in outputs.items()}


def built(network, *, patch_px, precision="float32"):
    keras.utils.set_random_seed(1)
    config = ModelConfig(network=network, weights="none")
    return build_network(config, patch_px=patch_px, pixel_type="uint8", precision=precision)


def some_patches(patch_px):
    return np.random.default_rng(2).integers(0, 256, (3, patch_px, patch_px, 1), dtype=np.uint8)


def test_activation_is_the_difference_of_the_logits_in_each_cell_by_hand():
    head = keras.layers.Dense(2)
    head.build((None, 2))
    head.set_weights([np.array([[1.0, 4.0], [2.0, 1.0]]), np.array([0.5, 1.0])])
    features = np.array([[[[1.0, 0.0], [0.0, 1.0]], [[2.0, 3.0], [0.0, 0.0]]]], dtype=np.float32)
    activation = keras.ops.convert_to_numpy(ClassActivation(head)(features))
    # Weights 4 - 1 and 1 - 2, bias 1 - 0.5.
    assert activation.tolist() == [[[3.5, -0.5], [3.5, 0.5]]]


def test_the_head_is_shared_and_no_weight_is_added():
    network = built("resnet18", patch_px=32)
    before = [variable.path for variable in network.variables]
    localiser = localising_model(network)
    assert {id(variable) for variable in localiser.variables} == {id(variable) for variable in network.variables}
    network.layers[-1].bias.assign([0.0, 5.0])
    patches = some_patches(32)
    logits = keras.ops.convert_to_numpy(network(patches, training=False))
    np.testing.assert_allclose(outputs_of(localiser, patches)[LOGITS], logits, atol=1e-5)
    assert [variable.path for variable in network.variables] == before


def test_the_mean_over_cells_of_32_pixels_is_the_log_odds():
    network = built("resnet18", patch_px=224)
    outputs = outputs_of(localising_model(network), some_patches(224))
    assert outputs[ACTIVATION].shape == (3, 7, 7)
    assert outputs[ACTIVATION].dtype == np.float32
    assert np.ptp(outputs[ACTIVATION][0]) > 1e-3
    log_odds = outputs[LOGITS][:, 1] - outputs[LOGITS][:, 0]
    np.testing.assert_allclose(outputs[ACTIVATION].mean(axis=(1, 2)), log_odds, atol=1e-4)
    assert cell_centres_px(network).tolist() == [0, 32, 64, 96, 128, 160, 192]


# ResNets pad alike on both sides before a stride, MobileNetV2 after the last pixel, VGG16 not at all.
@pytest.mark.parametrize(
    ("name", "centres"), [("resnet50", [0, 32]), ("MobileNetV2", [31, 63]), ("VGG16", [15.5, 47.5])]
)
def test_networks_of_keras_applications_that_end_in_average_pooling_localise(name, centres):
    network = built(name, patch_px=64)
    outputs = outputs_of(localising_model(network), some_patches(64))
    log_odds = outputs[LOGITS][:, 1] - outputs[LOGITS][:, 0]
    np.testing.assert_allclose(outputs[ACTIVATION].mean(axis=(1, 2)), log_odds, atol=1e-4)
    assert cell_centres_px(network).tolist() == centres


def test_a_network_in_bfloat16_gives_float32():
    outputs = outputs_of(localising_model(built("resnet18", patch_px=32, precision="bfloat16")), some_patches(32))
    assert outputs[ACTIVATION].dtype == np.float32


def test_a_network_can_be_asked_twice():
    network = built("resnet18", patch_px=32)
    first, second = (outputs_of(localising_model(network), some_patches(32)) for _ in range(2))
    np.testing.assert_array_equal(first[ACTIVATION], second[ACTIVATION])


def test_a_network_that_normalises_after_pooling_has_no_class_activation():
    assert localising_model(built("ConvNeXtTiny", patch_px=32)) is None


@pytest.mark.parametrize("last", [keras.layers.GlobalMaxPooling2D, keras.layers.Flatten])
def test_a_network_without_average_pooling_has_no_class_activation(last):
    image = keras.Input((8, 8, 1))
    assert localising_model(keras.Model(image, keras.layers.Dense(2)(last()(image)))) is None


def test_layers_after_one_another_are_enough():
    image = keras.Input((2, 2, 1))
    head = keras.layers.Dense(2)
    network = keras.Model(image, head(keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(image))))
    head.set_weights([np.array([[0.0, 2.0]]), np.array([1.0, 0.0])])
    patches = np.array([[[1.0], [-1.0]], [[3.0], [0.0]]], dtype=np.float32)[None]
    outputs = outputs_of(localising_model(network), patches)
    assert outputs[ACTIVATION].tolist() == [[[1.0, -1.0], [5.0, -1.0]]]
    assert outputs[LOGITS].tolist() == [[1.0, 2.0]]


class TestCellCentres:
    def test_layers_after_one_another_by_hand(self):
        image = keras.Input((9, 9, 1))
        x = keras.layers.Conv2D(1, 3, strides=2)(image)  # 1, 3, 5, 7
        x = keras.layers.MaxPooling2D(3, strides=2, padding="same")(x)  # one cell added, at the end: 3, 7
        x = keras.layers.Conv2D(1, 3, padding="same")(keras.layers.ReLU()(x))
        network = keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
        assert cell_centres_px(network).tolist() == [3, 7]

    def test_a_pixel_moves_the_cells_that_look_around_it_alike(self):
        image = keras.Input((65, 65, 1))
        x = image
        for _ in range(3):
            x = keras.layers.ZeroPadding2D(1)(x)
            x = keras.layers.Conv2D(1, 3, strides=2, kernel_initializer="ones")(x)
        network = keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
        network.layers[-1].set_weights([np.array([[0.0, 1.0]]), np.zeros(2)])
        centres = cell_centres_px(network)
        assert centres.tolist() == [0, 8, 16, 24, 32, 40, 48, 56, 64]
        patch = np.zeros((1, 65, 65, 1), np.float32)
        patch[0, 32, 32] = 1
        activation = outputs_of(localising_model(network), patch)[ACTIVATION][0]
        np.testing.assert_array_equal(activation, activation[::-1, ::-1])
        assert np.unravel_index(activation.argmax(), activation.shape) == (4, 4)
