"""DICOM to pixels in display polarity: all transfer syntaxes of mammography, modality LUT, VOI, padding.

Owns the way from a file's bytes to gray values; what the header says besides is `dicom_header`'s. pydicom parses. No
compression of DICOM has a checksum: what is promised of damage is what `jpeg` promises. So the strictest decoder is
taken: CharLS and imagecodecs' RLE, which refuse what pylibjpeg's and pydicom's let pass. Those of lossless JPEG are all
lenient, each in its own way: two must agree.

Gray values pass through one table of all stored values, so that an image needs no floating point copy. LUTs and windows
are applied here: pydicom's `apply_voi` wraps round beyond 16 bits, and its `apply_windowing` turns the range of a
negative slope. Format: DICOM PS3.3, C.7.6.3, C.11.1 and C.11.2; PS3.5, 8 and A.
"""

import math
import struct
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, uid
from pydicom.dataelem import RawDataElement
from pydicom.encaps import get_frame
from pydicom.pixels.utils import pixel_array
from scipy.special import expit

from mmgkeras.errors import InputError
from mmgkeras.images.dicom_bytes import parse_dicom, parse_header, pydicom_faults
from mmgkeras.images.dicom_facts import NAMED, Header, Kind
from mmgkeras.images.dicom_header import DCT, LOSSY, check_is_mammogram, is_for_processing, read_header
from mmgkeras.images.jpeg import decode_stream
from mmgkeras.images.samples import check_size, damaged, shown
from mmgkeras.schema import Pixels

_NATIVE: Final = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)
_JPEG_LOSSLESS: Final = (uid.JPEGLossless, uid.JPEGLosslessSV1)
_JPEG_LS: Final = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
_JPEG: Final = (*DCT, *_JPEG_LOSSLESS, *_JPEG_LS)
_JPEG_2000: Final = (uid.JPEG2000Lossless, uid.JPEG2000)
SYNTAXES: Final = (*_NATIVE, *_JPEG, *_JPEG_2000, uid.RLELossless)
_UNDEFINED: Final = 0xFFFFFFFF
"""The length of an element that ends with a delimiter."""
_CODESTREAM: Final = b"\xff\x4f\xff\x51"
"""The first two markers of a JPEG 2000 codestream, SOC and SIZ."""
_NO_FRAMES: Final = (0xC4, 0xC8, 0xCC)
"""Markers between 0xC0 and 0xCF that begin no frame of a JPEG."""

_Lut = tuple[NDArray[np.uint16], int, int]
"""Entries, the value of the first, and bits of each."""


def decode_dicom(data: bytes, *, voi: int = 1, take: Collection[Kind] = NAMED) -> tuple[Pixels, Header]:
    """(H, W) uint8 where at most 8 bits are left after the VOI LUT, else uint16, at full range; and the header's facts.

    Args:
        data: of a DICOM file, with its preamble or without.
        voi: which of the VOI LUTs and then windows of the header is applied, from 1; where it has none and this is 1,
            the range of the stored bits is taken.
        take: what is taken besides mammograms for presentation.

    Raises:
        InputError: for damage, a file that is no mammogram for presentation nor in `take`, a transfer syntax or kind of
            pixels that is not supported, a size over the limit, a `voi` that the header has not.
    """
    with pydicom_faults():
        dataset = parse_dicom(data)
        check_is_mammogram(dataset, take=take)
        _check_pixels(dataset)
        table = _display_table(dataset, voi)
        codes = _stored(dataset)
        return table[codes & np.array(len(table) - 1, dtype=codes.dtype)], read_header(dataset, voi=voi)


def inspect_dicom(path: Path) -> tuple[int, int, Header]:
    """Rows, columns and the header's facts of a DICOM file whose pixels stay unread.

    Raises:
        InputError: as `decode_dicom`, but for damage to the pixels.
    """
    with pydicom_faults():
        dataset = parse_header(path)
        check_is_mammogram(dataset, take=NAMED)
        _check_pixels(dataset)
        return int(dataset.Rows), int(dataset.Columns), read_header(dataset, voi=1)


