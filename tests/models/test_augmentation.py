import keras
import numpy as np
import pytest

from mmgkeras.config import AugmentationConfig
from mmgkeras.models.augmentation import NEGATIVE_OPS, Augment, num_positive_ops

INTENSITIES = (1.0, 0.5, 0.75)
ALL_OPS = np.arange(24, dtype=np.int32)


def augment_numpy(patch, op):
    """The operation by numpy's own functions: rotate anticlockwise, mirror left to right, multiply in float32."""
    rotated = np.rot90(patch, op % 4)
    flipped = np.fliplr(rotated) if op // 4 % 2 else rotated
    return flipped.astype(np.float32) * np.float32(INTENSITIES[op // 8])


@pytest.fixture(params=["uint8", "uint16"])
def patches(request):
    generator = np.random.default_rng(3)
    high = np.iinfo(request.param).max
    return generator.integers(0, high, size=(24, 6, 6, 1), dtype=request.param, endpoint=True)


def expected_of(patches):
    return np.stack([augment_numpy(patch[..., 0], op) for patch, op in zip(patches, ALL_OPS, strict=True)])[..., None]


def test_every_operation_equals_numpy_bit_for_bit(patches):
    found = keras.ops.convert_to_numpy(Augment(intensities=INTENSITIES)(patches, ALL_OPS))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected_of(patches))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_every_operation_equals_numpy_bit_for_bit_when_compiled(patches, jit_compile):
    layer = Augment(intensities=INTENSITIES)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        found = tf.function(layer, jit_compile=jit_compile)(tf.constant(patches), tf.constant(ALL_OPS)).numpy()
    else:
        import jax

        found = jax.jit(layer)(patches, ALL_OPS)
    np.testing.assert_array_equal(found, expected_of(patches))


def test_small_patch_by_hand():
    patch = np.array([[1, 2], [3, 4]], dtype=np.uint8)[None, ..., None]
    layer = Augment(intensities=INTENSITIES)
    by_hand = {
        0: [[1, 2], [3, 4]],
        1: [[2, 4], [1, 3]],
        2: [[4, 3], [2, 1]],
        3: [[3, 1], [4, 2]],
        4: [[2, 1], [4, 3]],
        9: [[1, 2], [0.5, 1.5]],
        20: [[1.5, 0.75], [3, 2.25]],
    }
    for op, expected in by_hand.items():
        found = keras.ops.convert_to_numpy(layer(patch, np.array([op], dtype=np.int32)))
        np.testing.assert_array_equal(found[0, ..., 0], np.array(expected, dtype=np.float32), err_msg=f"operation {op}")


def test_eight_geometric_operations_are_distinct():
    patch = np.arange(9, dtype=np.uint8).reshape(1, 3, 3, 1).repeat(8, axis=0)
    found = keras.ops.convert_to_numpy(Augment(intensities=INTENSITIES)(patch, ALL_OPS[:8]))
    assert len({image.tobytes() for image in found}) == 8


def test_halved_odd_pixel_is_not_rounded():
    patch = np.full((1, 2, 2, 1), 65535, dtype=np.uint16)
    found = keras.ops.convert_to_numpy(Augment(intensities=INTENSITIES)(patch, np.array([8], dtype=np.int32)))
    assert (found == 32767.5).all()


def test_positive_has_24_operations_and_negative_two():
    assert num_positive_ops(AugmentationConfig()) == 24
    assert num_positive_ops(AugmentationConfig(intensities=(1.0,))) == 8
    assert NEGATIVE_OPS == (0, 4)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="looks at TensorFlow's graph")
def test_no_arithmetic_is_done_on_int32():
    """GPUs have no kernels for it: the numbers would be copied to the host and waited for in every step."""
    import tensorflow as tf

    layer = Augment(intensities=INTENSITIES)
    signature = [tf.TensorSpec((None, 6, 6, 1), tf.uint8), tf.TensorSpec((None,), tf.int32)]
    graph = tf.function(layer, input_signature=signature).get_concrete_function().graph
    of_int32 = {
        operation.type
        for operation in graph.get_operations()
        for tensor in operation.inputs
        if tensor.dtype == tf.int32 and "augmentation" in graph_inputs(tensor)
    }
    assert of_int32 <= {"Cast", "OneHot"}


def graph_inputs(tensor):
    """Names of the placeholders that a tensor depends on."""
    waiting, seen, found = [tensor.op], set(), set()
    while waiting:
        operation = waiting.pop()
        if operation.name in seen:
            continue
        seen.add(operation.name)
        if operation.type == "Placeholder":
            found.add(operation.name)
        waiting.extend(source.op for source in operation.inputs)
    return found


def test_layer_survives_its_configuration():
    layer = Augment(intensities=INTENSITIES)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert isinstance(again, Augment)
    assert again.intensities == INTENSITIES
