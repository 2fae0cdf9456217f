"""Memory for batches that is used again and again.

A fresh batch of 128 patches of 224 px is 6 MB of new pages, and handing it to TensorFlow copies it unless it lies at a
multiple of 64 bytes. Both cost as much as gathering the patches does.
"""

import weakref
from collections import deque
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

ALIGNMENT_BYTES: Final = 64
"""At multiples of this TensorFlow takes a numpy array over as it is, and holds it for as long as the tensor lives."""


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
