"""Files that promise, hold or unfold to too much, and files that are none: read within 2 GB and 10 s, or refused."""

import json
import os
import resource
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.campaign.files import faults_of_message
from benchmarks.campaign.mutations import forge
from benchmarks.campaign.trials import Trial
from mmgkeras.config import read_config
from mmgkeras.errors import MmgError
from mmgkeras.images import read_pixels
from mmgkeras.patches.prepare import prepare
from mmgkeras.patches.region_masks import region_mask
from mmgkeras.patches.store import PatchStore
from mmgkeras.savedmodel.metadata import METADATA_FILE, read_metadata
from mmgkeras.savedmodel.operations import check_operations
from mmgkeras.study.layout import read_crossval
from mmgkeras.study.run_files import read_environment
from mmgkeras.tables import read_images, read_labels, read_predictions, read_regions
from mmgkeras.training.checkpoint import load_checkpoint
from mmgkeras.training.tensorboard_log import drop_later_events

MEMORY_BYTES = 2**31
CPU_S = 10
_MILLION = 10**6
_NESTED = b"[" * _MILLION
Made = Callable[[], bytes]
Read = Callable[[Path], object]


def bomb_trials(scratch: Path) -> Iterator[Trial]:
    """Each file with its reader, in a process that may take so much more memory and processor time."""
    for name, data, read in (*_images(), *_tables(), *_texts(), *_arrays()):
        yield Trial(f"bombs: {name}", partial(_within_limits, partial(_write, data=data), read, scratch=scratch))
    readers: dict[str, Read] = {
        "image": read_pixels,
        "images.csv": read_images,
        "regions.csv": read_regions,
        "predictions.csv": read_predictions,
        "config.toml": read_config,
        "store.json": lambda path: PatchStore.open(_as(path, "store.json")),
        "crossval.json": lambda path: read_crossval(_as(path, "crossval.json")),
        "environment.json": lambda path: read_environment(_as(path, "environment.json")),
    }
    for kind, make in _NO_FILES.items():
        for name, read in readers.items():
            yield Trial(f"bombs: {kind} as {name}", partial(_within_limits, make, read, scratch=scratch))


def _within_limits(make: Callable[[Path], object], read: Read, *, scratch: Path) -> str | None:
    with TemporaryDirectory(dir=scratch) as name:
        path = Path(name) / "file"
        make(path)
        _limit(resource.RLIMIT_AS, _virtual_bytes() + MEMORY_BYTES)
        used = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + CPU_S + 1)
        try:
            read(path)
        except MmgError as error:
            return "; ".join(faults_of_message(str(error))) or None
        except MemoryError:
            return "takes over 2 GB"
        return None


def _limit(kind: int, most: int) -> None:
    resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))


def _virtual_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _write(path: Path, *, data: Made) -> None:
    path.write_bytes(data())


def _as(path: Path, name: str) -> Path:
    """The folder of a file that was given the name that its reader looks for."""
    place = path.with_name(name)
    place.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() or path.is_symlink():
        path.rename(place)
    return path.parent


_NO_FILES: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": Path.mkdir,
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nothing": lambda path: path.symlink_to(path.with_name("nothing")),
    "nothing": str,
}


def _images() -> Iterator[tuple[str, Made, Read]]:
    kinds: dict[str, Made] = {
        "PGM, 100 MB of blanks": lambda: b"P5" + b" " * 10**8 + b"3 2 255\n123456",
        "PGM, 100 MB of comment": lambda: b"P5\n#" + b"x" * 10**8 + b"\n3 2 255\n123456",
        "PGM, 30 million comments": lambda: b"P5\n" + b"#\n" * 30 * _MILLION + b"3 2 255\n123456",
        "PGM, 10 million digits": lambda: b"P5 " + b"9" * 10**7 + b" 2 255\n123456",
        "PGM, huge": lambda: b"P5 1000000 1000000 255\n123456",
        "PNG, huge": lambda: _png(2**31 - 1, 2**31 - 1, b""),
        "PNG, 9 GB of zeros": lambda: _png(10_000, 9_999, _zeros(9 * 10**9)),
        "PNG, 1 GB of zeros in text": lambda: _png(3, 2, zlib.compress(bytes(8)), zTXt=b"a\0\0" + _zeros(10**9)),
        "PNG, 1 GB of zeros in a colour profile": lambda: _png(
            3, 2, zlib.compress(bytes(8)), iCCP=b"a\0\0" + _zeros(10**9)
        ),
        "PNG, a million empty chunks": lambda: _png(3, 2, zlib.compress(bytes(8)), repeats=_MILLION),
        "JPEG, huge": lambda: (
            b"\xff\xd8\xff\xc0\x00\x0b\x08\xff\xff\xff\xff\x01\x01\x11\x00"
            + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
        ),
        "JPEG, 100 MB of fill": lambda: b"\xff\xd8" + b"\xff" * 10**8,
        "TIFF, 60,000 frames": lambda: _tiff_frames(60_000),
        "TIFF, frames in a ring": lambda: _tiff_frames(2, ring=True),
        "TIFF, huge": lambda: _tiff({256: 2**31, 257: 2**31, 279: 6}),
        "TIFF, 4 billion strips": lambda: _tiff({278: 1}, counts={273: 2**32 - 1, 279: 2**32 - 1}),
        "TIFF, 4 billion tags": lambda: b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0" + b"\xff" * 64,
        "TIFF, 9 GB of zeros": lambda: _tiff({256: 10_000, 257: 9_999, 278: 9_999, 259: 8}, pixels=_zeros(9 * 10**9)),
    }
    for name, data in kinds.items():
        yield name, data, read_pixels


