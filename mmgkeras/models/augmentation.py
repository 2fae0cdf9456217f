"""The paper's augmentation as a layer: a patch and the number of an operation in, the changed patch out.

Owns what each operation number means and how it is computed on the device. Which patch gets which operation is the
pipeline's affair.

An operation is numbered ``(intensity * 2 + flip) * 4 + rotation``: the patch is turned anticlockwise by `rotation`
times 90 degrees, then mirrored left to right if `flip` is 1, then multiplied by ``intensities[intensity]``. A positive
patch takes part with every operation, 24 for three intensities; a negative one as it is and mirrored (paper, 3.2 and
Table 6). The paper does not say which flip it means: here it is left to right. For positives that makes no difference,
because with the four rotations either flip gives the same eight patches.
"""

from typing import Any, Final

import keras
import numpy as np
from keras import ops

from mmgkeras.config import AugmentationConfig

_NUM_ROTATIONS: Final = 4
_NUM_GEOMETRIC: Final = 2 * _NUM_ROTATIONS

AS_IS: Final = 0
FLIPPED: Final = _NUM_ROTATIONS

NEGATIVE_OPS: Final = (AS_IS, FLIPPED)
"""The operations of a negative patch, whatever the intensities are."""

# Rows: the four rotations, then the four rotations mirrored. Columns: transpose, then flip rows, then flip columns.
# numpy's rot90 of 1 is a transpose with its rows reversed; that of 3 is a transpose with its columns reversed.
_STEPS: Final = (
    (False, False, False),
    (True, True, False),
    (False, True, True),
    (True, False, True),
    (False, False, True),
    (True, True, True),
    (False, True, False),
    (True, False, False),
)


def num_positive_ops(config: AugmentationConfig) -> int:
    """How many operations a positive patch takes part with: numbers 0 to one less (paper, Table 6: 24)."""
    return _NUM_GEOMETRIC * len(config.intensities)


@keras.saving.register_keras_serializable(package="mmgkeras")
class Augment(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """Applies to each patch of a batch the operation of its number.

    Called with the patches (B, P, P, 1), any number type, and the operation numbers (B,) int32, each from 0 to one less
    than `num_positive_ops`. Returns (B, P, P, 1) float32 in the units of the patches, never rounded.

    The numbers come with the batch instead of being drawn here, so that every replica and every restart sees what
    the pipeline decided. Each step is done on the whole batch and kept where it is wanted: no branch per patch. What a
    number stands for is looked up in float32: TensorFlow does int32 arithmetic of GPUs on the host.
    """

    def __init__(self, *, intensities: tuple[float, ...], **kwargs: Any) -> None:
        """Takes the factors on the pixel values; the first must be 1 (`AugmentationConfig.intensities`)."""
        super().__init__(**{"name": "augment", "dtype": "float32", **kwargs})
        self.intensities = tuple(intensities)

    def call(self, image: Any, augmentation: Any) -> Any:
        """The changed patches (B, P, P, 1) float32."""
        wanted, factor = self._looked_up(augmentation)
        # Cast first: float32 holds every 16-bit value exactly, and GPUs lack kernels that reverse uint16.
        image = ops.cast(image, "float32")
        image = ops.where(wanted[0], ops.transpose(image, (0, 2, 1, 3)), image)
        image = ops.where(wanted[1], ops.flip(image, axis=1), image)
        image = ops.where(wanted[2], ops.flip(image, axis=2), image)
        return ops.multiply(image, factor)

    def _looked_up(self, augmentation: Any) -> tuple[Any, Any]:
        """Of each operation (B,) whether it takes each of the three steps and its factor, all of shape (B, 1, 1, 1)."""
        factors = np.repeat(np.asarray(self.intensities, np.float32), _NUM_GEOMETRIC)
        steps = np.tile(np.asarray(_STEPS, np.float32), (len(self.intensities), 1))
        table = np.concatenate([steps, factors[:, None]], axis=1)
        # A sum of one number and zeros is that number.
        is_chosen = ops.one_hot(augmentation, len(table), dtype="float32")
        chosen = ops.sum(ops.multiply(ops.expand_dims(is_chosen, -1), table), axis=1)
        columns = ops.reshape(chosen, (-1, 4, 1, 1, 1))
        return [ops.greater(columns[:, step], 0.5) for step in range(3)], columns[:, 3]

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal layer."""
        return {**super().get_config(), "intensities": list(self.intensities)}
