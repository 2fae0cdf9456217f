"""A model run by OpenVINO instead of TensorFlow: the same endpoints, faster on processors.

Owns how OpenVINO is given the model and its patches. What it says is the model's to 1e-4 in float32.
"""

import tempfile
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mmgkeras.errors import extra_needed
from mmgkeras.savedmodel.classifier import Classifier
from mmgkeras.savedmodel.export import ENDPOINT, INPUT, LOCALISE
from mmgkeras.savedmodel.openvino_graph import simplify, split_preparation

_LARGEST_PART: Final = 8
"""Patches that one core runs at once: what lies between two layers then stays near it."""


class _CompiledEndpoint:
    """Called as the function of an endpoint is; the patches are shared out among the cores."""

    def __init__(self, prepare: Any, queue: Any, structured_outputs: Mapping[str, tf.TensorSpec]) -> None:
        self._prepare, self._queue = prepare, queue
        self.structured_outputs = structured_outputs

    def __call__(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        patches = inputs[INPUT].numpy()
        num_jobs = len(self._queue)
        num_parts = min(num_jobs * -(-len(patches) // (num_jobs * _LARGEST_PART)), len(patches))
        answers: list[dict[str, NDArray[np.float32]]] = [{} for _ in range(num_parts)]

        def keep(request: Any, answer: dict[str, NDArray[np.float32]]) -> None:
            answer.update({name: request.get_tensor(name).data.copy() for name in self.structured_outputs})

        self._queue.set_callback(keep)
        for part, answer in zip(np.array_split(patches, num_parts), answers, strict=True):
            self._queue.start_async([self._prepare([part])[0] if self._prepare else part], answer)
        self._queue.wait_all()
        return {
            name: tf.constant(np.concatenate([answer[name] for answer in answers])) for name in self.structured_outputs
        }


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
    with tempfile.TemporaryDirectory(prefix="mmgkeras-openvino-") as folder:
        # A model of its own, for OpenVINO reads the default endpoint alone.
        tf.saved_model.save(module, folder, signatures=function)
        preparation, model = None, simplify(core.read_model(folder))
        if in_bfloat16:
            preparation, model = split_preparation(model)
        prepare = preparation and core.compile_model(preparation, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        hints = {"INFERENCE_PRECISION_HINT": "bf16" if in_bfloat16 else "f32", "PERFORMANCE_HINT": "THROUGHPUT"}
        queue = openvino.AsyncInferQueue(core.compile_model(model, "CPU", hints))
    return classifier.with_functions(
        {
            endpoint: _CompiledEndpoint(prepare, queue, classifier.signature(endpoint).structured_outputs)
            for endpoint in ((ENDPOINT, LOCALISE) if classifier.can_localise else (ENDPOINT,))
        }
    )
