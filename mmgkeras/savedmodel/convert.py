"""An exported model in the format of another engine, for machines without TensorFlow.

Owns the files' names, and the check that they say what the model says.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mmgkeras.errors import InputError, extra_needed
from mmgkeras.files import atomic_folder
from mmgkeras.savedmodel.classifier import Classifier
from mmgkeras.savedmodel.export import ENDPOINT, INPUT, OUTPUT, check_path
from mmgkeras.savedmodel.metadata import METADATA_FILE
from mmgkeras.savedmodel.openvino_graph import simplify
from mmgkeras.schema import Pixels

Format = Literal["openvino", "onnx"]
FILES: Final[dict[Format, str]] = {"openvino": "classify_patches.xml", "onnx": "classify_patches.onnx"}
"""What is written, beside the metadata; OpenVINO's weights are in a file .bin besides."""
TOLERANCE: Final = 1e-4
"""The largest difference of a probability that float32 on another engine explains."""
_OPSET: Final = 18
_NUM_PATCHES: Final = 16

_Run = Callable[[Pixels], NDArray[np.float32]]


def convert(classifier: Classifier, out: Path, *, to: Format = "openvino") -> float:
    """Writes `classify_patches` of a model into a folder, with its metadata.

    Returns:
        The largest difference of its probabilities from the model's, on patches of noise of several brightnesses.

    Raises:
        InputError: if that is more than `TOLERANCE`, `out` exists, cannot be written or is not UTF-8, or the extra of
            the format is not installed.
    """
    check_path(out.absolute())
    with atomic_folder(out) as folder:
        write = {"openvino": _write_openvino, "onnx": _write_onnx}[to]
        run = write(classifier, folder / FILES[to])
        shutil.copy(classifier.path / METADATA_FILE, folder / METADATA_FILE.name)
        patches = _noise(classifier)
        difference = float(np.abs(run(patches) - classifier.classify(patches)).max())
        if not difference <= TOLERANCE:  # NaN is not
            allowed = f"at most {TOLERANCE:g} allowed; nothing is written"
            name = {"openvino": "OpenVINO", "onnx": "ONNX Runtime"}[to]
            raise InputError(f"{classifier.path}: {name}'s probabilities differ by {difference:.1e}, {allowed}")
    return difference


def _write_openvino(classifier: Classifier, path: Path) -> _Run:
    """Writes OpenVINO's format in float32; what runs it."""
    with extra_needed("openvino", to="convert"):
        import openvino
    core = openvino.Core()  # whose reader, other than openvino.convert_model, tells nobody that it was used
    openvino.save_model(simplify(core.read_model(classifier.path)), path, compress_to_fp16=False)
    compiled = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda patches: np.asarray(compiled([patches])[0])


def _write_onnx(classifier: Classifier, path: Path) -> _Run:
    """Writes ONNX; what runs it in ONNX Runtime."""
    with extra_needed("onnx", to="convert --to onnx"):
        import onnxruntime
        import tf2onnx
    endpoint = classifier.signature(ENDPOINT)
    spec = endpoint.structured_input_signature[1][INPUT]
    function = tf.function(lambda patches: endpoint(**{INPUT: patches}), autograph=False)
    tf2onnx.convert.from_function(function, [spec], opset=_OPSET, output_path=str(path))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda patches: np.asarray(session.run([OUTPUT], {INPUT: patches})[0])


def _noise(classifier: Classifier) -> Pixels:
    """(16, P, P, 1) patches from black to as bright as can be."""
    metadata = classifier.metadata
    largest = np.iinfo(metadata.pixel_type).max
    noise = np.random.default_rng(0).random((_NUM_PATCHES, metadata.patch_px, metadata.patch_px, 1))
    brightness = np.linspace(0, largest, _NUM_PATCHES)[:, None, None, None]
    pixels: Pixels = np.rint(noise * brightness).astype(metadata.pixel_type)
    return pixels