def _tables() -> Iterator[tuple[str, Made, Read]]:
    images = b"image_id,path,patient_id,laterality,view,annotation\n"
    regions = b"image_id,region_id,kind,shape,points\na,1,cluster,"
    ring = b" ".join(b"%d,%d" % (place * 37 % 3000, place * 53 % 3000) for place in range(20_000))
    predictions = b"image_id,patient_id,fold,row,col,label,probability,tissue\n"
    yield "CSV, a field of 200 MB", lambda: images + b"a" * 2 * 10**8 + b",x,p,L,CC,complete\n", read_images
    yield "CSV, a quotation mark that is not closed", lambda: images + b'"' + b"a\n" * 5 * 10**7, read_images
    yield "CSV, a million columns", lambda: b"image_id," * _MILLION + b"\n", read_images
    yield "CSV, 50 million empty lines", lambda: images + b"\n" * 5 * 10**7, read_images
    yield "CSV, a million wrong lines", lambda: images + b",,,,,\n" * _MILLION, read_images
    yield "CSV, a million NULs", lambda: images + b"\0" * _MILLION, read_labels
    yield "CSV, a million digits", lambda: predictions + b"a,p,1,0,0,1,0.5," + b"9" * _MILLION + b"\n", read_predictions
    yield "CSV, rows at 10 to the 17", lambda: predictions + b"a,p,1,1" + b"0" * 17 + b",0,1,0.5,1\n", read_predictions
    yield "a polygon of 20,000 corners", lambda: regions + b'polygon,"' + ring + b'"\n', _draw
    yield "a mask of 20,000 corners", lambda: regions + b'mask,"' + ring + b'"\n', _draw
    yield "a circle of a billion pixels", lambda: regions + b'circle,"5,5 900000000,900000000"\n', _draw


def _draw(path: Path) -> None:
    for region in read_regions(path):
        region_mask(region, height=4000, width=3000)


def _texts() -> Iterator[tuple[str, Made, Read]]:
    toml: dict[str, Made] = {
        "a key of 50,000 dots": lambda: b"a" + b".a" * 50_000 + b" = 1",
        "a key of 30,000 dots": lambda: b"a" + b".a" * 30_000 + b" = 1",
        "a table of 30,000 dots": lambda: b"[" + b"a." * 30_000 + b"a]",
        "lists in lists": lambda: b"x = " + b"[" * 30_000,
        "tables in tables": lambda: b"x = " + b"{a=" * 10_000,
        "50,000 digits": lambda: b"x = " + b"9" * 50_000,
        "20,000 keys": lambda: b"".join(b"a%d=1\n" % number for number in range(6000)),
        "200 MB": lambda: b"#" * 2 * 10**8,
    }
    for name, data in toml.items():
        yield f"TOML, {name}", data, read_config
    values: dict[str, Made] = {
        "nested a million deep": lambda: b'{"a":' + _NESTED,
        "a million digits": lambda: b'{"format_version": ' + b"9" * _MILLION + b"}",
        "60 MB of text": lambda: b'{"created": "' + b"x" * 6 * 10**7 + b'"}',
        "200 MB": lambda: b" " * 2 * 10**8,
        "a million keys": lambda: json.dumps(dict.fromkeys(map(str, range(_MILLION)), 0)).encode(),
        "a million times one key": lambda: b"{" + b'"a":1,' * _MILLION + b'"b":1}',
        "half a character": lambda: b'{"created": "\\ud800"}',
    }
    readers: dict[str, Read] = {
        "store.json": lambda path: PatchStore.open(_as(path, "store.json")),
        "crossval.json": lambda path: read_crossval(_as(path, "crossval.json")),
        "mmgkeras.json": _metadata,
    }
    for reader, read in readers.items():
        for name, data in values.items():
            yield f"{reader}, {name}", data, read


