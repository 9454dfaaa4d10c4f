"""MobileNetV2 (arXiv 1801.04381) as a DeepLab encoder."""

import functools
from typing import NamedTuple

from keras import KerasTensor, initializers, layers

from deeplab_tf.backbones.base import Backbone, Features, make_divisible
from deeplab_tf.layers import BatchNorm, atrous_schedule, conv_bn, depthwise_conv_bn

_BATCH_NORM = BatchNorm(momentum=0.997, epsilon=1e-3)
_SCOPE = "MobilenetV2"


class Stage(NamedTuple):
    """A row of Table 2 of the paper: `repeat` units, the first of which strides."""

    expansion: int
    filters: int
    repeat: int
    stride: int


_STAGES = (
    Stage(expansion=1, filters=16, repeat=1, stride=1),
    Stage(expansion=6, filters=24, repeat=2, stride=2),
    Stage(expansion=6, filters=32, repeat=3, stride=2),
    Stage(expansion=6, filters=64, repeat=4, stride=2),
    Stage(expansion=6, filters=96, repeat=3, stride=1),
    Stage(expansion=6, filters=160, repeat=3, stride=2),
    Stage(expansion=6, filters=320, repeat=1, stride=1),
)


def mobilenet_v2(
    x: KerasTensor, *, output_stride: int, depth_multiplier: float, divisible_by: int | None
) -> Features:
    """The network up to the 320-channel linear bottleneck (slim's `layer_18`).

    Args:
        x: [b, h, w, c] in [-1, 1].
        output_stride: 8, 16 or 32.
        depth_multiplier: Factor on the channels of every layer.
        divisible_by: The channels of stem and bottlenecks are rounded to multiples of this; None
            for 8 at full width, else 1, as in released weights.
    """
    narrowest = 8 if depth_multiplier == 1.0 else 1
    scaled = functools.partial(make_divisible, divisor=divisible_by or narrowest, minimum=narrowest)
    units = [
        (stage.expansion, stage.filters, stage.stride if i == 0 else 1)
        for stage in _STAGES
        for i in range(stage.repeat)
    ]
    schedule = list(atrous_schedule([2, *(stride for *_, stride in units)], output_stride))
    stem_filters = scaled(32 * depth_multiplier)
    x = _conv_bn(x, stem_filters, 3, stride=schedule[0][0], name=f"{_SCOPE}.Conv")

    low_level, nominal_stride = {}, 2
    for i, ((expansion, filters, nominal), (stride, rate)) in enumerate(
        zip(units, schedule[1:], strict=True)
    ):
        x, depthwise = _inverted_residual(
            x,
            scaled(filters * depth_multiplier),
            expansion=expansion,
            stride=stride,
            rate=rate,
            name=f"{_SCOPE}.expanded_conv_{i}" if i else f"{_SCOPE}.expanded_conv",
        )
        nominal_stride *= nominal
        low_level[nominal_stride] = depthwise
    return Features(final=x, low_level=low_level)


def _inverted_residual(
    x: KerasTensor, filters: int, *, expansion: int, stride: int, rate: int, name: str
) -> tuple[KerasTensor, KerasTensor]:
    """Expand, depthwise, project linearly (Table 1); also returns the depthwise output."""
    shortcut, in_filters = x, x.shape[-1]
    if expansion > 1:
        expanded = make_divisible(in_filters * expansion, divisor=8)
        x = _conv_bn(x, expanded, 1, name=f"{name}.expand")
    depthwise = depthwise_conv_bn(
        x,
        stride=stride,
        rate=rate,
        activation="relu6",
        batch_norm=_BATCH_NORM,
        depthwise_initializer=_initializer(),
        name=f"{name}.depthwise",
    )
    x = _conv_bn(depthwise, filters, 1, activation=None, name=f"{name}.project")
    if stride == 1 and in_filters == filters:
        x = layers.Add(name=f"{name}.add")([shortcut, x])
    return x, depthwise


def _conv_bn(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    name: str,
    stride: int = 1,
    activation: str | None = "relu6",
) -> KerasTensor:
    return conv_bn(
        x,
        filters,
        kernel_size,
        stride=stride,
        activation=activation,
        batch_norm=_BATCH_NORM,
        kernel_initializer=_initializer(),
        name=name,
    )


def _initializer() -> initializers.Initializer:
    return initializers.TruncatedNormal(stddev=0.09)


VARIANTS = {
    "mobilenet_v2": Backbone(build=mobilenet_v2, options=("depth_multiplier", "divisible_by"))
}
