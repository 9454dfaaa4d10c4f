"""Short runs of pretraining, with a network that costs nothing.

python -m tests.pretrain.runs '{"data": ..., "logdir": ..., "devices": 2}'
"""

import json
import sys

import keras
from keras import layers

from deeplab_tf.config import ModelConfig, PretrainConfig
from deeplab_tf.data.classification.folders import open_folders
from deeplab_tf.layers import BatchNormalization
from deeplab_tf.pretrain import run
from deeplab_tf.pretrain.card import PretrainCard
from deeplab_tf.training import distribution
from tests.pretrain import shapes


def small_classifier(config, *, dropout_rate):
    images = keras.Input((None, None, 3))
    x = layers.Rescaling(1 / 127.5, -1)(images)
    x = layers.Conv2D(6, 3, strides=2, use_bias=False, name="tiny.conv")(x)
    x = layers.ReLU()(BatchNormalization(name="tiny.conv.BatchNorm")(x))
    x = layers.Dropout(dropout_rate)(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Conv2D(config.num_classes, 1, name="tiny.logits")(x)
    return keras.Model(images, layers.Flatten()(x))


def card_of(sources, **train):
    settings = {"image_size": 24, "batch_size": 8, "epochs": 4, "learning_rate_decay_epochs": 1}
    return PretrainCard(
        model=ModelConfig("mobilenet_v2", num_classes=4, output_stride=32),
        train=PretrainConfig(**{**settings, **train}),
        class_names=shapes.CLASSES,
        splits={split: source.count for split, source in sources.items()},
        train_split="train",
    )


def main(*, data, logdir, devices=None, **train):
    strategy = distribution.build_strategy("mirrored", num_devices=devices) if devices else None
    run.build_classifier = small_classifier
    _, sources = open_folders(data)
    card = card_of(sources, **train)
    run.pretrain(card, sources, logdir=logdir, val_split="val", strategy=strategy, log_steps=1)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
