"""Warm-up records: requests that TensorFlow Serving replays on a model before it answers the first real one.

Owns which requests those are. https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from mmgkeras.savedmodel.export import ENDPOINT, INPUT, LOCALISE
from mmgkeras.savedmodel.mammogram_endpoint import CHEST_WALL, DETECT, IMAGE, SPACING
from mmgkeras.savedmodel.metadata import ModelMetadata
from mmgkeras.savedmodel.servable import Servable

WARM_UP: Final = Path("assets.extra/tf_serving_warmup_requests")
BATCH_SIZES: Final = (1, 8, 16, 32, 64)
"""The batches of patches that a server makes."""
_SIDES: Final = ("left", "right")


def write_warm_up(path: Path, servable: Servable, metadata: ModelMetadata) -> None:
    """Writes the warm-up requests of a servable into a file, as a TFRecord of PredictionLog."""
    requests = _of_mammograms(metadata) if DETECT in servable.functions else _of_patches(servable, metadata)
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            request.model_spec.name = servable.name
            log = prediction_log_pb2.PredictLog(request=request)
            writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


def _of_mammograms(metadata: ModelMetadata) -> Iterator[Any]:
    """One image of a patch, and larger ones: PNG of 8 and, where the model takes them, 16 bits, and JPEG."""
    patch_px = metadata.patch_px
    deep = "uint16" if metadata.pixel_type == "uint16" else "uint8"
    for number, (rows, cols, form, pixel_type) in enumerate(
        [(1, 1, "png", "uint8"), (3, 2, "png", deep), (9, 6, "jpeg", "uint8"), (11, 9, "png", "uint8")]
    ):
        row, col = np.ogrid[: rows * patch_px, : cols * patch_px]
        pixels = (1 + row % 100 + col % 100).astype(pixel_type)
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, form)
        yield _request(
            DETECT,
            {
                IMAGE: tf.make_tensor_proto([buffer.getvalue()], tf.string),
                CHEST_WALL: tf.make_tensor_proto([_SIDES[number % 2]], tf.string),
                SPACING: tf.make_tensor_proto([metadata.spacing_mm or 0.0], tf.float64),
            },
        )


def _of_patches(servable: Servable, metadata: ModelMetadata) -> Iterator[Any]:
    """Black patches to both endpoints, in every batch that is made."""
    dtype = tf.dtypes.as_dtype(metadata.pixel_type).as_datatype_enum
    for endpoint in (ENDPOINT, LOCALISE):
        for batch_size in BATCH_SIZES if endpoint in servable.functions else ():
            shape = tf.TensorShape((batch_size, metadata.patch_px, metadata.patch_px, 1)).as_proto()
            # One value stands for all.
            yield _request(endpoint, {INPUT: tensor_pb2.TensorProto(dtype=dtype, tensor_shape=shape, int_val=[0])})


def _request(endpoint: str, inputs: dict[str, Any]) -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = endpoint
    for name, tensor in inputs.items():
        request.inputs[name].CopyFrom(tensor)
    return request
