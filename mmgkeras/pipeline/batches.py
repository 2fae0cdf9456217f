"""Streams of batches from a patch store: raw integer pixels and operation ids, nothing else.

Each batch is gathered from the memory-mapped store when it is due. No pixel is kept in memory beyond the few batches in
flight, so memory does not grow with the store. Pixels become floats, and are augmented, on the device.

Owns also the memory of the batches, which is used again and again: a fresh batch of 128 patches of 224 px is 6 MB of
new pages, and handing it to TensorFlow copies it unless it lies at a multiple of 64 bytes. Both cost as much as
gathering the patches does.
"""

import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import DTypeLike, NDArray

from mmgkeras.patches.store import PatchStore
from mmgkeras.pipeline.epoch import EpochPlan
from mmgkeras.pipeline.sample_insertion import Insertion
from mmgkeras.schema import Pixels

PARALLEL_GATHERS: Final = 4
"""Batches gathered at the same time, more than it takes processors: a gather waits for memory most of its time.
Numpy copies and the kernel reads without the interpreter's lock."""
READY_BATCHES: Final = 2
"""Batches that wait for the device."""
ALIGNMENT_BYTES: Final = 64
"""At multiples of this TensorFlow takes a numpy array over as it is, and holds it for as long as the tensor lives."""


def training_batches(
    store: PatchStore,
    plan: EpochPlan,
    *,
    first_step: int,
    last_step: int,
    pieces_per_batch: int = 1,
    insertion: Insertion | None = None,
) -> tf.data.Dataset:
    """The training stream from `first_step` up to, not including, `last_step`, counted from 0 over all epochs.

    The content of a batch depends on the plan and the step's number alone: a stream that begins later goes on as the
    whole one would have.

    Args:
        store: where the pixels are.
        plan: which patches, in which order.
        first_step: number of the first batch.
        last_step: number of the batch before which the stream ends.
        pieces_per_batch: cuts each batch into so many elements that follow one another, one per device.
        insertion: puts calcifications into negatives; None for none.

    Returns:
        A data set of ({"image": (n, P, P, 1) uint8 or uint16, "augmentation": (n,) int32}, label (n,) int32), n being
        plan.batch_size / pieces_per_batch.
    """
    piece_size = plan.batch_size // pieces_per_batch
    pixels = tf.TensorSpec((piece_size, store.patch_px, store.patch_px, 1), tf.as_dtype(store.pixel_type))
    column = tf.TensorSpec((piece_size,), tf.int32)

    buffers = BatchBuffers(tuple(pixels.shape), store.pixel_type, max_kept=PARALLEL_GATHERS + READY_BATCHES + 2)

    def gather(piece: NDArray[np.int64], ids: NDArray[np.int64]) -> tuple[Pixels, NDArray[np.int32], NDArray[np.int32]]:
        patches, ops, labels = plan.locate(ids)
        pixels = store.gather(patches, out=buffers.take())
        if insertion is not None:
            insertion.apply(pixels, labels, patches=patches, first_sample=int(piece) * piece_size)
        return pixels, ops, labels

    def element(piece: Any) -> Any:
        ids = plan.ids(piece, pieces_per_batch=pieces_per_batch)
        image, op, label = _call_numpy(gather, piece, ids, specs=(pixels, column, column))
        return {"image": image, "augmentation": op}, label

    return _stream(tf.data.Dataset.range(first_step * pieces_per_batch, last_step * pieces_per_batch), element)


def plain_batches(store: PatchStore, batches: Sequence[NDArray[np.int64]]) -> tf.data.Dataset:
    """Patches as they are, in the given batches of places in the store: a data set of (n, P, P, 1) raw pixels."""
    pixels = tf.TensorSpec((None, store.patch_px, store.patch_px, 1), tf.as_dtype(store.pixel_type))

    def gather(number: NDArray[np.int64]) -> Pixels:
        return store.gather(batches[int(number)])

    return _stream(tf.data.Dataset.range(len(batches)), lambda number: _call_numpy(gather, number, specs=(pixels,))[0])


def even_batches(indices: NDArray[np.int64], *, batch_size: int) -> list[NDArray[np.int64]]:
    """Cuts (n,) places into the fewest batches of at most `batch_size`, their sizes differing by one at most."""
    return np.array_split(indices, max(1, -(-len(indices) // batch_size)))


def _stream(numbers: tf.data.Dataset, element: Callable[[Any], Any]) -> tf.data.Dataset:
    mapped = numbers.map(element, num_parallel_calls=PARALLEL_GATHERS, deterministic=True)
    return mapped.prefetch(READY_BATCHES)


def _call_numpy(function: Callable[..., Any], *arguments: Any, specs: Sequence[tf.TensorSpec]) -> list[Any]:
    """Calls a numpy function from the graph and restores the static shapes, which numpy_function forgets."""
    # stateful=False: under op determinism tf.data would otherwise run the calls one after the other.
    tensors = tf.numpy_function(function, list(arguments), [spec.dtype for spec in specs], stateful=False)
    return [tf.ensure_shape(tensor, spec.shape) for tensor, spec in zip(tensors, specs, strict=True)]


class BatchBuffers:
    """Hands out aligned arrays of one shape and type; the memory of one that nobody holds any more is handed out again.

    May be used from several threads.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike, *, max_kept: int) -> None:
        """Allocates nothing yet; at most `max_kept` arrays wait for their next use."""
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._free: deque[NDArray[Any]] = deque(maxlen=max_kept)

    def take(self) -> NDArray[Any]:
        """An array of any content."""
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = aligned_empty(self._shape, self._dtype)
        # The view is what TensorFlow holds. When it dies, so has the tensor, and the memory is ours again.
        view = buffer.view()
        weakref.finalize(view, self._free.append, buffer).atexit = False
        return view


def aligned_empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array of any content, C-contiguous, that begins at a multiple of `ALIGNMENT_BYTES`."""
    dtype = np.dtype(dtype)
    num_bytes = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(num_bytes + ALIGNMENT_BYTES, np.uint8)
    first = -memory.ctypes.data % ALIGNMENT_BYTES
    return memory[first : first + num_bytes].view(dtype).reshape(shape)
