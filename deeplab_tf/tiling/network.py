"""The logits of a large image, tile by tile, with what stands for the image-level features."""

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import keras
import numpy as np
from keras import ops

from deeplab_tf.layers import resize_bilinear
from deeplab_tf.tiling.plan import Span, tile_axis
from deeplab_tf.tiling.receptive_field import ReceptiveField, receptive_field
from deeplab_tf.tiling.seams import Seams

# From a function of tensors to the same one, faster; such as TensorFlow's tf.function.
Compiler = Callable[[Callable[..., Any]], Callable[..., Any]]

_Tile = tuple[Span, Span]  # down and across the image


class TiledNetwork:
    """A network's logits at their own stride, of images of any size.

    An image that is no larger than a tile is seen whole. Memory is bounded by a tile's features and
    the logits.

    Attributes:
        field: The network's receptive field.
        seams: How far tiles disagreed where they meet, in all calls so far.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        tile_size: tuple[int, int],
        overlap: int | None = None,
        image_level: str = "exact",
        seams: Seams | None = None,
        compile_call: Compiler = lambda call: call,
    ) -> None:
        """Plans the tiles.

        Args:
            model: As in `inference.predict`.
            tile_size: Largest height and width of a tile.
            overlap: Pixels that neighbouring tiles share. None: what the receptive field needs, for
                which logits are those of the whole image.
            image_level: Where the network averages over the whole image (image pooling,
                squeeze-and-excitation): "exact" takes these means over all tiles beforehand, in one
                more pass for each mean; "reduced" takes them once of an image that is reduced to
                the size of a tile; "tile" lets every tile have its own.
            seams: What counts the disagreements; None for one of its own.
            compile_call: Applied to each function of tensors.

        Raises:
            ValueError: The tiles are too small for their overlap, or the network has means that
                cannot be given from outside.
        """
        self.field = receptive_field(model)
        self.seams = Seams() if seams is None else seams
        self._axes = [
            tile_axis(size=size, overlap=overlap, field=field, unit=self.field.unit, axis=axis)
            for size, field, axis in zip(
                tile_size, (self.field.height, self.field.width), ("height", "width"), strict=True
            )
        ]
        self._is_reduced = image_level == "reduced"
        logits = model.get_layer("logits").output
        self._whole = _called(keras.Model([model.input], logits), compile_call)
        self._tile, self._pooled = self._whole, []
        if image_level != "tile":
            _check_means(self.field)
            means = [model.get_layer(name) for name in self.field.image_level]
            given = [model.input, *(layer.output for layer in means)]
            self._tile = _called(keras.Model(given, logits), compile_call)
            self._pooled = [
                _called(keras.Model(given[: 1 + i], layer.input), compile_call)
                for i, layer in enumerate(means)
            ]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Float32 [h2, w2, classes] of a float32 image, [h, w, c], with sides k * unit + 1."""
        tiles = self._tiles(image)
        if len(tiles) == 1:
            return ops.convert_to_numpy(self._whole(image[None]))[0]
        seen = self._reduced(image) if self._is_reduced else image
        means = self._means(seen, self._tiles(seen)) if self._pooled else []
        return self._stitched(image, tiles, means)

    def _tiles(self, image: np.ndarray) -> list[_Tile]:
        down, across = (
            axis.spans(size) for axis, size in zip(self._axes, image.shape[:2], strict=True)
        )
        return list(product(down, across))

    def _means(self, image: np.ndarray, tiles: Sequence[_Tile]) -> list[np.ndarray]:
        """What the network's means over the image are, float32 [1, 1, 1, channels] each."""
        means: list[np.ndarray] = []
        for pooled in self._pooled:
            total, count = np.zeros((), np.float64), 0
            for down, across in tiles:
                features = ops.convert_to_numpy(pooled(_cut(image, down, across), *means))[0]
                rows, columns = (
                    # The core's first line is the last one of the tile before.
                    slice(inside.start + (span.first > 0), inside.stop)
                    for span, inside in (
                        (down, down.features(features.shape[0])[1]),
                        (across, across.features(features.shape[1])[1]),
                    )
                )
                core = features[rows, columns]
                total = total + core.sum(axis=(0, 1), dtype=np.float64)
                count += core.shape[0] * core.shape[1]
            means.append((total / count).astype(np.float32)[None, None, None])
        return means

    def _stitched(
        self, image: np.ndarray, tiles: Sequence[_Tile], means: Sequence[np.ndarray]
    ) -> np.ndarray:
        """The cores' logits, side by side."""
        stitched = np.zeros((0, 0, 0), np.float32)
        for down, across in tiles:
            logits = ops.convert_to_numpy(self._tile(_cut(image, down, across), *means))[0]
            rows, tile_rows = down.features(logits.shape[0])
            columns, tile_columns = across.features(logits.shape[1])
            if not stitched.size:
                height, width = (
                    (size - 1) * (count - 1) // max(1, span.size - 1) + 1
                    for size, count, span in zip(
                        image.shape, logits.shape[:2], (down, across), strict=False
                    )
                )
                stitched = np.zeros((height, width, logits.shape[2]), np.float32)
                done = np.zeros((height, width), bool)
            core, known = logits[tile_rows, tile_columns], done[rows, columns]
            self.seams.add(stitched[rows, columns][known], core[known])
            stitched[rows, columns] = core
            done[rows, columns] = True
        return stitched

    def _reduced(self, image: np.ndarray) -> np.ndarray:
        """The image in the size of a tile: means of blocks, then what is left bilinearly."""
        height, width, channels = image.shape
        ratio = max(
            1.0, *(side / axis.size for side, axis in zip((height, width), self._axes, strict=True))
        )
        block, unit = math.ceil(ratio), self.field.unit
        rows, columns = height // block or 1, width // block or 1
        if height >= block and width >= block:
            blocks = image[: rows * block, : columns * block]
            blocks = blocks.reshape(rows, block, columns, block, channels).mean(axis=(1, 3))
        else:
            blocks = image
        sides = (int((side - 1) / ratio) // unit * unit + 1 for side in (height, width))
        return ops.convert_to_numpy(resize_bilinear(blocks[None], *sides))[0]


def _check_means(field: ReceptiveField) -> None:
    """Raises ValueError if not every mean can be given from outside."""
    if field.windows:
        raise ValueError(
            f"The network averages over windows of fixed sizes ({', '.join(field.windows)}), which "
            'cannot be told to its tiles: give the image level "tile", and tiles of the size the '
            "windows are made for."
        )
    if len(set(field.image_level)) < len(field.image_level):
        raise ValueError(
            "The network has an image pyramid and averages over the image at each of its scales, "
            'which cannot be told to its tiles: give the image level "tile".'
        )


def _called(network: keras.Model, compile_call: Compiler) -> Callable[..., Any]:
    """A network as a function of its inputs; of any size, although built for one crop size."""
    return compile_call(lambda *inputs: network.call(list(inputs), training=False))


def _cut(image: np.ndarray, down: Span, across: Span) -> np.ndarray:
    """A tile, [1, h, w, c]."""
    return image[
        None, down.start : down.start + down.size, across.start : across.start + across.size
    ]
