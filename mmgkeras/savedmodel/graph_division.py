"""The division of `schema.Grid` and the area resampling of `images.resample` inside a SavedModel's graph.

Owns nothing of its own: both are the same rules on tensors, and tests hold each against the other. Sizes are known only
when an image comes.
"""

from dataclasses import dataclass
from typing import Final

import tensorflow as tf

FIELDS: Final = ("height", "width", "rows", "cols", "patch_px", "stride_px", "pad_top", "pad_left")
"""What the output `grid` says of each image, in this order."""


@dataclass(frozen=True, slots=True)
class GraphGrid:
    """A `Grid` whose numbers are tensors () int32, or (B,) for as many images.

    Attributes:
        height, width: of the image.
        patch_px, stride_px: as of `Grid`.
        is_left: bool, whether the chest wall is at the left edge.
    """

    height: tf.Tensor
    width: tf.Tensor
    patch_px: int
    stride_px: int
    is_left: tf.Tensor

    @property
    def rows(self) -> tf.Tensor:
        """Number of patches from top to bottom."""
        return self._count(self.height)

    @property
    def cols(self) -> tf.Tensor:
        """Number of patches from left to right."""
        return self._count(self.width)

    @property
    def pad_top(self) -> tf.Tensor:
        """Rows of zeros above the image."""
        return (self.rows - 1) * self.stride_px + self.patch_px - self.height

    @property
    def pad_left(self) -> tf.Tensor:
        """Columns of zeros to the left of the image: 0 if the chest wall is there."""
        return tf.where(self.is_left, 0, self._pad_cols)

    @property
    def fields(self) -> tf.Tensor:
        """(8,) or (B, 8) int32 of `FIELDS`."""
        values = [getattr(self, name) for name in FIELDS]
        return tf.stack([tf.broadcast_to(value, tf.shape(self.height)) for value in values], axis=-1)

    def extend(self, pixels: tf.Tensor) -> tf.Tensor:
        """The pixels (height, width) with the zeros around them."""
        left = self.pad_left
        return tf.pad(pixels, [[self.pad_top, 0], [left, self._pad_cols - left]])

    def largest(self, extended: tf.Tensor) -> tf.Tensor:
        """(rows, cols) the largest pixel of each patch of an extended image."""
        tops = tf.range(self.rows) * self.stride_px
        of_strips = tf.map_fn(
            lambda top: tf.reduce_max(extended[top : top + self.patch_px], axis=0),
            tops,
            fn_output_signature=tf.TensorSpec((None,), extended.dtype),
            parallel_iterations=1,
        )
        lefts = tf.range(self.cols) * self.stride_px
        return tf.reduce_max(tf.gather(of_strips, lefts[:, None] + tf.range(self.patch_px), axis=1), axis=2)

    def cut(self, extended: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        """(n, patch_px, patch_px) the patches of these numbers (n,), counted row by row, of an extended image."""
        width = tf.shape(extended)[1]
        tops, lefts = (place * self.stride_px for place in (numbers // self.cols, numbers % self.cols))
        inside = tf.range(self.patch_px)[:, None] * width + tf.range(self.patch_px)
        return tf.gather(tf.reshape(extended, [-1]), (tops * width + lefts)[:, None, None] + inside)

    @property
    def _pad_cols(self) -> tf.Tensor:
        return (self.cols - 1) * self.stride_px + self.patch_px - self.width

    def _count(self, length: tf.Tensor) -> tf.Tensor:
        return 1 + tf.maximum(0, -(-(length - self.patch_px) // self.stride_px))


def resampled_size(size: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """(2,) int32 height and width at `factor`, () float64, times as many pixels a length, at least 1."""
    return tf.maximum(1, tf.cast(tf.round(tf.cast(size, tf.float64) * factor), tf.int32))


def resample_to(pixels: tf.Tensor, size: tf.Tensor, *, factor: tf.Tensor) -> tf.Tensor:
    """Pixels (H, W) uint16 at the size (2,) that `resampled_size` gave: as `images.resample`."""
    values = tf.cast(pixels, tf.float64)
    resized = tf.cond(
        factor < 1,
        lambda: tf.transpose(_means(tf.transpose(_means(values, size[0])), size[1])),
        lambda: _linear(tf.transpose(_linear(tf.transpose(values), size[1])), size[0]),
    )
    return tf.cast(tf.math.rint(resized), tf.uint16)


def _means(values: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """(length, W) the means of `length` equal parts of the rows of values (H, W): differences of their running sum."""
    num_rows = tf.shape(values)[0]
    rows, parts = tf.cast(num_rows, tf.float64), tf.cast(length, tf.float64)
    total = tf.pad(tf.cumsum(values, axis=0), [[1, 0], [0, 0]])
    edges = tf.minimum(tf.cast(tf.range(length + 1), tf.float64) * (rows / parts), rows)
    below = tf.minimum(tf.cast(edges, tf.int32), num_rows - 1)
    rest = (edges - tf.cast(below, tf.float64))[:, None] * tf.gather(values, below)
    at_edges = tf.gather(total, below) + rest
    return (at_edges[1:] - at_edges[:-1]) * (parts / rows)


def _linear(values: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """(length, W) rows between the rows of values (H, W), linearly; the outermost ones go on beyond the edge."""
    num_rows = tf.shape(values)[0]
    step = tf.cast(num_rows, tf.float64) / tf.cast(length, tf.float64)
    places = (tf.cast(tf.range(length), tf.float64) + 0.5) * step - 0.5
    below = tf.floor(places)
    part = (places - below)[:, None]
    first = tf.cast(below, tf.int32)
    lower = tf.gather(values, tf.clip_by_value(first, 0, num_rows - 1))
    upper = tf.gather(values, tf.clip_by_value(first + 1, 0, num_rows - 1))
    return lower * (1 - part) + upper * part
