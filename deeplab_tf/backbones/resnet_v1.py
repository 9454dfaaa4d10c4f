"""ResNet-18, ResNet-50 and ResNet-101 (arXiv 1512.03385) as DeepLab encoders.

Differs: images for `resnet_v1_18` are padded with the ImageNet mean, which becomes 0 inside the
network as with the deeper ones; the reference pads them with 127.5.
"""

import functools
from typing import NamedTuple

from keras import KerasTensor, initializers, layers

from deeplab_tf.backbones.base import Backbone, Features
from deeplab_tf.layers import BatchNorm, atrous_schedule, conv_bn

_IMAGENET_MEAN = (123.15, 115.90, 103.06)
_OPTIONS = ("multi_grid", "cascade_blocks")


class Block(NamedTuple):
    """A row of Table 1 of the paper; the last unit strides, not the first (slim's order).

    Attributes:
        filters: Channels of the block's output.
        units: How many residual units.
        stride: Stride of the block.
        bottleneck: Whether a unit is 1x1, 3x3, 1x1 convolutions, or else two 3x3 ones.
    """

    filters: int
    units: int
    stride: int
    bottleneck: bool = True


def _bottleneck_blocks(*units: int) -> tuple[Block, ...]:
    return tuple(
        Block(filters=filters, units=n, stride=stride)
        for filters, n, stride in zip((256, 512, 1024, 2048), units, (2, 2, 2, 1), strict=True)
    )


_RESNET_18 = tuple(
    Block(filters=filters, units=2, stride=stride, bottleneck=False)
    for filters, stride in zip((64, 128, 256, 512), (2, 2, 2, 1), strict=True)
)
_RESNET_50 = _bottleneck_blocks(3, 4, 6, 3)
_RESNET_101 = _bottleneck_blocks(3, 4, 23, 3)


