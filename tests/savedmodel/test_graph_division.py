import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmgkeras.images import resample
from mmgkeras.savedmodel.graph_division import FIELDS, GraphGrid, resample_to, resampled_size
from mmgkeras.schema import SIDES, Grid, Side

SCALAR = tf.TensorSpec((), tf.int32)


@tf.function(
    input_signature=[
        SCALAR,
        SCALAR,
        SCALAR,
        SCALAR,
        tf.TensorSpec((), tf.bool),
        tf.TensorSpec((None, None), tf.uint16),
    ],
    autograph=False,
)
def divided(height, width, patch_px, stride_px, is_left, pixels):
    grid = GraphGrid(height, width, patch_px, stride_px, is_left)
    extended = grid.extend(pixels)
    return grid.fields, grid.cut(extended, tf.range(grid.rows * grid.cols)), grid.largest(extended)


@settings(max_examples=200)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    patch_px=st.integers(1, 40),
    stride_part=st.floats(0.01, 1),
    chest_wall=st.sampled_from(SIDES),
)
@example(height=64, width=64, patch_px=32, stride_part=1, chest_wall="left")
@example(height=1, width=90, patch_px=40, stride_part=0.5, chest_wall="right")
def test_the_division_in_the_graph_is_that_of_grid(
    height: int, width: int, patch_px: int, stride_part: float, chest_wall: Side
) -> None:
    stride_px = max(1, round(patch_px * stride_part))
    expected = Grid(height, width, patch_px, stride_px, chest_wall)
    pixels = np.random.default_rng(height * 100 + width).integers(0, 65536, (height, width), dtype=np.uint16)
    fields, patches, largest = divided(height, width, patch_px, stride_px, chest_wall == "left", pixels)
    assert dict(zip(FIELDS, fields.numpy().tolist(), strict=True)) == {name: getattr(expected, name) for name in FIELDS}
    cut = expected.cut(pixels)
    np.testing.assert_array_equal(patches, cut.reshape(-1, patch_px, patch_px))
    np.testing.assert_array_equal(largest, cut.max(axis=(2, 3)))


@pytest.mark.parametrize("factor", [0.5, 1 / 3, 0.47, 0.05 / 0.2, 0.94, 1.5, 2.0, 1.0000001])
@pytest.mark.parametrize(("dtype", "shape"), [(np.uint8, (61, 40)), (np.uint16, (37, 80)), (np.uint8, (1, 1))])
def test_the_resampling_in_the_graph_is_that_of_images(factor: float, dtype: type, shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    expected = resample(pixels, factor=factor)
    size = resampled_size(tf.constant(shape), tf.constant(factor, tf.float64))
    received = resample_to(tf.constant(pixels.astype(np.uint16)), size, factor=tf.constant(factor, tf.float64))
    assert received.shape == expected.shape
    difference = np.abs(received.numpy().astype(int) - expected.astype(int))
    # More pixels are interpolated by Pillow in float32, which rounds a half now and then the other way.
    assert difference.max() <= (factor > 1)
    assert (difference > 0).mean() < 0.01
