from io import BytesIO

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mmgkeras.images.jpeg import decode_jpeg
from mmgkeras.savedmodel.graph_decoding import decode_gray, image_size


@tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
def decoded(data):
    size = image_size(data)
    with tf.control_dependencies([size]):
        gray, is_deep = decode_gray(tf.identity(data))
    return size, gray, is_deep


def encoded(pixels: np.ndarray, form: str = "png", **options: object) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def noise(dtype: type = np.uint8, shape: tuple[int, ...] = (21, 34)) -> np.ndarray:
    return np.random.default_rng(5).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_is_taken_as_stored(dtype: type) -> None:
    size, gray, is_deep = decoded(encoded(noise(dtype)))
    assert size.numpy().tolist() == [21, 34]
    np.testing.assert_array_equal(gray, noise(dtype))
    assert bool(is_deep) == (dtype is np.uint16)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 40}])
def test_jpeg_is_what_the_library_reads(options: dict[str, object]) -> None:
    smooth = np.add.outer(np.arange(61), np.arange(90)).astype(np.uint8) + noise(shape=(61, 90)) // 8
    data = encoded(smooth, "jpeg", **options)
    size, gray, is_deep = decoded(data)
    assert size.numpy().tolist() == [61, 90]
    np.testing.assert_array_equal(gray, decode_jpeg(data))
    assert not is_deep


@pytest.mark.parametrize("form", ["png", "jpeg"])
def test_gray_in_colour_is_gray(form: str) -> None:
    data = encoded(np.repeat(noise()[:, :, None], 3, axis=2), form)
    expected = noise() if form == "png" else decode_jpeg(data)
    np.testing.assert_array_equal(decoded(data)[1], expected)


def test_an_opaque_alpha_channel_is_left_out() -> None:
    gray_and_alpha = np.stack([noise(), np.full_like(noise(), 255)], axis=2)
    np.testing.assert_array_equal(decoded(encoded(gray_and_alpha))[1], noise())


def with_size(data: bytes, width: int, height: int) -> bytes:
    """A PNG whose header, checksum apart, says another size."""
    return data[:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + data[24:]


COLOUR = np.stack([noise(), noise(), 255 - noise()], axis=2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "must be a PNG or a JPEG. Received: something else"),
        (b"II*\x00" + bytes(100), "must be a PNG or a JPEG"),
        (encoded(noise())[:30], "PNG that is cut short"),
        (encoded(noise())[:60], "PNG"),
        (encoded(noise(), "jpeg")[:20], "JPEG"),
        (encoded(COLOUR), "red = green = blue. Received: true colour"),
        (encoded(COLOUR, "jpeg"), "red = green = blue. Received: true colour"),
        (encoded(np.stack([noise(), noise()], axis=2)), "must be opaque. Received: transparency"),
        (encoded(noise() > 9), r"8 or 16 bits. Received:\] \[1"),
        (with_size(encoded(noise()), 10001, 10000), r"1 to 100,000,000 pixels.*\[10000 10001\]"),
        (with_size(encoded(noise()), 0xFFFFFFFF, 2), r"1 to 100,000,000 pixels"),
        (with_size(encoded(noise()), 0, 2), r"1 to 100,000,000 pixels"),
    ],
)
def test_what_cannot_be_a_mammogram_is_refused_with_the_rule(data: bytes, message: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        decoded(data)
