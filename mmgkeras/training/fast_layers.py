"""Layers that train faster than Keras' own and give the same numbers but for rounding.

Keras takes the moments of a batch and normalises it in operations of their own, and their gradients read and write
every activation again and again: TensorFlow has one fused operation. On a processor the gradient of a convolution's
kernel is slow where the image is small and the kernel large, as at the end of a network: as a matrix product it is not.
"""

from typing import Any, Final

import keras
import tensorflow as tf

SMALL_MAP: Final = 4
"""Positions of a convolution's result up to which `SmallMapConv2D` is the faster (docs/network-speed.md)."""


def with_fast_layers(network: keras.Model, *, on_processor: bool) -> keras.Model:
    """The same network, newly built and with new random weights, of layers that train fast where there are such.

    Its variables have the order and shapes of the given network's.

    Args:
        network: built, of fixed image size.
        on_processor: whether processors alone train it; convolutions are Keras' own otherwise.
    """

    def fast(layer: keras.layers.Layer) -> keras.layers.Layer:
        kind = type(layer)
        if _can_be_fused(layer):
            kind = FusedBatchNormalization
        elif on_processor and _has_small_map(layer):
            kind = SmallMapConv2D
        return kind.from_config(layer.get_config())

    return keras.models.clone_model(network, clone_function=fast, recursive=True)


@keras.saving.register_keras_serializable(package="mmgkeras")
class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]  # keras has no types
    """Keras' layer by one operation: images (B, H, W, C) float32 or bfloat16, while learning every batch its own mean.

    Layers that are synchronized between devices stay Keras' own: the operation sees one device alone.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """The normalised images; the moving statistics move as Keras moves them."""
        if mask is not None or len(inputs.shape) != 4:
            return super().call(inputs, training=training, mask=mask)
        is_learning = bool(training and self.trainable)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=tf.zeros([0]) if is_learning else self.moving_mean,
            variance=tf.zeros([0]) if is_learning else self.moving_variance,
            epsilon=self.epsilon,
            is_training=is_learning,
        )
        if not is_learning:
            return outputs
        # The operation gives the variance of the population that the batch is a sample of; Keras keeps the batch's own.
        num_values = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], tf.float32)
        variance = variance * (num_values - 1) / num_values
        for moving, of_batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + of_batch * (1.0 - self.momentum))
        return outputs


@keras.saving.register_keras_serializable(package="mmgkeras")
class SmallMapConv2D(keras.layers.Conv2D):  # type: ignore[misc]  # keras has no types
    """Keras' layer for results of few positions: the gradient of its kernel is a matrix product."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """The convolution (B, H, W, filters) of images (B, ., ., C)."""
        kernel = tf.cast(keras.ops.convert_to_tensor(kernel), inputs.dtype)
        strides, padding = [1, *self.strides, 1], self.padding.upper()
        if padding == "SAME" and tuple(inputs.shape[1:3]) == (1, 1):
            # Every tap but one meets padding alone.
            row, col = ((size - 1) // 2 for size in self.kernel_size)
            kernel = kernel[row : row + 1, col : col + 1]

        @tf.custom_gradient  # type: ignore[untyped-decorator]  # tensorflow has no types
        def convolved(inputs: Any, kernel: Any) -> Any:
            def gradients(result: Any) -> tuple[Any, Any]:
                of_inputs = tf.nn.conv2d_transpose(result, kernel, tf.shape(inputs), strides, padding)
                height, width, channels, filters = kernel.shape
                taps = tf.image.extract_patches(inputs, [1, height, width, 1], strides, [1, 1, 1, 1], padding)
                of_kernel = tf.matmul(
                    tf.reshape(taps, (-1, height * width * channels)),
                    tf.reshape(result, (-1, filters)),
                    transpose_a=True,
                )
                return of_inputs, tf.reshape(of_kernel, kernel.shape)

            return tf.nn.conv2d(inputs, kernel, strides, padding), gradients

        return convolved(inputs, kernel)


def _can_be_fused(layer: keras.layers.Layer) -> bool:
    """Whether it is a batch normalisation over channels that the operation can do."""
    if type(layer) is not keras.layers.BatchNormalization or layer.synchronized or layer.renorm:
        return False
    return bool(layer.scale and layer.center and layer.axis in (-1, 3))


def _has_small_map(layer: keras.layers.Layer) -> bool:
    """Whether it is a plain convolution to a few positions of more than one tap."""
    if type(layer) is not keras.layers.Conv2D or layer.data_format != "channels_last":
        return False
    if layer.groups != 1 or set(layer.dilation_rate) != {1} or set(layer.kernel_size) == {1}:
        return False
    _, height, width, _ = layer.output.shape
    return None not in (height, width) and height * width <= SMALL_MAP
