"""The pieces all DeepLab networks are made of: convolutions with batch norm, and the resize."""

from collections.abc import Callable, Iterable, Iterator
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
    kernel_size: int | tuple[int, int],
    *,
    name: str,
    batch_norm: BatchNorm,
    kernel_initializer: Any,
    stride: int = 1,
    rate: int | tuple[int, int] = 1,
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
    return batch_norm_activation(x, batch_norm=batch_norm, activation=activation, name=name)


def depthwise_conv_bn(
    x: KerasTensor,
    *,
    name: str,
    batch_norm: BatchNorm,
    depthwise_initializer: Any,
    kernel_size: int | tuple[int, int] = 3,
    stride: int = 1,
    rate: int | tuple[int, int] = 1,
    activation: str | None = "relu",
    fixed_padding: bool = False,
) -> KerasTensor:
    """Depthwise convolution, batch norm, activation; arguments as in `conv_bn`."""
    padding = "same"
    if fixed_padding and stride > 1:
        x, padding = _pad_fixed(x, kernel_size, name=name), "valid"
    x = DepthwiseConv2D(
        kernel_size,
        strides=stride,
        padding=padding,
        dilation_rate=rate,
        use_bias=False,
        depthwise_initializer=depthwise_initializer,
        name=name,
    )(x)
    return batch_norm_activation(x, batch_norm=batch_norm, activation=activation, name=name)


@keras.saving.register_keras_serializable("deeplab_tf")
class DepthwiseConv2D(layers.DepthwiseConv2D):
    """Depthwise convolution, on JAX as a sum of shifted images.

    XLA has no kernel of its own for it on GPUs: what it calls is slower in inference, and slow to
    compile and to run in training, where the sum becomes one loop over memory
    (`benchmarks.accelerator`).
    """

    def call(self, inputs: Any) -> Any:
        if keras.backend.backend() != "jax" or self.depth_multiplier != 1:
            return super().call(inputs)
        outputs = sum_of_shifts(
            inputs,
            ops.cast(self.kernel, inputs.dtype),
            strides=self.strides,
            rates=self.dilation_rate,
            padding=self.padding,
        )
        return outputs if self.bias is None else outputs + self.bias


def sum_of_shifts(
    x: Any, kernel: Any, *, strides: tuple[int, int], rates: tuple[int, int], padding: str
) -> Any:
    """Depthwise convolution of [b, h, w, c] with a kernel [rows, columns, c, 1]."""
    rows, row_padding = _shifts(x.shape[1], kernel.shape[0], strides[0], rates[0], padding)
    columns, column_padding = _shifts(x.shape[2], kernel.shape[1], strides[1], rates[1], padding)
    x = ops.pad(x, [[0, 0], row_padding, column_padding, [0, 0]])
    return sum(
        x[:, row, column] * kernel[i, j, :, 0]
        for i, row in enumerate(rows)
        for j, column in enumerate(columns)
    )


