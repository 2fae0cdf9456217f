"""DICOMDIR, the table of contents of a CD: the files that it names. Format: DICOM PS3.3, F; PS3.10, 8."""

from functools import cache
from pathlib import Path
from typing import Final

from pydicom.uid import MediaStorageDirectoryStorage

from mmgkeras.errors import InputError, shown
from mmgkeras.images.dicom_bytes import parse_dicom, pydicom_faults
from mmgkeras.images.dicom_facts import HEAD_BYTES, is_dicom

_MAX_BYTES: Final = 2**28


def read_dicomdir(path: Path) -> list[Path]:
    """The files that a DICOMDIR names, each once, in its order; one that is missing is among them.

    Names count without case where the file system has them in another, as CDs are often copied.

    Raises:
        InputError: if the file cannot be read, is no DICOMDIR, or names a file outside its folder.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not is_dicom(data[:HEAD_BYTES]):
        raise InputError(f"{path}: must be a folder with DICOM files, or a DICOMDIR")
    found = cache(_entries)
    files: dict[Path, None] = {}
    try:
        with pydicom_faults():
            dataset = parse_dicom(data)
            if dataset.file_meta.MediaStorageSOPClassUID != MediaStorageDirectoryStorage:
                raise InputError("must be a folder with DICOM files, or a DICOMDIR. Received: another DICOM file")
            for record in dataset.DirectoryRecordSequence:
                parts = record.get("ReferencedFileID") or ()
                place = path.parent
                for part in [parts] if isinstance(parts, str) else parts:
                    if part in ("", ".", "..") or "/" in part or "\0" in part:
                        raise InputError(f"names a file outside its folder. Received: {shown(parts)}")
                    place /= found(place).get(part.casefold(), part)
                if parts:
                    files[place] = None
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return list(files)


def _entries(folder: Path) -> dict[str, str]:
    """The names in a folder without case, as they are; of two that differ in case alone, either."""
    try:
        return {entry.name.casefold(): entry.name for entry in folder.iterdir()}
    except OSError:
        return {}
