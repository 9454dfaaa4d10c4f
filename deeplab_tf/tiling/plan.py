"""Where tiles lie in an image, and which part of each is taken."""

import math
from dataclasses import dataclass

from deeplab_tf.tiling.receptive_field import Field


@dataclass(frozen=True)
class Span:
    """A tile along one axis, in pixels of the image.

    Attributes:
        start: Its first pixel.
        size: Its number of pixels.
        first: First pixel of its core, where its features are taken.
        last: Last pixel of its core, which is also the first one of the next tile's.
    """

    start: int
    size: int
    first: int
    last: int

    def features(self, count: int) -> tuple[slice, slice]:
        """The core in features, of which the tile has `count`: in the image, and in the tile."""
        pixels = max(1, self.size - 1) // max(1, count - 1)  # from one to the next
        start, first, last = (side // pixels for side in (self.start, self.first, self.last))
        return slice(first, last + 1), slice(first - start, last - start + 1)


@dataclass(frozen=True)
class TileAxis:
    """How tiles lie along one axis.

    Attributes:
        size: Largest size of a tile, k * unit + 1.
        margin: Pixels, a multiple of unit, on either side of a core that the next tile has too.
        unit: What tiles start at multiples of.
    """

    size: int
    margin: int
    unit: int

    def spans(self, image_size: int) -> list[Span]:
        """The tiles of an image whose size is k * unit + 1: all of one size, or one for all of it.

        A core reaches to the border of the image where its tile does: there, the network pads a
        tile as it pads the image.
        """
        if image_size <= self.size:
            return [Span(0, image_size, 0, image_size - 1)]
        step = self.size - 1 - 2 * self.margin
        end = image_size - self.size
        starts = [*range(0, end, step), end]
        cores = [0, *(start + self.margin for start in starts[1:]), image_size - 1]
        return [
            Span(start, self.size, first, last)
            for start, first, last in zip(starts, cores, cores[1:], strict=False)
        ]


def tile_axis(
    *, size: int, overlap: int | None, field: Field, unit: int, axis: str = "height"
) -> TileAxis:
    """How tiles of a size lie along an axis.

    Args:
        size: Largest size of a tile; it is reduced to k * unit + 1.
        overlap: Pixels that neighbours share; it is rounded up to a multiple of 2 * unit, plus 1.
            None: as many as make every feature that is taken the one of the whole image.
        field: What the network's output depends on.
        unit: The receptive field's.
        axis: Name of the axis, for messages.

    Raises:
        ValueError: Nothing of a tile would be left between its overlaps.
    """
    reach = math.ceil(max(-field.first, field.last))
    margin = math.ceil((reach if overlap is None else overlap / 2) / unit) * unit
    tile = (size - 1) // unit * unit + 1
    if tile < 2 * margin + unit + 1:
        wanted = (
            f"an overlap of {2 * margin + 1}, as its receptive field of {field.size} pixels needs "
            "to give exactly what the whole image gives"
            if overlap is None
            else f"an overlap of {2 * margin + 1}"
        )
        raise ValueError(
            f"Tiles of the {axis} {size} are too small for this network with {wanted}: give a tile "
            f"size of at least {2 * margin + unit + 1}, better the double, or a smaller tile "
            "overlap, whose seams are then measured."
        )
    return TileAxis(tile, margin, unit)
