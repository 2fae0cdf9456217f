"""The backbones by name: how to build each without its classifier and how its input is normalised.

Owns the choice of a backbone and ResNet18, which keras.applications lacks (He et al. 2016,
https://arxiv.org/abs/1512.03385, Table 1; the topology and constants of torchvision's). `weights` loads weights,
and `network` adds the classifier.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import keras
import numpy as np
from keras import layers, ops

from mmgkeras.errors import ConfigError

_PAPER_NETWORKS: Final = {"resnet50": "ResNet50", "resnet101": "ResNet101"}

# EfficientNetB0 to B7 keep the statistics of their input in the weights file and change their layers with the kind of
# weights: copied into another network of the same name, as export and checkpoints do, they would be wrong in silence.
_LEFT_OUT: Final = frozenset({"efficientnet"})


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network without its classifier.

    Attributes:
        name: as in `ModelConfig.network`.
        application: the class of keras.applications; None for our own ResNet18.
        preprocess: of images (B, H, W, 3) float32 between 0 and `white`, to the network's input.
        white: what `preprocess` takes for the brightest value.
    """

    name: str
    application: Callable[..., Any] | None
    preprocess: Callable[[Any], Any]
    white: float

    def build(
        self, *, patch_px: int, weights: str | None = None, is_pooled: bool = True, width: float = 1.0
    ) -> keras.Model:
        """(B, patch_px, patch_px, 3) normalised images in, (B, F) globally averaged features out.

        Args:
            patch_px: edge of a patch in pixels.
            width: times the number of filters, of our own ResNet18 alone.
            is_pooled: if not, the last feature map (B, h, w, F) comes out; the weights are the same.
            weights: None for random weights; "imagenet" to let keras.applications download its own.

        Raises:
            ConfigError: if the network does not work on patches so small.
        """
        input_shape = (patch_px, patch_px, 3)
        if self.application is None:
            return resnet18(input_shape=input_shape, is_pooled=is_pooled, width=width)
        try:
            pooling = "avg" if is_pooled else None
            return self.application(include_top=False, weights=weights, input_shape=input_shape, pooling=pooling)
        except ValueError as error:
            if "Input size must be at least" not in str(error):
                raise
            rule = str(error).partition(";")[0].replace("Input size", "patches")
            raise ConfigError(f"patches.patch_px: {self.name}: {rule}. Received: {patch_px}") from error


def find_backbone(name: str) -> Backbone:
    """The network of this name.

    Raises:
        ConfigError: if there is none; the nearest name is suggested.
    """
    if name == "resnet18":
        return Backbone(name, application=None, preprocess=standardise, white=1.0)
    modules = _application_modules()
    class_name = _PAPER_NETWORKS.get(name, name)
    if class_name not in modules:
        names = ["resnet18", *_PAPER_NETWORKS, *modules]
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"allowed: {', '.join(names)}"
        raise ConfigError(f"model.network: no such network {name!r}; {hint}")
    module = modules[class_name]

    def preprocess(image: Any) -> Any:
        return module.preprocess_input(image, data_format="channels_last")

    return Backbone(name, application=getattr(keras.applications, class_name), preprocess=preprocess, white=255.0)


def _application_modules() -> dict[str, ModuleType]:
    """For every network of keras.applications that is offered, the module with its preprocessing."""
    classes = {name: build for name, build in vars(keras.applications).items() if name[0].isupper()}
    modules = {name: build.__module__.rpartition(".")[2] for name, build in classes.items()}
    return {name: getattr(keras.applications, module) for name, module in modules.items() if module not in _LEFT_OUT}


_STAGE_FILTERS: Final = (64, 128, 256, 512)
_NUM_BLOCKS: Final = 2
_MEAN: Final = (0.485, 0.456, 0.406)
_STANDARD_DEVIATION: Final = (0.229, 0.224, 0.225)


def resnet18(*, input_shape: tuple[int, int, int], is_pooled: bool = True, width: float = 1.0) -> keras.Model:
    """ResNet18 without its classifier: (B, H, W, 3) normalised images in, (B, 512) features out, random weights.

    Where it is not pooled, the last feature map (B, h, w, 512) comes out instead. Every number of filters is
    multiplied by `width`.

    Layers are named as in keras.applications' ResNets: ``conv3_block1_2_bn`` is the second normalisation of the first
    block of the third stage, and number 0 in a block is its shortcut.
    """
    image = layers.Input(input_shape)
    x = layers.ZeroPadding2D(3, name="conv1_pad")(image)
    x = _normalised_convolution(x, filters=round(64 * width), kernel_size=7, strides=2, name="conv1")
    x = layers.Activation("relu", name="conv1_relu")(x)
    # After a ReLU the padding of zeros is as good as one of minus infinity.
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    for stage, filters in enumerate(_STAGE_FILTERS, start=2):
        for block in range(1, _NUM_BLOCKS + 1):
            strides = 2 if block == 1 and stage > 2 else 1
            x = _residual_block(x, filters=round(filters * width), strides=strides, name=f"conv{stage}_block{block}")
    if is_pooled:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    return keras.Model(image, x, name="resnet18")


def standardise(image: Any) -> Any:
    """Images (B, H, W, 3) in [0, 1] less ImageNet's mean, divided by its standard deviation, channel by channel."""
    return ops.divide(ops.subtract(image, np.array(_MEAN, np.float32)), np.array(_STANDARD_DEVIATION, np.float32))


def _residual_block(x: Any, *, filters: int, strides: int, name: str) -> Any:
    """Two 3 x 3 convolutions beside a shortcut, which is convolved where the shape changes.

    Without pretrained weights the block begins as its shortcut alone: the last scale is 0 (Goyal et al. 2017,
    https://arxiv.org/abs/1706.02677, 5.1).
    """
    shortcut = x
    if strides != 1:
        shortcut = _normalised_convolution(x, filters=filters, kernel_size=1, strides=strides, name=f"{name}_0")
        x = layers.ZeroPadding2D(1, name=f"{name}_1_pad")(x)
    x = _normalised_convolution(x, filters=filters, kernel_size=3, strides=strides, name=f"{name}_1")
    x = layers.Activation("relu", name=f"{name}_1_relu")(x)
    x = _normalised_convolution(x, filters=filters, kernel_size=3, strides=1, name=f"{name}_2", scale="zeros")
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.Activation("relu", name=f"{name}_out")(x)


def _normalised_convolution(
    x: Any, *, filters: int, kernel_size: int, strides: int, name: str, scale: str = "ones"
) -> Any:
    """A convolution without bias and its batch normalisation, whose scale begins as said.

    With a stride the caller has padded: "same" would put the odd row and column at the end only. Without one it pads
    alike on all sides.
    """
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same" if strides == 1 else "valid",
        use_bias=False,
        # torchvision's. One object per layer: a shared one would give layers of one shape the same values.
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        name=f"{name}_conv",
    )(x)
    return layers.BatchNormalization(epsilon=1e-5, momentum=0.9, gamma_initializer=scale, name=f"{name}_bn")(x)
