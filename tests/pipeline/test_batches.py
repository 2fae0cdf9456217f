import gc
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from mmgkeras.models.augmentation import Augment
from mmgkeras.pipeline.batches import (
    ALIGNMENT_BYTES,
    BatchBuffers,
    aligned_empty,
    even_batches,
    plain_batches,
    training_batches,
)
from mmgkeras.pipeline.epoch import EpochPlan

INTENSITIES = (1.0, 0.5, 0.75)


class ArrayStore:
    """A store in memory."""

    def __init__(self, pixels):
        self.pixels = pixels
        self.patch_px = pixels.shape[1]
        self.pixel_type = pixels.dtype.name

    def gather(self, indices, *, out=None):
        return np.take(self.pixels, indices, axis=0, out=out)


@pytest.fixture(params=["uint8", "uint16"])
def store(request):
    high = np.iinfo(request.param).max
    return ArrayStore(np.random.default_rng(1).integers(0, high, (9, 6, 6, 1), request.param, endpoint=True))


def make_plan(*, batch_size=4):
    return EpochPlan(
        positives=np.array([6, 2]),
        negatives=np.array([0, 8, 3, 5]),
        num_positive_ops=24,
        negative_ops=(0, 4),
        batch_size=batch_size,
        seed=3,
    )


def listed(batches):
    return [
        (inputs["image"].numpy(), inputs["augmentation"].numpy(), labels.numpy()) for inputs, labels in iter(batches)
    ]


def assert_same_batches(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for part, expected_part in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, expected_part)


def test_batches_have_static_shapes_and_the_store_s_pixel_type(store):
    inputs, labels = training_batches(store, make_plan(), first_step=0, last_step=1).element_spec
    assert inputs["image"] == tf.TensorSpec((4, 6, 6, 1), store.pixel_type)
    assert inputs["augmentation"] == tf.TensorSpec((4,), tf.int32)
    assert labels == tf.TensorSpec((4,), tf.int32)


def test_the_epoch_before_the_cut_is_the_offline_augmented_set_pixel_for_pixel(store):
    plan = make_plan(batch_size=2)  # 24 * 2 + 2 * 4 = 56 samples: whole batches, nothing is cut
    assert plan.steps_per_epoch * 2 == plan.num_samples == 56
    layer = Augment(intensities=INTENSITIES)
    found = Counter()
    for inputs, labels in training_batches(store, plan, first_step=0, last_step=plan.steps_per_epoch):
        augmented = layer(inputs["image"], inputs["augmentation"]).numpy()
        assert augmented.dtype == np.float32
        found.update((int(label), patch.tobytes()) for label, patch in zip(labels, augmented, strict=True))
    expected = Counter()
    for place in plan.positives:
        for turned in [np.rot90(store.pixels[place, :, :, 0], turns) for turns in range(4)]:
            for flipped in (turned, np.fliplr(turned)):
                for factor in INTENSITIES:
                    patch = flipped.astype(np.float32) * np.float32(factor)
                    expected[(1, patch.tobytes())] += 1
    for place in plan.negatives:
        plain = store.pixels[place, :, :, 0].astype(np.float32)
        expected.update([(0, plain.tobytes()), (0, np.fliplr(plain).tobytes())])
    assert found == expected
    assert sum(expected.values()) == 56


def test_a_stream_begun_later_goes_on_bit_for_bit_across_epochs(store):
    plan = make_plan(batch_size=5)  # 11 steps an epoch
    whole = listed(training_batches(store, plan, first_step=0, last_step=25))
    assert_same_batches(listed(training_batches(store, plan, first_step=9, last_step=25)), whole[9:])


def test_the_pieces_of_a_batch_make_the_batch(store):
    whole = listed(training_batches(store, make_plan(), first_step=3, last_step=6))
    pieces = listed(training_batches(store, make_plan(), first_step=3, last_step=6, pieces_per_batch=2))
    joined = [
        tuple(np.concatenate(parts) for parts in zip(*pieces[first : first + 2], strict=True)) for first in (0, 2, 4)
    ]
    assert_same_batches(joined, whole)


def test_a_distributed_stream_gives_whole_batches(store):
    plan = make_plan()
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    batches = training_batches(store, plan, first_step=0, last_step=3)
    distributed = strategy.experimental_distribute_dataset(batches)
    assert_same_batches(listed(distributed), listed(batches))


def test_plain_batches_are_the_patches_as_they_are(store):
    batches = [np.array([8, 0]), np.array([3])]
    found = [batch.numpy() for batch in plain_batches(store, batches)]
    np.testing.assert_array_equal(found[0], store.pixels[[8, 0]])
    np.testing.assert_array_equal(found[1], store.pixels[[3]])
    assert found[0].dtype == store.pixels.dtype


def test_even_batches_differ_by_one_at_most_and_lose_nothing():
    batches = even_batches(np.arange(10), batch_size=4)
    assert [batch.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert [len(batch) for batch in even_batches(np.arange(8), batch_size=4)] == [4, 4]


def test_batches_that_are_held_keep_their_pixels(store):
    plan = make_plan()
    held = list(training_batches(store, plan, first_step=0, last_step=40))
    for step, (inputs, _) in enumerate(held):
        patches, _, _ = plan.locate(plan.ids(step).numpy())
        np.testing.assert_array_equal(inputs["image"], store.pixels[patches])


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
