"""The heads of DeepLabv1 and of v2's VGG-16: fully connected layers as convolutions."""

from collections.abc import Mapping

from keras import KerasTensor, initializers, layers

_DROPOUT = 0.5
_MULTI_SCALE_FILTERS = 128


def fully_connected(
    x: KerasTensor, *, filters: int, kernel_size: int, rate: int, suffix: str = ""
) -> KerasTensor:
    """VGG-16's fc6 and fc7 as an atrous and a 1x1 convolution (v1, sections 3.1 and 3.2).

    With 4096 channels, and 7x7 at rate 4 or 4x4 at rate 4 or 8, they keep VGG-16's weights, whole
    or subsampled; LargeFOV has 1024 channels and 3x3 at rate 12.

    Args:
        x: [b, h, w, c], the encoder's final features.
        filters: Channels of both.
        kernel_size: Side of fc6.
        rate: Atrous rate of fc6.
        suffix: What the names end in; v2 has several such branches (v2, Figure 7).

    Returns:
        [b, h, w, filters], fc7.
    """
    for name, side, dilation in (("fc6", kernel_size, rate), ("fc7", 1, 1)):
        x = _conv_relu_dropout(x, filters, side, rate=dilation, name=f"{name}{suffix}")
    return x


def multi_scale_features(
    low_level: Mapping[int, KerasTensor], *, output_stride: int
) -> list[KerasTensor]:
    """Two small convolutions on each of the low-level features (v1, section 4.3).

    Args:
        low_level: By nominal stride, [b, h2, w2, c2]: the image and the first four poolings.
        output_stride: Of the features they are to be concatenated with. The first convolution
            takes the remaining stride.

    Returns:
        One [b, h, w, 128] for each of them.
    """
    features = []
    for i, (stride, x) in enumerate(sorted(low_level.items())):
        for layer, side, remaining in ((1, 3, max(1, output_stride // stride)), (2, 1, 1)):
            x = _conv_relu_dropout(
                x, _MULTI_SCALE_FILTERS, side, stride=remaining, name=f"msc.pool{i}.conv{layer}"
            )
        features.append(x)
    return features


def _conv_relu_dropout(
    x: KerasTensor, filters: int, kernel_size: int, *, name: str, stride: int = 1, rate: int = 1
) -> KerasTensor:
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides=stride,
        padding="same",
        dilation_rate=rate,
        activation="relu",
        kernel_initializer=initializers.VarianceScaling(2.0, "fan_in", "truncated_normal"),
        name=name,
    )(x)
    return layers.Dropout(_DROPOUT, name=f"{name}.dropout")(x)
