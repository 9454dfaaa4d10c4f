"""From a sample to what its record holds: the step of a conversion that differs between sources."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deeplab_tf.data.channels import encode_channels
from deeplab_tf.data.class_table import ColorTable
from deeplab_tf.data.images import EncodedImage
from deeplab_tf.data.masks import Mask, MaskType, read_mask
from deeplab_tf.data.pairing import Sample


@dataclass(frozen=True)
class LabelledImage:
    """An image and its mask, of one size, as they go into a record.

    Attributes:
        image: The image.
        mask: Its mask.
        mask_source: Where the mask is from, for messages: the path of its file.
    """

    image: EncodedImage
    mask: Mask
    mask_source: str


# Of a sample, a frozen dataclass with a `name`. It raises ValueError or OSError, naming the file,
# for one that cannot be used. Both travel to worker processes and are told apart by their repr:
# readers are frozen dataclasses as well.
Reader = Callable[[Any], LabelledImage]


@dataclass(frozen=True)
class FileReader:
    """Reads an image file and a mask file.

    The fields are arguments of `masks.read_mask` and, the last two, `channels.encode_channels`.
    """

    mask_type: MaskType = "auto"
    ignore_label: int = 255
    color_table: ColorTable | None = None
    label_map: dict[int, int] | None = None
    input_channels: int = 3
    bit_depth: int = 8

    def __call__(self, sample: Sample) -> LabelledImage:
        """Reads a sample; raises OSError or ValueError, naming the file."""
        mask = read_mask(
            sample.mask_path,
            mask_type=self.mask_type,
            ignore_label=self.ignore_label,
            color_table=self.color_table,
            label_map=self.label_map,
        )
        return with_image(
            mask, sample, input_channels=self.input_channels, bit_depth=self.bit_depth
        )


def with_image(mask: Mask, sample: Sample, *, input_channels: int, bit_depth: int) -> LabelledImage:
    """Reads the image of a mask that is read; arguments as `channels.encode_channels`."""
    height, width = mask.labels.shape
    image = encode_channels(
        sample.image_path,
        mask_size=(height, width),
        input_channels=input_channels,
        bit_depth=bit_depth,
    )
    return LabelledImage(image, mask, mask_source=str(sample.mask_path))
