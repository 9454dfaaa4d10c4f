"""The pieces all DeepLab networks are made of: convolutions with batch norm, and the resize."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import keras
from keras import KerasTensor, layers, ops


class BatchNorm(NamedTuple):
    """Settings of a network part's batch normalisation.

    Attributes:
        momentum: Decay of the moving statistics (slim's `decay`).
        epsilon: Added to the variance.
    """

    momentum: float
    epsilon: float


def conv_bn(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    name: str,
    batch_norm: BatchNorm,
    kernel_initializer: Any,
    stride: int = 1,
    rate: int = 1,
    activation: str | None = "relu",
    fixed_padding: bool = False,
) -> KerasTensor:
    """Convolution, batch norm, activation: [b, h, w, c] -> [b, h/stride, w/stride, filters].

    `fixed_padding` pads a strided convolution alike on both sides, whatever the input size
    (slim's `conv2d_same`); otherwise padding is TensorFlow's SAME.
    """
    padding = "same"
    if fixed_padding and stride > 1:
        x, padding = _pad_fixed(x, kernel_size, name=name), "valid"
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides=stride,
        padding=padding,
        dilation_rate=rate,
        use_bias=False,
        kernel_initializer=kernel_initializer,
        name=name,
    )(x)
    return _bn_activation(x, batch_norm, activation, name=name)


def depthwise_conv_bn(
    x: KerasTensor,
    *,
    name: str,
    batch_norm: BatchNorm,
    depthwise_initializer: Any,
    stride: int = 1,
    rate: int = 1,
    activation: str | None = "relu",
    fixed_padding: bool = False,
) -> KerasTensor:
    """3x3 depthwise convolution, batch norm, activation; arguments as in `conv_bn`."""
    padding = "same"
    if fixed_padding and stride > 1:
        x, padding = _pad_fixed(x, 3, name=name), "valid"
    x = layers.DepthwiseConv2D(
        3,
        strides=stride,
        padding=padding,
        dilation_rate=rate,
        use_bias=False,
        depthwise_initializer=depthwise_initializer,
        name=name,
    )(x)
    return _bn_activation(x, batch_norm, activation, name=name)


def _bn_activation(
    x: KerasTensor, batch_norm: BatchNorm, activation: str | None, *, name: str
) -> KerasTensor:
    x = layers.BatchNormalization(
        momentum=batch_norm.momentum, epsilon=batch_norm.epsilon, name=f"{name}.BatchNorm"
    )(x)
    if activation is None:
        return x
    return layers.Activation(activation, name=f"{name}.{activation}")(x)


def _pad_fixed(x: KerasTensor, kernel_size: int, *, name: str) -> KerasTensor:
    total = kernel_size - 1
    before = total // 2
    return layers.ZeroPadding2D((before, total - before), name=f"{name}.pad")(x)


def atrous_schedule(strides: Iterable[int], output_stride: int) -> Iterator[tuple[int, int]]:
    """Turns the strides of consecutive units into (stride, rate) pairs for an output stride.

    Once the output stride is reached, a unit that would stride does not, and the units after
    it dilate instead; the unit itself keeps the rate before it (v3, section 3.1; slim's
    `stack_blocks_dense`).
    """
    reached, rate = 1, 1
    for stride in strides:
        if reached == output_stride:
            yield 1, rate
            rate *= stride
        else:
            yield stride, rate
            reached *= stride


@keras.saving.register_keras_serializable("deeplab_tf")
class ResizeLike(layers.Layer):
    """Bilinear resize to another tensor's height and width, with corners aligned.

    Output pixel i samples input position i * (in - 1) / (out - 1), as every resize of the
    reference does (`align_corners=True`); `keras.ops.image.resize` samples half-pixel centres.

    Call: ([b, h, w, c], [b, h2, w2, anything]) -> [b, h2, w2, c].
    """

    def call(self, x: Any, like: Any) -> Any:
        height, width = ops.shape(like)[1:3]
        return resize_bilinear(x, height, width)

    def compute_output_shape(self, x_shape: Any, like_shape: Any) -> Any:
        return (x_shape[0], *like_shape[1:3], x_shape[3])


def resize_bilinear(x: Any, height: Any, width: Any) -> Any:
    """Bilinear resize with aligned corners, equal to TF1's `resize_bilinear(align_corners=True)`.

    Args:
        x: [b, h, w, c], floating point.
        height: Rows of the result, an integer or an integer scalar tensor.
        width: Columns of the result, likewise.

    Returns:
        [b, height, width, c].
    """
    return _lerp(_lerp(x, width, axis=2), height, axis=1)


def _lerp(x: Any, size: Any, *, axis: int) -> Any:
    """Linear interpolation along one axis, by gathering the two neighbours of each position."""
    last = ops.shape(x)[axis] - 1
    scale = ops.cast(last, "float32") / ops.cast(ops.maximum(size - 1, 1), "float32")
    position = ops.arange(size, dtype="float32") * scale
    lower = ops.floor(position)
    weight = ops.cast(position - lower, x.dtype)
    lower = ops.minimum(ops.cast(lower, "int32"), last)
    upper = ops.minimum(lower + 1, last)
    weight = ops.reshape(weight, (-1,) + (1,) * (3 - axis))
    below, above = ops.take(x, lower, axis=axis), ops.take(x, upper, axis=axis)
    return below + (above - below) * weight
