"""What training minimises."""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from deeplab_tf.backbones.nas_cells import DropPath
from deeplab_tf.config import TrainConfig
from deeplab_tf.losses import LossSum, label_counts, segmentation_losses
from deeplab_tf.model_card import ModelCard
from deeplab_tf.training import optimizers
from deeplab_tf.training.rematerialize import Rematerialized


class Objective:
    """What training minimises: the losses of every set of logits, and weight decay.

    AdamW does the weight decay itself. An image pyramid has losses for each of its scales as well,
    all of weight 1 (reference: `_build_deeplab`). What changes in the course of training, hard
    pixel mining and drop path, goes by the optimizer's steps.

    Args:
        model: The network of `card.model`.
        optimizer: Who counts the steps.
        card: The run.
        rematerialize: Whether features are computed again in place of being kept.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        card: ModelCard,
        *,
        rematerialize: bool = False,
    ) -> None:
        scales = card.model.image_pyramid if len(card.model.image_pyramid) > 1 else ()
        names = [*(f"logits_{scale:.2f}" for scale in scales), "logits"]
        outputs = {name: model.get_layer(name).output for name in names}
        self._network = keras.Model(model.input, outputs)
        self._logits: Callable[[Any], dict[str, Any]] = partial(self._network, training=True)
        if rematerialize:
            self._logits = Rematerialized(self._network)
        self._card = card
        self._optimizer = optimizer
        self._kernels = optimizers.regularized_kernels(model)
        _drop_paths(model, optimizer, card.train)

    def __call__(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """The loss of a whole batch: images, uint8 [b, h, w, c], and labels, uint8 [b, h, w]."""
        terms = self.losses(images, labels)
        return self.share(terms, [term.count for _, term in terms], parts=1)

    def losses(self, images: tf.Tensor, labels: tf.Tensor) -> list[tuple[float, LossSum]]:
        """Factors and losses of some of a batch."""
        config = self._card.train
        outputs = self._logits(tf.cast(images, tf.float32))
        return [
            term
            for logits in outputs.values()
            for term in segmentation_losses(
                labels,
                tf.cast(logits, tf.float32),
                ignore_label=self._card.dataset.ignore_label,
                loss=config.loss,
                label_weights=config.label_weights or 1.0,
                label_smoothing=config.label_smoothing,
                focal_gamma=config.focal_gamma,
                dice_weight=config.dice_weight,
                lovasz_weight=config.lovasz_weight,
                upsample_logits=config.upsample_logits,
                top_k_percent_pixels=config.top_k_percent_pixels,
                hard_example_mining_step=config.hard_example_mining_step,
                step=self._optimizer.iterations,
            )
        ]

    def counts(self, labels: tf.Tensor) -> list[tf.Tensor]:
        """What the losses of a part of a batch are divided by, if it is all of the batch."""
        config = self._card.train
        shapes = self._network.compute_output_shape((*labels.shape, self._network.input.shape[-1]))
        return [
            count
            for shape in shapes.values()
            for count in label_counts(
                labels,
                shape[1:3],
                ignore_label=self._card.dataset.ignore_label,
                dice_weight=config.dice_weight,
                lovasz_weight=config.lovasz_weight,
                upsample_logits=config.upsample_logits,
            )
        ]

    def share(
        self, terms: list[tuple[float, LossSum]], counts: list[tf.Tensor], parts: int
    ) -> tf.Tensor:
        """What one of several parts of a batch adds to its loss.

        Args:
            terms: The part's `losses`.
            counts: Their counts in the whole batch.
            parts: Number of parts, each of which adds as much of the weight decay.
        """
        losses = [
            factor * LossSum(term.total, count).mean()
            for (factor, term), count in zip(terms, counts, strict=True)
        ]
        config = self._card.train
        if config.optimizer == "adamw":
            return sum(losses)
        return sum(losses) + optimizers.l2_loss(self._kernels, config.weight_decay) / parts


def _drop_paths(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, config: TrainConfig
) -> None:
    """Ties drop path to the optimizer's steps; as the reference, not with frozen statistics."""

    def progress() -> tf.Tensor:
        return optimizer.iterations / config.training_number_of_steps

    for layer in model.layers:
        if isinstance(layer, DropPath):
            layer.progress = progress if config.fine_tune_batch_norm else 0.0
