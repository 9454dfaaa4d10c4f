"""What an encoder is to the rest of DeepLab."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from keras import KerasTensor, layers


class Features(NamedTuple):
    """What an encoder returns.

    Attributes:
        final: [b, h/output_stride, w/output_stride, c], the input of ASPP.
        low_level: By nominal stride, the features the decoder refines with: the last ones before
            the network strides further. Those of strides below the output stride have that stride.
    """

    final: KerasTensor
    low_level: dict[int, KerasTensor]


@dataclasses.dataclass(frozen=True)
class Backbone:
    """One encoder variant.

    Attributes:
        build: (normalised images, output_stride=..., **options) -> Features.
        options: The `ModelConfig` fields that `build` takes beside `output_stride`.
        mean_pixel: RGB in [0, 255] that becomes 0 inside the network; see `padding_color`.
        scale: Factor on the images after the mean is subtracted.
        has_batch_norm: Whether there is batch norm in it.
    """

    build: Callable[..., Features]
    options: tuple[str, ...]
    mean_pixel: tuple[float, float, float] = (127.5, 127.5, 127.5)
    scale: float = 1 / 127.5
    has_batch_norm: bool = True

    def padding_color(self, input_channels: int) -> tuple[float, ...]:
        """What images are padded with, in [0, 255] for each channel; 0 inside the network.

        The mean pixel; its mean for one channel; for others, its values in turn, as kernels are
        inflated (`weights.inflation`).
        """
        if input_channels == 1:
            return (sum(self.mean_pixel) / 3,)
        return tuple(self.mean_pixel[i % 3] for i in range(input_channels))

    def normalize(self, images: KerasTensor) -> KerasTensor:
        """Images in [0, 255] to what the pretrained weights expect: [-1, 1], or mean-free."""
        offset = [-mean * self.scale for mean in self.padding_color(images.shape[-1])]
        return layers.Rescaling(self.scale, offset, dtype="float32", name="normalize")(images)


def make_divisible(value: float, divisor: int, minimum: int | None = None) -> int:
    """The nearest multiple of `divisor` that loses no more than a tenth of `value`.

    How the MobileNets round channels (slim's `_make_divisible`). `minimum`, by default `divisor`,
    takes the place of anything below it.
    """
    rounded = max(minimum or divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded
