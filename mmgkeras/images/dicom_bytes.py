"""The bytes of a DICOM file to a data set: what a DICOM file is, a missing preamble, what pydicom raises on damage.

Knows nothing of pixels or of what the attributes mean. Format: DICOM PS3.10, 7; PS3.5, 7 and A.
"""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Final

from pydicom import FileDataset, dcmread, uid
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info

from mmgkeras.images.dicom_facts import is_explicit
from mmgkeras.images.samples import MAX_PIXELS, damaged

_PREAMBLE: Final = bytes(128) + b"DICM"
_META: Final = len(_PREAMBLE)
"""The byte at which the file meta information begins: (0002,0000) with the length of the rest."""
_MAX_BYTES: Final = 4 * MAX_PIXELS
_DEFERRED_BYTES: Final = 64 * 1024
_FAULTS: Final = (
    BytesLengthException,
    InvalidDicomError,
    AttributeError,
    ArithmeticError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What pydicom and its decoders raise on files that break the format, RecursionError among the RuntimeErrors."""


def parse_dicom(data: bytes) -> FileDataset:
    """The data set of a DICOM file; to be used within `pydicom_faults`.

    Without preamble it gets one; without file meta information, that of an uncompressed little-endian data set.

    Raises:
        InputError: if the file meta information is cut, or a deflated part does not end within the limit.
    """
    data = data if data[128:_META] == b"DICM" else _with_preamble(data)
    tag, length = struct.unpack_from("<4s4xI", data, _META)
    start = _META + 12 + length
    if tag != b"\x02\x00\x00\x00" or start >= len(data):
        raise damaged("its file meta information has no right beginning or end")
    if dcmread(BytesIO(data[:start])).file_meta.TransferSyntaxUID == uid.DeflatedExplicitVRLittleEndian:
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        stream.decompress(data[start:], _MAX_BYTES)
        if not stream.eof:
            raise damaged(f"its deflated part does not end, or within {_MAX_BYTES:,} bytes")
    return dcmread(BytesIO(data))


def parse_header(path: Path) -> FileDataset:
    """The data set of a DICOM file whose large elements, the pixels, stay on the disk until they are asked for.

    To be used within `pydicom_faults`; a file that is deflated or has no preamble is read whole.

    Raises:
        InputError: as `parse_dicom`.
    """
    with path.open("rb") as file:
        has_preamble = file.read(_META)[128:] == b"DICM"
    if has_preamble and read_file_meta_info(path).TransferSyntaxUID != uid.DeflatedExplicitVRLittleEndian:
        return dcmread(path, defer_size=_DEFERRED_BYTES)
    return parse_dicom(path.read_bytes())


@contextmanager
def pydicom_faults() -> Iterator[None]:
    """Turns what pydicom and its decoders raise into the one error; their words, which may hold names, are not told."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except _FAULTS as error:
        raise damaged(f"it breaks the rules of DICOM ({type(error).__name__})") from error


def _with_preamble(data: bytes) -> bytes:
    if data[:2] == b"\x02\x00":
        return _PREAMBLE + data
    syntax = (uid.ExplicitVRLittleEndian if is_explicit(data) else uid.ImplicitVRLittleEndian).encode()
    syntax += b"\x00" * (len(syntax) % 2)
    told = struct.pack("<HH2sH", 2, 0x0010, b"UI", len(syntax)) + syntax
    return _PREAMBLE + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(told)) + told + data
