"""From an image of any size to classes and probabilities, around any model."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops


class Prediction(NamedTuple):
    """What a network says of a batch of images.

    Attributes:
        labels: int32 [b, h, w], the most probable class.
        probabilities: float32 [b, h, w, classes], summing to 1 over the classes.
    """

    labels: Any
    probabilities: Any


def predict(
    model: keras.Model,
    images: Any,
    *,
    output_stride: int,
    mean_pixel: Sequence[float],
    crop_size: tuple[int, int] | None = None,
) -> Prediction:
    """Predicts every pixel of images of any size.

    Images are padded at the bottom and right with the mean pixel, and predictions cropped back.
    The padded size is k * output_stride + 1: only there do the corners of the feature grid lie on
    the corners of the image, as in training.

    Differs: the reference pads to a crop size that has to be given and fails on larger images.

    Args:
        model: Maps float32 [b, h, w, 3] in [0, 255] to logits [b, h, w, classes].
        images: [b, h, w, 3] RGB in [0, 255], any number type.
        output_stride: The encoder's.
        mean_pixel: RGB colour 0..255 of the padding.
        crop_size: Least height and width to pad to.
    """
    images = ops.cast(images, "float32")
    height, width = ops.shape(images)[1:3]
    least_height, least_width = crop_size or (1, 1)
    bottom = _padding(height, least_height, output_stride)
    right = _padding(width, least_width, output_stride)
    mean = ops.convert_to_tensor(mean_pixel, "float32")
    padded = ops.pad(images - mean, [[0, 0], [0, bottom], [0, right], [0, 0]]) + mean
    logits = model(padded, training=False)[:, :height, :width]
    return Prediction(
        labels=ops.argmax(logits, axis=-1),
        probabilities=ops.softmax(logits, axis=-1),
    )


def _padding(size: Any, least: int, output_stride: int) -> Any:
    """Pixels from `size` to the next k * output_stride + 1 that is no less than `least`."""
    wanted = ops.maximum(size, least)
    return wanted + (1 - wanted) % output_stride - size
