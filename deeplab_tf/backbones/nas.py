"""PNASNet (arXiv 1712.00559) and the network of Auto-DeepLab (arXiv 1901.02985) as encoders."""

import functools
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from keras import KerasTensor, layers

from deeplab_tf.backbones.base import Backbone, Features
from deeplab_tf.backbones.nas_cells import (
    Genotype,
    Operand,
    atrous_conv,
    cell,
    conv_bn,
    identity,
    max_pool,
    relu_conv_bn,
    separable_convs,
)
from deeplab_tf.layers import ResizeLike


class Architecture(NamedTuple):
    """What a search found.

    Attributes:
        scope: Prefix of the layer names.
        genotype: The cell.
        levels: By output stride, the level of each cell: at level l the features have stride
            4 * 2**l.
        low_level: By stride, after how many cells the decoder's features are taken.
    """

    scope: str
    genotype: Genotype
    levels: dict[int, tuple[int, ...]]
    low_level: dict[int, int]


_SEPARABLE_3, _SEPARABLE_5, _SEPARABLE_7 = (
    functools.partial(separable_convs, kernel_size=size) for size in (3, 5, 7)
)
_ATROUS_3, _ATROUS_5 = (functools.partial(atrous_conv, kernel_size=size) for size in (3, 5))
_MAX_POOL_3 = functools.partial(max_pool, kernel_size=3)