def _check_pixels(dataset: Dataset) -> None:
    """Refuses what cannot be read, by the header alone."""
    check_size(dataset.Columns, dataset.Rows)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax not in SYNTAXES:
        raise InputError(
            f"has a transfer syntax that is not supported: {shown(syntax.name)}. dcmdjpeg or gdcmconv may convert it"
        )
    if dataset.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2") or dataset.SamplesPerPixel != 1:
        raise InputError(f"must be MONOCHROME1 or MONOCHROME2. Received: {shown(dataset.PhotometricInterpretation)}")
    allocated, stored = dataset.BitsAllocated, dataset.BitsStored
    if allocated not in (8, 16) or not 2 <= stored <= allocated or dataset.get("HighBit", stored - 1) != stored - 1:
        raise InputError(
            "must have 8 or 16 bits allocated, 2 or more of them stored, and these the lowest. "
            f"Received: {allocated}, {stored} and {dataset.get('HighBit')} as the highest"
        )
    if dataset.PixelRepresentation not in (0, 1):
        raise damaged(f"its Pixel Representation must be 0 or 1. Received: {shown(dataset.PixelRepresentation)}")
    if syntax in _NATIVE and _has_undefined_length(dataset):
        raise damaged("its pixels are compressed, and no transfer syntax says how")


def _has_undefined_length(dataset: Dataset) -> bool:
    """Whether the pixels are in fragments; they are not read for it."""
    element = dataset.get_item("PixelData", keep_deferred=True)
    return element.length == _UNDEFINED if isinstance(element, RawDataElement) else bool(element.is_undefined_length)


def _stored(dataset: Dataset) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """(H, W) the stored values as codes without sign; bits above Bits Stored may hold anything."""
    syntax, shape = dataset.file_meta.TransferSyntaxUID, (dataset.Rows, dataset.Columns)
    if syntax in (*_JPEG, *_JPEG_2000):
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
        *received, bits = _size_in_stream(frame)
        if tuple(received) != shape:
            raise damaged(f"an image of {shape[0]} x {shape[1]} pixels expected. Received: {received}")
        if syntax in _JPEG and not frame.rstrip(b"\x00\xff").endswith(b"\xff\xd9"):
            raise damaged("its JPEG stream has no end marker")
        if syntax in DCT and bits == 8:
            return decode_stream(frame, shape=(*shape, 1))[..., 0]
    values: NDArray[Any]
    if syntax in _JPEG_LS:
        values = imagecodecs.jpegls_decode(frame)
    elif syntax == uid.RLELossless:
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
        kind = f"<u{dataset.BitsAllocated // 8}"
        values = np.frombuffer(imagecodecs.dicomrle_decode(frame, dtype=kind), kind).reshape(shape)
    else:
        plugin = "" if syntax in _NATIVE else "pylibjpeg"
        values = pixel_array(dataset, decoding_plugin=plugin, correct_unused_bits=False)
        if (
            syntax in _JPEG_LOSSLESS
            and ((values ^ imagecodecs.jpegsof3_decode(frame)) & (2**dataset.BitsStored - 1)).any()
        ):
            raise damaged("two decoders read other pixels from its JPEG stream")
    if values.shape != shape:
        raise damaged(f"an image of {shape[0]} x {shape[1]} pixels expected. Received: {values.shape}")
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if syntax in LOSSY and not dataset.PixelRepresentation:  # what was near the largest value may lie above it now
        values = np.minimum(values, 2**dataset.BitsStored - 1)
    return values.view(np.uint8) if values.itemsize == 1 else values.view(np.uint16)


