"""The fused batch normalisation gives what Keras' gives, and is left out where it could not."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mmgkeras.config import ModelConfig
from mmgkeras.models.network import batch_norm_layers, build_network
from mmgkeras.training.batch_norm import FusedBatchNormalization, with_fused_batch_norm


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
    fused = with_fused_batch_norm(plain)
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
    fused = with_fused_batch_norm(plain)
    assert {type(layer) for layer in batch_norm_layers(fused)} == {FusedBatchNormalization}
    assert len(batch_norm_layers(fused)) == 20
    assert [variable.path for variable in fused.variables] == [variable.path for variable in plain.variables]


@pytest.mark.parametrize("options", [{"synchronized": True}, {"scale": False}, {"center": False}])
def test_a_layer_that_the_operation_cannot_do_stays_as_it_is(options: dict[str, bool]) -> None:
    fused = with_fused_batch_norm(small_network(**options))
    assert {type(layer) for layer in batch_norm_layers(fused)} == {keras.layers.BatchNormalization}


def test_a_layer_that_is_not_trained_uses_its_moving_statistics(images: Any) -> None:
    fused = with_fused_batch_norm(small_network())
    fused.get_layer("norm").trainable = False
    np.testing.assert_array_equal(fused(images, training=True), fused(images, training=False))
