"""Modified aligned Xception 41, 65 and 71 (DeepLabv3+, arXiv 1802.02611, section 3.2)."""

import functools
from typing import Any, NamedTuple

import keras
from keras import KerasTensor, initializers, layers, ops

from deeplab_tf.backbones.base import Backbone, Features
from deeplab_tf.layers import BatchNorm, atrous_schedule, conv_bn, depthwise_conv_bn

_BATCH_NORM = BatchNorm(momentum=0.9997, epsilon=1e-3)


class Block(NamedTuple):
    """A box of the paper's Figure 4: units of three separable convolutions.

    Attributes:
        name: Position in the network.
        filters: Channels of the three convolutions.
        stride: Stride of each unit, in its third convolution.
        units: How many units.
        shortcut: "conv" projects the input, "sum" adds it as it is, "none" has no shortcut.
    """

    name: str
    filters: tuple[int, int, int]
    stride: int = 1
    units: int = 1
    shortcut: str = "conv"


def _blocks(*, entry: tuple[tuple[int, int], ...], middle_units: int) -> tuple[Block, ...]:
    """Entry flow given as (filters, stride) pairs; middle and exit flow alike in all variants."""
    return (
        *(
            Block(f"entry_flow.block{i}", (filters,) * 3, stride)
            for i, (filters, stride) in enumerate(entry, start=1)
        ),
        Block("middle_flow.block1", (728, 728, 728), units=middle_units, shortcut="sum"),
        Block("exit_flow.block1", (728, 1024, 1024), stride=2),
        Block("exit_flow.block2", (1536, 1536, 2048), shortcut="none"),
    )


_ENTRY = ((128, 2), (256, 2), (728, 2))
_ENTRY_71 = ((128, 2), (256, 1), (256, 2), (728, 1), (728, 2))


