"""A small network to export, and images for it."""

import keras
import numpy as np

from deeplab_tf import DataConfig, InferenceConfig, ModelConfig, TrainConfig, build_deeplab
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.model_card import ModelCard

# With dilated convolutions of both kinds, and images that need padding.
CARD = ModelCard(
    model=ModelConfig(
        depth_multiplier=0.25,
        num_classes=5,
        output_stride=8,
        atrous_rates=(2, 3),
        aspp_with_separable_conv=False,
        aspp_convs_filters=16,
        decoder_output_stride=(4,),
        decoder_filters=16,
    ),
    data=DataConfig(),
    train=TrainConfig(),
    inference=InferenceConfig(crop_size=(33, 49)),
    dataset=DatasetInfo(
        name="shapes",
        class_names=("background", "disc", "ring", "star", "dé"),
        palette=((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)),
        ignore_label=255,
        splits={"val": 1},
    ),
)


def build_network(config: ModelConfig = CARD.model) -> keras.Model:
    """Untrained, but batch norms have seen images and every class is among the predictions.

    Roundings grow in random weights as they do in none that have learnt something: of 8 bits little
    is left, and docs/export.md has the figures of a trained network.
    """
    images = noise(4, 97, 97, channels=config.input_channels)
    return season(build_deeplab(config), images)


def season(model: keras.Model, images: np.ndarray) -> keras.Model:
    """Lets the batch norms of a new model see images, and spreads its predictions over classes."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(rng.uniform(0.5, 1.5, layer.gamma.shape))
            layer.beta.assign(rng.normal(0, 0.5, layer.beta.shape))
            layer.momentum = 0
    images = images.astype(np.float32)
    model(images, training=True)
    logits = np.asarray(model(images, training=False))
    kernel, bias = model.get_layer("logits.semantic").weights
    scale = 2 / logits.std(axis=(0, 1, 2))
    kernel.assign(kernel * scale)
    bias.assign((bias - logits.mean(axis=(0, 1, 2))) * scale)
    return model


def noise(batch: int, height: int, width: int, *, channels: int = 3) -> np.ndarray:
    """Patches of noise, uint8 [b, h, w, c], other ones for each image."""
    rng = np.random.default_rng([batch, height, width])
    shape = (batch, height // 8 + 1, width // 8 + 1, channels)
    patches = rng.integers(0, 256, shape, dtype=np.uint8)
    return patches.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width].copy()
