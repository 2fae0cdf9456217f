"""What tells a DICOM file from others, and that others are read without pydicom."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgkeras.images.dicom_facts import is_dicom


@pytest.mark.parametrize(
    "head",
    [b"", b"\x08\x00\x05", b"\x08\x00\x50\x00CS\x04\x00", b"\x10\x00\x10\x00PN\x04\x00", b"\x89PNG" + bytes(136)],
)
def test_what_is_no_dicom(head: bytes) -> None:
    assert not is_dicom(head)


def test_other_files_are_read_without_pydicom(tmp_path: Path) -> None:
    Image.fromarray(np.ones((3, 4), np.uint8)).save(tmp_path / "a.png")
    code = (
        "import sys; from pathlib import Path; from mmgkeras.patches import prepare; from mmgkeras.images import *;"
        "read_pixels(Path(sys.argv[1])); read_facts(Path(sys.argv[1])); print('pydicom' in sys.modules)"
    )
    command = [sys.executable, "-c", code, tmp_path / "a.png"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"
