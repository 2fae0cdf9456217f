"""From raw pixels to what a backbone was trained on: the first layers of every network.

Owns the division by the pixel type's maximum, the step from gray to three channels, and the normalisation that goes
with each backbone. They are layers, so that a network carries its own preprocessing wherever it is deployed.
"""

from typing import Any, Final

import keras
import numpy as np
from keras import ops

from mmgkeras.models.backbones import find_backbone
from mmgkeras.schema import PixelType

LOCAL_PX: Final = 9
"""Edge of the square whose mean `LocalContrast` takes away: 0.9 to 1.8 mm, wider than a microcalcification."""
LOCAL_GAIN: Final = 8.0
"""Times which it enlarges what is left, so that it varies about as much as whole images do."""
MIDDLE_GRAY: Final = 0.5
_RAW_WHITE: Final = 255.0


@keras.saving.register_keras_serializable(package="mmgkeras")
class DivideByMaximum(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """Divides raw pixels (B, P, P, 1) by the maximum of their type: float32 in [0, 1].

    An 8-bit pixel and the same pixel promoted to 16 bits (times 257) give the very same float, because both are
    correctly rounded quotients of one ratio. TensorFlow's graph optimizer and XLA turn a division by one number into
    a multiplication by its reciprocal, which is off by one unit in the last place for some values. So the divisor is
    made pixel by pixel, as the greater of the pixel and the maximum: always the maximum, but they cannot know it.
    """

    def __init__(self, *, pixel_type: PixelType, **kwargs: Any) -> None:
        """Takes the type of the raw pixels, "uint8" or "uint16"."""
        super().__init__(**{"name": "divide_by_maximum", "dtype": "float32", **kwargs})
        self.pixel_type = pixel_type
        self._maximum = float(np.iinfo(pixel_type).max)

    def call(self, pixels: Any) -> Any:
        """Pixels in [0, 1] float32; raw units in, whatever number type they are held in."""
        pixels = ops.cast(pixels, "float32")
        return ops.divide(pixels, ops.maximum(pixels, self._maximum))

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal layer."""
        return {**super().get_config(), "pixel_type": self.pixel_type}


@keras.saving.register_keras_serializable(package="mmgkeras")
class LocalContrast(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """Replaces brightness by contrast: pixels (B, P, P, 1) float32 in [0, 1] in, as many around 0.5 out.

    A pixel becomes 0.5 plus `LOCAL_GAIN` times its difference from the mean of the square of `LOCAL_PX` around it, of
    which only the part inside the patch counts. Not limited to [0, 1].
    """

    def __init__(self, **kwargs: Any) -> None:
        """Has nothing to set."""
        super().__init__(**{"name": "local_contrast", "dtype": "float32", **kwargs})

    def call(self, gray: Any) -> Any:
        """The contrast of each pixel."""
        contrast = ops.subtract(gray, _mean_around(gray, LOCAL_PX))
        return ops.add(ops.multiply(contrast, LOCAL_GAIN), MIDDLE_GRAY)


def _mean_around(image: Any, size: int) -> Any:
    """(B, H, W, 1) the mean of the square of `size` around each pixel, of which only the part inside counts.

    Along one axis after the other with the pixels of the other axis as channels, which processors take several at a
    time: 6 times as fast as one pooling of 9 x 9.
    """
    height, width = image.shape[1:3]
    x = ops.reshape(image, (-1, height, 1, width))
    x = ops.average_pool(x, (size, 1), strides=1, padding="same", data_format="channels_last")
    x = ops.transpose(x, (0, 3, 2, 1))
    x = ops.average_pool(x, (size, 1), strides=1, padding="same", data_format="channels_last")
    return ops.reshape(ops.transpose(x, (0, 3, 1, 2)), (-1, height, width, 1))


@keras.saving.register_keras_serializable(package="mmgkeras")
class Preprocess(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """Makes gray pixels (B, P, P, 1) float32 in [0, 1] into a backbone's own input (B, P, P, 3) float32."""

    def __init__(self, *, network: str, **kwargs: Any) -> None:
        """Takes the name of the network as in `ModelConfig.network`."""
        super().__init__(**{"name": "preprocess", "dtype": "float32", **kwargs})
        self.network = network
        self._backbone = find_backbone(network)

    def call(self, gray: Any) -> Any:
        """The three channels, normalised."""
        return self._backbone.preprocess(ops.concatenate([ops.multiply(gray, self._backbone.white)] * 3, axis=-1))

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal layer."""
        return {**super().get_config(), "network": self.network}


@keras.saving.register_keras_serializable(package="mmgkeras")
class TrainingNormalisation(Preprocess):
    """As `Preprocess`, but by the mean and the standard deviation of the training patches instead of ImageNet's.

    Where a network's own normalisation divides by a deviation or a range, the pixels less the mean are divided by the
    standard deviation (MATLAB's "zscore", which its resnet18 has); where it only takes a mean away from 0 to 255, so
    does this layer ("zerocenter", of its resnet50 and resnet101). Both statistics are weights that no training changes.
    """

    def __init__(self, *, network: str, **kwargs: Any) -> None:
        """Takes the name of the network as in `ModelConfig.network`."""
        super().__init__(network=network, **{"trainable": False, **kwargs})
        backbone = self._backbone
        black, white = (backbone.preprocess(np.full((1, 1, 1, 3), gray, np.float32)) for gray in (0.0, backbone.white))
        scale = float(np.mean(ops.convert_to_numpy(white) - ops.convert_to_numpy(black)))
        self._scale = backbone.white if scale == backbone.white == _RAW_WHITE else None

    def build(self, input_shape: tuple[int | None, ...]) -> None:  # noqa: ARG002 - the signature of Keras
        """Makes the statistics, which change nothing until they are set."""
        self.mean = self.add_weight(shape=(), initializer="zeros", trainable=False, name="mean")
        self.deviation = self.add_weight(shape=(), initializer="ones", trainable=False, name="deviation")

    def set_statistics(self, *, mean: float, deviation: float) -> None:
        """Takes the mean and the standard deviation of gray pixels in [0, 1]."""
        self.mean.assign(mean)
        self.deviation.assign(deviation)

    def call(self, gray: Any) -> Any:
        """The three channels (B, P, P, 3) float32 of gray pixels (B, P, P, 1) in [0, 1], normalised."""
        centred = ops.subtract(gray, self.mean)
        scaled = ops.divide(centred, self.deviation) if self._scale is None else ops.multiply(centred, self._scale)
        return ops.concatenate([scaled] * 3, axis=-1)
