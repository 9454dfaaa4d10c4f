"""Optimizers, learning rates, weight decay and gradient multipliers, as the reference trains."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops
from keras.optimizers import schedules

from deeplab_tf.config import TrainConfig

# What the names of the head's variables contain (reference: `get_extra_layer_scopes`).
_HEAD_SCOPES = (
    "logits",
    "image_pooling",
    "aspp",
    "concat_projection",
    "decoder",
    "meta_architecture",
)


def learning_rate_schedule(config: TrainConfig) -> schedules.LearningRateSchedule:
    """The learning rate by step (reference: `get_model_learning_rate`).

    With s for the steps after the slow start, and of as many:

    * poly: (base - end) * (1 - s / steps) ** power + end (v2, section 4.1.1; v3, section 4.1);
    * step: base * decay_factor ** (s // decay_step) (v1, section 5.1);
    * cosine: base * (1 + cos(pi * s / steps)) / 2;
    * multi_steps: one rate up to and including each boundary, the last one after them.
    """
    base = config.base_learning_rate
    steps = max(config.training_number_of_steps - config.slow_start_step, 1)
    match config.learning_policy:
        case "poly":
            schedule = schedules.PolynomialDecay(
                base, config.decay_steps or steps, config.end_learning_rate, config.learning_power
            )
        case "step":
            schedule = schedules.ExponentialDecay(
                base,
                config.learning_rate_decay_step,
                config.learning_rate_decay_factor,
                staircase=True,
            )
        case "cosine":
            schedule = schedules.CosineDecay(base, steps)
        case "multi_steps":
            schedule = schedules.PiecewiseConstantDecay(
                list(config.boundaries), list(config.boundary_learning_rates)
            )
    if config.slow_start_step == 0:
        return schedule
    return SlowStart(
        schedule,
        config.slow_start_step,
        config.slow_start_learning_rate,
        rises_to=base if config.slow_start_burnin_type == "linear" else None,
    )


def learning_rate(config: TrainConfig, step: int) -> float:
    """The learning rate of the step after `step` steps."""
    if config.optimizer == "adam":
        return config.adam_learning_rate
    return float(ops.convert_to_numpy(learning_rate_schedule(config)(step)))


@keras.saving.register_keras_serializable("deeplab_tf")
class SlowStart(schedules.LearningRateSchedule):
    """A small learning rate for the first steps, then a schedule from its beginning.

    Args:
        schedule: What follows.
        steps: Steps of the slow start.
        learning_rate: Rate of the slow start.
        rises_to: Rate that the slow start rises to, linearly; None for a constant one.
    """

    def __init__(
        self,
        schedule: schedules.LearningRateSchedule,
        steps: int,
        learning_rate: float,
        rises_to: float | None = None,
    ) -> None:
        super().__init__()
        self.schedule = schedule
        self.steps = steps
        self.learning_rate = learning_rate
        self.rises_to = rises_to

    def __call__(self, step: Any) -> Any:
        rate = ops.convert_to_tensor(self.learning_rate, "float32")
        if self.rises_to is not None:
            rate += (self.rises_to - rate) * ops.cast(step, "float32") / self.steps
        return ops.where(step < self.steps, rate, self.schedule(ops.maximum(step - self.steps, 0)))

    def get_config(self) -> dict[str, Any]:
        return {
            "schedule": schedules.serialize(self.schedule),
            "steps": self.steps,
            "learning_rate": self.learning_rate,
            "rises_to": self.rises_to,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SlowStart":
        schedule = schedules.deserialize(config["schedule"])
        return cls(**{**config, "schedule": schedule})


@keras.saving.register_keras_serializable("deeplab_tf")
class MomentumOptimizer(keras.optimizers.Optimizer):
    """TF1's momentum: v = momentum * v + gradient; w = w - learning_rate * v.

    With Nesterov's, w = w - learning_rate * (gradient + momentum * v), of the new v.

    Differs from `keras.optimizers.SGD`, which has the learning rate inside the velocity, so that
    a changing rate reaches the weights late.

    Args:
        learning_rate: A number or a schedule.
        momentum: Share of the velocity kept at each step.
        nesterov: Whether the momentum is Nesterov's.
    """

    def __init__(
        self,
        learning_rate: Any,
        momentum: float = 0.9,
        name: str = "momentum",
        *,
        nesterov: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum = momentum
        self.nesterov = nesterov

    def build(self, variables: list[Any]) -> None:
        if self.built:
            return
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        velocity = self.velocities[self._get_variable_index(variable)]
        gradient = ops.cast(gradient, variable.dtype)
        self.assign(velocity, ops.add(ops.multiply(velocity, self.momentum), gradient))
        step = velocity
        if self.nesterov:
            step = ops.add(gradient, ops.multiply(velocity, self.momentum))
        self.assign_sub(variable, ops.multiply(step, ops.cast(learning_rate, variable.dtype)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum, "nesterov": self.nesterov}


@keras.saving.register_keras_serializable("deeplab_tf")
class LossScale(keras.optimizers.LossScaleOptimizer):
    """Scales the loss, so that gradients do not vanish in float16, and halves an excessive scale.

    A step whose gradients are not finite changes nothing but the scale.

    Differs from Keras in that it is counted as a step, so that steps, batches and the learning
    rate's schedule stay together.
    """

    def _stateful_handle_non_finite_grads(self) -> None:
        super()._stateful_handle_non_finite_grads()
        self.inner_optimizer.iterations.assign_add(1)


def build_optimizer(
    config: TrainConfig,
    variables: list[keras.Variable],
    *,
    kernels: Sequence[keras.Variable] | None = None,
) -> keras.optimizers.Optimizer:
    """The optimizer of a config.

    Momentum under its schedule, Adam with a constant rate, or AdamW under the schedule
    (arXiv 1711.05101, Algorithm 2): w = w - rate * (Adam's direction + weight_decay * w). The
    paper's weight decay has the schedule but not the base rate in it; ours is PyTorch's and Keras',
    which has both.

    Args:
        config: The optimisation.
        variables: What it trains.
        kernels: What AdamW decays, `regularized_kernels(model)`; of the others the loss does it.

    Raises:
        ValueError: AdamW without kernels.
    """
    if config.optimizer == "adam":
        optimizer = keras.optimizers.Adam(
            config.adam_learning_rate,
            epsilon=config.adam_epsilon,
            name="adam",  # or Keras counts them, and checkpoints differ by process
        )
    elif config.optimizer == "adamw":
        if kernels is None:
            raise ValueError("AdamW needs to know the kernels that it decays.")
        optimizer = keras.optimizers.AdamW(
            learning_rate_schedule(config),
            weight_decay=config.weight_decay,
            epsilon=config.adam_epsilon,
            name="adamw",
        )
        decayed = {id(kernel) for kernel in kernels}
        optimizer.exclude_from_weight_decay([v for v in variables if id(v) not in decayed])
    else:
        optimizer = MomentumOptimizer(learning_rate_schedule(config), config.momentum)
    if config.mixed_precision == "float16":
        optimizer = LossScale(optimizer, name="loss_scale")
    optimizer.build(variables)
    return optimizer


def regularized_kernels(model: keras.Model) -> list[keras.Variable]:
    """The kernels that weight decay acts on: those of convolutions, but for depthwise ones.

    Depthwise kernels, biases and batch norm's gamma and beta are left alone, as in the reference.
    There as here, the separable convolutions of the NAS encoders have both their kernels decayed.
    """
    kernels = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernels.append(layer.kernel)
        elif isinstance(layer, keras.layers.SeparableConv2D):
            kernels += [layer.depthwise_kernel, layer.pointwise_kernel]
    return kernels


def l2_loss(kernels: list[keras.Variable], weight_decay: float) -> Any:
    """As slim's `l2_regularizer`: weight_decay * sum(w ** 2) / 2 over all kernels."""
    return weight_decay / 2 * sum(ops.sum(ops.square(kernel)) for kernel in kernels)


def global_norm(gradients: Sequence[Any]) -> Any:
    """The length of all gradients as one vector, float32 scalar."""
    squares = [ops.sum(ops.square(ops.cast(gradient, "float32"))) for gradient in gradients]
    return ops.sqrt(sum(squares))


def clip_by_global_norm(gradients: Sequence[Any], norm: float) -> list[Any]:
    """Gradients that together are no longer than `norm`, in their direction (arXiv 1211.5063)."""
    factor = norm / ops.maximum(global_norm(gradients), norm)
    return [gradient * ops.cast(factor, gradient.dtype) for gradient in gradients]


def gradient_multiplier(
    name: str, *, last_layer_gradient_multiplier: float, last_layers_contain_logits_only: bool
) -> float:
    """The factor of a variable's gradient (reference: `get_model_gradient_multipliers`).

    Biases learn twice as fast as weights, and the last layers, whose weights may be new, as much
    faster than the encoder as is asked for. The gradient is that of the whole loss, weight decay
    included.

    Args:
        name: The reference's name of the variable, such as "logits/semantic/biases".
        last_layer_gradient_multiplier: The factor of the last layers.
        last_layers_contain_logits_only: Whether these are the logits alone, or the whole head.
    """
    last_layers = ("logits",) if last_layers_contain_logits_only else _HEAD_SCOPES
    factor = 2.0 if "biases" in name else 1.0
    if any(scope in name for scope in last_layers):
        factor *= last_layer_gradient_multiplier
    return factor
