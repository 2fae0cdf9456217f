"""DICOM read beside dcmtk and GDCM: `python benchmarks/dicom_peers.py`; needs dcmtk and libgdcm-tools (Debian).

A phantom is written by pydicom, compressed by each tool in each of its transfer syntaxes and read back; VOI LUTs and
windows are held against the pictures of dcm2pnm. Prints the tables of docs/dicom.md.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread, uid

from mmgkeras.images import read_pixels, read_with_header
from mmgkeras.sources.phantom import write_phantom
from tests.images.dicom_files import file_of, lut, mammogram

BITS = 12
SYNTAXES = {
    "dcmtk": {
        "implicit": "dcmconv +ti",
        "big endian": "dcmconv +tb",
        "deflated": "dcmconv +td",
        "JPEG lossless, SV1": "dcmcjpeg +e1",
        "JPEG lossless, selection value 4": "dcmcjpeg +el +sv 4",
        "JPEG lossless, selection value 7": "dcmcjpeg +el +sv 7",
        "JPEG extended, 12 bits": "dcmcjpeg +ee +q 90",
        "JPEG-LS lossless": "dcmcjpls +el",
        "JPEG-LS near-lossless": "dcmcjpls +en +md 2",
        "RLE": "dcmcrle",
    },
    "GDCM": {
        "implicit": "gdcmconv -w --implicit",
        "JPEG lossless, SV1": "gdcmconv --jpeg",
        "JPEG-LS lossless": "gdcmconv --jpegls",
        "JPEG-LS near-lossless": "gdcmconv -L -Y -e 2",
        "JPEG 2000 lossless": "gdcmconv --j2k",
        "JPEG 2000": "gdcmconv -K -Y -r 10",
        "RLE": "gdcmconv --rle",
    },
}
SYNTAXES_OF_8_BITS = {
    "dcmtk": {"JPEG baseline": "dcmcjpeg +eb +q 90", "JPEG extended, 8 bits": "dcmcjpeg +ee +q 90"},
    "GDCM": {"JPEG baseline": "gdcmconv -J -Y -q 90"},
}
TWO_WINDOWS = {"WindowCenter": [2000, 1500], "WindowWidth": [3000, 800]}
VOI = {
    "none": ({}, "-W", 1),
    "LINEAR": ({"WindowCenter": 2000, "WindowWidth": 3000}, "+Wi 1", 1),
    "LINEAR, the second of two": (TWO_WINDOWS, "+Wi 2", 2),
    "SIGMOID": ({"WindowCenter": 2000, "WindowWidth": 3000, "VOILUTFunction": "SIGMOID"}, "+Wi 1", 1),
    "LINEAR, slope 2, intercept -100": ({**TWO_WINDOWS, "RescaleSlope": 2, "RescaleIntercept": -100}, "+Wi 1", 1),
    "LINEAR, MONOCHROME1": ({**TWO_WINDOWS, "PhotometricInterpretation": "MONOCHROME1"}, "+Wi 1", 1),
    "VOI LUT of 12 bits": (
        {"VOILUTSequence": [lut([int(4095 * (n / 4095) ** 0.5) for n in range(4096)], first=0, bits=12)]},
        "+Wl 1",
        1,
    ),
    "VOI LUT, the second of two": (
        {
            "VOILUTSequence": [
                lut([n // 2 for n in range(4096)], first=0, bits=12),
                lut([int(4095 * (n / 4095) ** 2) for n in range(4096)], first=0, bits=12),
            ]
        },
        "+Wl 2",
        2,
    ),
    "modality LUT, then LINEAR": (
        {"ModalityLUTSequence": [lut([4095 - n for n in range(4096)], first=0, bits=12)], **TWO_WINDOWS},
        "+Wi 1",
        1,
    ),
}


def run(command: str, *paths: Path) -> None:
    """Runs a tool; its words are shown if it fails."""
    done = subprocess.run([*command.split(), *map(str, paths)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command}: {done.stdout}{done.stderr}")


def phantom(folder: Path) -> NDArray[np.uint16]:
    """(H, W) stored values of 12 bits: a phantom of 0.1 mm."""
    write_phantom(folder / "phantom", num_patients=1, seed=1, spacing_mm=0.1, bits=16)
    path = sorted((folder / "phantom/images").glob("*.png"))[0]
    return read_pixels(path) >> (16 - BITS)


def compare_syntaxes(folder: Path, stored: NDArray[np.uint16], *, bits: int, tools: dict[str, dict[str, str]]) -> None:
    """Prints how far what is read lies from what was stored, and from what dcmtk or GDCM decode, in stored levels."""
    plain, packed, unpacked = folder / "plain.dcm", folder / "packed.dcm", folder / "unpacked.dcm"
    plain.write_bytes(file_of(mammogram(stored, bits=bits)))
    for tool, commands in tools.items():
        for name, command in commands.items():
            run(command, plain, packed)
            run("dcmdjpeg" if "dcmcjpeg" in command else "gdcmconv -w", packed, unpacked)
            ours = levels(read_pixels(packed), bits=bits)
            theirs = dcmread(unpacked).pixel_array.astype(np.int64)
            size = packed.stat().st_size / plain.stat().st_size
            syntax = uid.UID(dcmread(packed, stop_before_pixels=True).file_meta.TransferSyntaxUID)
            from_stored, from_theirs = np.abs(ours - stored).max(), np.abs(ours - theirs).max()
            print(f"| {name} | {syntax} | {tool} | {size:.0%} | {from_stored} | {from_theirs} |")


def compare_voi(folder: Path, stored: NDArray[np.uint16]) -> None:
    """Prints how far gray values lie from those of dcm2pnm, of 65535; a level of 12 bits is 16."""
    path, picture = folder / "voi.dcm", folder / "voi.png"
    for name, (attributes, option, voi) in VOI.items():
        path.write_bytes(file_of(mammogram(stored, **attributes)))
        run(f"dcm2pnm +on2 {option}", path, picture)
        ours = read_with_header(path, voi=voi)[0].astype(np.int64)
        theirs = np.asarray(Image.open(picture)).astype(np.int64)
        print(f"| {name} | `{option}` | {np.abs(ours - theirs).max()} |")


def levels(pixels: NDArray[np.integer], *, bits: int) -> NDArray[np.int64]:
    """Full-range pixels as levels of so many bits."""
    return np.rint(pixels * ((2**bits - 1) / np.iinfo(pixels.dtype).max)).astype(np.int64)


if __name__ == "__main__":
    if not all(map(shutil.which, ("dcmconv", "gdcmconv"))):
        raise SystemExit("needs dcmtk and libgdcm-tools")
    with tempfile.TemporaryDirectory() as name:
        stored = phantom(Path(name))
        compare_syntaxes(Path(name), stored, bits=BITS, tools=SYNTAXES)
        compare_syntaxes(Path(name), stored >> (BITS - 8), bits=8, tools=SYNTAXES_OF_8_BITS)
        compare_voi(Path(name), stored)