def _metadata(path: Path) -> object:
    folder = path.with_name("model")
    (folder / METADATA_FILE).parent.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"")
    path.rename(folder / METADATA_FILE)
    return read_metadata(folder)


def _arrays() -> Iterator[tuple[str, Made, Read]]:
    headers = {
        "a shape of 10 to the 15": "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000, 1000, 1000, 1)}",
        "a pickle": "{'descr': '|O', 'fortran_order': False, 'shape': (16, 8, 8, 1)}",
        "a header of 60,000 brackets": "(" * 60_000,
        "negative": "{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 8, 8, 1)}",
    }
    for name, header in headers.items():
        yield f"shard, {name}", partial(_npy, header), _open_store
    yield "checkpoint, 10 GB of zeros", _npz, lambda path: load_checkpoint(path, model=(), optimizer=())
    yield "events, a record of 10 to the 18 bytes", lambda: struct.pack("<QI", 10**18, 0) + bytes(100), _events
    yield "SavedModel, 100 MB of noise", lambda: np.random.default_rng(0).bytes(10**8), _graph
    yield "SavedModel, nested", lambda: b"\x12\xff\xff\xff\x7f" * 1000, _graph


def _open_store(path: Path) -> None:
    """Opens a store whose shard is the file, its checksum redone."""
    from benchmarks.campaign.scenarios import make_data

    store = path.with_name("store")
    prepare(make_data(path.with_name("data")), store, _patches())
    path.rename(store / "patches-00000.npy")
    forge(store)
    PatchStore.open(store)


def _patches() -> Any:
    from mmgkeras.config import PatchesConfig

    return PatchesConfig(patch_px=8)


def _events(path: Path) -> None:
    path.rename(path.with_name("events.out.tfevents.1.v2"))
    drop_later_events(path.parent, last_step=10)


def _graph(path: Path) -> None:
    path.rename(path.with_name("saved_model.pb"))
    check_operations(path.parent)


def _npy(header: str) -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(1024)


def _npz() -> bytes:
    with TemporaryDirectory() as name:
        path = Path(name) / "a.npz"
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
            file.open("step.npy", "w", force_zip64=True) as part,
        ):
            header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (375000000,)}\n"
            part.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
            for _ in range(3000):
                part.write(bytes(_MILLION))
        return path.read_bytes()


def _zeros(number: int) -> bytes:
    """So many zeros, deflated: a block of ten million again and again."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = deflate.compress(bytes(10**7)) + deflate.flush(zlib.Z_FULL_FLUSH)
    checksum = struct.pack(">I", number % 65521 << 16 | 1)
    return b"\x78\xda" + block * (number // 10**7) + deflate.flush() + checksum


def _png(width: int, height: int, pixels: bytes, *, repeats: int = 0, **chunks: bytes) -> bytes:
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))]
    parts += [(name.encode(), data) for name, data in chunks.items()]
    empty = _chunk(b"IDAT", b"")
    ends = b"".join(_chunk(kind, data) for kind, data in ((b"IDAT", pixels), (b"IEND", b"")))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts) + empty * repeats + ends


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


_TAGS = {256: 3, 257: 2, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2, 279: 6}


def _tiff(changes: dict[int, int], *, counts: dict[int, int] | None = None, pixels: bytes = b"123456") -> bytes:
    """A TIFF of 3 x 2 pixels whose tags have other values, or other numbers of them."""
    tags = _TAGS | {279: len(pixels), 273: 8} | changes
    entries = [struct.pack("<HHII", tag, 4, (counts or {}).get(tag, 1), value) for tag, value in sorted(tags.items())]
    place = 8 + len(pixels)
    return b"II*\0" + struct.pack("<I", place) + pixels + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)


def _tiff_frames(number: int, *, ring: bool = False) -> bytes:
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(_TAGS.items()))
    size, first = 2 + len(entries) + 4, 14
    frames = [
        struct.pack("<H", len(_TAGS))
        + entries
        + struct.pack("<I", (first if ring else 0) if place == number - 1 else first + (place + 1) * size)
        for place in range(number)
    ]
    return b"II*\0" + struct.pack("<I", first) + b"123456" + b"".join(frames)
