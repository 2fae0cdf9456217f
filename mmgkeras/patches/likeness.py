"""Images that are nearly the same: recompressed, brightened, cropped by a little, or mirrored.

Owns the hash: the signs of the lowest frequencies (a DCT of 64 x 64 means), 255 bits. Different mammograms of 322
films, 24 digital ones and 140 phantoms differ in 39 bits at least, mirrored ones too.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from mmgkeras.schema import Pixels

MAX_BITS: Final = 20
"""Images that differ in no more bits are nearly the same."""
_SIZE_PX: Final = 64
_SAMPLES: Final = 256
"""Pixels along the shorter side from which the means are taken."""
_FREQUENCIES: Final = 16
_BLOCK: Final = 256


def image_hash(pixels: Pixels) -> str:
    """64 hexadecimal digits of the hash of pixels (H, W)."""
    step = max(1, min(pixels.shape) // _SAMPLES)
    sampled = Image.fromarray(pixels[::step, ::step].astype(np.float32))
    small = sampled.resize((_SIZE_PX, _SIZE_PX), Image.Resampling.BOX)
    frequencies = dctn(np.asarray(small, dtype=np.float64), norm="ortho")[:_FREQUENCIES, :_FREQUENCIES]
    return np.packbits((frequencies > 0).ravel()[1:]).tobytes().hex()


def nearly_same(hashes: Sequence[str]) -> Iterator[tuple[int, int, bool]]:
    """Pairs of places (i < j) whose images are nearly the same, and whether one of them is mirrored."""
    bits = np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint64).reshape(len(hashes), 4)
    mirrored = bits ^ _mirror()
    for start in range(0, len(bits), _BLOCK):
        block = bits[start : start + _BLOCK]
        for others, is_mirrored in ((bits, False), (mirrored, True)):
            distance = np.zeros((len(block), len(others)), dtype=np.uint16)
            for word in range(4):
                distance += np.bitwise_count(block[:, word, None] ^ others[None, :, word])
            for one, other in np.argwhere(distance <= MAX_BITS).tolist():
                if start + one < other:
                    yield start + one, other, is_mirrored


def _mirror() -> NDArray[np.uint64]:
    """(4,) what is turned in the hash of a mirrored image: the sign of each odd frequency along the columns."""
    odd = np.tile(np.arange(_FREQUENCIES) % 2 == 1, _FREQUENCIES)[1:]
    return np.frombuffer(np.packbits(odd).tobytes(), dtype=np.uint64)