def resnet_v1(
    x: KerasTensor,
    *,
    scope: str,
    blocks: tuple[Block, ...],
    beta_stem: tuple[int, int, int] | None,
    output_stride: int,
    multi_grid: tuple[int, ...],
    cascade_blocks: int,
) -> Features:
    """Stem and four residual blocks, which copies of the last one may follow.

    Args:
        x: [b, h, w, c], normalised as the variant wants.
        scope: Prefix of the layer names; the reference's `_beta` checkpoints have no `_beta` in it.
        blocks: The residual blocks.
        beta_stem: Channels of three 3x3 convolutions in place of the 7x7 one, or None.
        output_stride: 8, 16 or 32, and up to 32 * 2 ** cascade_blocks.
        multi_grid: Factors on the rates of the units of block 4 and of its copies (v3, section
            3.2.1), or empty.
        cascade_blocks: How many copies of block 4 follow it; all blocks but the last one stride
            (v3, section 3.2 and Figure 3).
    """
    if multi_grid and len(multi_grid) != blocks[-1].units:
        raise ValueError(
            f"multi_grid is {multi_grid}; {scope} has {blocks[-1].units} units in its last block."
        )
    x = _stem(x, beta_stem=beta_stem, scope=scope)
    x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"{scope}.pool1")(x)

    strided_copy = blocks[-1]._replace(stride=2)
    cascade = (*blocks[:-1], *(strided_copy,) * cascade_blocks, blocks[-1])
    units = [
        (f"{scope}.block{b}.unit_{u}", block, u, b >= len(blocks))
        for b, block in enumerate(cascade, start=1)
        for u in range(1, block.units + 1)
    ]
    strides = [block.stride if u == block.units else 1 for _, block, u, _ in units]
    low_level, nominal_stride = {}, 4
    for (name, block, u, in_cascade), nominal, (stride, rate) in zip(
        units, strides, atrous_schedule(strides, output_stride // 4), strict=True
    ):
        if multi_grid and in_cascade:
            rate *= multi_grid[u - 1]
        if stride > 1 and rate > 1:
            raise ValueError(
                f"multi_grid is {multi_grid}, but {name} strides at output_stride="
                f"{output_stride}, and a convolution cannot do both: end multi_grid in 1, or lower "
                "output_stride to 32 or less."
            )
        x, residual = _unit(x, block, stride=stride, rate=rate, name=name)
        nominal_stride *= nominal
        low_level[nominal_stride] = residual
    return Features(final=x, low_level=low_level)


def _stem(x: KerasTensor, *, beta_stem: tuple[int, int, int] | None, scope: str) -> KerasTensor:
    if beta_stem is None:
        return _conv_bn(x, 64, 7, stride=2, name=f"{scope}.conv1")
    for i, filters in enumerate(beta_stem, start=1):
        x = _conv_bn(x, filters, 3, stride=2 if i == 1 else 1, name=f"{scope}.conv1_{i}")
    return x


def _unit(
    x: KerasTensor, block: Block, *, stride: int, rate: int, name: str
) -> tuple[KerasTensor, KerasTensor]:
    """Convolutions around a shortcut; also returns the residual before the addition."""
    name = f"{name}.bottleneck_v1" if block.bottleneck else f"{name}.lite_bottleneck_v1"
    if x.shape[-1] != block.filters:
        shortcut = _conv_bn(
            x, block.filters, 1, stride=stride, activation=None, name=f"{name}.shortcut"
        )
    elif stride > 1:
        shortcut = layers.MaxPooling2D(1, strides=stride, name=f"{name}.subsample")(x)
    else:
        shortcut = x
    residual = _bottleneck if block.bottleneck else _lite_bottleneck
    x = residual(x, block.filters, stride=stride, rate=rate, name=name)
    total = layers.Add(name=f"{name}.add")([shortcut, x])
    return layers.Activation("relu", name=name)(total), x


def _bottleneck(x: KerasTensor, filters: int, *, stride: int, rate: int, name: str) -> KerasTensor:
    x = _conv_bn(x, filters // 4, 1, name=f"{name}.conv1")
    x = _conv_bn(x, filters // 4, 3, stride=stride, rate=rate, name=f"{name}.conv2")
    return _conv_bn(x, filters, 1, activation=None, name=f"{name}.conv3")


def _lite_bottleneck(
    x: KerasTensor, filters: int, *, stride: int, rate: int, name: str
) -> KerasTensor:
    x = _conv_bn(x, filters, 3, rate=rate, name=f"{name}.conv1")
    return _conv_bn(x, filters, 3, stride=stride, rate=rate, activation=None, name=f"{name}.conv2")


def _conv_bn(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    name: str,
    stride: int = 1,
    rate: int = 1,
    activation: str | None = "relu",
) -> KerasTensor:
    return conv_bn(
        x,
        filters,
        kernel_size,
        stride=stride,
        rate=rate,
        activation=activation,
        fixed_padding=True,
        batch_norm=BatchNorm(momentum=0.95, epsilon=1e-5),
        kernel_initializer=initializers.VarianceScaling(2.0, "fan_in", "truncated_normal"),
        name=name,
    )


def _variant(scope: str, blocks: tuple[Block, ...]) -> Backbone:
    build = functools.partial(resnet_v1, scope=scope, blocks=blocks, beta_stem=None)
    return Backbone(build=build, options=_OPTIONS, mean_pixel=_IMAGENET_MEAN, scale=1.0)


def _beta_variant(
    scope: str, blocks: tuple[Block, ...], *, stem: tuple[int, int, int] = (64, 64, 128)
) -> Backbone:
    build = functools.partial(resnet_v1, scope=scope, blocks=blocks, beta_stem=stem)
    return Backbone(build=build, options=_OPTIONS)


VARIANTS = {
    "resnet_v1_18": _variant("resnet_v1_18", _RESNET_18),
    "resnet_v1_18_beta": _beta_variant("resnet_v1_18", _RESNET_18, stem=(16, 16, 32)),
    "resnet_v1_50": _variant("resnet_v1_50", _RESNET_50),
    "resnet_v1_50_beta": _beta_variant("resnet_v1_50", _RESNET_50),
    "resnet_v1_101": _variant("resnet_v1_101", _RESNET_101),
    "resnet_v1_101_beta": _beta_variant("resnet_v1_101", _RESNET_101),
}
