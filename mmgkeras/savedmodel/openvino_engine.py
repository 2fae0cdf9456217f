"""A model run by OpenVINO instead of TensorFlow: the same endpoints, faster on processors.

Owns how OpenVINO is given the model and its patches. What it says is the model's to 1e-4 in float32.
"""

import tempfile
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mmgkeras.errors import extra_needed
from mmgkeras.savedmodel.classifier import Classifier
from mmgkeras.savedmodel.export import ENDPOINT, INPUT, LOCALISE
from mmgkeras.savedmodel.openvino_graph import simplify, split_preparation
from mmgkeras.schema import Pixels

_LARGEST_PART: Final = 8
"""Patches that one core runs at once: what lies between two layers then stays near it."""


class _Requests:
    """A compiled model, asked by several callers at once: each core takes the next part of whosever patches wait."""

    def __init__(self, prepare: Any, model: Any) -> None:
        """Of a model, and of its preparation where it is apart, else None."""
        self._num = model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._threads = ThreadPoolExecutor(self._num)
        self._free: SimpleQueue[tuple[Any, Any]] = SimpleQueue()
        for _ in range(self._num):
            self._free.put((prepare and prepare.create_infer_request(), model.create_infer_request()))

    def run(self, patches: Pixels, names: Collection[str]) -> list[dict[str, NDArray[np.float32]]]:
        """The outputs of these names, part by part."""
        num_parts = min(self._num * -(-len(patches) // (self._num * _LARGEST_PART)), len(patches))
        return list(self._threads.map(partial(self._run_part, names=names), np.array_split(patches, num_parts)))

    def _run_part(self, patches: Pixels, *, names: Collection[str]) -> dict[str, NDArray[np.float32]]:
        prepare, request = requests = self._free.get()
        try:
            prepared = prepare.infer([patches], share_outputs=True)[0] if prepare else patches
            request.infer([prepared], share_inputs=True, share_outputs=True)
            return {name: request.get_tensor(name).data.copy() for name in names}
        finally:
            self._free.put(requests)


class _CompiledEndpoint:
    """Called as the function of an endpoint is."""

    def __init__(self, requests: _Requests, structured_outputs: Mapping[str, tf.TensorSpec]) -> None:
        self._requests = requests
        self.structured_outputs = structured_outputs

    def __call__(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        answers = self._requests.run(inputs[INPUT].numpy(), self.structured_outputs)
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
    # It looks numpy up at the first type or array that it meets: two threads that did so at once would wait for ever.
    openvino.Type.f32.to_dtype()
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
        requests = _Requests(prepare, core.compile_model(model, "CPU", hints))
    compiled = classifier.with_functions(
        {
            endpoint: _CompiledEndpoint(requests, classifier.signature(endpoint).structured_outputs)
            for endpoint in ((ENDPOINT, LOCALISE) if classifier.can_localise else (ENDPOINT,))
        }
    )
    if classifier.finer is not None:
        compiled.finer = with_openvino(classifier.finer, in_bfloat16=in_bfloat16)
    return compiled
