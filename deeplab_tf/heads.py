"""DeepLab's heads: atrous spatial pyramid pooling, the decoder and the classifier.

Layer names are the reference's variable scopes.
"""

from collections.abc import Sequence
from typing import Any

from keras import KerasTensor, initializers, layers

from deeplab_tf.layers import BatchNorm, ResizeLike, conv_bn, depthwise_conv_bn

_BATCH_NORM = BatchNorm(momentum=0.9997, epsilon=1e-5)


def aspp(
    x: KerasTensor,
    *,
    filters: int,
    rates: Sequence[int],
    image_level_feature: bool,
    separable: bool,
) -> KerasTensor:
    """Atrous spatial pyramid pooling (v3, section 3.3; v3+, section 3.1).

    Args:
        x: [b, h, w, c], the encoder's final features.
        filters: Channels of each branch and of the projection.
        rates: Atrous rates of the 3x3 branches.
        image_level_feature: Whether to add the image pooling branch.
        separable: Whether the 3x3 branches are separable convolutions.

    Returns:
        [b, h, w, filters].
    """
    branches = []
    if image_level_feature:
        branches.append(image_pooling(x, filters=filters))
    branches.append(_conv_bn(x, filters, 1, name="aspp0"))
    for i, rate in enumerate(rates, start=1):
        branches.append(_conv3x3(x, filters, rate=rate, separable=separable, name=f"aspp{i}"))
    if len(branches) > 1:
        x = layers.Concatenate(name="aspp.concat")(branches)
    else:
        x = branches[0]
    x = _conv_bn(x, filters, 1, name="concat_projection")
    return layers.Dropout(0.1, name="concat_projection.dropout")(x)


def image_pooling(x: KerasTensor, *, filters: int) -> KerasTensor:
    """Image-level features (ParseNet): global mean, 1x1 convolution, back to the size of `x`."""
    pooled = layers.GlobalAveragePooling2D(keepdims=True, name="image_pooling.mean")(x)
    pooled = _conv_bn(pooled, filters, 1, name="image_pooling")
    return ResizeLike(name="image_pooling.resize")(pooled, x)


def decoder(
    x: KerasTensor, low_level: Sequence[KerasTensor], *, filters: int, separable: bool
) -> KerasTensor:
    """Refines the encoder's output with finer features, stage by stage (v3+, section 3.1).

    Args:
        x: [b, h, w, c], the output of ASPP.
        low_level: One [b, h2, w2, c2] for each stage, coarse to fine.
        filters: Channels of the 3x3 convolutions.
        separable: Whether these are separable.

    Returns:
        [b, h2, w2, filters] at the size of the last low-level features.
    """
    for i, features in enumerate(low_level):
        suffix = f"_{i}" if i else ""
        projected = _conv_bn(features, 48, 1, name=f"decoder.feature_projection0{suffix}")
        x = ResizeLike(name=f"decoder.resize{suffix}")(x, projected)
        x = layers.Concatenate(name=f"decoder.concat{suffix}")([x, projected])
        if separable:
            names = [f"decoder_conv0{suffix}", f"decoder_conv1{suffix}"]
        else:  # the reference's `slim.repeat` nests the scopes of plain convolutions
            names = [f"decoder_conv0{suffix}.decoder_conv0{suffix}_{n}" for n in (1, 2)]
        for name in names:
            x = _conv3x3(x, filters, separable=separable, name=f"decoder.{name}")
    return x


def classifier(x: KerasTensor, *, num_classes: int) -> KerasTensor:
    """Per-pixel class scores: 1x1 convolution with bias, float32 whatever the compute dtype."""
    return layers.Conv2D(
        num_classes,
        1,
        kernel_initializer=initializers.TruncatedNormal(stddev=0.01),
        dtype="float32",
        name="logits",
    )(x)


def _conv3x3(
    x: KerasTensor, filters: int, *, separable: bool, name: str, rate: int = 1
) -> KerasTensor:
    if not separable:
        return _conv_bn(x, filters, 3, rate=rate, name=name)
    x = depthwise_conv_bn(
        x,
        rate=rate,
        batch_norm=_BATCH_NORM,
        depthwise_initializer=initializers.TruncatedNormal(stddev=0.33),
        name=f"{name}_depthwise",
    )
    pointwise_initializer = initializers.TruncatedNormal(stddev=0.06)
    return _conv_bn(
        x, filters, 1, kernel_initializer=pointwise_initializer, name=f"{name}_pointwise"
    )


def _conv_bn(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    name: str,
    rate: int = 1,
    kernel_initializer: Any = "glorot_uniform",
) -> KerasTensor:
    return conv_bn(
        x,
        filters,
        kernel_size,
        rate=rate,
        batch_norm=_BATCH_NORM,
        kernel_initializer=kernel_initializer,
        name=name,
    )
