"""A server on TensorFlow Serving's own protocol buffers and stubs: the contract that our gRPC client is held to."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from mmgkeras.savedmodel.servable import SERVING_DEFAULT
from mmgkeras.service.rest_api import ServedModel


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict alone, which answers as TensorFlow Serving does; `faults` are codes to answer first."""

    def __init__(self, models: Mapping[str, ServedModel]) -> None:
        self.models = models
        self.faults: list[grpc.StatusCode] = []
        self.num_requests = 0

    def Predict(  # noqa: N802 - the name in the protocol
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        self.num_requests += 1
        if self.faults:
            context.abort(self.faults.pop(0), "a fault that was asked for")
        spec = request.model_spec
        if spec.name not in self.models:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({spec.name})")
        served = self.models[spec.name]
        version = max(served.versions)
        if spec.HasField("version"):
            version = spec.version.value
        elif spec.version_label:
            version = served.labels.get(spec.version_label)
        if version not in served.versions:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Specific({spec.name})")
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        try:
            outputs = served.versions[version].run(spec.signature_name or SERVING_DEFAULT, inputs)
        except tf.errors.InvalidArgumentError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error.message)[-300:])
        response = predict_pb2.PredictResponse()
        response.model_spec.name = spec.name
        response.model_spec.version.value = version
        for name, values in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(values))
        return response


@contextmanager
def grpc_serving(models: Mapping[str, ServedModel]) -> Iterator[tuple[str, PredictionService]]:
    """`grpc://HOST:PORT` of a server that answers for as long as the block runs, and its service."""
    unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    service = PredictionService(models)
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, options=unlimited)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"grpc://127.0.0.1:{port}", service
        finally:
            server.stop(None).wait()
