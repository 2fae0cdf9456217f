"""Batch-norm recalibration: the finished network's statistics over what it was trained on, as MATLAB takes them.

Keras' moving averages hold what the last few batches of a changing network gave; after a short training they still hold
much of their initial values.
"""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mmgkeras.models.network import batch_norm_layers


def recalibrate_batch_norm(model: keras.Model, batches: Iterable[Any]) -> None:
    """Sets mean and variance of every batch normalisation to those of its inputs over all batches.

    While they are gathered, each layer normalises with the statistics of its batch, as in training. With mean m and
    variance v of a batch of n patches, the mean is sum(n m) / sum(n), and the variance sum(n (v + m m)) / sum(n) less
    the square of that mean, both in float64: exact for batches of unequal sizes.

    Args:
        model: in float32 and made outside any strategy. Its layers are changed: use a copy that is then only exported.
        batches: what `model` takes, n patches at a time, shuffled, no batch much smaller than the others.
    """
    layers = batch_norm_layers(model)
    if not layers:
        return
    for layer in layers:
        layer.momentum = 0.0  # the moving statistics become those of the batch
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    sums = _summed(model, layers=layers, batches=batches)
    for layer, (mean, mean_square) in zip(layers, sums, strict=True):
        layer.moving_mean.assign(mean.astype(np.float32))
        layer.moving_variance.assign(np.maximum(mean_square - mean * mean, 0).astype(np.float32))


def _summed(
    model: keras.Model, *, layers: list[keras.layers.BatchNormalization], batches: Iterable[Any]
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Mean and mean square of each layer's inputs, both (channels,) float64."""

    def moments_of(batch: Any) -> Any:
        model(batch, training=True)
        moments = [
            (tf.cast(layer.moving_mean, tf.float64), tf.cast(layer.moving_variance, tf.float64)) for layer in layers
        ]
        return [(mean, variance + mean * mean) for mean, variance in moments]

    statistics = tf.function(moments_of, jit_compile=False)
    sums = [(np.zeros(layer.moving_mean.shape), np.zeros(layer.moving_mean.shape)) for layer in layers]
    num_patches = 0
    for batch in batches:
        size = int(keras.tree.flatten(batch)[0].shape[0])
        num_patches += size
        for total, part in zip(sums, statistics(batch), strict=True):
            total[0][...] += size * part[0].numpy()
            total[1][...] += size * part[1].numpy()
    return [(mean / num_patches, mean_square / num_patches) for mean, mean_square in sums]
