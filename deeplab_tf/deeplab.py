"""The DeepLab networks, assembled. Read this first.

    images -> encoder -> ASPP -> [decoder <- low-level features] -> logits -> upsampled logits

DeepLabv3 (arXiv 1706.05587) is the path without the decoder, or with more blocks of the encoder in
ASPP's place; DeepLabv3+ (arXiv 1802.02611) has the decoder. DeepLabv2 (arXiv 1606.00915) has, in
ASPP's place, one classifier for each rate, and may see the image at several scales. DeepLabv1
(arXiv 1412.7062) is VGG-16 with its fully connected layers as convolutions, of which v2's VGG-16
has a pair for each rate.
"""

import keras
from keras import KerasTensor, layers

from deeplab_tf.backbones import Features, get_backbone
from deeplab_tf.config import ENCODER_OPTIONS, ModelConfig
from deeplab_tf.heads import (
    aspp,
    classifier,
    decoder,
    dense_prediction_cell,
    fully_connected,
    image_gate,
    image_pooling,
    multi_scale_features,
)
from deeplab_tf.layers import Logits, ResizeLike, scale_dimension


def build_deeplab(config: ModelConfig) -> keras.Model:
    """Builds the network of a config.

    Args:
        config: Which network.

    Returns:
        A functional `keras.Model` that maps images, float [b, h, w, input_channels] in [0, 255]
        (RGB where there are three) and of any size (or of `config.crop_size`), to logits, float32
        [b, h, w, num_classes]. The layer "logits" has them at their own stride. Layer names are the
        reference's variable scopes, with "." for "/".

    Raises:
        ValueError: if the encoder does not exist or does not take an option that is set, or the
            image is too small for it.
    """
    size = config.crop_size or (None, None)
    images = keras.Input((*size, config.input_channels), name="images")
    stride = min(config.decoder_output_stride, default=config.output_stride)
    if config.image_pyramid in ((), (1.0,)):
        logits = Logits(stride, name="logits")(_network(images, config))
    else:
        logits = _image_pyramid(images, config, stride=stride)
    upsampled = ResizeLike(dtype="float32", name="upsampled_logits")(logits, images)
    return keras.Model(images, upsampled, name=f"deeplab_{config.model_variant}")


def _network(images: KerasTensor, config: ModelConfig) -> KerasTensor:
    """Images, [b, h, w, c], to logits at their own stride."""
    features = encoder_features(images, config)
    if config.fc_filters:
        return _fully_connected_head(features, config)
    x = _head(features.final, config)
    x = decoder(
        x,
        [features.low_level[stride] for stride in config.decoder_output_stride],
        filters=config.decoder_filters,
        separable=config.decoder_use_separable_conv,
        sum_merge=config.decoder_use_sum_merge,
        linear=config.decoder_output_is_logits,
        activation=_activation(config),
    )
    if config.decoder_output_is_logits:
        return x
    rates = (1,) if config.aspp_with_batch_norm else config.atrous_rates or (1,)
    return classifier(
        [x] * len(rates),
        num_classes=config.num_classes,
        kernel_size=config.logits_kernel_size,
        rates=rates,
    )


def encoder_features(images: KerasTensor, config: ModelConfig) -> Features:
    """Images, [b, h, w, c] in [0, 255], to the features that the encoder of a config has."""
    backbone = get_backbone(config.model_variant)
    for option in ENCODER_OPTIONS:
        unset = ModelConfig.__dataclass_fields__[option].default
        if option not in backbone.options and getattr(config, option) != unset:
            raise ValueError(f"{config.model_variant} has no {option}; leave it at {unset!r}.")
    options = {option: getattr(config, option) for option in backbone.options}
    return backbone.build(backbone.normalize(images), output_stride=config.output_stride, **options)


def _fully_connected_head(features: Features, config: ModelConfig) -> KerasTensor:
    """DeepLabv1, with one rate; with several, the ASPP of DeepLabv2's VGG-16."""
    branches = [
        fully_connected(
            features.final,
            filters=config.fc_filters,
            kernel_size=config.fc_kernel_size,
            rate=rate,
            suffix=f"_{i}" if i else "",
        )
        for i, rate in enumerate(config.atrous_rates)
    ]
    if config.multi_scale_features:
        details = multi_scale_features(features.low_level, output_stride=config.output_stride)
        branches = [layers.Concatenate(name="msc.concat")([*branches, *details])]
    return classifier(
        branches, num_classes=config.num_classes, kernel_size=1, rates=[1] * len(branches)
    )


def _head(x: KerasTensor, config: ModelConfig) -> KerasTensor:
    if not config.aspp_with_batch_norm:
        return x  # DeepLabv2, whose classifier is the pyramid
    if config.dense_prediction_cell_config:
        return dense_prediction_cell(
            x,
            config.dense_prediction_cell_config,
            output_stride=config.output_stride,
            pooled_size=config.image_pooling_crop_size or config.crop_size,
        )
    image_level = gate = None
    if config.add_image_level_feature and config.aspp_with_squeeze_and_excitation:
        gate = image_gate(
            x,
            filters=config.aspp_convs_filters,
            window=_pooling_window(config),
            stride=config.image_pooling_stride,
            gate="q_sigmoid" if config.image_se_uses_qsigmoid else "sigmoid",
        )
    elif config.add_image_level_feature:
        image_level = image_pooling(
            x,
            filters=config.aspp_convs_filters,
            window=_pooling_window(config),
            stride=config.image_pooling_stride,
            activation=_activation(config),
        )
    x = aspp(
        x,
        filters=config.aspp_convs_filters,
        rates=config.atrous_rates,
        separable=config.aspp_with_separable_conv,
        image_level=image_level,
        projection=config.aspp_with_concat_projection,
        activation=_activation(config),
    )
    return x if gate is None else layers.Multiply(name="aspp.gate")([x, gate])


def _pooling_window(config: ModelConfig) -> tuple[int, int] | None:
    """What image pooling averages over, in features; None for all of them.

    Differs: the reference reads `image_pooling_crop_size` only where there is a `crop_size`.
    """
    if config.image_pooling_crop_size is None:
        return None
    height, width = config.image_pooling_crop_size
    scale = 1 / config.output_stride
    return scale_dimension(height, scale), scale_dimension(width, scale)


def _activation(config: ModelConfig) -> str:
    return "relu6" if config.use_bounded_activation else "relu"


def _image_pyramid(images: KerasTensor, config: ModelConfig, *, stride: int) -> KerasTensor:
    """One network on several scales of the image, its logits merged (v2, section 3.2).

    All logits are resized to the grid of the largest scale, or of the image itself if that is
    larger.
    """
    network = keras.Model(images, _network(images, config))
    merged_stride = stride / max(1.0, *config.image_pyramid)
    pyramid = []
    for scale in config.image_pyramid:
        if scale == 1:
            logits = network.output
        else:
            scaled = ResizeLike(scale, name=f"images_{scale:.2f}")(images, images)
            # Not network(scaled): its layers are to be the pyramid's own, shared by the scales.
            logits = network.call(scaled)
        pyramid.append(ResizeLike(1 / merged_stride, name=f"logits_{scale:.2f}")(logits, images))
    merge = layers.Maximum if config.merge_method == "max" else layers.Average
    merged = merge(name="merged_logits")(pyramid) if len(pyramid) > 1 else pyramid[0]
    return Logits(merged_stride, name="logits")(merged)
