"""Parameters and Multiply-Adds of a network, part by part, as the papers count them.

print(model_info(ModelConfig.from_preset("deeplabv3plus_xception65"), image_size=(513, 513)))
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import keras
from keras import layers

from deeplab_tf.config import ModelConfig
from deeplab_tf.deeplab import build_deeplab
from deeplab_tf.model_info.calls import graph_calls

# How the names of a part's layers begin; all others are the encoder's.
_PARTS = {
    "aspp": "ASPP",
    "image_pooling": "ASPP",
    "concat_projection": "ASPP",
    "meta_architecture": "dense prediction cell",
    "decoder": "decoder",
    "fc": "fc6 and fc7",
    "msc": "multi-scale features",
    "logits": "logits",
}
_COUNTED_LAYERS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D, layers.Dense)


@dataclass(frozen=True, kw_only=True)
class PartInfo:
    """Size and cost of one part of a network.

    Multiply-Adds are those of the convolutions and dense layers for one image. Pooling, resizing,
    batch norm, biases and activations are left out, as in the papers.

    Attributes:
        name: Of the part.
        parameters: Weights in all, batch norm's moving statistics included.
        trainable_parameters: Weights that have a gradient.
        multiply_adds: One for each weight of a kernel at each position of its output.
        multiply_adds_space_to_batch: As the papers counted: for an atrous convolution of rate r,
            TensorFlow cuts the image into r * r smaller ones (SpaceToBatchND), and pads it for
            that to ceil(h / r) * r by ceil(w / r) * r.
    """

    name: str
    parameters: int = 0
    trainable_parameters: int = 0
    multiply_adds: int = 0
    multiply_adds_space_to_batch: int = 0


@dataclass(frozen=True, kw_only=True)
class ModelInfo(PartInfo):
    """Size and cost of a network; as a string, a table of its parts.

    Attributes:
        image_size: Height and width of the image.
        parts: Those with weights, from the image on. They add up to the network.
    """

    image_size: tuple[int, int]
    parts: tuple[PartInfo, ...]

    def __str__(self) -> str:
        height, width = self.image_size
        header = ("", "parameters", "trainable", "Multiply-Adds", "with SpaceToBatch")
        rows = [header, *map(_row, self.parts), _row(replace(self, name="total"))]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [f"{self.name}, {height}x{width}"]
        for name, *numbers in rows:
            cells = [name.ljust(widths[0]), *map(str.rjust, numbers, widths[1:])]
            lines.append("  ".join(cells))
        return "\n".join(lines)


def model_info(config: ModelConfig, image_size: tuple[int, int] = (513, 513)) -> ModelInfo:
    """Counts the network of a config, built for images of one size.

    Args:
        config: Which network; `image_size` takes the place of its `crop_size`.
        image_size: Height and width.

    Raises:
        ValueError: If there is no such network for images of this size.
    """
    return info_of(build_deeplab(replace(config, crop_size=image_size)), image_size)


def info_of(model: keras.Model, image_size: tuple[int, int]) -> ModelInfo:
    """Counts a functional model of images, [b, h, w, channels]; only shapes are computed.

    A layer that is called several times, as in an image pyramid, has its parameters once and its
    Multiply-Adds each time. Layers that are not named as those of a head are the encoder's.

    Args:
        model: The model; it is left as it is.
        image_size: Height and width.

    Raises:
        ValueError: If the model takes images of another size only, or has a layer with kernels
            that is neither a convolution nor dense.
    """
    total: Counter[str] = Counter()
    parts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    seen = set()
    for layer, output in graph_calls(model, image_size):
        if not getattr(layer, "weights", ()):
            continue
        counts = _multiply_adds(layer, output)
        if layer not in seen:
            seen.add(layer)
            counts["parameters"] = _size(layer.weights)
            counts["trainable_parameters"] = _size(layer.trainable_weights)
        total.update(counts)
        parts[_part(layer.name)].update(counts)
    return ModelInfo(
        name=model.name,
        image_size=image_size,
        parts=tuple(PartInfo(name=name, **counts) for name, counts in parts.items()),
        **total,
    )


def _multiply_adds(layer: keras.Layer, output: keras.KerasTensor) -> dict[str, int]:
    """The Multiply-Adds of one call; none if the layer has no kernels."""
    kernels = [weight for weight in layer.weights if len(weight.shape) > 1]
    if not kernels:
        return {}
    if not isinstance(layer, _COUNTED_LAYERS):
        raise ValueError(
            f"The Multiply-Adds of {layer.name!r} are unknown: expected convolutions and dense "
            f"layers, found {type(layer).__name__}."
        )
    sides = output.shape[1:-1]
    rates = getattr(layer, "dilation_rate", (1,) * len(sides))
    area = math.prod(sides)
    padded = math.prod(math.ceil(n / rate) * rate for n, rate in zip(sides, rates, strict=True))
    atrous = [kernel for kernel in kernels if math.prod(kernel.shape[:-2]) > 1]
    multiply_adds = _size(kernels) * area
    return {
        "multiply_adds": multiply_adds,
        "multiply_adds_space_to_batch": multiply_adds + _size(atrous) * (padded - area),
    }


def _size(weights: Sequence[keras.Variable]) -> int:
    return sum(math.prod(weight.shape) for weight in weights)


def _part(layer_name: str) -> str:
    return next((part for start, part in _PARTS.items() if layer_name.startswith(start)), "encoder")


def _row(info: PartInfo) -> tuple[str, ...]:
    return (
        info.name,
        f"{info.parameters:,}",
        f"{info.trainable_parameters:,}",
        f"{info.multiply_adds / 1e9:,.3f}B",
        f"{info.multiply_adds_space_to_batch / 1e9:,.3f}B",
    )
