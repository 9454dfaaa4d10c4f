"""Modified aligned Xception 41, 65 and 71 (DeepLabv3+, arXiv 1802.02611, section 3.2)."""

import functools
from typing import NamedTuple

from keras import KerasTensor, initializers, layers

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
) -> Features:
    """Entry, middle and exit flow of Figure 4.

    Args:
        x: [b, h, w, 3] in [-1, 1].
        scope: Prefix of the layer names.
        blocks: The blocks after the two root convolutions.
        output_stride: 8, 16 or 32.
        multi_grid: Factors on the rates of the last unit's three convolutions, or empty.
    """
    if multi_grid and len(multi_grid) != 3:
        raise ValueError(f"multi_grid is {multi_grid}; {scope}'s last unit has 3 convolutions.")
    x = _conv_bn(x, 32, 3, stride=2, name=f"{scope}.entry_flow.conv1_1")
    x = _conv_bn(x, 64, 3, name=f"{scope}.entry_flow.conv1_2")

    units = [(block, u) for block in blocks for u in range(1, block.units + 1)]
    schedule = atrous_schedule([block.stride for block, _ in units], output_stride // 2)
    low_level, nominal_stride = {}, 2
    for (block, u), (stride, rate) in zip(units, schedule, strict=True):
        name = f"{scope}.{block.name}.unit_{u}.xception_module"
        if block.shortcut == "none":
            x = _last_unit(x, block, rate=rate, multi_grid=multi_grid or (1, 1, 1), name=name)
        else:
            x, second = _unit(x, block, stride=stride, rate=rate, name=name)
            low_level[nominal_stride] = second
        nominal_stride *= block.stride
    return Features(final=x, low_level=low_level)


def _unit(
    x: KerasTensor, block: Block, *, stride: int, rate: int, name: str
) -> tuple[KerasTensor, KerasTensor]:
    """Three pre-activated separable convolutions and a shortcut of the un-activated input.

    Also returns the second convolution's output, the last one before the stride.
    """
    inputs, second = x, x
    for i, filters in enumerate(block.filters, start=1):
        x = layers.Activation("relu", name=f"{name}.separable_conv{i}.relu")(x)
        x = _separable_conv_bn(
            x,
            filters,
            stride=stride if i == 3 else 1,
            rate=rate,
            activation=None,
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
    return layers.Add(name=name)([x, shortcut]), second


def _last_unit(
    x: KerasTensor, block: Block, *, rate: int, multi_grid: tuple[int, ...], name: str
) -> KerasTensor:
    """The exit flow's separable convolutions: activated after each step, no shortcut."""
    for i, (filters, grid) in enumerate(zip(block.filters, multi_grid, strict=True), start=1):
        x = _separable_conv_bn(
            x,
            filters,
            stride=1,
            rate=rate * grid,
            activation="relu",
            name=f"{name}.separable_conv{i}",
        )
    return x


def _separable_conv_bn(
    x: KerasTensor, filters: int, *, stride: int, rate: int, activation: str | None, name: str
) -> KerasTensor:
    x = depthwise_conv_bn(
        x,
        stride=stride,
        rate=rate,
        activation=activation,
        fixed_padding=True,
        batch_norm=_BATCH_NORM,
        depthwise_initializer=_initializer(),
        name=f"{name}_depthwise",
    )
    return _conv_bn(x, filters, 1, activation=activation, name=f"{name}_pointwise")


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


def _initializer() -> initializers.Initializer:
    return initializers.TruncatedNormal(stddev=0.09)


def _variant(
    scope: str, *, entry: tuple[tuple[int, int], ...] = _ENTRY, middle_units: int
) -> Backbone:
    blocks = _blocks(entry=entry, middle_units=middle_units)
    build = functools.partial(xception, scope=scope, blocks=blocks)
    return Backbone(build=build, options=("multi_grid",))


VARIANTS = {
    "xception_41": _variant("xception_41", middle_units=8),
    "xception_65": _variant("xception_65", middle_units=16),
    "xception_71": _variant("xception_71", entry=_ENTRY_71, middle_units=16),
}
