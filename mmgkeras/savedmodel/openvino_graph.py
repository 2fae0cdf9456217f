"""OpenVINO's graph of a model made cheaper, with the same answers to some 1e-6.

Owns what OpenVINO does not see for itself: that the preparation of gray pixels is one multiplication and one addition,
and that zeros around what is never negative change no maximum. TensorFlow is not needed here.
"""

from typing import Any, Final

import numpy as np

_AT_ONCE: Final = "pixels prepared at once"
_ROUNDING: Final = 1e-5
"""Of the largest value: differences of this order are float32's."""


def split_preparation(model: Any) -> tuple[Any, Any]:
    """What prepares raw patches for the first convolution, and the rest, which takes what that gives as float32.

    In bfloat16 the rest is computed alone: 8 significant bits are too few for pixels of 16 bits, and for a pixel less
    its surround. They are enough for one of 8 bits that is prepared at once, which is not split off: None, the model.
    """
    import openvino
    from openvino import opset13 as ops

    source = _before_convolutions(model)
    (patches,) = model.get_parameters()
    is_byte = patches.get_element_type().to_dtype() == np.uint8
    if source is None or (is_byte and source.get_node().get_friendly_name() == _AT_ONCE):
        return None, model
    prepared = ops.parameter(source.get_partial_shape(), np.float32)
    source.replace(prepared.output(0))
    return openvino.Model([source], [patches]), openvino.Model(model.get_results(), [prepared])


def names_of_preparation(model: Any) -> list[str]:
    """The operations that prepare raw patches for the first convolution."""
    import openvino

    source = _before_convolutions(model)
    if source is None:
        return []
    nodes = openvino.Model([source], model.get_parameters()).get_ordered_ops()
    return [
        node.get_friendly_name() for node in nodes if node.get_type_name() not in ("Parameter", "Constant", "Result")
    ]


def simplify(model: Any) -> Any:
    """The `openvino.Model` of an endpoint that takes raw patches (B, P, P, 1), changed in place."""
    _pad_inside_pooling(model)
    _prepare_at_once(model)
    model.validate_nodes_and_infer_types()
    return model


def _pad_inside_pooling(model: Any) -> None:
    """Maximum pooling of a rectified map pads by itself; to copy the map into zeros took a tenth of ResNet18's time."""
    from openvino import opset13 as ops

    for pooling in _of_type(model, "MaxPool"):
        padding = pooling.input_value(0).get_node()
        if padding.get_type_name() != "Pad" or padding.input_value(0).get_node().get_type_name() != "Relu":
            continue
        begin, end, value = (padding.input_value(index).get_node().get_data() for index in (1, 2, 3))
        told = pooling.get_attributes()
        if value.any() or begin[:2].any() or end[:2].any() or any((*told["pads_begin"], *told["pads_end"])):
            continue
        strides, dilations, kernel = told["strides"], told["dilations"], told["kernel"]
        padded = ops.max_pool(padding.input_value(0), strides, dilations, begin[2:], end[2:], kernel)
        pooling.output(0).replace(padded.output(0))


def _prepare_at_once(model: Any) -> None:
    """What the first convolution takes, as the raw pixel times one number of each channel plus another.

    Only where it is that: what leads to it is run on noise and compared. To copy gray into three channels and normalise
    them step by step took a quarter of ResNet50's time.
    """
    import openvino
    from openvino import opset13 as ops

    source = _before_convolutions(model)
    if source is None:
        return
    (patches,) = model.get_parameters()
    pixel_type = patches.get_element_type().to_dtype()
    largest = np.iinfo(pixel_type).max
    _, height, width, _ = patches.get_partial_shape()
    pixels = np.random.default_rng(0).integers(0, largest + 1, (1, height.get_length(), width.get_length(), 1))
    pixels[0, 0, :2, 0] = 0, largest
    before = openvino.Model([source], [patches], "before the first convolution")
    run = openvino.Core().compile_model(before, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    prepared = run([pixels.astype(pixel_type)])[0]
    if prepared.shape[2:] != pixels.shape[1:3]:
        return
    shift = prepared[:, :, :1, :1]
    scale = (prepared[:, :, :1, 1:2] - shift) / largest
    difference = np.abs(pixels.transpose(0, 3, 1, 2) * scale + shift - prepared)
    if difference.max() > _ROUNDING * np.abs(prepared).max():
        return
    gray = ops.transpose(ops.convert(patches, "f32"), np.array([0, 3, 1, 2]))
    at_once = ops.add(ops.multiply(gray, scale.astype(np.float32)), shift.astype(np.float32))
    at_once.set_friendly_name(_AT_ONCE)
    source.replace(at_once.output(0))


def _before_convolutions(model: Any) -> Any:
    """The output that the first convolution takes, before it is padded; None where there is no convolution."""
    convolutions = _of_type(model, "Convolution")
    if not convolutions:
        return None
    source = convolutions[0].input_value(0)
    return source.get_node().input_value(0) if source.get_node().get_type_name() == "Pad" else source


def _of_type(model: Any, name: str) -> list[Any]:
    return [node for node in model.get_ordered_ops() if node.get_type_name() == name]