def _shifts(
    size: int, kernel_size: int, stride: int, rate: int, padding: str
) -> tuple[list[slice], list[int]]:
    """What each tap of a kernel sees along an axis, once it is padded by so much at both ends."""
    reach = (kernel_size - 1) * rate + 1
    missing = 0
    if padding == "same":
        missing = max((-(-size // stride) - 1) * stride + reach - size, 0)
    steps = (size + missing - reach) // stride
    taps = [slice(i * rate, i * rate + steps * stride + 1, stride) for i in range(kernel_size)]
    return taps, [missing // 2, missing - missing // 2]


@keras.saving.register_keras_serializable("deeplab_tf")
class BatchNormalization(layers.BatchNormalization):
    """Batch norm with the moving statistics of the reference.

    Differs from Keras in that the moving variance averages the unbiased variance of the batches,
    n / (n - 1) times the one they are normalised with, as TensorFlow's fused kernel does.

    Attributes:
        frozen_statistics: Set to True, training normalises with the moving statistics and leaves
            them as they are, while gamma and beta still learn (`--fine_tune_batch_norm=false`).
        replicas: Number of replicas whose statistics are taken together, if `synchronized`.
        fused: A kernel that computes the same in one pass, where the backend has one:
            (inputs, gamma, beta, epsilon) -> (outputs, mean, unbiased variance).
    """

    frozen_statistics = False
    replicas = 1
    fused: Callable[..., tuple[Any, Any, Any]] | None = None

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not training or not self.trainable or self.frozen_statistics:
            return super().call(inputs, training=False, mask=mask)
        if self.fused is not None:
            outputs, mean, variance = self.fused(inputs, self.gamma, self.beta, self.epsilon)
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + batch * (1 - self.momentum))
            return outputs
        kept = self.momentum * self.moving_variance
        outputs = super().call(inputs, training=True, mask=mask)
        added = self.moving_variance - kept
        pixels = ops.cast(ops.prod(ops.shape(inputs)[:-1]) * self.replicas, added.dtype)
        self.moving_variance.assign_add(added / ops.maximum(pixels - 1, 1))
        return outputs


def batch_norm_activation(
    x: KerasTensor, *, batch_norm: BatchNorm, activation: str | None, name: str
) -> KerasTensor:
    """Batch norm, named `<name>.BatchNorm`, and an activation."""
    x = BatchNormalization(
        momentum=batch_norm.momentum, epsilon=batch_norm.epsilon, name=f"{name}.BatchNorm"
    )(x)
    if activation is None:
        return x
    return layers.Activation(activation, name=f"{name}.{activation}")(x)


def _pad_fixed(x: KerasTensor, kernel_size: int | tuple[int, int], *, name: str) -> KerasTensor:
    sides = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    padding = tuple(((side - 1) // 2, side // 2) for side in sides)
    return layers.ZeroPadding2D(padding, name=f"{name}.pad")(x)


@keras.saving.register_keras_serializable("deeplab_tf")
def q_sigmoid(x: Any) -> Any:
    """The piecewise linear sigmoid of MobileNetV3, with the reference's 0.16667 for 1 / 6."""
    return ops.relu6(x + 3) * 0.16667


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

    Call: ([b, h, w, c], [b, h2, w2, anything]) -> [b, h3, w3, c], where h3 and w3 are h2 and w2
    scaled by `scale` (see `scale_dimension`).

    Args:
        scale: Factor on the other tensor's size.
    """

    def __init__(self, scale: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, x: Any, like: Any) -> Any:
        height, width = (scale_dimension(size, self.scale) for size in ops.shape(like)[1:3])
        return resize_bilinear(x, height, width)

    def compute_output_shape(self, x_shape: Any, like_shape: Any) -> Any:
        sizes = [size and scale_dimension(size, self.scale) for size in like_shape[1:3]]
        return (x_shape[0], *sizes, x_shape[3])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable("deeplab_tf")
class Logits(layers.Layer):
    """Logits at their own stride, float32 whatever the compute dtype.

    Args:
        stride: Size of the image over that of the logits.
    """

    def __init__(self, stride: float, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.stride = stride

    def call(self, x: Any) -> Any:
        return x

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "stride": self.stride}


def scale_dimension(size: Any, scale: float) -> Any:
    """A scaled height or width, (size - 1) * scale + 1, truncated (reference: `scale_dimension`).

    Args:
        size: An integer, or an integer scalar tensor.
        scale: Above 0.
    """
    if scale == 1:
        return size
    if isinstance(size, int):
        return int((size - 1) * scale + 1)
    return ops.cast(ops.cast(size - 1, "float32") * scale + 1, "int32")


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


def resize_nearest(x: Any, height: Any, width: Any) -> Any:
    """Nearest-neighbour resize of [b, h, w, ...], with corners aligned as in `resize_bilinear`."""
    for axis, size in ((1, height), (2, width)):
        nearest = ops.floor(_positions(x, size, axis=axis) + 0.5)
        x = ops.take(x, ops.cast(nearest, "int32"), axis=axis)
    return x


def _lerp(x: Any, size: Any, *, axis: int) -> Any:
    """Linear interpolation along one axis, by gathering the two neighbours of each position."""
    last = ops.shape(x)[axis] - 1
    position = _positions(x, size, axis=axis)
    lower = ops.floor(position)
    weight = ops.cast(position - lower, x.dtype)
    lower = ops.minimum(ops.cast(lower, "int32"), last)
    upper = ops.minimum(lower + 1, last)
    weight = ops.reshape(weight, (-1,) + (1,) * (3 - axis))
    below, above = ops.take(x, lower, axis=axis), ops.take(x, upper, axis=axis)
    return below + (above - below) * weight


def _positions(x: Any, size: Any, *, axis: int) -> Any:
    """Where `size` aligned samples lie along an axis of `x`, float32 [size]."""
    last = ops.cast(ops.shape(x)[axis] - 1, "float32")
    return ops.arange(size, dtype="float32") * (
        last / ops.cast(ops.maximum(size - 1, 1), "float32")
    )
