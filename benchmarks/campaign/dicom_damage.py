"""DICOM files of each kind of pixels, to be damaged, and what a second decoder makes of them.

pydicom parses both times; the pixels are those of imagecodecs (CharLS, OpenJPEG, its own RLE and lossless JPEG).
"""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread, uid
from pydicom.encaps import get_frame

from tests.images.dicom_files import file_of, mammogram

_ROWS, _COLS = np.mgrid[:60, :70]
_STORED = (2048 + 1500 * np.sin(_ROWS / 9) * np.cos(_COLS / 11)).astype(np.uint16) + (_ROWS * _COLS % 5).astype("u2")


def dicom_files() -> dict[str, tuple[bytes, Callable[[bytes], NDArray[Any]]]]:
    """A mammogram of 12 bits in each kind of transfer syntax that keeps pixels exactly, and its second decoder."""
    frames = {
        "JPEG-LS": (uid.JPEGLSLossless, imagecodecs.jpegls_encode(_STORED)),
        "JPEG 2000": (uid.JPEG2000Lossless, imagecodecs.jpeg2k_encode(_STORED, level=0, codecformat="j2k")),
        "JPEG lossless": (uid.JPEGLosslessSV1, imagecodecs.jpeg8_encode(_STORED, bitspersample=12, lossless=True)),
    }
    syntaxes = {
        "implicit": uid.ImplicitVRLittleEndian,
        "explicit": uid.ExplicitVRLittleEndian,
        "big endian": uid.ExplicitVRBigEndian,
        "RLE": uid.RLELossless,
        "deflated": uid.DeflatedExplicitVRLittleEndian,
    }
    files = {name: file_of(mammogram(_STORED), syntax) for name, syntax in syntaxes.items()}
    files |= {name: file_of(mammogram(_STORED), syntax, frame=frame) for name, (syntax, frame) in frames.items()}
    files["without preamble"] = files["explicit"][132:]
    return {f"DICOM {name}": (data, _second) for name, data in files.items()}


def _second(data: bytes) -> NDArray[Any]:
    data = data if data[128:132] == b"DICM" else bytes(128) + b"DICM" + data
    dataset = dcmread(BytesIO(data))
    shape, bits, syntax = (dataset.Rows, dataset.Columns), dataset.BitsStored, dataset.file_meta.TransferSyntaxUID
    kind = np.dtype(f"u{dataset.BitsAllocated // 8}").newbyteorder("<" if syntax.is_little_endian else ">")
    if not syntax.is_compressed or syntax == uid.DeflatedExplicitVRLittleEndian:
        values = np.frombuffer(dataset.PixelData, kind)[: shape[0] * shape[1]]
    else:
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
        if syntax == uid.RLELossless:
            values = np.frombuffer(imagecodecs.dicomrle_decode(frame, dtype=kind.newbyteorder("<")), kind)
        elif syntax == uid.JPEGLSLossless:
            values = imagecodecs.jpegls_decode(frame)
        elif syntax == uid.JPEG2000Lossless:
            values = imagecodecs.jpeg2k_decode(frame)
        else:
            values = imagecodecs.jpeg8_decode(frame)
    codes = values.reshape(shape).astype(np.int64) & (2**bits - 1)
    codes = (codes + 2 ** (bits - 1)) % 2**bits if dataset.PixelRepresentation else codes
    full = 255 if bits <= 8 else 65535
    return np.rint(codes / (2**bits - 1) * full).astype(f"u{1 if bits <= 8 else 2}")
