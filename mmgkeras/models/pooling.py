"""From the cells of the last feature map to one answer: a linear classifier of each cell, and how the cells are pooled.

Owns every pooling but the average, which networks do before their classifier: for a linear classifier that is the same
as averaging what it says of each cell.
"""

from typing import Any, Final, Literal

import keras
from keras import ops

from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION

NUM_CLASSES: Final = 2


def log_odds_of_cells(features: Any, *, kernel: Any, bias: Any) -> Any:
    """(B, h, w) logit 1 less logit 0 of a linear classifier on each cell of a feature map (B, h, w, F).

    Args:
        features: the map.
        kernel: (F, 2) of the classifier.
        bias: (2,) of the classifier.
    """
    weights = ops.subtract(kernel[:, CALCIFICATION], kernel[:, NO_CALCIFICATION])
    cells = ops.squeeze(ops.matmul(features, ops.expand_dims(weights, axis=-1)), axis=-1)
    return ops.add(cells, ops.subtract(bias[CALCIFICATION], bias[NO_CALCIFICATION]))


def log_mean_exp(log_odds: Any, *, sharpness: float) -> Any:
    """(B,) log(mean(exp(sharpness * cells))) / sharpness of log odds (B, h, w): between their mean and their maximum.

    At a sharpness of 1 the odds of the patch are the mean of the cells' odds.
    """
    num_cells = log_odds.shape[1] * log_odds.shape[2]
    total = ops.logsumexp(ops.multiply(log_odds, sharpness), axis=(1, 2))
    return ops.divide(ops.subtract(total, ops.log(float(num_cells))), sharpness)


def mean_of_highest(log_odds: Any, *, top_k: int) -> Any:
    """(B,) mean of the `top_k` highest of log odds (B, h, w), of all where there are fewer."""
    num_cells = log_odds.shape[1] * log_odds.shape[2]
    highest, _ = ops.top_k(ops.reshape(log_odds, (-1, num_cells)), min(top_k, num_cells))
    return ops.mean(highest, axis=-1)


@keras.saving.register_keras_serializable(package="mmgkeras")
class CellClassifier(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """A linear classifier of each cell and the pooling of their log odds: feature map (B, h, w, F) to logits (B, 2).

    Its weights, a kernel (F, 2) and a bias (2,), are those of the Dense layer that stands behind global average
    pooling, so that a network of one pooling takes the weights of one of another. The two logits are plus and minus
    half of the pooled log odds, which alone count for the softmax and the loss.
    """

    def __init__(
        self, *, pooling: Literal["log_mean_exp", "top_k"], sharpness: float = 1.0, top_k: int = 3, **kwargs: Any
    ) -> None:
        """Takes the keys of `ModelConfig`: `pooling`, `pooling_sharpness` and `pooling_top_k`."""
        super().__init__(**{"dtype": "float32", **kwargs})
        self.pooling = pooling
        self.sharpness = sharpness
        self.top_k = top_k

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights, which begin as those of a Dense layer."""
        self.kernel = self.add_weight(shape=(input_shape[-1], NUM_CLASSES), initializer="glorot_uniform", name="kernel")
        self.bias = self.add_weight(shape=(NUM_CLASSES,), initializer="zeros", name="bias")

    def call(self, features: Any) -> Any:
        """The two logits of each patch."""
        cells = log_odds_of_cells(features, kernel=self.kernel, bias=self.bias)
        if self.pooling == "log_mean_exp":
            pooled = log_mean_exp(cells, sharpness=self.sharpness)
        else:
            pooled = mean_of_highest(cells, top_k=self.top_k)
        half = ops.multiply(pooled, 0.5)
        return ops.stack([ops.negative(half), half], axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal layer."""
        return {
            **super().get_config(),
            "pooling": self.pooling,
            "sharpness": self.sharpness,
            "top_k": self.top_k,
        }
