"""One step of training: loss, gradients and update, on any number of replicas."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from deeplab_tf.config import TrainConfig
from deeplab_tf.layers import BatchNormalization
from deeplab_tf.model_card import ModelCard
from deeplab_tf.training import optimizers
from deeplab_tf.training.distribution import total_over_replicas
from deeplab_tf.training.ema import WeightAverage
from deeplab_tf.training.objective import Objective
from deeplab_tf.weights import reference_name

_PAPER_STEPS = 30_000

Gradients = list[tf.Tensor]


class StepResult(NamedTuple):
    """What a step tells, for the whole batch.

    Attributes:
        loss: float32 scalar, the loss before the step.
        gradient_norms: float32 [trainable variables], before clipping.
        votes: Number of workers that want to stop, float32 scalar.
    """

    loss: tf.Tensor
    gradient_norms: tf.Tensor
    votes: tf.Tensor


class TrainStep:
    """Takes steps: gradients of the batch, summed over its parts, and the optimizer's update.

    A batch may come in several parts (gradient accumulation): each replica adds up the gradients of
    its own, one after the other, so that memory holds the features of one. The sum is the gradient
    of the whole batch. Only batch norm sees the parts.

    Args:
        model: The network of `card.model`, made under `strategy`.
        optimizer: Its optimizer.
        card: The run.
        strategy: Who computes; None for one device.
        average: What takes in the weights after each step; None for nothing.
        rematerialize: Whether features are computed again in place of being kept.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        card: ModelCard,
        strategy: tf.distribute.Strategy | None = None,
        average: WeightAverage | None = None,
        *,
        rematerialize: bool = False,
    ) -> None:
        self._objective = Objective(model, optimizer, card, rematerialize=rematerialize)
        self._optimizer = optimizer
        self._strategy = strategy or tf.distribute.get_strategy()
        self._average = average
        self._clip_norm = card.train.clip_gradient_norm
        self._variables = model.trainable_variables
        self._multipliers = [
            optimizers.gradient_multiplier(
                reference_name(variable),
                last_layer_gradient_multiplier=card.train.last_layer_gradient_multiplier,
                last_layers_contain_logits_only=card.train.last_layers_contain_logits_only,
            )
            for variable in self._variables
        ]
        self._parts = card.train.gradient_accumulation_steps
        if self._parts > 1:
            with self._strategy.scope():
                self._sums = [_sum_like(variable) for variable in self._variables]

    def __call__(self, parts: Sequence[tuple[Any, Any]], vote: float = 0.0) -> StepResult:
        """Takes a step.

        Args:
            parts: Images, uint8 [b, h, w, c], and labels, uint8 [b, h, w], of the replicas; as many
                as there are gradient accumulation steps.
            vote: 1 if this worker wants to stop, else 0.
        """
        vote = tf.constant(vote)
        if self._parts == 1:
            return self._whole(*parts[0], vote)
        counts = [sum(counts) for counts in zip(*(self._count(y) for _, y in parts), strict=True)]
        loss = sum(self._accumulate(x, y, counts) for x, y in parts)
        return StepResult(loss, *self._apply(vote))

    # jit_compile: XLA is eight times slower on a CPU.
    @tf.function(jit_compile=False)
    def _whole(self, images: tf.Tensor, labels: tf.Tensor, vote: tf.Tensor) -> StepResult:
        def step(images: tf.Tensor, labels: tf.Tensor, vote: tf.Tensor) -> StepResult:
            loss, gradients = self._gradients(images, labels)
            return StepResult(loss, self._update(gradients), vote)

        return self._totals(self._strategy.run(step, (images, labels, vote)))

    @tf.function(jit_compile=False)
    def _count(self, labels: tf.Tensor) -> list[tf.Tensor]:
        counts = self._strategy.run(self._objective.counts, (labels,))
        return [self._strategy.reduce("sum", count, axis=None) for count in counts]

    @tf.function(jit_compile=False)
    def _accumulate(
        self, images: tf.Tensor, labels: tf.Tensor, counts: list[tf.Tensor]
    ) -> tf.Tensor:
        def accumulate(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            loss, gradients = self._gradients(images, labels, counts)
            for total, gradient in zip(self._sums, gradients, strict=True):
                total.assign_add(gradient)
            return loss

        losses = self._strategy.run(accumulate, (images, labels))
        return self._strategy.reduce("sum", losses, axis=None)

    @tf.function(jit_compile=False)
    def _apply(self, vote: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        def apply(vote: tf.Tensor) -> StepResult:
            norms = self._update([tf.convert_to_tensor(total) for total in self._sums])
            for total in self._sums:
                total.assign(tf.zeros_like(total))
            return StepResult(tf.constant(0.0), norms, vote)

        result = self._totals(self._strategy.run(apply, (vote,)))
        return result.gradient_norms, result.votes

    def _gradients(
        self, images: tf.Tensor, labels: tf.Tensor, counts: list[tf.Tensor] | None = None
    ) -> tuple[tf.Tensor, Gradients]:
        """A replica's share of the loss and, scaled as the optimizer wants them, of gradients."""
        replicas = self._strategy.num_replicas_in_sync
        with tf.GradientTape() as tape:
            terms = self._objective.losses(images, labels)
            if counts is None:
                counts = total_over_replicas([term.count for _, term in terms])
            share = self._objective.share(terms, counts, replicas * self._parts)
            scaled = self._optimizer.scale_loss(share)
        gradients = tape.gradient(scaled, self._variables)
        return share, [g * m for g, m in zip(gradients, self._multipliers, strict=True)]

    def _update(self, gradients: Gradients) -> tf.Tensor:
        """Sums the replicas' gradients and updates the weights; returns the norm of each."""
        gradients = total_over_replicas(gradients)
        scale = self._optimizer.scale_loss(tf.constant(1.0))
        norms = tf.stack([tf.norm(gradient) for gradient in gradients]) / scale
        if self._clip_norm:
            gradients = optimizers.clip_by_global_norm(gradients, self._clip_norm * scale)
        replicas = self._strategy.num_replicas_in_sync
        if replicas > 1:
            # The optimizer sums them once more.
            gradients = [gradient / replicas for gradient in gradients]
        self._optimizer.apply(gradients, self._variables)
        if self._average is not None:
            self._average.update(self._optimizer.iterations)
        return norms

    def _totals(self, result: StepResult) -> StepResult:
        """What the replicas' results are together."""
        norms = self._strategy.experimental_local_results(result.gradient_norms)[0]
        votes = self._strategy.reduce("mean", result.votes, axis=None)
        return StepResult(self._strategy.reduce("sum", result.loss, axis=None), norms, votes)


def _sum_like(variable: keras.Variable) -> tf.Variable:
    """A variable of each replica's own, for sums of gradients."""
    return tf.Variable(
        tf.zeros_like(variable.value),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )


def set_batch_norm(model: keras.Model, config: TrainConfig, *, replicas: int = 1) -> None:
    """Gives every batch norm the decay of the config, or one that suits the run's length.

    The networks' own decays (up to 0.9997) are made for the papers' 30,000 steps from pretrained
    weights. In a shorter run such an average is full of what the network was long before, and a
    network that trains well looks broken in evaluation (docs/camvid.md has an example).

    Without `fine_tune_batch_norm`, the statistics are frozen instead; with `freeze_batch_norm`,
    gamma and beta are as well. Otherwise the statistics are those of all replicas together.

    Differs: the reference keeps the networks' own decays and does not read `batch_norm_decay`.
    """
    steps = config.training_number_of_steps
    longest = 1.0 if steps >= _PAPER_STEPS else max(0.9, 1 - 90 / steps)
    for layer in model.layers:
        if isinstance(layer, BatchNormalization):
            layer.momentum = config.batch_norm_decay or min(layer.momentum, longest)
            layer.frozen_statistics = not config.fine_tune_batch_norm
            layer.trainable = not config.freeze_batch_norm
            layer.synchronized, layer.replicas = replicas > 1, replicas
            layer.fused = _fused_batch_norm if replicas == 1 else None


def _fused_batch_norm(
    x: tf.Tensor, gamma: keras.Variable, beta: keras.Variable, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """TensorFlow's kernel, which the reference uses as well; it sees one replica only."""
    return tf.compat.v1.nn.fused_batch_norm(
        x, tf.cast(gamma, tf.float32), tf.cast(beta, tf.float32), epsilon=epsilon
    )


def freeze_layers(model: keras.Model, trained_layers: Sequence[str]) -> None:
    """Leaves all weights as they are, but for those of layers whose names begin so.

    Args:
        model: The network.
        trained_layers: Beginnings of names; none for a network that learns as a whole.

    Raises:
        ValueError: No layer's name begins with one of them.
    """
    names = [layer.name for layer in model.layers if layer.weights]
    for beginning in trained_layers:
        if not any(name.startswith(beginning) for name in names):
            raise ValueError(
                f"--trained_layers={beginning}: no layer of {model.name} begins so; there are "
                f"{', '.join(sorted({name.split('.')[0] for name in names}))}."
            )
    if trained_layers:
        for layer in model.layers:
            # Batch norm may be frozen already.
            layer.trainable &= layer.name.startswith(tuple(trained_layers))
