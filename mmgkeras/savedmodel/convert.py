"""An exported model in OpenVINO's format, for machines without TensorFlow.

Owns the file's name, and the check that it says what the model says.
"""

import shutil
from pathlib import Path
from typing import Final

import numpy as np

from mmgkeras.errors import InputError, extra_needed
from mmgkeras.files import atomic_folder
from mmgkeras.savedmodel.classifier import Classifier
from mmgkeras.savedmodel.metadata import METADATA_FILE
from mmgkeras.schema import Pixels

OPENVINO_FILE: Final = "classify_patches.xml"
TOLERANCE: Final = 1e-4
"""The largest difference of a probability that float32 on another engine explains."""
_NUM_PATCHES: Final = 16


def convert(classifier: Classifier, out: Path) -> float:
    """Writes `classify_patches` of a model as OpenVINO's `out/classify_patches.xml` and `.bin`, with its metadata.

    Returns:
        The largest difference of its probabilities from the model's, on patches of noise of several brightnesses.

    Raises:
        InputError: if that is more than `TOLERANCE`, `out` exists or cannot be written, or the extra `openvino` is not
            installed.
    """
    with extra_needed("openvino", to="convert"):
        import openvino
    with atomic_folder(out) as folder:
        core = openvino.Core()  # whose reader, other than openvino.convert_model, tells nobody that it was used
        openvino.save_model(core.read_model(classifier.path), folder / OPENVINO_FILE, compress_to_fp16=False)
        shutil.copy(classifier.path / METADATA_FILE, folder / METADATA_FILE.name)
        compiled = core.compile_model(folder / OPENVINO_FILE, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        patches = _noise(classifier)
        difference = float(np.abs(compiled([patches])[0] - classifier.classify(patches)).max())
        if not difference <= TOLERANCE:  # NaN is not
            allowed = f"at most {TOLERANCE:g} allowed; nothing is written"
            raise InputError(f"{classifier.path}: OpenVINO's probabilities differ by {difference:.1e}, {allowed}")
    return difference


def _noise(classifier: Classifier) -> Pixels:
    """(16, P, P, 1) patches from black to as bright as can be."""
    metadata = classifier.metadata
    largest = np.iinfo(metadata.pixel_type).max
    noise = np.random.default_rng(0).random((_NUM_PATCHES, metadata.patch_px, metadata.patch_px, 1))
    brightness = np.linspace(0, largest, _NUM_PATCHES)[:, None, None, None]
    pixels: Pixels = np.rint(noise * brightness).astype(metadata.pixel_type)
    return pixels