def _size_in_stream(frame: bytes) -> tuple[int, int, int]:
    """Rows, columns and bits that a JPEG, JPEG-LS or JPEG 2000 stream says it has (bits 0 for JPEG 2000)."""
    if _CODESTREAM in frame[:200]:
        place = frame.index(_CODESTREAM) + 8
        right, bottom, left, top = struct.unpack_from(">4I", frame, place)
        return bottom - top, right - left, 0
    position = 2
    while frame[position] == 0xFF:
        marker, length = struct.unpack_from(">xBH", frame, position)
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in _NO_FRAMES):
            bits, rows, columns = struct.unpack_from(">BHH", frame, position + 4)
            return rows, columns, bits
        position += 1 if marker == 0xFF else 2 + length
    raise damaged(f"a marker is missing in its JPEG stream at byte {position:,}")


def _display_table(dataset: Dataset, voi: int) -> Pixels:
    """(2 ** Bits Stored,) the gray value of each stored code, in display polarity and at full range."""
    bits = int(dataset.BitsStored)
    codes = np.arange(2**bits)
    stored = np.where(codes < 2 ** (bits - 1), codes, codes - 2**bits) if dataset.PixelRepresentation else codes
    luts = [_lut(dataset, item, values=stored) for item in dataset.get("ModalityLUTSequence") or ()]
    if luts:
        values, bits = _looked_up(luts[0], stored).astype(np.float64), luts[0][2]
        low, high = 0.0, 2.0**bits - 1
    else:
        slope, intercept = (_number(dataset, f"Rescale{name}", default) for name, default in _RESCALE.items())
        if not slope:
            raise damaged("its Rescale Slope is 0")
        values = stored * slope + intercept
        low, high = values.min(), values.max()
    whole = (values - low) / (high - low)
    if is_for_processing(dataset):
        gray = _attenuation(dataset, whole, voi=voi, bits=bits)
    else:
        windowed, bits = _windowed(dataset, values, voi=voi, bits=bits)
        gray = whole if windowed is None else windowed
        gray = 1 - gray if dataset.PhotometricInterpretation == "MONOCHROME1" else gray
    gray[_is_padding(dataset, stored)] = 0
    return np.rint(gray * 255).astype(np.uint8) if bits <= 8 else np.rint(gray * 65535).astype(np.uint16)


_RESCALE: Final = {"Slope": 1.0, "Intercept": 0.0}


def _attenuation(dataset: Dataset, whole: NDArray[np.float64], *, voi: int, bits: int) -> NDArray[np.float64]:
    """(N,) gray 0 to 1 of an image FOR PROCESSING: 1 where nothing reached the detector, 0 where all of its range did.

    `whole` are the values over their range, proportional to the exposure (LIN) or to its logarithm (LOG); by their sign
    either the highest or the lowest had most of it (PS3.3, C.8.11.3.1.2). An exposure x becomes 1 - ln(1 + x) / ln(2 **
    bits), x from 0 to 2 ** bits - 1, so that what the breast absorbs adds up and no image's own extremes count.
    """
    if voi != 1:
        raise InputError(
            f"must have as many VOI LUTs and windows as the one asked for, {voi}. Received: FOR PROCESSING"
        )
    relation = str(dataset.get("PixelIntensityRelationship") or "LIN").upper()
    if relation not in ("LIN", "LOG"):
        raise InputError(f"must have a Pixel Intensity Relationship of LIN or LOG. Received: {shown(relation)}")
    sign = dataset.get("PixelIntensityRelationshipSign")
    if sign not in (1, -1):
        sign = 1 if dataset.PhotometricInterpretation == "MONOCHROME1" else -1
    exposure = whole if sign == 1 else 1 - whole
    return 1 - exposure if relation == "LOG" else 1 - np.log1p(exposure * (2**bits - 1)) / (bits * math.log(2))


