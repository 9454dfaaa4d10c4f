"""From an image of any size to labels and probabilities, tile by tile."""

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from keras import ops

from deeplab_tf.layers import resize_bilinear, resize_nearest, scale_dimension
from deeplab_tf.tiling.network import TiledNetwork

# Values of the upsampled logits that are in memory at once.
_STRIP_VALUES = 2**24
_LARGEST_DENOMINATOR = 16


class TiledPrediction(NamedTuple):
    """What a network says of one image.

    Attributes:
        labels: int32 [h, w], the most probable class.
        probabilities: float32 [h, w, classes], summing to 1; None if they were not asked for.
    """

    labels: np.ndarray
    probabilities: np.ndarray | None


def predict_tiled(
    network: TiledNetwork,
    image: np.ndarray,
    *,
    mean_pixel: Sequence[float],
    crop_size: tuple[int, int] | None = None,
    resized_size: Callable[[int, int], tuple[int, int]] | None = None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    upsampled_logits: bool = True,
    with_probabilities: bool = True,
) -> TiledPrediction:
    """Does what `inference.predict` does, of an image that may be larger than memory allows there.

    The logits of the tiles are put together at their own stride and upsampled as a whole, so that
    no tile shows in the upsampling either. That happens in strips of rows: without
    `with_probabilities`, what grows with the image are its labels and the logits at their stride.

    Differs from `inference.predict` where there are several scales: the image is padded to a size
    whose every scale is k * unit + 1, unit being the receptive field's. It is what `predict` gives
    of an image that is padded so.

    Args:
        network: The network and its tiles.
        image: [h, w, c] in [0, 255], any number type.
        mean_pixel: As in `inference.predict`, like all that follow.
        crop_size: Least height and width to pad to.
        resized_size: Height and width of the image to those the network is to see it at.
        scales: Fractions whose denominators are 16 or less, such as 0.75.
        flip: Whether the mirror image is averaged in.
        upsampled_logits: Whether labels are chosen at full size.
        with_probabilities: Whether they are needed, in full size.

    Raises:
        ValueError: A scale is no simple fraction.
    """
    original_size = image.shape[:2]
    if resized_size is not None:
        sides = map(int, resized_size(*original_size))
        resized = resize_bilinear(image[None].astype(np.float32), *sides)
        image = ops.convert_to_numpy(resized)[0]
    height, width = image.shape[:2]
    padded = _padded(image, mean_pixel, crop_size or (1, 1), _unit(network, scales))
    if tuple(scales) == (1.0,) and not flip and not upsampled_logits:
        prediction = _repeated(network(padded), padded.shape[:2], with_probabilities)
    else:
        views = list(_views(network, padded, scales=scales, flip=flip))
        prediction = _averaged(views, padded.shape[:2], height, with_probabilities)
    labels, probabilities = prediction
    labels = labels[:height, :width]
    probabilities = None if probabilities is None else probabilities[:height, :width]
    if resized_size is not None:
        labels = ops.convert_to_numpy(resize_nearest(labels[None], *original_size))[0]
        if probabilities is not None:
            upsampled = resize_bilinear(probabilities[None], *original_size)
            probabilities = ops.convert_to_numpy(upsampled)[0]
    return TiledPrediction(labels, probabilities)


def _unit(network: TiledNetwork, scales: Sequence[float]) -> int:
    """The least number such that k of them, plus 1, are aligned at every scale."""
    fractions = [Fraction(scale).limit_denominator(_LARGEST_DENOMINATOR) for scale in scales]
    for scale, fraction in zip(scales, fractions, strict=True):
        if abs(fraction - Fraction(scale)) > 1e-6:
            raise ValueError(
                f"The scale {scale:g} is no simple fraction, and the feature grids of tiles would "
                f"not meet: take {float(fraction):g}, or another multiple of 0.25."
            )
    return math.lcm(*(network.field.unit * fraction.denominator for fraction in fractions))


