"""Files that are damaged or forged, each kind with its reader: refused in a clear line, or read as it then is."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.campaign.files import KEPT, make_targets, mutate
from mmgkeras.errors import InputError
from mmgkeras.images import read_pixels

Part = tuple[str, Callable[[], list[str]]]
"""What is damaged, and a function that tries it and gives what failed."""


def file_parts(folder: Path, *, seed: int, number: int) -> Iterator[Part]:
    """Mutations of every kind of file that mmgkeras reads back; a store's with its checksums redone too."""
    for place, target in enumerate(make_targets(KEPT, folder)):

        def run(place: int = place) -> list[str]:
            # A copy of its own, for others are tried at the same time.
            with tempfile.TemporaryDirectory(dir=folder.parent) as own:
                os.chdir(own)  # the kept cross-validation names its store by a relative path
                return list(mutate(make_targets(KEPT, Path(own))[place], seed=seed, number=number).failures)

        yield target.name, run


def image_parts(*, seed: int, number: int) -> Iterator[Part]:
    """Damaged images of every codec; what is read is what a second decoder reads, or with checksums the undamaged."""
    from tests.images import test_damage as images
    from tests.images.damage import damaged_copies

    seconds = {name: (data, None) for name, data in images.WITH_CHECKSUMS.items()} | dict(images.WITHOUT)
    for name, (data, second) in seconds.items():

        def run(data: bytes = data, second: Callable[[bytes], object] | None = second) -> list[str]:
            failures = []
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "image"
                path.write_bytes(data)
                whole = read_pixels(path)
                for count, copy in enumerate(damaged_copies(data, number=number, seed=seed)):
                    path.write_bytes(copy)
                    try:
                        pixels = read_pixels(path)
                        if not np.array_equal(pixels, whole if second is None else second(copy)):
                            failures.append(f"copy {count}: other pixels than a second decoder's")
                    except InputError as error:
                        if not str(error).isprintable():
                            failures.append(f"copy {count}: its message is not printable")
                    except Exception as error:
                        failures.append(f"copy {count}: {type(error).__name__}: {str(error)[:200]}")
            return failures

        yield name, run