def _windowed(
    dataset: Dataset, values: NDArray[np.float64], *, voi: int, bits: int
) -> tuple[NDArray[np.float64] | None, int]:
    """(N,) the values after the VOI LUT or window of that number, 0 to 1, None where there is none; bits left."""
    luts = [_lut(dataset, item, values=values) for item in dataset.get("VOILUTSequence") or ()]
    centers, widths = (np.atleast_1d(_floats(dataset, f"Window{name}")) for name in ("Center", "Width"))
    if len(centers) != len(widths):
        raise damaged(f"it has {len(centers)} window centers and {len(widths)} widths")
    number = len(luts) + len(centers)
    if not 1 <= voi <= max(number, 1):
        raise InputError(f"must have as many VOI LUTs and windows as the one asked for, {voi}. Received: {number}")
    if not number:
        return None, bits
    if voi <= len(luts):
        lut = luts[voi - 1]
        return _looked_up(lut, np.rint(values).astype(np.int64)) / (2 ** lut[2] - 1), lut[2]
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    center, width = centers[voi - len(luts) - 1], widths[voi - len(luts) - 1]
    return _window(values, function=function, center=center, width=width), bits


def _window(values: NDArray[np.float64], *, function: str, center: float, width: float) -> NDArray[np.float64]:
    """The values 0 to 1 of a window (PS3.3, C.11.2.1.2 and C.11.2.1.3)."""
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if not np.isfinite(center) or width < 0 or (width == 0 and function != "LINEAR"):
        raise damaged(f"its window has an impossible center or width for {shown(function)}")
    if function == "SIGMOID":
        return np.asarray(expit(4 * (values - center) / width), dtype=np.float64)
    if function not in ("LINEAR", "LINEAR_EXACT"):
        raise damaged(f"its VOI LUT Function is unknown: {shown(function)}")
    if width == 0:
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0, 1)


def _lut(dataset: Dataset, item: Dataset, *, values: NDArray[Any]) -> _Lut:
    """The table of an item of the Modality or VOI LUT Sequence for these values (PS3.3, C.11.1.1 and C.11.2.1.1)."""
    num_entries, first, bits = (int(number) for number in item.LUTDescriptor)
    if values.min() < 0:
        first = _in_16_bits(first, is_signed=True)
    num_entries = num_entries or 2**16
    order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
    data = item.LUTData
    raw = data if isinstance(data, bytes) else np.atleast_1d(np.asarray(data)).astype(f"{order}u2").tobytes()
    is_packed = bits <= 8 and len(raw) < 2 * num_entries
    entries = np.frombuffer(raw, dtype="u1" if is_packed else f"{order}u2")[:num_entries].astype(np.uint16)
    if len(entries) != num_entries or not 2 <= bits <= 16 or entries.max() >= 2**bits:
        raise damaged(f"a LUT of {num_entries:,} values of {bits} bits is not what it has")
    return entries, first, bits


def _looked_up(lut: _Lut, values: NDArray[Any]) -> NDArray[np.uint16]:
    """What the table has for whole numbers; its first and last entry hold beyond its ends."""
    entries, first, _ = lut
    return np.asarray(entries[np.clip(values - first, 0, len(entries) - 1)])


def _is_padding(dataset: Dataset, stored: NDArray[Any]) -> NDArray[np.bool_]:
    """(N,) which stored values are Pixel Padding Value, or between it and the limit of its range (PS3.3, C.7.5.1)."""
    padding = dataset.get("PixelPaddingValue")
    if padding is None:
        return np.zeros(len(stored), dtype=np.bool_)
    limit = dataset.get("PixelPaddingRangeLimit")
    is_signed = bool(dataset.PixelRepresentation)
    ends = (padding, padding if limit is None else limit)
    low, high = sorted(_in_16_bits(int(end), is_signed=is_signed) for end in ends)
    return (stored >= low) & (stored <= high)


def _in_16_bits(number: int, *, is_signed: bool) -> int:
    """A number of US or SS by what it is compared with: implicit VR does not tell which, and some writers err."""
    number &= 0xFFFF
    return number - 0x10000 if is_signed and number >= 0x8000 else number


def _floats(dataset: Dataset, keyword: str) -> NDArray[np.float64]:
    value = dataset.get(keyword)
    return np.asarray([] if value is None or value == "" else value, dtype=np.float64)


def _number(dataset: Dataset, keyword: str, default: float) -> float:
    return float(next(iter(np.atleast_1d(_floats(dataset, keyword))), default))
