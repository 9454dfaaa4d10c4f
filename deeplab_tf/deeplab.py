"""The DeepLab networks, assembled. Read this first.

    images -> encoder -> ASPP -> [decoder <- low-level features] -> logits -> upsampled logits

DeepLabv3 (arXiv 1706.05587) is the path without the decoder, DeepLabv3+ (arXiv 1802.02611) the
one with it.
"""

import keras

from deeplab_tf.backbones import Features, get_backbone
from deeplab_tf.config import ModelConfig
from deeplab_tf.heads import aspp, classifier, decoder
from deeplab_tf.layers import ResizeLike


def build_deeplab(config: ModelConfig) -> keras.Model:
    """Builds the network of a config.

    Args:
        config: Which network.

    Returns:
        A functional `keras.Model` that maps RGB images, float [b, h, w, 3] in [0, 255] and of any
        size, to logits, float32 [b, h, w, num_classes]. The layer "logits" has them at their own
        stride. Layer names are the reference's variable scopes, with "." for "/".

    Raises:
        ValueError: if the encoder does not exist or does not take an option that is set.
    """
    images = keras.Input((None, None, 3), name="images")
    features = _encoder(images, config)
    x = aspp(
        features.final,
        filters=config.aspp_convs_filters,
        rates=config.atrous_rates,
        image_level_feature=config.add_image_level_feature,
        separable=config.aspp_with_separable_conv,
    )
    x = decoder(
        x,
        [features.low_level[stride] for stride in config.decoder_output_stride],
        filters=config.decoder_filters,
        separable=config.decoder_use_separable_conv,
    )
    logits = classifier(x, num_classes=config.num_classes)
    upsampled = ResizeLike(dtype="float32", name="upsampled_logits")(logits, images)
    return keras.Model(images, upsampled, name=f"deeplab_{config.model_variant}")


def _encoder(images: keras.KerasTensor, config: ModelConfig) -> Features:
    backbone = get_backbone(config.model_variant)
    for option in ("multi_grid", "depth_multiplier"):
        unset = ModelConfig.__dataclass_fields__[option].default
        if option not in backbone.options and getattr(config, option) != unset:
            raise ValueError(f"{config.model_variant} has no {option}; leave it at {unset!r}.")
    options = {option: getattr(config, option) for option in backbone.options}
    return backbone.build(backbone.normalize(images), output_stride=config.output_stride, **options)
