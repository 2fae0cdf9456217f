import gc

import numpy as np
import pytest
import tensorflow as tf

from mmgkeras.pipeline.buffers import ALIGNMENT_BYTES, BatchBuffers, aligned_empty


def address(array):
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_arrays_are_aligned_and_of_the_shape_and_type(dtype):
    for size in range(1, 9):
        array = aligned_empty((size, 3, 3, 1), dtype)
        assert (array.shape, array.dtype) == ((size, 3, 3, 1), np.dtype(dtype))
        assert array.flags.c_contiguous
        assert address(array) % ALIGNMENT_BYTES == 0


def test_memory_is_used_again_when_its_array_is_gone():
    buffers = BatchBuffers((4, 4), "uint8", max_kept=2)
    first = buffers.take()
    place = address(first)
    second = buffers.take()
    assert address(second) != place
    del first
    gc.collect()
    assert address(buffers.take()) == place


def test_no_more_is_kept_than_asked_for():
    buffers = BatchBuffers((4, 4), "uint8", max_kept=2)
    held = [buffers.take() for _ in range(5)]
    held.clear()
    gc.collect()
    assert len(buffers._free) == 2


def test_tensorflow_takes_the_memory_over_and_gives_it_back_with_the_tensor():
    buffers = BatchBuffers((64, 64), "uint8", max_kept=4)
    places = []

    def fill(value):
        array = buffers.take()
        array[...] = value
        places.append(address(array))
        return array

    call = tf.function(lambda value: tf.numpy_function(fill, [value], tf.uint8))
    tensors = [call(tf.constant(value, tf.uint8)) for value in range(6)]
    assert len(set(places)) == 6
    for value, (tensor, place) in enumerate(zip(tensors, places, strict=True)):
        assert address(np.asarray(memoryview(tensor))) == place
        assert np.unique(tensor).tolist() == [value]
    del tensors, tensor
    gc.collect()
    for value in range(2):  # TensorFlow lets go at its next call from Python
        call(tf.constant(value, tf.uint8))
    assert places[-1] in places[:6]