def _padded(
    image: np.ndarray, mean_pixel: Sequence[float], least: tuple[int, int], unit: int
) -> np.ndarray:
    """The image with the mean pixel below and to the right of it, its sides k * unit + 1."""
    sides = [
        max(side, smallest) + (1 - max(side, smallest)) % unit
        for side, smallest in zip(image.shape[:2], least, strict=True)
    ]
    padded = np.empty((*sides, image.shape[2]), np.float32)
    padded[:] = mean_pixel
    padded[: image.shape[0], : image.shape[1]] = image
    return padded


def _views(
    network: TiledNetwork, image: np.ndarray, *, scales: Sequence[float], flip: bool
) -> Iterator[np.ndarray]:
    """Logits, [h2, w2, classes], of each scale and mirror image (`predict_probabilities`)."""
    for scale in scales:
        x = image
        if scale != 1:
            sides = (scale_dimension(side, scale) for side in image.shape[:2])
            x = ops.convert_to_numpy(resize_bilinear(image[None], *sides))[0]
        for step in (1, -1) if flip else (1,):  # through the columns
            logits = network(np.ascontiguousarray(x[:, ::step]))[:, ::step]
            if scale < 1:
                grid = (
                    int((side - 1) * (count - 1) / max(1, scaled - 1)) + 1
                    for side, count, scaled in zip(
                        image.shape[:2], logits.shape[:2], x.shape[:2], strict=True
                    )
                )
                logits = ops.convert_to_numpy(resize_bilinear(logits[None], *grid))[0]
            yield logits


def _averaged(
    views: Sequence[np.ndarray], size: tuple[int, int], rows: int, with_probabilities: bool
) -> TiledPrediction:
    """Labels and probabilities of the first rows, strip by strip."""
    height, width = size
    classes = views[0].shape[-1]
    labels = np.empty((rows, width), np.int32)
    probabilities = np.empty((rows, width, classes), np.float32) if with_probabilities else None
    step = max(1, _STRIP_VALUES // (width * classes))
    for start in range(0, rows, step):
        strip = slice(start, min(start + step, rows))
        logits = [_rows(view, strip, height, width) for view in views]
        if len(views) == 1 and probabilities is None:
            labels[strip] = ops.convert_to_numpy(ops.argmax(logits[0], axis=-1))
            continue
        mean = sum(ops.softmax(x, axis=-1) for x in logits) / len(views)
        chosen_by = logits[0] if len(views) == 1 else mean
        labels[strip] = ops.convert_to_numpy(ops.argmax(chosen_by, axis=-1))
        if probabilities is not None:
            probabilities[strip] = ops.convert_to_numpy(mean)
    return TiledPrediction(labels, probabilities)


def _rows(logits: np.ndarray, strip: slice, height: int, width: int) -> np.ndarray:
    """Some rows of the logits as `resize_bilinear` brings them to a size: [rows, width, classes].

    In the same order of operations and with the same roundings, so that they are equal.
    """
    last = logits.shape[0] - 1
    step = np.float32(last) / np.float32(max(height - 1, 1))
    position = np.arange(strip.start, strip.stop, dtype=np.float32) * step
    lower = np.minimum(np.floor(position).astype(np.int64), last)
    upper = np.minimum(lower + 1, last)
    first, end = int(lower[0]), int(upper[-1]) + 1
    wide = resize_bilinear(logits[None, first:end], end - first, width)
    wide = ops.convert_to_numpy(wide)[0]
    weight = (position - np.floor(position))[:, None, None]
    below, above = wide[lower - first], wide[upper - first]
    return below + (above - below) * weight


def _repeated(
    logits: np.ndarray, size: tuple[int, int], with_probabilities: bool
) -> TiledPrediction:
    """Labels chosen at the logits' stride and repeated, as `inference.predict` has them."""
    labels = ops.argmax(logits[None], axis=-1)
    probabilities = None
    if with_probabilities:
        probabilities = resize_bilinear(ops.softmax(logits[None], axis=-1), *size)
        probabilities = ops.convert_to_numpy(probabilities)[0]
    return TiledPrediction(ops.convert_to_numpy(resize_nearest(labels, *size))[0], probabilities)
