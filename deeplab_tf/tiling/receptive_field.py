"""Which pixels of the image a logit is computed from, read off the network's graph."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import keras
from keras import layers

from deeplab_tf.backbones.nas_cells import DropPath
from deeplab_tf.layers import Logits, ResizeLike

_WINDOWED = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D, layers.MaxPooling2D)
_MERGING = (layers.Add, layers.Average, layers.Concatenate, layers.Maximum, layers.Multiply)
_POINTWISE = (
    layers.Activation,
    layers.BatchNormalization,
    layers.Dropout,
    layers.InputLayer,
    layers.Rescaling,
    DropPath,
    Logits,
)


@dataclass(frozen=True)
class Field:
    """The pixels that features depend on, along one axis of the image.

    Feature i depends on pixels i * stride + first to i * stride + last.

    Attributes:
        stride: Pixels between neighbouring features; a fraction behind a resize.
        first: Offset of the first pixel, 0 or less at the end of a network.
        last: Offset of the last one.
    """

    stride: Fraction = Fraction(1)
    first: Fraction = Fraction(0)
    last: Fraction = Fraction(0)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return math.floor(self.last) - math.ceil(self.first) + 1


@dataclass(frozen=True)
class ReceptiveField:
    """What a network's logits depend on.

    Attributes:
        height: Down the image.
        width: Across it.
        unit: Where height and width are a multiple of this, plus 1, the first and the last features
            of every layer lie on the first and the last pixel.
        image_level: Names of the layers whose output is the mean of all features, in order: by way
            of them, logits depend on the whole image all the same.
        windows: Names of layers with means of large windows, stretched over the image: what they
            say depends on the size of the image.
    """

    height: Field
    width: Field
    unit: int
    image_level: tuple[str, ...]
    windows: tuple[str, ...]


def receptive_field(model: keras.Model) -> ReceptiveField:
    """The receptive field of a network's layer "logits", at their own stride.

    Every layer's fields follow from those of its inputs, as in Araujo et al., "Computing Receptive
    Fields of Convolutional Neural Networks" (Distill, 2019). It is exact where each layer's
    features lie on the corners of the image, which `unit` says.

    Raises:
        ValueError: The network has a layer of an unknown kind, or adds features of different
            strides.
    """
    native = keras.Model(model.input, model.get_layer("logits").output)
    images = keras.Input(native.input.shape[1:])
    probe = _Probe(images)
    keras.models.clone_model(
        native, input_tensors=images, clone_function=lambda layer: _Probed(layer, probe)
    )
    strides = [field.stride for fields in probe.fields for field in fields]
    height, width = probe.fields[-1]
    return ReceptiveField(
        height,
        width,
        unit=_common_multiple(strides),
        image_level=tuple(probe.image_level),
        windows=tuple(probe.windows),
    )


class _Probe:
    """Notes the fields of every tensor of a graph, down and across; none for image-level ones."""

    def __init__(self, images: Any) -> None:
        self._of: dict[int, tuple[Field, ...]] = {id(images): (Field(), Field())}
        self._alive = [images]  # so that no id is used twice
        self.fields: list[tuple[Field, ...]] = []
        self.image_level: list[str] = []
        self.windows: list[str] = []

    def note(self, layer: keras.Operation, inputs: Any, output: Any) -> None:
        known = [self._of[id(tensor)] for tensor in keras.tree.flatten(inputs)]
        fields: tuple[Field, ...] = ()
        if isinstance(layer, layers.GlobalAveragePooling2D):
            self.image_level.append(layer.name)
        elif isinstance(layer, layers.AveragePooling2D):
            self.windows.append(layer.name)
        elif known[0] or isinstance(layer, _MERGING):
            axes = zip(*filter(None, known), strict=True)
            fields = tuple(_field(layer, list(of_axis), i) for i, of_axis in enumerate(axes))
        self._alive.append(output)
        self._of[id(output)] = fields
        if fields:
            self.fields.append(fields)


class _Probed(keras.Operation):
    """Stands for a layer in a copy of its graph, and tells the probe of every call."""

    def __init__(self, layer: keras.Operation, probe: _Probe) -> None:
        super().__init__(name=layer.name)
        self._layer = layer
        self._probe = probe

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        output = self._layer.compute_output_spec(*args, **kwargs)
        self._probe.note(self._layer, args, output)
        return output


def _field(layer: Any, inputs: list[Field], axis: int) -> Field:
    """The field of a layer's output along an axis, from those of its inputs."""
    x = inputs[0]
    if isinstance(layer, _WINDOWED):
        side, rate, step = _window(layer, axis)
        reach = (side - 1) * rate
        before = reach // 2 if layer.padding == "same" else 0
        return Field(
            x.stride * step, x.first - before * x.stride, x.last + (reach - before) * x.stride
        )
    if isinstance(layer, layers.ZeroPadding2D):
        shift = layer.padding[axis][0] * x.stride
        return Field(x.stride, x.first - shift, x.last - shift)
    if isinstance(layer, ResizeLike):
        stride = inputs[1].stride / Fraction(layer.scale).limit_denominator(1000)
        # Between two features both count. How far from one the nearest feature of the result can
        # be, if it is not on it, is what the two strides have in common.
        between = x.stride - _common_divisor(stride, x.stride)
        return Field(stride, x.first - between, x.last + between)
    if isinstance(layer, _MERGING):
        if len({field.stride for field in inputs}) > 1:
            raise ValueError(f"The layer {layer.name} merges features of different strides.")
        first, last = min(f.first for f in inputs), max(f.last for f in inputs)
        return Field(x.stride, first, last)
    # Keras puts this operation, which is not public, where a model is called within another.
    if isinstance(layer, _POINTWISE) or type(layer).__name__ == "ConvertToTensor":
        return x
    raise ValueError(
        f"The layer {layer.name} is a {type(layer).__name__}, of which it is not known which "
        "features it depends on: name the kind in deeplab_tf/tiling/receptive_field.py."
    )


def _window(layer: Any, axis: int) -> tuple[int, int, int]:
    """Side, rate and stride of a convolution or a pooling along an axis."""
    if isinstance(layer, layers.MaxPooling2D):
        return layer.pool_size[axis], 1, layer.strides[axis]
    return layer.kernel_size[axis], layer.dilation_rate[axis], layer.strides[axis]


def _common_divisor(a: Fraction, b: Fraction) -> Fraction:
    """The largest number that both are whole multiples of."""
    denominator = a.denominator * b.denominator
    return Fraction(math.gcd(a.numerator * b.denominator, b.numerator * a.denominator), denominator)


def _common_multiple(fractions: Iterable[Fraction]) -> int:
    """The least whole number that all are a whole part of."""
    return math.lcm(*(fraction.numerator for fraction in fractions))
