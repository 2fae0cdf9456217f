"""Stochastic gradient descent as MATLAB's `sgdm`, which the paper used (3.3), and its drop of the learning rate.

Owns the update rule: momentum, L2 and the factors on rate and L2. The loss that is shown stays the data loss, and no
network needs regularizers in its layers.
"""

from typing import Any

import keras
from keras import ops

from mmgkeras.config import TrainConfig
from mmgkeras.models.network import HEAD


@keras.saving.register_keras_serializable(package="mmgkeras")
class SGD(keras.optimizers.SGD):  # type: ignore[misc]  # keras has no types
    """v <- momentum * v - rate * rate_factor * (gradient + l2 * l2_factor * w), then w <- w + v, for each weight w.

    The rule is that of MATLAB's trainingOptions("sgdm"): the rate is inside v, and L2 is coupled to it. The factors
    follow from the last two parts of a variable's path:

    | variable | l2_factor | rate_factor |
    |---|---|---|
    | bias | `l2_bias_factor` | 1 |
    | gamma, beta (batch-norm scale and offset) | `l2_batch_norm_factor` | 1 |
    | anything else (kernels) | 1 | 1 |
    | kernel and bias of the head | as above | `head_rate_factor` |

    The step runs after the gradients of all replicas were summed, so that L2 counts once.
    """

    def __init__(
        self,
        learning_rate: Any,
        *,
        momentum: float = 0.9,
        l2: float = 0.0,
        l2_batch_norm_factor: float = 1.0,
        l2_bias_factor: float = 0.0,
        head_rate_factor: float = 1.0,
        **kwargs: Any,
    ) -> None:
        """Takes a rate or a schedule, and the factors; further arguments are those of keras.optimizers.SGD."""
        super().__init__(learning_rate=learning_rate, momentum=momentum, **kwargs)
        self.l2 = l2
        self.l2_batch_norm_factor = l2_batch_norm_factor
        self.l2_bias_factor = l2_bias_factor
        self.head_rate_factor = head_rate_factor

    def build(self, variables: list[keras.Variable]) -> None:
        """Makes the momentum of each variable and looks up its factors."""
        if self.built:
            return
        super().build(variables)
        # By position: under tf.distribute the update sees TensorFlow's variables, which do not know their path.
        factors = {"bias": self.l2_bias_factor, **dict.fromkeys(("gamma", "beta"), self.l2_batch_norm_factor)}
        places = [("", *variable.path.split("/"))[-2:] for variable in variables]
        self._decays = [self.l2 * factors.get(name, 1.0) for _, name in places]
        self._rate_factors = [self.head_rate_factor if layer == HEAD else 1.0 for layer, _ in places]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Applies the rule to one variable."""
        index = self._get_variable_index(variable)
        if self._decays[index] != 0:
            decay = ops.multiply(variable, ops.cast(self._decays[index], variable.dtype))
            gradient = ops.add(ops.cast(gradient, variable.dtype), decay)
        if self._rate_factors[index] != 1:
            learning_rate = ops.multiply(learning_rate, ops.cast(self._rate_factors[index], learning_rate.dtype))
        super().update_step(gradient, variable, learning_rate)

    def averages(self) -> list[keras.Variable]:
        """The moving averages of the variables, in their order, if the optimizer keeps them."""
        return list(self._model_variables_moving_average) if self.use_ema else []

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal optimizer."""
        return {
            **super().get_config(),
            "l2": self.l2,
            "l2_batch_norm_factor": self.l2_batch_norm_factor,
            "l2_bias_factor": self.l2_bias_factor,
            "head_rate_factor": self.head_rate_factor,
        }


def make_optimizer(config: TrainConfig, *, steps_per_epoch: int) -> SGD:
    """The optimizer that the configuration asks for; it averages over a third of the run at most."""
    longest = max(0.0, 1 - 3 / (config.epochs * steps_per_epoch))
    return SGD(
        step_decay(config, steps_per_epoch=steps_per_epoch),
        momentum=config.momentum,
        use_ema=config.ema_momentum > 0,
        ema_momentum=min(config.ema_momentum, longest),
        l2=config.l2,
        l2_batch_norm_factor=config.l2_batch_norm_factor,
        l2_bias_factor=config.l2_bias_factor,
        head_rate_factor=config.head_rate_factor,
    )


def step_decay(config: TrainConfig, *, steps_per_epoch: int) -> keras.optimizers.schedules.ExponentialDecay:
    """The learning rate by step: times `learning_rate_drop_factor` after each `learning_rate_drop_period` epochs."""
    return keras.optimizers.schedules.ExponentialDecay(
        config.learning_rate,
        decay_steps=config.learning_rate_drop_period * steps_per_epoch,
        decay_rate=config.learning_rate_drop_factor,
        staircase=True,
    )
