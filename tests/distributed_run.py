"""Short training runs, one after the other, in a process of their own, for tests of strategies.

    python -m tests.distributed_run '{"strategy": "mirrored", "devices": 2, "runs": [{...}]}'

The network is a small one: in a deep one, float32 alone tells two runs apart after a few steps, if
only the images of a batch change places.
"""

import json
import sys
import time

import keras
import numpy as np
from keras import layers

from deeplab_tf.layers import BatchNormalization, ResizeLike
from deeplab_tf.training import distribution, validation
from deeplab_tf.training import run as training
from deeplab_tf.training.step import TrainStep
from tests import tiny_run


class RecordingStep(TrainStep):
    """Notes the losses; may wait before each step, so that there is time to interfere."""

    losses: list[float] = []  # noqa: RUF012 - of the run that this process is at
    seconds = 0.0

    def __call__(self, parts, vote=0.0):
        time.sleep(self.seconds)
        result = super().__call__(parts, vote)
        self.losses.append(float(result.loss))
        return result


def build_small_network(config):
    images = keras.Input((None, None, 3))
    x = layers.Rescaling(1 / 127.5, -1)(images)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="conv")(x)
    x = layers.ReLU()(BatchNormalization(name="conv.BatchNorm")(x))
    logits = layers.Conv2D(config.num_classes, 1, name="logits")(x)
    return keras.Model(images, ResizeLike()(logits, images))


def script_validations(wrong):
    """Says how many of 2000 pixels the validations get wrong, one by one."""
    left = iter(wrong)

    def split_confusion(*args, **options):
        matrix = np.diag([1000, 1000, 0])
        count = next(left)
        matrix[0] -= [count, -count, 0]
        return matrix

    validation.split_confusion = split_confusion


def main(*, runs, strategy="one_device", devices=None, seconds=0.0):
    strategy = distribution.build_strategy(strategy, num_devices=devices)
    RecordingStep.seconds = seconds
    training.TrainStep = RecordingStep
    for options in runs:
        RecordingStep.losses.clear()
        train(strategy, **options)


def train(
    strategy,
    *,
    data,
    logdir,
    losses,
    save=0,
    steps=20,
    small=True,
    val_interval=10,
    wrong=None,
    patience=0,
    **settings,
):
    if small:
        training.build_deeplab = build_small_network
    if wrong is not None:
        script_validations(wrong)
    card = tiny_run.card(training_number_of_steps=steps, base_learning_rate=0.02, **settings)
    training.train(
        card,
        dataset_dir=data,
        train_split="train",
        val_split="val",
        val_interval_steps=val_interval,
        logdir=logdir,
        strategy=strategy,
        save_interval_steps=save,
        early_stop_patience=patience,
    )
    with open(losses, "w") as file:
        json.dump(RecordingStep.losses, file)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
