"""What the networks are that are measured against segmentation-models-pytorch's (smp).

They are built alike: smp's encoder, rates (12, 24, 36), atrous separable convolutions in ASPP and
decoder. Where smp's has other layers nevertheless, the Multiply-Adds of both sides tell.
"""

from typing import NamedTuple

from deeplab_tf import DataConfig, InferenceConfig, ModelConfig, TrainConfig
from deeplab_tf.data.known_datasets import KNOWN_DATASETS
from deeplab_tf.model_card import ModelCard

DATASET = KNOWN_DATASETS["pascal_voc_seg"]  # 21 classes, 255 for void


class Network(NamedTuple):
    """An encoder, by our name and by smp's."""

    model_variant: str
    encoder: str


MOBILENET_V2 = Network("mobilenet_v2", "mobilenet_v2")
RESNET_50 = Network("resnet_v1_50", "resnet50")
RESNET_101 = Network("resnet_v1_101", "resnet101")
XCEPTION_65 = Network("xception_65", "tu-xception65")


def card_of(network: Network, *, size: int, batch_size: int = 1) -> ModelCard:
    """Our DeepLabv3+ with an encoder, and a run that trains it."""
    config = ModelConfig(
        network.model_variant,
        num_classes=DATASET.num_classes,
        atrous_rates=(12, 24, 36),
        decoder_output_stride=(4,),
    )
    data = DataConfig((size, size), batch_size=batch_size)
    return ModelCard(config, data, TrainConfig(), InferenceConfig(), DATASET)
