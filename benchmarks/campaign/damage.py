"""Files that are damaged or forged, each kind with its reader: refused in a clear line, or read as it then is."""

import os
import resource
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.campaign.dicom_damage import dicom_files
from benchmarks.campaign.files import KEPT, make_targets, mutate
from mmgkeras.config import PatchesConfig
from mmgkeras.errors import InputError
from mmgkeras.images import read_pixels
from mmgkeras.patches.check import check_folder, read_folder
from mmgkeras.schema import ImageRecord
from mmgkeras.tables import write_images

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


_SECONDS = 5.0
_BYTES = 2**30
"""A damaged image takes no longer, and a process that reads nothing else no more memory beyond what it began with."""


def image_parts(*, seed: int, number: int) -> Iterator[Part]:
    """Damaged images of every codec; what is read is what a second decoder reads, or with checksums the undamaged."""
    from tests.images import test_damage as images

    seconds = {name: (data, None) for name, data in images.WITH_CHECKSUMS.items()} | dict(images.WITHOUT)
    for name, (data, second) in (seconds | dicom_files()).items():
        yield name, partial(_damaged_images, data, second, seed=seed, number=number)


def _damaged_images(data: bytes, second: Callable[[bytes], object] | None, *, seed: int, number: int) -> list[str]:
    from tests.images.damage import damaged_copies

    failures = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        path.write_bytes(data)
        whole, before = read_pixels(path), _memory()
        for count, copy in enumerate(damaged_copies(data, number=number, seed=seed)):
            path.write_bytes(copy)
            began = time.process_time()
            try:
                pixels = read_pixels(path)
                expected = whole if second is None else _by(second, copy)
                if not np.array_equal(pixels, expected):
                    failures.append(f"copy {count}: other pixels than a second decoder's")
            except InputError as error:
                if not str(error).isprintable():
                    failures.append(f"copy {count}: its message is not printable")
            except Exception as error:
                failures.append(f"copy {count}: {type(error).__name__}: {str(error)[:200]}")
            if time.process_time() - began > _SECONDS:
                failures.append(f"copy {count}: took over {_SECONDS:g} s")
        if _memory() - before > _BYTES:
            failures.append(f"took over {_BYTES:,} bytes")
    return failures


def _by(second: Callable[[bytes], object], data: bytes) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return second(data)


def _memory() -> int:
    """The most bytes that this process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def folder_parts(*, seed: int, number: int) -> Iterator[Part]:
    """`check` on a folder of damaged images of every kind: every image is read or listed, and so is every row."""
    yield "a folder of all", partial(_damaged_folder, seed=seed, number=number)


def _damaged_folder(*, seed: int, number: int) -> list[str]:
    from tests.images import test_damage as images
    from tests.images.damage import damaged_copies

    kinds = [*images.WITH_CHECKSUMS.values(), *(data for data, _ in images.WITHOUT.values())]
    kinds += [data for data, _ in dicom_files().values()]
    with tempfile.TemporaryDirectory() as name:
        folder, began = Path(name), time.process_time()
        copies = [copy for data in kinds for copy in damaged_copies(data, number=-(-number // len(kinds)), seed=seed)]
        records = [ImageRecord(f"i{n}", f"i{n}", f"p{n}", "L", "CC", "none") for n in range(len(copies))]
        for record, copy in zip(records, copies, strict=True):
            (folder / record.path).write_bytes(copy)
        write_images(folder / "images.csv", records)
        report = check_folder(read_folder(folder, PatchesConfig()))
        listed = {finding.image_id for finding in report.of("fault")}
        failures = []
        if len(listed) + report.num_read != len(copies):
            failures.append(f"{len(copies)} images, {report.num_read} read, {len(listed)} listed")
        if time.process_time() - began > _SECONDS * len(copies):
            failures.append("took too long")
        return failures
