"""The files that a DICOMDIR names."""

import re
import warnings
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from mmgkeras.errors import InputError
from mmgkeras.sources.dicomdir import read_dicomdir
from tests.images.dicom_files import file_of, item, mammogram, ramp


def write_dicomdir(folder: Path, *names: object) -> Path:
    """A DICOMDIR with a patient and a record for each Referenced File ID."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names that the standard does not allow
        return _write(folder, *names)


def _write(folder: Path, *names: object) -> Path:
    dataset = Dataset()
    dataset.DirectoryRecordSequence = [
        item(DirectoryRecordType="PATIENT", PatientName="Doe^Jane"),
        *(item(DirectoryRecordType="IMAGE", ReferencedFileID=name) for name in names),
    ]
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2"
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    path = folder / "DICOMDIR"
    path.write_bytes(buffer.getvalue())
    return path


def test_each_file_once_and_missing_ones_too(tmp_path: Path) -> None:
    path = write_dicomdir(tmp_path, ["A", "IM1"], "IM2", ["A", "IM1"])
    assert read_dicomdir(path) == [tmp_path / "A/IM1", tmp_path / "IM2"]


def test_names_that_were_copied_in_lower_case_are_found(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "im1").touch()
    assert read_dicomdir(write_dicomdir(tmp_path, ["A", "IM1"])) == [tmp_path / "a/im1"]


@pytest.mark.parametrize("name", [["..", "secret"], "/etc/passwd", [".", "x"], ["", "x"]])
def test_a_file_outside_is_refused(tmp_path: Path, name: object) -> None:
    with pytest.raises(InputError, match=rf"{re.escape(str(tmp_path))}/DICOMDIR: names a file outside its folder"):
        read_dicomdir(write_dicomdir(tmp_path, name))


def test_what_is_no_dicomdir_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_dicomdir(path)
    path.write_text("hello")
    with pytest.raises(InputError, match="must be a folder with DICOM files, or a DICOMDIR"):
        read_dicomdir(path)
    path.write_bytes(file_of(mammogram(ramp())))
    with pytest.raises(InputError, match=r"or a DICOMDIR\. Received: another DICOM file"):
        read_dicomdir(path)
    path.write_bytes(write_dicomdir(tmp_path, "IM1").read_bytes()[:-30])
    with pytest.raises(InputError, match="is damaged or cut short"):
        read_dicomdir(path)
