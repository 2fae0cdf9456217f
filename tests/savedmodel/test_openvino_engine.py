import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest

from mmgkeras.config import ModelConfig
from mmgkeras.models.network import build_network
from mmgkeras.savedmodel.classifier import load
from mmgkeras.savedmodel.export import export
from mmgkeras.savedmodel.metadata import read_metadata
from mmgkeras.savedmodel.openvino_engine import with_openvino


@pytest.mark.parametrize("number", [1, 7, 8, 9, 65])
def test_openvino_gives_what_tensorflow_does_for_any_number_of_patches(deep_model_path: Path, number: int) -> None:
    classifier = load(deep_model_path, is_folded=True)
    faster = with_openvino(classifier, in_bfloat16=False)
    patches = np.random.default_rng(number).integers(0, 65536, (number, 4, 4, 1), dtype=np.uint16)
    np.testing.assert_allclose(faster.classify(patches), classifier.classify(patches), atol=1e-6)
    for received, expected in zip(faster.localise(patches), classifier.localise(patches), strict=True):
        np.testing.assert_allclose(received, expected, atol=1e-5)
    assert faster.classify(patches[:0]).shape == (0,)
    assert (faster.path, faster.metadata) == (classifier.path, classifier.metadata)
    np.testing.assert_array_equal(faster.cell_centres_px, classifier.cell_centres_px)


def test_several_callers_at_once_each_get_what_is_theirs(deep_model_path: Path) -> None:
    faster = with_openvino(load(deep_model_path, is_folded=True), in_bfloat16=False)
    generator = np.random.default_rng(0)
    asked = [generator.integers(0, 65536, (number, 4, 4, 1), dtype=np.uint16) for number in (40, 3, 25, 17, 64, 9)]
    expected = [faster.classify(patches) for patches in asked]
    with ThreadPoolExecutor(len(asked)) as callers:
        for _ in range(5):
            for received, right in zip(callers.map(faster.classify, asked), expected, strict=True):
                np.testing.assert_array_equal(received, right)


_FIRST_ARRAYS = """
import faulthandler, sys, threading
from pathlib import Path
import openvino
from mmgkeras.savedmodel.classifier import load
from mmgkeras.savedmodel.openvino_engine import with_openvino

with_openvino(load(Path(sys.argv[1]), is_folded=True), in_bfloat16=False)
sys.setswitchinterval(1e-9)
barrier = threading.Barrier(16)
threads = [threading.Thread(target=lambda: (barrier.wait(), openvino.Type.f32.to_dtype())) for _ in range(16)]
faulthandler.dump_traceback_later(60, exit=True)
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_the_first_arrays_of_several_threads_do_not_wait_for_each_other(deep_model_path: Path) -> None:
    """pybind11 lets go of the interpreter's lock in the middle of a static initialisation."""
    command = [sys.executable, "-c", _FIRST_ARRAYS, str(deep_model_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert result.returncode == 0, result.stderr[-2000:]


def test_a_resnet_with_a_pooling_of_cells(tmp_path: Path, model_path: Path) -> None:
    keras.utils.set_random_seed(1)
    network = build_network(
        ModelConfig(weights="none", normalisation="local", pooling="log_mean_exp"), patch_px=64, pixel_type="uint8"
    )
    changes = {"network": "resnet18", "patch_px": 64, "stride_px": 64}
    export(network, tmp_path / "1", read_metadata(model_path).model_copy(update=changes))
    classifier = load(tmp_path / "1", is_folded=True)
    patches = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 1), dtype=np.uint8)
    probability, activation = with_openvino(classifier, in_bfloat16=False).localise(patches)
    expected = classifier.localise(patches)
    np.testing.assert_allclose(probability, expected[0], atol=1e-4)
    np.testing.assert_allclose(activation, expected[1], rtol=1e-3, atol=1e-3)


def test_a_model_that_cannot_localise(tmp_path: Path, model_path: Path) -> None:
    image = keras.Input((8, 8, 1), name="image")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    metadata = read_metadata(model_path).model_copy(update={"patch_px": 8, "stride_px": 8})
    export(keras.Model(image, keras.layers.Dense(2)(flat)), tmp_path / "1", metadata)
    classifier = load(tmp_path / "1", is_folded=True)
    faster = with_openvino(classifier, in_bfloat16=False)
    assert not faster.can_localise
    patches = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
    np.testing.assert_allclose(faster.classify(patches), classifier.classify(patches), atol=1e-6)


def test_bfloat16_keeps_the_contrast_of_sixteen_bits(tmp_path: Path, model_path: Path) -> None:
    """Steps of 1/1000 of the full range, which bfloat16 cannot hold above a quarter of it."""
    keras.utils.set_random_seed(1)
    network = build_network(
        ModelConfig(weights="none", normalisation="local", pooling="log_mean_exp"), patch_px=64, pixel_type="uint16"
    )
    changes = {"network": "resnet18", "patch_px": 64, "stride_px": 64, "pixel_type": "uint16"}
    export(network, tmp_path / "1", read_metadata(model_path).model_copy(update=changes))
    classifier = load(tmp_path / "1", is_folded=True)
    steps = np.random.default_rng(0).integers(0, 10, (8, 64, 64, 1))
    patches = (40_000 + 65 * steps).astype(np.uint16)
    _, expected = classifier.localise(patches)
    _, activation = with_openvino(classifier, in_bfloat16=True).localise(patches)
    assert np.abs(activation - expected).max() < 0.05 * np.ptp(expected)
