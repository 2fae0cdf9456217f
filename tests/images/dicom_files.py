"""DICOM files as the tests need them: a mammogram that pydicom writes, with the attributes given."""

from io import BytesIO
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, RLELossless

from mmgkeras.images.dicom import decode_dicom

FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.2"


def ramp(bits: int = 12, *, shape: tuple[int, int] = (40, 30)) -> np.ndarray:
    """Stored values over the whole range of the bits, rising in both directions."""
    return np.linspace(0, 2**bits - 1, shape[0] * shape[1]).reshape(shape).round().astype(np.int64)


def mammogram(stored: np.ndarray, *, bits: int = 12, is_signed: bool = False, **attributes: Any) -> Dataset:
    """A mammogram for presentation with these stored values; attributes that are None are left out."""
    allocated = 8 if bits <= 8 else 16
    dataset = Dataset()
    values = {
        "SOPClassUID": FOR_PRESENTATION,
        "SOPInstanceUID": "1.2.3.4",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.1",
        "Modality": "MG",
        "PresentationIntentType": "FOR PRESENTATION",
        "PatientName": "Doe^Jane",
        "PatientID": "4711",
        "PatientBirthDate": "19600102",
        "Rows": stored.shape[0],
        "Columns": stored.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": allocated,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(is_signed),
        **attributes,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.PixelData = stored.astype(f"{'i' if is_signed else 'u'}{allocated // 8}").tobytes()
    dataset["PixelData"].VR = "OB" if allocated == 8 else "OW"
    return dataset


def item(**attributes: Any) -> Dataset:
    """An item of a sequence."""
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def code(value: str, *modifiers: str) -> Dataset:
    """An item of a code sequence, with view modifiers."""
    made = item(CodeValue=value, CodingSchemeDesignator="SCT", CodeMeaning="x")
    if modifiers:
        made.ViewModifierCodeSequence = [code(modifier) for modifier in modifiers]
    return made


def lut(entries: list[int], *, first: int, bits: int) -> Dataset:
    """An item of a LUT sequence with 16-bit entries."""
    made = Dataset()
    made.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries), first, bits])
    made.add_new("LUTData", "US", entries)
    return made


def file_of(dataset: Dataset, syntax: UID = ExplicitVRLittleEndian, *, frame: bytes | None = None) -> bytes:
    """The bytes of a file in a transfer syntax; compressed ones are given their frame, but for RLE."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", FOR_PRESENTATION)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2")
    if syntax == RLELossless:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    elif frame is not None:
        dataset.PixelData = encapsulate([frame])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    elif syntax == ExplicitVRBigEndian and dataset.BitsAllocated == 16:
        dataset.PixelData = np.frombuffer(dataset.PixelData, np.uint16).byteswap().tobytes()
    buffer = BytesIO()
    dataset.save_as(
        buffer,
        enforce_file_format=True,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
    )
    assert syntax != DeflatedExplicitVRLittleEndian or len(buffer.getvalue()) < 10_000
    return buffer.getvalue()


RAMP = ramp()


def full(gray: np.ndarray) -> np.ndarray:
    """Values 0 to 1 as full-range uint16."""
    return np.rint(gray * 65535).astype(np.uint16)


def decoded(stored: np.ndarray = RAMP, *, voi: int = 1, bits: int = 12, is_signed: bool = False, **attributes: object):
    return decode_dicom(file_of(mammogram(stored, bits=bits, is_signed=is_signed, **attributes)), voi=voi)[0]
