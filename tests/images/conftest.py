"""Reading bytes as a file, and what every refusal must look like."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmgkeras.errors import InputError
from mmgkeras.images import read_facts, read_pixels

Reader = Callable[[bytes], np.ndarray]
Refuser = Callable[[bytes, str], str]


@pytest.fixture
def pixels_of(tmp_path: Path) -> Reader:
    """What `read_pixels` gives for a file of these bytes; `read_facts` must take all that it takes."""

    def read(data: bytes) -> np.ndarray:
        path = tmp_path / "image"
        path.write_bytes(data)
        pixels = read_pixels(path)
        assert read_facts(path)[:2] == pixels.shape
        return pixels

    return read


@pytest.fixture
def refused(tmp_path: Path, pixels_of: Reader) -> Refuser:
    """The error for a file of these bytes: one short printable line that begins with its name and holds the rule."""

    def check(data: bytes, rule: str) -> str:
        with pytest.raises(InputError, match=rule) as caught:
            pixels_of(data)
        message = str(caught.value)
        assert message.startswith(f"{tmp_path / 'image'}: ")
        assert message.isprintable()
        assert len(message) < len(str(tmp_path)) + 250
        return message

    return check
