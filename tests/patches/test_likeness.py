"""Images that are nearly the same."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from mmgkeras.patches.likeness import image_hash, nearly_same


def texture(seed: int) -> np.ndarray:
    """(200, 150) uint8: noise of all sizes, the coarse strongest, as in a breast."""
    generator, total = np.random.default_rng(seed), np.zeros((200, 150))
    for size in (4, 8, 16, 32):
        noise = generator.normal(0, 100 / size, (size, size)).astype(np.float32)
        total += np.asarray(Image.fromarray(noise).resize((150, 200), Image.Resampling.BICUBIC))
    return np.clip(128 + total, 0, 255).astype(np.uint8)


def recompressed(pixels: np.ndarray) -> np.ndarray:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=60)
    return np.asarray(Image.open(buffer))


@pytest.mark.parametrize(
    ("change", "is_mirrored"),
    [
        (lambda pixels: pixels, False),
        (recompressed, False),
        (lambda pixels: (pixels * 0.7 + 20).astype(np.uint8), False),
        (lambda pixels: pixels.astype(np.uint16) * 257, False),
        (lambda pixels: pixels[2:, :-2], False),
        (lambda pixels: np.asarray(Image.fromarray(pixels).resize((75, 100))), False),
        (lambda pixels: pixels[:, ::-1], True),
    ],
    ids=["as it is", "JPEG", "brighter", "16 bits", "cropped", "smaller", "mirrored"],
)
def test_a_changed_copy_is_nearly_the_same(change, is_mirrored: bool) -> None:
    hashes = [image_hash(pixels) for pixels in (texture(1), texture(2), change(texture(1)))]
    assert list(nearly_same(hashes)) == [(0, 2, is_mirrored)]


def test_different_images_are_not() -> None:
    assert list(nearly_same([image_hash(texture(seed)) for seed in range(300)])) == []


def test_no_image_at_all() -> None:
    assert list(nearly_same([])) == []
