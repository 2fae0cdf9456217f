"""A mammogram as a PACS has it, and what a model could have said of it; no model is run."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from mmgkeras.images import read_single, resample, tissue_mask
from mmgkeras.inference.detection import Detection, find_marks
from mmgkeras.pacs.algorithm import Algorithm
from mmgkeras.pacs.dicom_results import Reading, read_source
from mmgkeras.schema import Grid, ScoreMap
from tests.images.dicom_files import code, file_of, item, mammogram

ALGORITHM = Algorithm(
    name="mine",
    version="3",
    network="resnet18",
    model_sha256="a" * 64,
    store_checksum="b" * 64,
    threshold=0.5,
    stride_px=16,
    spacing_mm=None,
)
HEADER: dict[str, Any] = {
    "SOPInstanceUID": "1.2.3.4",
    "StudyDate": "20250304",
    "StudyTime": "101112",
    "AccessionNumber": "A17",
    "StudyID": "S1",
    "StudyDescription": "Screening",
    "ReferringPhysicianName": "House^Gregory",
    "PatientSex": "F",
    "PatientAge": "065Y",
    "ImageLaterality": "L",
    "PatientOrientation": ["A", "R"],
    "InstanceNumber": 7,
    "BurnedInAnnotation": "NO",
}
VIEW = item(**{keyword: code("399162004")[keyword].value for keyword in ("CodeValue", "CodingSchemeDesignator")})
VIEW.CodeMeaning = "cranio-caudal"


def film(shape: tuple[int, int], *, is_right: bool) -> np.ndarray:
    """(H, W) 12 bits: half a disc of tissue at the chest wall."""
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    pixels = np.where((rows - shape[0] / 2) ** 2 + cols**2 < (0.45 * shape[0]) ** 2, 1500 + rows + cols, 0)
    return pixels[:, ::-1] if is_right else pixels


def write_source(path: Path, *, is_right: bool = False, shape: tuple[int, int] = (160, 128), **attributes: Any) -> Path:
    """A mammogram's file; attributes that are None are left out."""
    stored = film(shape, is_right=is_right)
    if attributes.get("PhotometricInterpretation") == "MONOCHROME1":
        stored = 4095 - stored
    side = {"ImageLaterality": "R", "PatientOrientation": ["P", "L"]} if is_right else {}
    header = HEADER | {"ViewCodeSequence": [VIEW]} | side | attributes
    with warnings.catch_warnings(action="ignore"):  # pydicom's, of odd values
        path.write_bytes(file_of(mammogram(np.ascontiguousarray(stored), **header)))
    return path


def reading_of(
    path: Path, *, patches: dict[tuple[int, int], float], threshold: float = 0.5, factor: float = 1.0
) -> Reading:
    """What a model of 16 px patches says that finds these probabilities by (row, col), at another pixel size."""
    single = read_single(path)
    pixels = single.mammogram.pixels if factor == 1 else resample(single.mammogram.pixels, factor=factor)
    grid = Grid(pixels.shape[0], pixels.shape[1], 16, 16, single.mammogram.record.chest_wall_side)
    probabilities = np.zeros((grid.rows, grid.cols), dtype=np.float32)
    for place, probability in patches.items():
        probabilities[place] = probability
    breast = tissue_mask(pixels)
    detection = Detection(ScoreMap("image", grid, probabilities, breast=breast), None, None)
    height, width = single.mammogram.pixels.shape
    marks = find_marks(detection, threshold=threshold, shape=(height, width))
    algorithm = Algorithm(
        **{name: getattr(ALGORITHM, name) for name in ALGORITHM.__dataclass_fields__} | {"threshold": threshold}
    )
    return Reading(read_source(path), single, detection, marks, algorithm)
