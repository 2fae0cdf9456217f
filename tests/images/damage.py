"""Damaged copies of a file, the same for the same seed."""

from collections.abc import Iterator

import numpy as np


def damaged_copies(data: bytes, *, number: int, seed: int) -> Iterator[bytes]:
    """In turn: one to three bits flipped, the end cut off, up to 64 bytes overwritten, up to 64 bytes left out."""
    random = np.random.default_rng(seed)
    for count in range(number):
        copy, place, length = bytearray(data), int(random.integers(len(data))), int(random.integers(1, 65))
        match count % 4:
            case 0:
                for bit in random.integers(8 * len(data), size=random.integers(1, 4)):
                    copy[bit // 8] ^= 1 << bit % 8
            case 1:
                del copy[place:]
            case 2:
                copy[place : place + length] = random.bytes(len(copy[place : place + length]))
            case 3:
                del copy[place : place + length]
        yield bytes(copy)
