"""Optimizer and learning rate of pretraining (v3+, section 4)."""

import keras
from keras.optimizers import schedules

from deeplab_tf.pretrain.card import PretrainCard
from deeplab_tf.training.optimizers import LossScale, MomentumOptimizer


def learning_rate_schedule(card: PretrainCard) -> schedules.LearningRateSchedule:
    """By epoch: base * factor ** (epoch // decay_epochs), with epochs as whole steps."""
    config = card.train
    steps = max(round(config.learning_rate_decay_epochs * card.steps_per_epoch), 1)
    return schedules.ExponentialDecay(
        config.base_learning_rate, steps, config.learning_rate_decay_factor, staircase=True
    )


def build_optimizer(
    card: PretrainCard, variables: list[keras.Variable]
) -> keras.optimizers.Optimizer:
    """Momentum as Nesterov's under the schedule, TF1's kind (`optimizers.MomentumOptimizer`)."""
    optimizer = MomentumOptimizer(learning_rate_schedule(card), card.train.momentum, nesterov=True)
    if card.train.mixed_precision == "float16":
        optimizer = LossScale(optimizer, name="loss_scale")
    optimizer.build(variables)
    return optimizer
