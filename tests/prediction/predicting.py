"""What the tests of predict.py share."""

import tensorflow as tf

from deeplab_tf.training.optimizers import MomentumOptimizer
from deeplab_tf.weights import training_checkpoint
from tests import tiny_run


def write_run(folder, card=None):
    """What train.py leaves: a card and a checkpoint, of a network that predicts every class."""
    card = card or tiny_run.card()
    card.save(folder)
    write_checkpoint(folder, tiny_run.random_network(card.model), number=3)


def write_checkpoint(folder, model, *, number):
    optimizer = MomentumOptimizer(0.1)
    optimizer.build(model.trainable_variables)
    manager = tf.train.CheckpointManager(
        training_checkpoint(model, optimizer), folder, 1, checkpoint_name="model.ckpt"
    )
    manager.save(checkpoint_number=number)


def predict_arguments(place, *more, out="out", photos="photos"):
    return (
        f"--checkpoint_dir={place}/run",
        f"--input={place}/{photos}",
        f"--output_dir={place}/{out}",
        *more,
    )
