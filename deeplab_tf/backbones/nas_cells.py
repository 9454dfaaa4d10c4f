"""The cell of the NAS encoders: searched operations summed in pairs (NASNet, arXiv 1707.07012).

Layer names are the reference's variable scopes (`core/nas_cell.py`). Convolutions come after the
ReLU and before the batch norm; a strided one is padded alike on both sides, whatever the size.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import KerasTensor, initializers, layers, ops

from deeplab_tf.layers import BatchNormalization, ResizeLike


class Operand(NamedTuple):
    """One side of a sum in a cell.

    Attributes:
        operation: (x, filters=..., stride=..., name=...) -> [b, h/stride, w/stride, filters].
        state: What it works on: 0 is the output of the cell before, 1 that of the cell before
            that one, and 2 + i the cell's own i-th sum.
    """

    operation: Callable[..., KerasTensor]
    state: int


Genotype = tuple[tuple[Operand, Operand], ...]


def cell(
    x: KerasTensor,
    previous: KerasTensor,
    *,
    genotype: Genotype,
    filters: int,
    stride: int,
    keep_prob: float,
    name: str,
) -> KerasTensor:
    """One cell.

    Args:
        x: [b, h, w, c], the output of the cell before.
        previous: [b, h, w, c2], the output of the cell before that one.
        genotype: The operands of each sum.
        filters: Channels of each sum.
        stride: 1 or 2, taken by the operations on `x` and `previous`.
        keep_prob: Share of paths to keep at the end of training, above 0; 1 keeps all.
        name: Prefix of the layer names.

    Returns:
        [b, h/stride, w/stride, filters * sums], the concatenated sums, without an activation.
    """
    if previous.shape[-1] != filters:
        previous = relu_conv_bn(
            previous, filters, 1, name=f"{name}.prev_1x1", batch_norm=f"{name}.prev_bn"
        )
    x = relu_conv_bn(x, filters, 1, name=f"{name}.1x1", batch_norm=f"{name}.beginning_bn")
    states = [x, previous]
    for i, pair in enumerate(genotype):
        terms = []
        for side, operand in zip(("left", "right"), pair, strict=True):
            scope = f"{name}.comb_iter_{i}.{side}"
            term = operand.operation(
                states[operand.state],
                filters=filters,
                stride=stride if operand.state < 2 else 1,
                name=scope,
            )
            if keep_prob < 1 and operand.operation is not identity:
                term = DropPath(keep_prob, name=f"{scope}.drop_path")(term)
            terms.append(term)
        states.append(layers.Add(name=f"{name}.comb_iter_{i}.combine")(terms))
    return layers.Concatenate(name=f"{name}.cell_output")(states[2:])


def separable_convs(
    x: KerasTensor, *, kernel_size: int, filters: int, stride: int, name: str
) -> KerasTensor:
    """ReLU, separable convolution, batch norm; twice, the first of them strided."""
    size = f"{kernel_size}x{kernel_size}"
    for i, step in enumerate((stride, 1), start=1):
        scope = f"{name}.separable_{size}_{i}"
        x = layers.Activation("relu", name=f"{scope}.relu")(x)
        x, padding = _pad(x, kernel_size, stride=step, name=scope)
        x = layers.SeparableConv2D(
            filters,
            kernel_size,
            strides=step,
            padding=padding,
            use_bias=False,
            depthwise_initializer=_initializer(),
            pointwise_initializer=_initializer(),
            name=scope,
        )(x)
        x = batch_normalization(x, name=f"{name}.bn_sep_{size}_{i}")
    return x


def atrous_conv(
    x: KerasTensor, *, kernel_size: int, filters: int, stride: int, name: str
) -> KerasTensor:
    """ReLU, convolution of rate 2, batch norm; a stride is a resize and a convolution of rate 1."""
    size = f"{kernel_size}x{kernel_size}"
    x = layers.Activation("relu", name=f"{name}.relu")(x)
    if stride == 2:
        x = ResizeLike(0.5, name=f"{name}.resize")(x, x)
    return conv_bn(
        x,
        filters,
        kernel_size,
        rate=1 if stride == 2 else 2,
        name=f"{name}.atrous_{size}",
        batch_norm=f"{name}.bn_atr_{size}",
    )


def max_pool(
    x: KerasTensor, *, kernel_size: int, filters: int, stride: int, name: str
) -> KerasTensor:
    """The maximum of each window, of `x` as it is; `x` has `filters` channels already."""
    return layers.MaxPooling2D(kernel_size, strides=stride, padding="same", name=name)(x)


def identity(x: KerasTensor, *, filters: int, stride: int, name: str) -> KerasTensor:
    """`x` as it is; under a stride ReLU, 1x1 convolution, batch norm. Never a dropped path."""
    if stride == 1:
        return x
    return relu_conv_bn(x, filters, 1, stride=stride, name=f"{name}.1x1", batch_norm=f"{name}.bn_1")


def relu_conv_bn(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    name: str,
    batch_norm: str,
    stride: int = 1,
    rate: int = 1,
) -> KerasTensor:
    """ReLU and `conv_bn`, whose arguments it takes."""
    x = layers.Activation("relu", name=f"{name}.relu")(x)
    return conv_bn(
        x, filters, kernel_size, stride=stride, rate=rate, name=name, batch_norm=batch_norm
    )


def conv_bn(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    name: str,
    batch_norm: str,
    stride: int = 1,
    rate: int = 1,
) -> KerasTensor:
    """Convolution and batch norm, [b, h, w, c] -> [b, h/stride, w/stride, filters].

    Unlike in the other networks, batch norm layers have names of their own: `batch_norm`.
    """
    x, padding = _pad(x, kernel_size, stride=stride, name=name)
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides=stride,
        padding=padding,
        dilation_rate=rate,
        use_bias=False,
        kernel_initializer=_initializer(),
        name=name,
    )(x)
    return batch_normalization(x, name=batch_norm)


def batch_normalization(x: KerasTensor, *, name: str) -> KerasTensor:
    """Batch norm as all NAS encoders have it."""
    return BatchNormalization(momentum=0.9997, epsilon=1e-3, name=name)(x)


@keras.saving.register_keras_serializable("deeplab_tf")
class DropPath(layers.Layer):
    """Drops its input for whole examples in training, ever more of them (ScheduledDropPath).

    An example is kept with probability 1 - progress * (1 - keep_prob), and is then divided by it
    (arXiv 1707.07012; reference: `NASBaseCell._apply_drop_path`).

    Args:
        keep_prob: Share of examples kept at the end of training, above 0 and at most 1.
        seed: Seed of the draws.

    Attributes:
        progress: Share of training that is done, from 0 to 1: a number, or a function that
            returns a scalar tensor, for a training step that is compiled only once.
    """

    def __init__(self, keep_prob: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 < keep_prob <= 1:
            raise ValueError(f"keep_prob is {keep_prob}; expected above 0 and at most 1.")
        self.keep_prob = keep_prob
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.progress: float | Callable[[], Any] = 1.0

    def call(self, x: Any, training: bool | None = None) -> Any:
        if not training:
            return x
        progress = self.progress() if callable(self.progress) else self.progress
        keep_prob = 1 - ops.cast(progress, "float32") * (1 - self.keep_prob)
        draws = keras.random.uniform((ops.shape(x)[0], 1, 1, 1), seed=self.seed_generator)
        factor = ops.cast(draws < keep_prob, "float32") / keep_prob
        return x * ops.cast(factor, x.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "keep_prob": self.keep_prob, "seed": self.seed}


def _pad(x: KerasTensor, kernel_size: int, *, stride: int, name: str) -> tuple[KerasTensor, str]:
    """What a convolution of this stride takes: the padded input, and its `padding`."""
    if stride == 1 or kernel_size == 1:
        return x, "same"
    return layers.ZeroPadding2D(kernel_size // 2, name=f"{name}.pad")(x), "valid"


def _initializer() -> initializers.Initializer:
    return initializers.VarianceScaling(1 / 3, mode="fan_in", distribution="uniform")
