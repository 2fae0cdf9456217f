"""Where in a patch a network sees calcification: its class activation map, from the very pass that gives the logits.

Owns the model that gives both, and where the cells lie. After global average pooling a linear classifier's logits are
means over the cells of the last feature map, so each cell has its own share of them (Zhou et al. 2016,
https://arxiv.org/abs/1512.04150, 2). With any other pooling the classifier judges each cell in the first place.
"""

from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from mmgkeras.models.pooling import CellClassifier, log_odds_of_cells

LOGITS: Final = "logits"
ACTIVATION: Final = "activation"
"""Names of the outputs of a localising model."""


class ClassActivation(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """What each cell of a feature map (B, h, w, F) adds to the logit of calcification: (B, h, w) float32.

    With the classifier's kernels k and biases b it is features . (k1 - k0) + (b1 - b0). Pooled over the cells as
    the network does it, by default their mean, it is logit 1 less logit 0, the log odds of calcification. The layer has
    no weights but those of the classifier.
    """

    def __init__(self, head: keras.layers.Dense, **kwargs: Any) -> None:
        """Takes the classifier, a built Dense layer with one output for each of the two classes."""
        super().__init__(**{"name": "class_activation", "dtype": "float32", **kwargs})
        self.head = head

    def call(self, features: Any) -> Any:
        """The activation of each cell."""
        return log_odds_of_cells(features, kernel=self.head.kernel, bias=self.head.bias)


def localising_model(network: keras.Model) -> keras.Model | None:
    """The network with a second output, or None if it does not end in global average pooling and a linear classifier.

    A classifier of cells that pools what it says of them is as good as the two.

    Takes what the network takes and gives a dictionary: `LOGITS` (B, 2), the network's own, and `ACTIVATION` (B, h, w)
    float32, as `ClassActivation` defines it on the last feature map of h x w cells; that is 7 x 7 cells of 32 px for
    ResNets and patches of 224 px. It shares the layers, and so the weights, of `network`.

    Args:
        network: of `build_network`, or any whose layers follow one another and end in pooling and a Dense layer; the
            pooling may be the last layer of a model inside.
    """
    has_cells = isinstance(network.layers[-1], CellClassifier)
    if not has_cells and not _is_linear_after_pooling(network):
        return None
    raw, *chain, last, head = network.layers
    image = keras.Input(raw.batch_shape[1:], dtype=raw.dtype, name="image")
    x = image
    for layer in chain:
        x = layer(x)
    if has_cells:
        features = pooled = last(x)
    elif isinstance(last, keras.Model):
        pooling = last.layers[-1]
        features, pooled = keras.Model(last.inputs, [pooling.input, pooling.output], name=f"{last.name}_localising")(x)
    else:
        features, pooled = x, last(x)
    outputs = {LOGITS: head(pooled), ACTIVATION: ClassActivation(head)(features)}
    return keras.Model(image, outputs, name=f"{network.name}_localising")


def cell_centres_px(network: keras.Model) -> NDArray[np.float32]:
    """(h,) the centres of the fields that the cells of the last feature map look at, along rows and along columns.

    In pixels of the patch, the first pixel's centre being 0. They are not in the middle of equal shares of the patch
    where a network pads alike on both sides before a stride of 2: the cells of our ResNets look at pixels 0, 32, ...,
    192 of 224, half a cell up and left of 15.5, 47.5, ..., 207.5. Padding and strides of each layer on the way are
    counted (Araujo et al. 2019, https://doi.org/10.23915/distill.00021); of parallel branches the first.

    Args:
        network: of which `localising_model` gives a model.
    """
    last = network.layers[-2]
    inside = last if isinstance(last, keras.Model) else network
    if isinstance(network.layers[-1], CellClassifier):
        features = last.output
    else:
        features = (inside.layers[-1] if inside is last else last).input
    makers = {id(layer.output): layer for layer in inside.layers if not isinstance(layer, keras.layers.InputLayer)}
    steps, tensor = [], features
    while id(tensor) in makers:
        before = makers[id(tensor)].input
        before = before[0] if isinstance(before, list) else before
        steps.append(_stride_and_shift(makers[id(tensor)], size=before.shape[1]))
        tensor = before
    stride_px, first_px = 1, 0.0
    for stride, shift in reversed(steps):
        first_px += stride_px * shift
        stride_px *= stride
    return np.asarray(first_px + stride_px * np.arange(features.shape[1]), dtype=np.float32)


def _stride_and_shift(layer: keras.layers.Layer, *, size: int) -> tuple[int, float]:
    """Output cell j of a layer looks at input cell stride * j + shift, of `size` cells along an axis."""
    if isinstance(layer, keras.layers.ZeroPadding2D):
        return 1, -float(layer.padding[0][0])
    window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
    if window is None:
        return 1, 0.0
    stride = layer.strides[0]
    reach = (window[0] - 1) * getattr(layer, "dilation_rate", (1,))[0]
    if layer.padding == "valid":
        return stride, reach / 2
    added = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
    return stride, reach / 2 - added // 2


def _is_linear_after_pooling(network: keras.Model) -> bool:
    """Whether a network ends in global average pooling, alone or as the end of a model inside, and a Dense layer."""
    *_, last, head = network.layers
    pooling = last.layers[-1] if isinstance(last, keras.Model) else last
    if not isinstance(head, keras.layers.Dense) or not isinstance(pooling, keras.layers.GlobalAveragePooling2D):
        return False
    return bool(pooling.data_format == "channels_last" and not pooling.keepdims)
