"""A model run by OpenVINO instead of TensorFlow: the same endpoints, faster on processors.

Owns how OpenVINO is given the model and its patches. What it says is the model's to 1e-4 in float32.
"""

import tempfile
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import tensorflow as tf

from mmgkeras.errors import extra_needed
from mmgkeras.savedmodel.classifier import Classifier
from mmgkeras.savedmodel.export import ENDPOINT, INPUT, LOCALISE

_MULTIPLE: Final = 4
"""Batches are filled up to a multiple of this: each new size costs OpenVINO some time."""


class _CompiledEndpoint:
    """Called as the function of an endpoint is."""

    def __init__(self, compiled: Any, structured_outputs: Mapping[str, tf.TensorSpec]) -> None:
        self._compiled = compiled
        self.structured_outputs = structured_outputs

    def __call__(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        patches = inputs[INPUT].numpy()
        missing = -len(patches) % _MULTIPLE
        filled = np.concatenate([patches, patches[:1].repeat(missing, axis=0)])
        answers = self._compiled([filled])
        return {name: tf.constant(answers[name][: len(patches)]) for name in self.structured_outputs}


def with_openvino(classifier: Classifier, *, in_bfloat16: bool) -> Classifier:
    """The same model, run by OpenVINO; of a model that can localise one pass gives both answers.

    Args:
        classifier: loaded by `load`, with its weights as constants.
        in_bfloat16: compute in bfloat16 on processors that can.

    Raises:
        InputError: if the extra `openvino` is not installed.
    """
    with extra_needed("openvino", to="the engine openvino"):
        import openvino
    function = classifier.signature(LOCALISE if classifier.can_localise else ENDPOINT)
    module = tf.Module()
    module.endpoint = function
    core = openvino.Core()
    precision = "bf16" if in_bfloat16 else "f32"
    with tempfile.TemporaryDirectory(prefix="mmgkeras-openvino-") as folder:
        # A model of its own, for OpenVINO reads the default endpoint alone.
        tf.saved_model.save(module, folder, signatures=function)
        hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        compiled = core.compile_model(core.read_model(folder), "CPU", hints)
    return classifier.with_functions(
        {
            endpoint: _CompiledEndpoint(compiled, classifier.signature(endpoint).structured_outputs)
            for endpoint in ((ENDPOINT, LOCALISE) if classifier.can_localise else (ENDPOINT,))
        }
    )
