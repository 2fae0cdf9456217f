"""Encoded images to gray values inside a SavedModel's graph: PNG of 8 or 16 bits and JPEG, as `images` reads them.

Owns what a server refuses, each with one line: what is no PNG or JPEG, true colour, transparency, and a size over the
limit, which is read from the header before anything is decoded. What `images` finds besides (damage that a checksum or
libjpeg's warnings tell, an orientation of EXIF) the graph does not see.
"""

from typing import Final

import tensorflow as tf

from mmgkeras.images.samples import MAX_PIXELS

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8\xff"
_PNG_HEADER_BYTES: Final = 33
"""Signature and IHDR, whose width and height are at byte 16, its bits a sample at byte 24."""


def image_size(data: tf.Tensor) -> tf.Tensor:
    """(2,) int32 height and width that the header of an encoded image () says; refuses one that is not allowed."""
    is_png = _begins_with(data, _PNG)
    is_known = is_png | _begins_with(data, _JPEG)
    with required(is_known, "image_bytes must be a PNG or a JPEG. Received: something else, or nothing"):
        size = tf.cond(is_png, lambda: _png_size(data), lambda: tf.image.extract_jpeg_shape(data)[:2])
    num_pixels = tf.reduce_prod(tf.cast(size, tf.int64))
    is_allowed = (tf.reduce_min(size) > 0) & (num_pixels <= MAX_PIXELS)
    rule = f"image_bytes must hold 1 to {MAX_PIXELS:,} pixels. Received height and width:"
    with required(is_allowed, rule, size):
        return tf.identity(size)


def decode_gray(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The gray values (H, W) uint16 of an encoded image () as stored, and whether they have 16 bits, () bool.

    Call `image_size` first, and let this depend on it.
    """
    is_png = _begins_with(data, _PNG)
    is_deep = tf.cond(is_png, lambda: _byte(data, 24) == 16, lambda: tf.constant(False))
    samples = tf.cond(
        is_png,
        lambda: tf.cond(
            is_deep,
            lambda: tf.io.decode_png(data, channels=0, dtype=tf.uint16),
            lambda: tf.cast(tf.io.decode_png(data, channels=0), tf.uint16),
        ),
        # Its default, a faster transform, differs from libjpeg-turbo's own by up to 3 levels.
        lambda: tf.cast(tf.io.decode_jpeg(data, channels=0, dct_method="INTEGER_ACCURATE"), tf.uint16),
    )
    return _gray(
        samples, largest=tf.where(is_deep, tf.constant(65535, tf.uint16), tf.constant(255, tf.uint16))
    ), is_deep


def _gray(samples: tf.Tensor, *, largest: tf.Tensor) -> tf.Tensor:
    """(H, W) the gray values of samples (H, W, C): gray, or colours that are equal, and opaque."""
    num_channels = tf.shape(samples)[2]
    num_colours = num_channels - tf.cast(num_channels % 2 == 0, tf.int32)  # an even number has alpha
    first, opaque = samples[:, :, :1], samples[:, :, num_colours:]
    is_gray = tf.reduce_all(samples[:, :, :num_colours] == first)
    with required(is_gray, "image_bytes must be gray, or colour with red = green = blue. Received: true colour"):
        first = tf.identity(first)
    with required(tf.reduce_all(opaque == largest), "image_bytes must be opaque. Received: transparency"):
        return first[:, :, 0]


def _png_size(data: tf.Tensor) -> tf.Tensor:
    with required(tf.strings.length(data) >= _PNG_HEADER_BYTES, "image_bytes is a PNG that is cut short"):
        width_and_height = tf.io.decode_raw(tf.strings.substr(data, 16, 8), tf.int32, little_endian=False)
        bits = _byte(data, 24)
    with required((bits == 8) | (bits == 16), "a PNG must have 8 or 16 bits. Received:", bits):
        return tf.reverse(width_and_height, axis=[0])


def _byte(data: tf.Tensor, place: int) -> tf.Tensor:
    return tf.cast(tf.io.decode_raw(tf.strings.substr(data, place, 1), tf.uint8)[0], tf.int32)


def _begins_with(data: tf.Tensor, magic: bytes) -> tf.Tensor:
    return tf.strings.substr(data, 0, len(magic)) == magic


def required(condition: tf.Tensor, rule: str, *received: tf.Tensor) -> tf.control_dependencies:
    """What is made under it is only made where the condition holds; else the request fails with the rule."""
    return tf.control_dependencies([tf.debugging.Assert(condition, [rule, *received])])
