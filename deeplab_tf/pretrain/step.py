"""One step of pretraining, on any number of replicas."""

from typing import NamedTuple

import keras
import tensorflow as tf

from deeplab_tf.config import PretrainConfig
from deeplab_tf.training import optimizers
from deeplab_tf.training.distribution import total_over_replicas


class StepResult(NamedTuple):
    """What a step tells, for the whole batch.

    Attributes:
        loss: float32 scalar, the loss before the step.
        accuracy: float32 scalar, the share of the batch that was right before the step.
        votes: Whether any worker wants to stop, if above 0; float32 scalar.
    """

    loss: tf.Tensor
    accuracy: tf.Tensor
    votes: tf.Tensor


class ClassifierStep:
    """Takes steps: the mean cross entropy of the whole batch, plus weight decay.

    Differs from segmentation's step, `training.step.TrainStep`, in that biases learn no faster than
    weights: that is the reference's DeepLab, not slim's classifiers.

    Args:
        model: Images, float [b, h, w, 3], to scores, made under `strategy`.
        optimizer: Its optimizer.
        config: The optimisation.
        strategy: Who computes; None for one device.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        config: PretrainConfig,
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._config = config
        self._strategy = strategy or tf.distribute.get_strategy()
        self._variables = model.trainable_variables
        self._kernels = optimizers.regularized_kernels(model)

    # jit_compile: XLA is eight times slower on a CPU.
    @tf.function(jit_compile=False)
    def __call__(self, images: tf.Tensor, labels: tf.Tensor, vote: tf.Tensor) -> StepResult:
        """Takes a step.

        Args:
            images: uint8 [b, h, w, 3], of the replicas.
            labels: int32 [b], of the replicas.
            vote: 1 if this worker wants to stop, else 0; float32 scalar.
        """
        result = self._strategy.run(self._step, (images, labels, vote))
        loss, accuracy = (
            self._strategy.reduce("sum", share, axis=None)
            for share in (result.loss, result.accuracy)
        )
        return StepResult(loss, accuracy, self._strategy.reduce("mean", result.votes, axis=None))

    def _step(self, images: tf.Tensor, labels: tf.Tensor, vote: tf.Tensor) -> StepResult:
        replicas = self._strategy.num_replicas_in_sync
        with tf.GradientTape() as tape:
            logits = self._model(tf.cast(images, tf.float32), training=True)
            share = self.losses(logits, labels) / self._config.batch_size
            share += optimizers.l2_loss(self._kernels, self._config.weight_decay) / replicas
            scaled = self._optimizer.scale_loss(share)
        gradients = total_over_replicas(tape.gradient(scaled, self._variables))
        # The optimizer sums them once more.
        self._optimizer.apply([gradient / replicas for gradient in gradients], self._variables)
        right = tf.argmax(logits, axis=-1, output_type=tf.int32) == labels
        hits = tf.reduce_sum(tf.cast(right, tf.float32))
        return StepResult(share, hits / self._config.batch_size, vote)

    def losses(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """The sum of the images' cross entropies, with label smoothing (arXiv 1512.00567)."""
        smoothing, classes = self._config.label_smoothing, logits.shape[-1]
        targets = tf.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes
        return tf.reduce_sum(tf.nn.softmax_cross_entropy_with_logits(targets, logits))
