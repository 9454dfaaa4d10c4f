"""SGD with momentum, poly schedule and weight decay, as the reference trains."""

from typing import Any

import keras
from keras import ops


def poly_schedule(
    *, base_learning_rate: float, end_learning_rate: float, steps: int, power: float
) -> keras.optimizers.schedules.LearningRateSchedule:
    """(base - end) * (1 - step / steps) ** power + end (v2, section 4.1.1; v3, section 4.1)."""
    return keras.optimizers.schedules.PolynomialDecay(
        base_learning_rate, steps, end_learning_rate, power
    )


@keras.saving.register_keras_serializable("deeplab_tf")
class MomentumOptimizer(keras.optimizers.Optimizer):
    """TF1's momentum: v = momentum * v + gradient; w = w - learning_rate * v.

    Differs from `keras.optimizers.SGD`, which has the learning rate inside the velocity, so that
    a changing rate reaches the weights late.

    Args:
        learning_rate: A number or a schedule.
        momentum: Share of the velocity kept at each step.
    """

    def __init__(
        self, learning_rate: Any, momentum: float = 0.9, name: str = "momentum", **kwargs: Any
    ) -> None:
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum = momentum

    def build(self, variables: list[Any]) -> None:
        if self.built:
            return
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        velocity = self.velocities[self._get_variable_index(variable)]
        gradient = ops.cast(gradient, variable.dtype)
        self.assign(velocity, ops.add(ops.multiply(velocity, self.momentum), gradient))
        step = ops.multiply(velocity, ops.cast(learning_rate, variable.dtype))
        self.assign_sub(variable, step)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum}


def regularized_kernels(model: keras.Model) -> list[keras.Variable]:
    """The kernels that weight decay acts on: those of plain convolutions.

    Depthwise kernels, biases and batch norm's gamma and beta are left alone, as in the reference.
    """
    return [layer.kernel for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]


def l2_loss(kernels: list[keras.Variable], weight_decay: float) -> Any:
    """As slim's `l2_regularizer`: weight_decay * sum(w ** 2) / 2 over all kernels."""
    return weight_decay / 2 * sum(ops.sum(ops.square(kernel)) for kernel in kernels)
