"""The fast layers give what Keras' layers give, and are left out where they could not."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mmgkeras.config import ModelConfig
from mmgkeras.models.network import backbone_of, batch_norm_layers, build_network
from mmgkeras.training.fast_layers import FusedBatchNormalization, SmallMapConv2D, with_fast_layers


def small_network(**options: Any) -> keras.Model:
    """Images (B, 6, 6, 1) to (B, 2)."""
    image = keras.Input((6, 6, 1))
    x = keras.layers.Conv2D(3, 3, name="conv")(image)
    x = keras.layers.BatchNormalization(name="norm", momentum=0.9, epsilon=0.01, **options)(x)
    return keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalMaxPooling2D()(x)))


def learned(network: keras.Model, images: Any) -> tuple[Any, list[Any]]:
    """Outputs while learning, and the gradients of the sum of their squares."""
    with tf.GradientTape() as tape:
        outputs = network(images, training=True)
        loss = tf.reduce_sum(outputs**2)
    return outputs, tape.gradient(loss, network.trainable_variables)


@pytest.fixture
def images() -> Any:
    return np.random.default_rng(0).normal(3, 2, (5, 6, 6, 1)).astype(np.float32)


def test_outputs_gradients_and_moving_statistics_are_those_of_keras(images: Any) -> None:
    plain = small_network()
    fused = with_fast_layers(plain, on_processor=False)
    fused.set_weights(plain.get_weights())
    for _ in range(3):
        (expected, expected_gradients), (outputs, gradients) = learned(plain, images), learned(fused, images)
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
        for gradient, wanted in zip(gradients, expected_gradients, strict=True):
            np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-4)
    for mine, wanted in zip(fused.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fused(images, training=False), plain(images, training=False), rtol=1e-5, atol=1e-6)


def test_every_batch_norm_of_resnet18_is_fused_and_the_variables_keep_their_order() -> None:
    plain = build_network(ModelConfig(weights="none"), patch_px=32, pixel_type="uint8")
    fused = with_fast_layers(plain, on_processor=False)
    assert {type(layer) for layer in batch_norm_layers(fused)} == {FusedBatchNormalization}
    assert len(batch_norm_layers(fused)) == 20
    assert [variable.path for variable in fused.variables] == [variable.path for variable in plain.variables]


@pytest.mark.parametrize("options", [{"synchronized": True}, {"scale": False}, {"center": False}])
def test_a_layer_that_the_operation_cannot_do_stays_as_it_is(options: dict[str, bool]) -> None:
    fused = with_fast_layers(small_network(**options), on_processor=False)
    assert {type(layer) for layer in batch_norm_layers(fused)} == {keras.layers.BatchNormalization}


def test_a_layer_that_is_not_trained_uses_its_moving_statistics(images: Any) -> None:
    fused = with_fast_layers(small_network(), on_processor=False)
    fused.get_layer("norm").trainable = False
    np.testing.assert_array_equal(fused(images, training=True), fused(images, training=False))


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "strides": 3},
        {"kernel_size": 3, "strides": 3, "use_bias": False, "padding": "same"},
        {"kernel_size": (6, 2), "strides": (1, 2), "activation": "relu"},
        {"kernel_size": 6, "padding": "valid"},
    ],
)
def test_a_convolution_to_few_positions_gives_keras_results_and_gradients(images: Any, options: dict[str, Any]) -> None:
    image = keras.Input((6, 6, 1))
    plain = keras.Model(image, keras.layers.Conv2D(4, name="conv", **options)(keras.layers.Conv2D(3, 1)(image)))
    fast = with_fast_layers(plain, on_processor=True)
    small = [layer.name for layer in fast.layers if type(layer) is SmallMapConv2D]
    assert small == (["conv"] if np.prod(plain.output_shape[1:3]) <= 4 else [])
    fast.set_weights(plain.get_weights())
    (expected, expected_gradients), (outputs, gradients) = learned(plain, images), learned(fast, images)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-4)


def test_a_convolution_of_one_position_to_one_gives_keras_results_and_gradients(images: Any) -> None:
    image = keras.Input((6, 6, 1))
    one = keras.layers.Conv2D(3, 6)(image)
    plain = keras.Model(image, keras.layers.Conv2D(4, (3, 2), padding="same", name="conv")(one))
    fast = with_fast_layers(plain, on_processor=True)
    assert type(fast.get_layer("conv")) is SmallMapConv2D
    fast.set_weights(plain.get_weights())
    (expected, expected_gradients), (outputs, gradients) = learned(plain, images), learned(fast, images)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-4)


def test_resnet18_of_small_patches_has_fast_convolutions_at_its_end_alone() -> None:
    plain = build_network(ModelConfig(weights="none"), patch_px=32, pixel_type="uint8")
    fast = backbone_of(with_fast_layers(plain, on_processor=True))
    small = {layer.name for layer in fast.layers if type(layer) is SmallMapConv2D}
    blocks = [f"conv{stage}_block{block}" for stage in (4, 5) for block in (1, 2)]
    assert small == {f"{block}_{number}_conv" for block in blocks for number in (1, 2)}


def test_convolutions_stay_as_they_are_where_no_processor_trains() -> None:
    plain = build_network(ModelConfig(weights="none"), patch_px=32, pixel_type="uint8")
    kinds = {type(layer) for layer in backbone_of(with_fast_layers(plain, on_processor=False)).layers}
    assert SmallMapConv2D not in kinds
