"""What the images of a data set are taken to hold, and whether their values suit it."""

from dataclasses import dataclass
from typing import Self

from deeplab_tf.data import channels
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.data.doctor.kinds import Finding, kind_named


@dataclass(frozen=True)
class ImageSpec:
    """The images of a data set.

    Attributes:
        input_channels: Their channels.
        bit_depth: Bits of each, 8 or 16.
        value_range: Their values that are 0 and 255 to the network.
    """

    input_channels: int = 3
    bit_depth: int = 8
    value_range: tuple[float, float] = (0, 255)

    @classmethod
    def of(cls, info: DatasetInfo) -> Self:
        """What dataset.json says."""
        return cls(info.input_channels, info.bit_depth, info.value_range)

    @property
    def is_photo(self) -> bool:
        """Whether records hold them as JPEG or PNG of 8-bit grey or RGB."""
        return self.bit_depth == 8 and self.input_channels in (1, 3)

    @property
    def has_range(self) -> bool:
        """Whether their values are worth a look; those of photos are what they are."""
        return not (self.is_photo and self.value_range == (0, 255))

    def describe(self) -> str:
        """As in "16-bit images of 4 channels"."""
        names = {1: "grey images", 3: "RGB images"}
        named = names.get(self.input_channels, f"images of {self.input_channels} channels")
        return f"{self.bit_depth}-bit {named}"

    def extensions(self) -> tuple[str, ...]:
        """Extensions of the files that they may come in."""
        return channels.extensions(input_channels=self.input_channels, bit_depth=self.bit_depth)

    def pixel_bytes(self) -> int:
        """Size of a pixel in memory."""
        return self.input_channels * self.bit_depth // 8


def examine_values(
    spec: ImageSpec, extremes: tuple[int, int] | None, outside: tuple[str, ...]
) -> list[Finding]:
    """Returns the finding about the values of all images together, if there is one.

    Args:
        spec: What the images are taken to hold.
        extremes: Lowest and highest value of them; None if they were not looked at.
        outside: Images with values outside the range.
    """
    fault = channels.range_fault(extremes, spec.value_range) if extremes else None
    if extremes is None or fault is None:
        return []
    (lowest, highest), (low, high) = extremes, spec.value_range
    found = f"all images together hold {lowest} to {highest}; {low:g} to {high:g} become 0 to 255"
    kind = kind_named(fault)
    fix = f"{kind.fix} --value_range={lowest},{highest} would be all."
    return [Finding(kind, outside, found, fix)]
