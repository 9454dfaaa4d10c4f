"""MobileNetV3 for segmentation (arXiv 1905.02244) and its EdgeTPU relative as DeepLab encoders."""

import functools
from typing import NamedTuple

from keras import KerasTensor, initializers, layers

from deeplab_tf.backbones.base import Backbone, Features, make_divisible
from deeplab_tf.layers import (
    BatchNorm,
    atrous_schedule,
    conv_bn,
    depthwise_conv_bn,
    q_sigmoid,
)

_BATCH_NORM = BatchNorm(momentum=0.997, epsilon=1e-3)


class Unit(NamedTuple):
    """A "bneck" row of Tables 1 and 2 of the paper.

    Attributes:
        kernel_size: Side of the spatial convolution.
        expanded: Channels inside the unit ("exp size").
        filters: Channels of its output ("#out").
        activation: Inside the unit ("NL").
        squeeze_excite: Whether the inner channels are gated ("SE").
        stride: Of the spatial convolution.
        fused: The expansion is the spatial convolution, in place of a depthwise one.
        shortcut: Whether the input is added where its size and channels allow it.
    """

    kernel_size: int
    expanded: int
    filters: int
    activation: str = "relu"
    squeeze_excite: bool = False
    stride: int = 1
    fused: bool = False
    shortcut: bool = True


# Table 1; from stride 32 on with half the channels, for segmentation (section 6.4).
_LARGE_SEG = (
    Unit(3, 16, 16),
    Unit(3, 64, 24, stride=2),
    Unit(3, 72, 24),
    Unit(5, 72, 40, squeeze_excite=True, stride=2),
    *[Unit(5, 120, 40, squeeze_excite=True)] * 2,
    Unit(3, 240, 80, "hard_swish", stride=2),
    Unit(3, 200, 80, "hard_swish"),
    *[Unit(3, 184, 80, "hard_swish")] * 2,
    Unit(3, 480, 112, "hard_swish", squeeze_excite=True),
    Unit(3, 672, 112, "hard_swish", squeeze_excite=True),
    Unit(5, 336, 80, "hard_swish", squeeze_excite=True, stride=2),
    *[Unit(5, 480, 80, "hard_swish", squeeze_excite=True)] * 2,
)
# Table 2, likewise.
_SMALL_SEG = (
    Unit(3, 16, 16, squeeze_excite=True, stride=2),
    Unit(3, 72, 24, stride=2),
    Unit(3, 88, 24),
    Unit(5, 96, 40, "hard_swish", squeeze_excite=True, stride=2),
    *[Unit(5, 240, 40, "hard_swish", squeeze_excite=True)] * 2,
    Unit(5, 120, 48, "hard_swish", squeeze_excite=True),
    Unit(5, 144, 48, "hard_swish", squeeze_excite=True),
    Unit(5, 144, 48, "hard_swish", squeeze_excite=True, stride=2),
    *[Unit(5, 288, 48, "hard_swish", squeeze_excite=True)] * 2,
)
# slim's V3_EDGETPU; there is no paper.
_EDGETPU = (
    Unit(3, 32, 16, fused=True),
    Unit(3, 128, 32, fused=True, stride=2),
    *[Unit(3, 128, 32, fused=True)] * 3,
    Unit(3, 256, 48, fused=True, stride=2),
    *[Unit(3, 192, 48, fused=True)] * 3,
    Unit(3, 384, 96, stride=2),
    *[Unit(3, 384, 96)] * 3,
    Unit(3, 768, 96, shortcut=False),
    *[Unit(3, 384, 96)] * 3,
    Unit(5, 768, 160, stride=2),
    *[Unit(5, 640, 160)] * 3,
    Unit(3, 1280, 192),
)


