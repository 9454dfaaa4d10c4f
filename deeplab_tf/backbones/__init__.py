"""Encoders: one module per family, one record per variant."""

from deeplab_tf.backbones import mobilenet_v2, mobilenet_v3, nas, resnet_v1, vgg, xception
from deeplab_tf.backbones.base import Backbone, Features

BACKBONES: dict[str, Backbone] = {
    **mobilenet_v2.VARIANTS,
    **mobilenet_v3.VARIANTS,
    **nas.VARIANTS,
    **resnet_v1.VARIANTS,
    **vgg.VARIANTS,
    **xception.VARIANTS,
}


def get_backbone(model_variant: str) -> Backbone:
    """The record of a variant; ValueError, naming those there are, if there is none."""
    if model_variant not in BACKBONES:
        raise ValueError(
            f"There is no model_variant {model_variant!r}; there are {', '.join(BACKBONES)}."
        )
    return BACKBONES[model_variant]


__all__ = ["BACKBONES", "Backbone", "Features", "get_backbone"]
