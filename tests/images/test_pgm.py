"""Binary PGM: exact at every maxval, and no byte more or less than its header promises."""

import re
from collections.abc import Callable

import numpy as np
import pytest


@pytest.mark.parametrize(
    ("maxval", "stored", "expected"),
    [
        (65535, [0, 1, 65535], [0, 1, 65535]),
        (4095, [0, 1, 2048, 4095], [0, 16, 32776, 65535]),
        (256, [128], [32768]),
    ],
)
def test_16_bits_fill_the_range_exactly(
    pixels_of: Callable[[bytes], np.ndarray], maxval: int, stored: list[int], expected: list[int]
) -> None:
    pixels = pixels_of(f"P5 {len(stored)} 1 {maxval}\n".encode() + np.array(stored, dtype=">u2").tobytes())
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, [expected])


def test_other_8_bit_maxval_fills_the_range(pixels_of: Callable[[bytes], np.ndarray]) -> None:
    pixels = pixels_of(b"P5\n3 1\n15\n" + bytes([0, 7, 15]))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, [[0, 119, 255]])


def test_comments_in_the_header(pixels_of: Callable[[bytes], np.ndarray]) -> None:
    np.testing.assert_array_equal(pixels_of(b"P5\n# film 12 9\n2 # wide\n1\n255\n" + bytes([35, 10])), [[35, 10]])


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"P5\n2 x\n255\n", "has no PGM header"),
        (b"P5\n2 0\n255\n", "must be at least 1 pixel wide and high. Received: 2 x 0"),
        (b"P5\n2 2\n65536\n", "must have a maxval from 1 to 65535. Received: 65536"),
        (b"P5\n2 2\n0\n", "must have a maxval from 1 to 65535. Received: 0"),
        (b"P5\n30000 30000\n255\n", "must hold at most 100,000,000 pixels. Received: 30000 x 30000"),
        (b"P5\n2 2\n255\nabc", "is damaged or cut short: 4 bytes of pixels expected. Received: 3"),
        (b"P5\n2 2\n255\nabcde", "is damaged or cut short: 4 bytes of pixels expected. Received: 5"),
        (b"P5\n2 2\n256\nabcd", "is damaged or cut short: 8 bytes of pixels expected. Received: 4"),
        (b"P5\n2 1\n15\n\x03\x10", "must hold no value above its maxval 15. Received: 16"),
        (b"P5\n" + b"9" * 30_000 + b" 1 255\n", "has no PGM header"),
    ],
)
def test_faults(refused: Callable[[bytes, str], str], data: bytes, rule: str) -> None:
    refused(data, re.escape(rule))


@pytest.mark.parametrize("filler", [b" ", b"#", b"#\n", b"# 1\n", b"\x1b"])
def test_header_without_end_is_not_searched_for(refused: Callable[[bytes, str], str], filler: bytes) -> None:
    refused(b"P5\n" + filler * 10_000_000 + b"\n1 1 255\n0", "has no PGM header .* in its first 4,096 bytes")