def mobilenet_v3(
    x: KerasTensor,
    *,
    scope: str,
    units: tuple[Unit, ...],
    stem_filters: int,
    final_filters: int,
    activation: str,
    output_stride: int,
    depth_multiplier: float,
) -> Features:
    """Stem, inverted residual units and the last 1x1 convolution.

    The low-level features are the widest ones of a unit, before squeeze-and-excitation.

    Differs: the reference has none for EdgeTPU, and so no decoder.

    Args:
        x: [b, h, w, c] in [-1, 1].
        scope: Prefix of the layer names.
        units: The units at full width.
        stem_filters: Channels before the units.
        final_filters: Channels after the last convolution.
        activation: Of the stem and the last convolution.
        output_stride: 8, 16 or 32.
        depth_multiplier: Factor on the channels of every layer; they are multiples of 8.
    """
    x = _conv_bn(
        x,
        make_divisible(stem_filters * depth_multiplier, divisor=8),
        3,
        stride=2,
        activation=activation,
        name=f"{scope}.Conv",
    )
    low_level, nominal_stride, in_filters = {}, 2, stem_filters
    schedule = atrous_schedule([unit.stride for unit in units], output_stride // 2)
    for i, (unit, (stride, rate)) in enumerate(zip(units, schedule, strict=True)):
        x, wide = _inverted_residual(
            x,
            make_divisible(unit.filters * depth_multiplier, divisor=8),
            unit=unit,
            expansion=unit.expanded / in_filters,
            stride=stride,
            rate=rate,
            name=f"{scope}.expanded_conv_{i}" if i else f"{scope}.expanded_conv",
        )
        in_filters = unit.filters
        nominal_stride *= unit.stride
        low_level[nominal_stride] = wide
    final_filters = make_divisible(final_filters * depth_multiplier, divisor=8)
    x = _conv_bn(x, final_filters, 1, activation=activation, name=f"{scope}.Conv_1")
    return Features(final=x, low_level=low_level)


def _inverted_residual(
    x: KerasTensor,
    filters: int,
    *,
    unit: Unit,
    expansion: float,
    stride: int,
    rate: int,
    name: str,
) -> tuple[KerasTensor, KerasTensor]:
    """Expand, convolve, gate, project linearly (Figure 4); also returns what is gated."""
    shortcut, in_filters = x, x.shape[-1]
    if expansion > 1:
        expand = functools.partial(
            _conv_bn,
            filters=make_divisible(in_filters * expansion, divisor=8),
            activation=unit.activation,
            name=f"{name}.expand",
        )
        if unit.fused:
            x = expand(x, kernel_size=unit.kernel_size, stride=stride, rate=rate)
        else:
            x = expand(x, kernel_size=1)
    if not unit.fused:
        x = depthwise_conv_bn(
            x,
            kernel_size=unit.kernel_size,
            stride=stride,
            rate=rate,
            activation=unit.activation,
            batch_norm=_BATCH_NORM,
            depthwise_initializer=_initializer(),
            name=f"{name}.depthwise",
        )
    wide = x
    if unit.squeeze_excite:
        x = _squeeze_excite(x, name=f"{name}.squeeze_excite")
    x = _conv_bn(x, filters, 1, activation=None, name=f"{name}.project")
    # As in the reference, by the stride in use: a unit that strides no more may gain a shortcut.
    if unit.shortcut and stride == 1 and in_filters == filters:
        x = layers.Add(name=f"{name}.add")([shortcut, x])
    return x, wide


def _squeeze_excite(x: KerasTensor, *, name: str) -> KerasTensor:
    """Gates every channel by a function of all channels' means (section 5.3)."""
    channels = x.shape[-1]
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}.mean")(x)
    gate = layers.Conv2D(
        make_divisible(channels / 4, divisor=8),
        1,
        activation="relu",
        kernel_initializer=_initializer(),
        name=f"{name}.Conv",
    )(gate)
    gate = layers.Conv2D(
        channels, 1, activation=q_sigmoid, kernel_initializer=_initializer(), name=f"{name}.Conv_1"
    )(gate)
    return layers.Multiply(name=name)([x, gate])


def _conv_bn(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    name: str,
    activation: str | None,
    stride: int = 1,
    rate: int = 1,
) -> KerasTensor:
    return conv_bn(
        x,
        filters,
        kernel_size,
        stride=stride,
        rate=rate,
        activation=activation,
        batch_norm=_BATCH_NORM,
        kernel_initializer=_initializer(),
        name=name,
    )


def _initializer() -> initializers.Initializer:
    return initializers.TruncatedNormal(stddev=0.09)


def _variant(
    scope: str, units: tuple[Unit, ...], *, stem_filters: int, final_filters: int, activation: str
) -> Backbone:
    build = functools.partial(
        mobilenet_v3,
        scope=scope,
        units=units,
        stem_filters=stem_filters,
        final_filters=final_filters,
        activation=activation,
    )
    return Backbone(build=build, options=("depth_multiplier",))


VARIANTS = {
    "mobilenet_v3_large_seg": _variant(
        "MobilenetV3", _LARGE_SEG, stem_filters=16, final_filters=480, activation="hard_swish"
    ),
    "mobilenet_v3_small_seg": _variant(
        "MobilenetV3", _SMALL_SEG, stem_filters=16, final_filters=288, activation="hard_swish"
    ),
    "mobilenet_edgetpu": _variant(
        "MobilenetEdgeTPU", _EDGETPU, stem_filters=32, final_filters=1280, activation="relu"
    ),
}
