"""Batch normalisation by TensorFlow's one fused operation, which trains faster than Keras' several.

Keras takes the moments and normalises in operations of their own, and their gradients read and write every activation
again and again. The fused operation gives the same numbers but for rounding. Layers that are synchronized between
devices stay Keras' own: the fused operation sees one device alone.
"""

from typing import Any

import keras
import tensorflow as tf


def with_fused_batch_norm(network: keras.Model) -> keras.Model:
    """The same network, newly built and with new random weights, whose batch normalisations train fused.

    Its variables have the order and shapes of the given network's.
    """
    return keras.models.clone_model(network, clone_function=_fused, recursive=True)


@keras.saving.register_keras_serializable(package="mmgkeras")
class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]  # keras has no types
    """Keras' layer, fused where it learns: images (B, H, W, C), every batch its own mean and variance."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """The normalised images; the moving statistics move as Keras moves them."""
        if not (training and self.trainable) or mask is not None or len(inputs.shape) != 4:
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=tf.zeros([0]),
            variance=tf.zeros([0]),
            epsilon=self.epsilon,
            is_training=True,
        )
        # The operation gives the variance of the population that the batch is a sample of; Keras keeps the batch's own.
        num_values = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], tf.float32)
        variance = variance * (num_values - 1) / num_values
        for moving, of_batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + of_batch * (1.0 - self.momentum))
        return outputs


def _fused(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A new layer like this one; fused if it is a batch normalisation over channels that the operation can do."""
    config = layer.get_config()
    if type(layer) is not keras.layers.BatchNormalization or layer.synchronized or layer.renorm:
        return type(layer).from_config(config)
    if not (layer.scale and layer.center) or layer.axis not in (-1, 3):
        return type(layer).from_config(config)
    return FusedBatchNormalization.from_config(config)
