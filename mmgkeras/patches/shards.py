"""The pixels of a store: patches-NNNNN.npy, each (N, P, P, 1), written as they come and read through the page cache.

Owns how patches lie over files; knows neither images nor labels.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import numpy as np
from numpy.typing import NDArray

from mmgkeras.errors import InputError
from mmgkeras.schema import Pixels

MAX_SHARD_BYTES: Final = 2**32
"""Of a shard in uint16; one in uint8 has as many patches and half the bytes."""
_PROMOTION: Final = 257
"""255 * 257 = 65535: 8-bit values in the full range of 16 bits, without rounding."""
_COPY_PATCHES: Final = 1024


def promote(pixels: Pixels) -> NDArray[np.uint16]:
    """The same shape in uint16: 8-bit values times 257, 16-bit ones as they are."""
    if pixels.dtype == np.uint16:
        return cast(NDArray[np.uint16], pixels)
    return np.multiply(pixels, _PROMOTION, dtype=np.uint16)


def shard_name(number: int) -> str:
    """The file name of a shard, from 0."""
    return f"patches-{number:05d}.npy"


class ShardWriter:
    """Appends patches to shards in a folder; memory does not grow with what was written.

    The first 16-bit patch turns everything into uint16: shards written before are then rewritten once. Patches that a
    killed process left in the folder are not written again: the same are to be appended, or passed by.
    """

    def __init__(
        self,
        folder: Path,
        *,
        patch_px: int,
        max_bytes: int = MAX_SHARD_BYTES,
        when_full: Callable[[Path], object] = lambda path: None,  # noqa: ARG005
    ) -> None:
        """Writes nothing yet.

        Args:
            folder: that gets the shards.
            patch_px: edge of a patch.
            max_bytes: limits the pixels of one shard in uint16, one patch being the least.
            when_full: is called with each shard that is full, which may yet be rewritten in uint16.
        """
        self.patches_per_shard = max(1, max_bytes // (2 * patch_px * patch_px))
        self.dtype: np.dtype[Any] | None = None
        self.num_patches = 0
        self._folder = folder
        self._patch_px = patch_px
        self._when_full = when_full
        self._file: BinaryIO | None = None
        self._num_found = self._count_found()

    def __enter__(self) -> "ShardWriter":
        """Itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Closes the open shard, whatever happened."""
        self._close_shard()

    def pass_by(self, num_patches: int, *, pixel_type: str) -> bool:
        """Counts patches that are in the folder already as appended; False, and nothing is done, where they are not."""
        if self.num_patches + num_patches > self._num_found:
            return False
        self._take_type(np.dtype(pixel_type))
        self.num_patches += num_patches
        return True

    def append(self, patches: Pixels) -> None:
        """Adds patches (n, P, P) uint8 or uint16."""
        self._take_type(patches.dtype)
        pixels = patches if self.dtype == np.uint8 else promote(patches)
        while len(pixels):
            fitting = pixels[: self.patches_per_shard - self.num_patches % self.patches_per_shard]
            self._open_shard().write(np.ascontiguousarray(fitting).data)
            self.num_patches += len(fitting)
            pixels = pixels[len(fitting) :]
            if self.num_patches % self.patches_per_shard == 0:
                self._close_shard()
                self._when_full(self._folder / shard_name(self.num_patches // self.patches_per_shard - 1))
        if self._file is not None:
            self._file.flush()  # the patches may be removed elsewhere now

    def _count_found(self) -> int:
        """The number of patches, from the first on, that lie in the folder's shards, whose headers then say so."""
        number, num_found = 0, 0
        while num_found == number * self.patches_per_shard and len(held := self._held(number)):
            with (self._folder / shard_name(number)).open("r+b") as file:
                self._write_header(file, held.dtype, num_patches=len(held))
                file.truncate(file.tell() + held.nbytes)
            num_found += len(held)
            number += 1
        return num_found

    def _held(self, number: int) -> Pixels:
        """(n, P, P, 1) the whole patches that a shard has by its size; its header is right only once it was closed."""
        path = self._folder / shard_name(number)
        try:
            with path.open("rb") as file:
                np.lib.format.read_magic(file)
                _, _, dtype = np.lib.format.read_array_header_1_0(file)
                shape = (self._patch_px, self._patch_px, 1)
                held = (path.stat().st_size - file.tell()) // (dtype.itemsize * self._patch_px**2)
                return np.memmap(path, dtype, mode="r", offset=file.tell(), shape=(held, *shape))
        except (OSError, ValueError):
            return np.zeros(0, np.uint8)

    def _take_type(self, dtype: np.dtype[Any]) -> None:
        if self.dtype is None:
            self.dtype = dtype
        elif self.dtype == np.uint8 and dtype == np.uint16:
            self._promote_shards()

    def _open_shard(self) -> BinaryIO:
        """The file of the shard that the next patch goes to, at its place there."""
        if self._file is None:
            number, place = divmod(self.num_patches, self.patches_per_shard)
            self._file = (self._folder / shard_name(number)).open("r+b" if place else "w+b")
            self._write_header(self._file, self.dtype, num_patches=0)
            self._file.seek(place * np.dtype(self.dtype).itemsize * self._patch_px**2, os.SEEK_CUR)
        return self._file

    def _close_shard(self) -> None:
        """Puts the number of patches into the header, for which numpy leaves room, and closes the file."""
        if self._file is None:
            return
        with self._file as file:
            self._file = None
            file.seek(0)
            self._write_header(file, self.dtype, num_patches=(self.num_patches - 1) % self.patches_per_shard + 1)

    def _write_header(self, file: BinaryIO, dtype: np.dtype[Any] | None, *, num_patches: int) -> None:
        shape = (num_patches, self._patch_px, self._patch_px, 1)
        description = np.lib.format.dtype_to_descr(np.dtype(dtype))
        header = {"descr": description, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)

    def _promote_shards(self) -> None:
        """Rewrites what is there as uint16."""
        self._close_shard()
        self.dtype = np.dtype(np.uint16)
        num_written = max(self.num_patches, self._num_found)
        for number in range(-(-num_written // self.patches_per_shard)):
            path, narrow = self._folder / shard_name(number), self._held(number)
            if narrow.dtype == np.uint16:  # by a process that was killed after it
                continue
            wide = path.with_suffix(".wide")
            with wide.open("wb") as file:
                self._write_header(file, self.dtype, num_patches=len(narrow))
                for start in range(0, len(narrow), _COPY_PATCHES):
                    file.write(promote(narrow[start : start + _COPY_PATCHES]).data)
            wide.replace(path)


class ShardReader:
    """Patches by their number over all shards, memory-mapped: pages are the kernel's, not the process's."""

    def __init__(self, paths: Sequence[Path], *, patches_per_shard: int, shape: Sequence[int], pixel_type: str) -> None:
        """Maps the shards of `shape` (N, P, P, 1) in order; each but the last holds `patches_per_shard` patches.

        Raises:
            InputError: if one cannot be read or its header promises something else.
        """
        self._patches_per_shard, self._num_patches = patches_per_shard, shape[0]
        lengths = (min(patches_per_shard, shape[0] - first) for first in range(0, shape[0], patches_per_shard))
        self._shards = [
            _mapped(path, shape=(length, *shape[1:]), pixel_type=pixel_type)
            for path, length in zip(paths, lengths, strict=True)
        ]
        self._files = [(path, path.stat().st_size) for path in paths]

    def gather(self, indices: NDArray[np.integer], *, out: Pixels | None = None) -> Pixels:
        """(n, P, P, 1) the patches of indices (n,), in their order.

        Args:
            indices: from 0, over all shards.
            out: (n, P, P, 1) of the shards' type, C-contiguous, filled and given back; None for a new array.

        Raises:
            IndexError: for an index below 0 or beyond the last patch.
            InputError: if a shard is no longer as long as it was.
        """
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < self._num_patches:
            raise IndexError(f"Patch indices must be from 0 to {self._num_patches - 1}. Received: {indices}")
        numbers, places = np.divmod(indices, self._patches_per_shard)
        first = self._shards[0]
        patches = np.empty((len(indices), *first.shape[1:]), dtype=first.dtype) if out is None else out
        if len(self._shards) == 1:
            self._refuse_shorter(0)
            return _take(first, places, out=patches)
        for number in np.unique(numbers):
            self._refuse_shorter(number)
            chosen = np.flatnonzero(numbers == number)
            chosen = chosen[np.argsort(places[chosen], kind="stable")]
            part = np.empty((len(chosen), *first.shape[1:]), dtype=first.dtype)
            patches[chosen] = _take(self._shards[number], places[chosen], out=part)
        return patches

    def _refuse_shorter(self, number: int) -> None:
        """Reading what was cut off a mapped file would end the process without a word (SIGBUS)."""
        path, size = self._files[number]
        try:
            now = os.stat(path).st_size  # noqa: PTH116 - before every batch; Path.stat takes three times as long
        except OSError as error:
            raise InputError(f"{path}: cannot be read any more: {error.strerror or error}") from error
        if now != size:
            raise InputError(f"{path}: was changed while it was read: it must have {size:,} bytes. Received: {now:,}")


def _mapped(path: Path, *, shape: tuple[int, ...], pixel_type: str) -> NDArray[Any]:
    try:
        # As a plain array: the memmap class costs a microsecond for each patch taken.
        shard = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, MemoryError, RecursionError, OverflowError) as error:
        raise InputError(f"{path}: is no shard of a patch store: {error}; prepare the store again") from error
    if (shard.shape, shard.dtype) != (shape, np.dtype(pixel_type)) or not shard.flags.c_contiguous:
        rule = f"must hold {pixel_type} pixels of shape {shape}, as store.json says"
        raise InputError(f"{path}: {rule}. Received: {shard.dtype} of shape {shard.shape}; prepare the store again")
    return shard


def _take(shard: Pixels, places: NDArray[np.int64], *, out: Pixels) -> Pixels:
    """(n, P, P, 1) rows of a shard in `out`, in one call that lets go of the interpreter's lock once, not once a patch.

    Under other threads that matters more than anything: 99,000 patches of 224 px a second against 3,000 of a loop.
    """
    # Only mode="clip" writes into `out` without a copy; the places are known to be inside.
    return np.take(shard, places, axis=0, out=out, mode="clip")


def pixel_sha256(pixels: Pixels) -> str:
    """A digest that is equal for images (H, W) of equal size and gray values, whether kept in 8 or in 16 bits."""
    digest = hashlib.sha256(f"{pixels.shape[0]}x{pixels.shape[1]}:".encode())
    digest.update(np.ascontiguousarray(promote(pixels).astype("<u2", copy=False)).data)
    return digest.hexdigest()