_PNASNET = Architecture(
    scope="pnasnet",
    genotype=(
        (Operand(_SEPARABLE_5, 1), Operand(_MAX_POOL_3, 1)),
        (Operand(_SEPARABLE_7, 0), Operand(_MAX_POOL_3, 0)),
        (Operand(_SEPARABLE_5, 0), Operand(_SEPARABLE_3, 0)),
        (Operand(_SEPARABLE_3, 4), Operand(_MAX_POOL_3, 0)),
        (Operand(_SEPARABLE_3, 1), Operand(identity, 0)),
    ),
    levels={
        8: (1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
        16: (1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2),
        32: (1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3),
    },
    low_level={4: 0, 8: 4, 16: 8},
)
_HNASNET = Architecture(
    scope="hnasnet",
    genotype=(
        (Operand(_ATROUS_5, 1), Operand(_SEPARABLE_3, 0)),
        (Operand(_SEPARABLE_3, 1), Operand(_ATROUS_3, 0)),
        (Operand(_SEPARABLE_3, 3), Operand(_SEPARABLE_3, 1)),
        (Operand(_SEPARABLE_5, 4), Operand(_SEPARABLE_5, 2)),
        (Operand(_SEPARABLE_5, 3), Operand(_ATROUS_5, 5)),
    ),
    levels=dict.fromkeys((8, 16, 32), (0, 0, 0, 1, 2, 1, 2, 2, 3, 3, 2, 1)),
    low_level={4: 3, 8: 6, 16: 8},
)


def nas(
    x: KerasTensor,
    *,
    architecture: Architecture,
    output_stride: int,
    nas_stem_output_num_conv_filters: int,
    nas_use_classification_head: bool,
    nas_remove_os32_stride: bool,
    drop_path_keep_prob: float,
) -> Features:
    """A stem of stride 4 and twelve cells (reference: `core/nas_network.py`).

    Differs: the reference takes images of a fixed size only, and looks at widths alone to see
    whether what a cell takes in needs resizing; it does not see that the Auto-DeepLab network ends
    at stride 8, and fails in the head.

    Args:
        x: [b, h, w, c] in [-1, 1].
        architecture: Which network.
        output_stride: 8, 16 or 32.
        nas_stem_output_num_conv_filters: Channels of each sum in the cells of stride 4; they
            double with the stride.
        nas_use_classification_head: Whether the layers up to the 2048 channels of the ImageNet
            classifier follow.
        nas_remove_os32_stride: Whether the cells of stride 32 keep stride 16.
        drop_path_keep_prob: Share of paths kept in the last cell at the end of training, above 0;
            earlier cells keep more. 1 keeps all.

    Raises:
        ValueError: if the architecture does not have this output stride, or no path is kept.
    """
    scope, levels = architecture.scope, architecture.levels[output_stride]
    stride = 4 * 2 ** levels[-1]
    if stride != output_stride and not nas_use_classification_head:
        raise ValueError(
            f"output_stride is {output_stride}, but {scope} ends at stride {stride}: set "
            f"output_stride={stride}, or nas_use_classification_head=True, which strides on."
        )
    if not 0 < drop_path_keep_prob <= 1:
        raise ValueError(
            f"drop_path_keep_prob is {drop_path_keep_prob}; expected above 0 and at most 1."
        )
    outputs = _cells(
        *_stem(x, scope=scope),
        scope=scope,
        genotype=architecture.genotype,
        filters=[nas_stem_output_num_conv_filters * 2**level for level in levels],
        levels=[min(level, 2) if nas_remove_os32_stride else level for level in levels],
        drop_path_keep_prob=drop_path_keep_prob,
    )
    x = outputs[-1]
    if nas_use_classification_head:
        x = _classification_head(x, scope=scope, stride=stride, output_stride=output_stride)
    return Features(
        final=layers.Activation("relu", name=f"{scope}.relu")(x),
        low_level={at: outputs[cells] for at, cells in architecture.low_level.items()},
    )


def _stem(x: KerasTensor, *, scope: str) -> tuple[KerasTensor, KerasTensor]:
    """Features of stride 2 and, from them, of stride 4: what the first cell starts from."""
    x = conv_bn(x, 64, 3, stride=2, name=f"{scope}.conv0", batch_norm=f"{scope}.conv0_bn")
    half = relu_conv_bn(x, 64, 3, name=f"{scope}.conv1", batch_norm=f"{scope}.conv1_bn")
    quarter = relu_conv_bn(
        half, 128, 3, stride=2, name=f"{scope}.conv2", batch_norm=f"{scope}.conv2_bn"
    )
    return half, quarter


def _cells(
    previous: KerasTensor,
    x: KerasTensor,
    *,
    scope: str,
    genotype: Genotype,
    filters: Sequence[int],
    levels: Sequence[int],
    drop_path_keep_prob: float,
) -> list[KerasTensor]:
    """`x`, then the output of each cell; each works on the two outputs before its own."""
    outputs, last_step = [x], 1
    for i, step in enumerate(after - before for before, after in pairwise((0, *levels))):
        name = f"{scope}.cell_{i}"
        if step == -1:
            x = ResizeLike(2.0, name=f"{name}.resize")(x, x)
        if step == -1 or last_step != 0:  # else the two have one size
            previous = ResizeLike(name=f"{name}.prev_resize")(previous, x)
        x = cell(
            x,
            previous,
            genotype=genotype,
            filters=filters[i],
            stride=2 if step == 1 else 1,
            keep_prob=1 - (i + 1) / len(levels) * (1 - drop_path_keep_prob),
            name=name,
        )
        previous, last_step = outputs[-1], step
        outputs.append(x)
    return outputs


def _classification_head(
    x: KerasTensor, *, scope: str, stride: int, output_stride: int
) -> KerasTensor:
    """From `stride` to what is stride 32 on ImageNet, then to 2048 channels.

    Beyond the output stride, convolutions dilate instead; the first of them does so already.
    """
    rate = 1
    for target in (16, 32):
        if target <= stride:
            continue
        if target > output_stride:
            rate *= 2
        x = relu_conv_bn(
            x,
            32 * target,
            3,
            stride=2 if target <= output_stride else 1,
            rate=rate,
            name=f"{scope}.downsample_os{target}_conv",
            batch_norm=f"{scope}.downsample_os{target}_bn",
        )
    name = f"{scope}.classification_head"
    return relu_conv_bn(x, 2048, 1, name=f"{name}_conv", batch_norm=f"{name}_bn")


def _variant(architecture: Architecture) -> Backbone:
    return Backbone(
        build=functools.partial(nas, architecture=architecture),
        options=(
            "nas_stem_output_num_conv_filters",
            "nas_use_classification_head",
            "nas_remove_os32_stride",
            "drop_path_keep_prob",
        ),
    )


VARIANTS = {"nas_pnasnet": _variant(_PNASNET), "nas_hnasnet": _variant(_HNASNET)}
