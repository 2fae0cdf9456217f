"""The data set of a DICOM file, with its preamble and without."""

from collections.abc import Callable

import imagecodecs
import numpy as np
import pytest
from pydicom import uid

from mmgkeras.images.dicom import decode_dicom
from mmgkeras.images.dicom_facts import HEAD_BYTES, is_dicom

from .dicom_files import file_of, mammogram, ramp

RAMP = ramp()


def without_preamble(syntax: uid.UID = uid.ExplicitVRLittleEndian, *, frame: bytes | None = None) -> bytes:
    return file_of(mammogram(RAMP), syntax, frame=frame)[132:]


def without_meta(data: bytes) -> bytes:
    """The data set alone: what follows the file meta information, whose length stands at byte 8."""
    return data[12 + int.from_bytes(data[8:12], "little") :]


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.RLELossless])
def test_a_file_without_preamble_is_read(syntax: uid.UID) -> None:
    expected = decode_dicom(file_of(mammogram(RAMP), syntax))[0]
    data = without_preamble(syntax)
    assert is_dicom(data[:HEAD_BYTES])
    np.testing.assert_array_equal(decode_dicom(data)[0], expected)
    assert is_dicom(without_meta(data)[:HEAD_BYTES])
    if syntax != uid.RLELossless:
        np.testing.assert_array_equal(decode_dicom(without_meta(data))[0], expected)


def test_compressed_pixels_of_which_nothing_says_how(refused: Callable[[bytes, str], str]) -> None:
    frame = imagecodecs.jpegls_encode(RAMP.astype(np.uint16))
    refused(without_meta(without_preamble(uid.JPEGLSLossless, frame=frame)), "no transfer syntax says how")


def test_a_data_set_that_is_cut_anywhere_is_one_line(refused: Callable[[bytes, str], str]) -> None:
    data = without_meta(without_preamble())
    for length in range(20, len(data) - 20, max(1, len(data) // 25)):
        refused(data[:length], "is damaged or cut short|holds no image")