def xception(
    x: KerasTensor,
    *,
    scope: str,
    blocks: tuple[Block, ...],
    output_stride: int,
    multi_grid: tuple[int, ...],
    use_bounded_activation: bool,
) -> Features:
    """Entry, middle and exit flow of Figure 4.

    Args:
        x: [b, h, w, c] in [-1, 1].
        scope: Prefix of the layer names.
        blocks: The blocks after the two root convolutions.
        output_stride: 8, 16 or 32.
        multi_grid: Factors on the rates of the last unit's three convolutions, or empty.
        use_bounded_activation: Keeps every value within [-6, 6]: ReLU6 for ReLU, also after sums,
            and clips what is not activated. Also pads strided units as TensorFlow's SAME does.
    """
    if multi_grid and len(multi_grid) != 3:
        raise ValueError(f"multi_grid is {multi_grid}; {scope}'s last unit has 3 convolutions.")
    bounded = use_bounded_activation
    relu = "relu6" if bounded else "relu"
    x = _conv_bn(x, 32, 3, stride=2, activation=relu, name=f"{scope}.entry_flow.conv1_1")
    x = _conv_bn(x, 64, 3, activation=relu, name=f"{scope}.entry_flow.conv1_2")

    units = [(block, u) for block in blocks for u in range(1, block.units + 1)]
    schedule = atrous_schedule([block.stride for block, _ in units], output_stride // 2)
    low_level, nominal_stride = {}, 2
    for (block, u), (stride, rate) in zip(units, schedule, strict=True):
        name = f"{scope}.{block.name}.unit_{u}.xception_module"
        if block.shortcut == "none":
            rates = [rate * grid for grid in multi_grid or (1, 1, 1)]
            x = _last_unit(x, block, rates=rates, bounded=bounded, name=name)
        else:
            x, second = _unit(x, block, stride=stride, rate=rate, bounded=bounded, name=name)
            low_level[nominal_stride] = second
        nominal_stride *= block.stride
    return Features(final=x, low_level=low_level)


def _unit(
    x: KerasTensor, block: Block, *, stride: int, rate: int, bounded: bool, name: str
) -> tuple[KerasTensor, KerasTensor]:
    """Three pre-activated separable convolutions and a shortcut of the un-activated input.

    Also returns the second convolution's output, the last one before the stride.
    """
    inputs, second = x, x
    relu = "relu6" if bounded else "relu"
    for i, filters in enumerate(block.filters, start=1):
        x = layers.Activation(relu, name=f"{name}.separable_conv{i}.{relu}")(x)
        x = _separable_conv_bn(
            x,
            filters,
            stride=stride if i == 3 else 1,
            rate=rate,
            activation=None,
            bounded=bounded,
            name=f"{name}.separable_conv{i}",
        )
        second = x if i == 2 else second
    shortcut = inputs
    if block.shortcut == "conv":
        shortcut = _conv_bn(
            inputs,
            block.filters[-1],
            1,
            stride=stride,
            activation=None,
            name=f"{name}.shortcut",
        )
    if not bounded:
        return layers.Add(name=name)([x, shortcut]), second
    if block.shortcut == "conv":  # a sum's shortcut has been through ReLU6
        shortcut = _clip(shortcut, name=f"{name}.clip")
    total = layers.Add(name=f"{name}.add")([x, shortcut])
    return layers.Activation("relu6", name=name)(total), second


def _last_unit(
    x: KerasTensor, block: Block, *, rates: list[int], bounded: bool, name: str
) -> KerasTensor:
    """The exit flow's separable convolutions: activated after each step, no shortcut."""
    for i, (filters, rate) in enumerate(zip(block.filters, rates, strict=True), start=1):
        x = _separable_conv_bn(
            x,
            filters,
            stride=1,
            rate=rate,
            activation="relu6" if bounded else "relu",
            bounded=bounded,
            name=f"{name}.separable_conv{i}",
        )
    return x


def _separable_conv_bn(
    x: KerasTensor,
    filters: int,
    *,
    stride: int,
    rate: int,
    activation: str | None,
    bounded: bool,
    name: str,
) -> KerasTensor:
    x = depthwise_conv_bn(
        x,
        stride=stride,
        rate=rate,
        activation=activation,
        fixed_padding=not bounded,
        batch_norm=_BATCH_NORM,
        depthwise_initializer=_initializer(),
        name=f"{name}_depthwise",
    )
    clip = bounded and activation is None
    if clip:
        x = _clip(x, name=f"{name}_depthwise.clip")
    x = _conv_bn(x, filters, 1, activation=activation, name=f"{name}_pointwise")
    return _clip(x, name=f"{name}_pointwise.clip") if clip else x


def _conv_bn(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    name: str,
    stride: int = 1,
    activation: str | None = "relu",
) -> KerasTensor:
    return conv_bn(
        x,
        filters,
        kernel_size,
        stride=stride,
        activation=activation,
        fixed_padding=True,
        batch_norm=_BATCH_NORM,
        kernel_initializer=_initializer(),
        name=name,
    )


def _clip(x: KerasTensor, *, name: str) -> KerasTensor:
    return layers.Activation(clip6, name=name)(x)


@keras.saving.register_keras_serializable("deeplab_tf")
def clip6(x: Any) -> Any:
    """The counterpart of ReLU6 for values of either sign: [-6, 6]."""
    return ops.clip(x, -6, 6)


def _initializer() -> initializers.Initializer:
    return initializers.TruncatedNormal(stddev=0.09)


def _variant(
    scope: str, *, entry: tuple[tuple[int, int], ...] = _ENTRY, middle_units: int
) -> Backbone:
    blocks = _blocks(entry=entry, middle_units=middle_units)
    build = functools.partial(xception, scope=scope, blocks=blocks)
    return Backbone(build=build, options=("multi_grid", "use_bounded_activation"))


VARIANTS = {
    "xception_41": _variant("xception_41", middle_units=8),
    "xception_65": _variant("xception_65", middle_units=16),
    "xception_71": _variant("xception_71", entry=_ENTRY_71, middle_units=16),
}
