"""The networks as they are trained and deployed: raw patches in, two logits out.

Owns how layers follow each other. The backbones are in `backbones`, their weights in `weights`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

import keras

from mmgkeras.config import AugmentationConfig, ModelConfig
from mmgkeras.errors import ConfigError
from mmgkeras.models.augmentation import Augment
from mmgkeras.models.backbones import find_backbone
from mmgkeras.models.pooling import NUM_CLASSES, CellClassifier
from mmgkeras.models.preprocessing import DivideByMaximum, LocalContrast, Preprocess, TrainingNormalisation
from mmgkeras.schema import PixelType

HEAD: Final = "head"
"""Name of the new last layer, which the optimizer and the weights treat apart."""


def build_network(
    config: ModelConfig,
    *,
    patch_px: int,
    pixel_type: PixelType,
    precision: Literal["float32", "bfloat16"] = "float32",
) -> keras.Model:
    """A network with random weights: "image" (B, patch_px, patch_px, 1) raw pixels in, (B, 2) float32 logits out.

    The layers, one after another: division by the type's maximum, local contrast where asked for, preprocessing to
    three channels, the backbone with global average pooling, and the classifier named `HEAD`. Logit 1 stands for
    calcification. With another pooling the backbone gives its last feature map, and the classifier, whose weights are
    of the same shape, judges every cell of it before they are pooled (`CellClassifier`).

    Args:
        config: which network, and whether batch normalisation is synchronized between devices.
        patch_px: edge of a patch in pixels.
        pixel_type: of the raw pixels.
        precision: "bfloat16" computes in bfloat16 with float32 weights; input and logits stay float32. A network of
            either precision takes the weights of the other.

    Raises:
        ConfigError: for an unknown network, patches too small for it, or synchronized batch normalisation on a
            backend other than TensorFlow.
    """
    backbone = find_backbone(config.network)
    with _compute_in(precision):
        features = backbone.build(patch_px=patch_px, is_pooled=config.pooling == "average", width=config.width)
    if config.synchronized_batch_norm:
        _synchronize_batch_norm(features)
    image = keras.Input((patch_px, patch_px, 1), dtype=pixel_type, name="image")
    x = DivideByMaximum(pixel_type=pixel_type)(image)
    if config.normalisation == "local":
        x = LocalContrast()(x)
    preprocess = TrainingNormalisation if config.normalisation == "training" else Preprocess
    x = preprocess(network=config.network)(x)
    x = features(x)
    return keras.Model(image, _head(config)(x), name=f"{backbone.name}_patches")


def training_model(network: keras.Model, config: AugmentationConfig) -> keras.Model:
    """The network behind the augmentation: {"image": as the network's, "augmentation": (B,) int32} in, logits out.

    It shares the layers, and so the weights, of `network`, which itself knows nothing of augmentation.
    """
    raw, *chain = network.layers
    image = keras.Input(raw.batch_shape[1:], dtype=raw.dtype, name="image")
    augmentation = keras.Input((), dtype="int32", name="augmentation")
    x = Augment(intensities=config.intensities)(image, augmentation)
    # Not `network(x)`: a model casts what it is given to its input's type, and that would round the pixels.
    for layer in chain:
        x = layer(x)
    return keras.Model({"image": image, "augmentation": augmentation}, x, name=f"{network.name}_training")


def training_normalisation(network: keras.Model) -> TrainingNormalisation | None:
    """The layer that normalises by the training patches; None in a network of another normalisation."""
    return next((layer for layer in network.layers if isinstance(layer, TrainingNormalisation)), None)


def backbone_of(network: keras.Model) -> keras.Model:
    """The pretrained part of a network that `build_network` made."""
    return network.layers[-2]


def batch_norm_layers(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Every batch normalisation of a model, those of models inside it too, in the order of the layers."""
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found.extend(batch_norm_layers(layer))
        elif isinstance(layer, keras.layers.BatchNormalization):
            found.append(layer)
    return found


def _head(config: ModelConfig) -> keras.layers.Layer:
    if config.pooling == "average":
        return keras.layers.Dense(NUM_CLASSES, dtype="float32", name=HEAD)
    return CellClassifier(
        pooling=config.pooling, sharpness=config.pooling_sharpness, top_k=config.pooling_top_k, name=HEAD
    )


def _synchronize_batch_norm(model: keras.Model) -> None:
    if keras.backend.backend() != "tensorflow":
        raise ConfigError(
            "model.synchronized_batch_norm: is only possible with Keras' TensorFlow backend. "
            f"Received: true with {keras.backend.backend()}"
        )
    for layer in batch_norm_layers(model):
        layer.synchronized = True


@contextmanager
def _compute_in(precision: Literal["float32", "bfloat16"]) -> Iterator[None]:
    """Layers made inside compute so; keras.applications knows only Keras' policy of the process, which is put back."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32" if precision == "float32" else "mixed_bfloat16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
