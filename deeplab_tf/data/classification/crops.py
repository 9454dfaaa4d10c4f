"""What a classifier sees of an image: a random crop in training, the centre in validation."""

import math
from typing import NamedTuple

import tensorflow as tf

_ATTEMPTS = 10
_JPEG_START = b"\xff\xd8\xff"


class Crop(NamedTuple):
    """A part of an image.

    Attributes:
        offset: int32 [2], its first row and column.
        size: int32 [2], its height and width.
        flip: bool scalar, whether it is mirrored left to right.
    """

    offset: tf.Tensor
    size: tf.Tensor
    flip: tf.Tensor


def random_area_crop(
    seed: tf.Tensor, size: tf.Tensor, *, min_area: float, max_aspect_ratio: float
) -> Crop:
    """A crop of random area, shape and place (arXiv 1409.4842, section 6), by the seed alone.

    The share of the area is uniform in [min_area, 1), the logarithm of width over height uniform
    between those of 1 / max_aspect_ratio and max_aspect_ratio. Ten are drawn, and the first that
    fits into the image is taken; if none does, the largest one in its centre.

    Differs: Inception draws the ratio itself uniformly, by which wide crops are more frequent than
    tall ones.

    Args:
        seed: int64 [2].
        size: int32 [2], height and width of the image.
        min_area: Smallest share of the area, in (0, 1].
        max_aspect_ratio: 1 or more.
    """
    # Philox by name: the default algorithm depends on the device.
    draws = tf.random.stateless_uniform([4 * _ATTEMPTS + 1], seed, alg="philox")
    areas, ratios, *places = tf.unstack(tf.reshape(draws[1:], [4, _ATTEMPTS]))
    sides = tf.cast(size, tf.float32)
    area = (min_area + areas * (1 - min_area)) * sides[0] * sides[1]
    ratio = tf.exp((2 * ratios - 1) * math.log(max_aspect_ratio))
    shapes = tf.maximum(tf.round(tf.sqrt(tf.stack([area / ratio, area * ratio], axis=1))), 1)
    fits = tf.reduce_all(shapes <= sides, axis=1)
    first = tf.argmax(fits)
    largest = tf.minimum(sides, tf.round(sides[::-1] * max_aspect_ratio))
    shape = tf.where(fits[first], shapes[first], largest)
    place = tf.where(fits[first], tf.stack(places, axis=1)[first], 0.5)
    offset = tf.cast(place * (sides - shape + 1), tf.int32)
    return Crop(offset, tf.cast(shape, tf.int32), flip=draws[0] < 0.5)


def central_crop(size: tf.Tensor, *, central_fraction: float) -> Crop:
    """The square in the centre, of a share of the shorter side of an image, int32 [2]."""
    side = tf.cast(tf.reduce_min(size), tf.float32) * central_fraction
    shape = tf.fill([2], tf.maximum(tf.cast(tf.round(side), tf.int32), 1))
    return Crop((size - shape) // 2, shape, flip=tf.constant(False))


def image_size(data: tf.Tensor) -> tf.Tensor:
    """Height and width of an encoded image, int32 [2]; of a JPEG without decoding it."""
    return tf.cond(
        _is_jpeg(data),
        lambda: tf.image.extract_jpeg_shape(data)[:2],
        lambda: tf.shape(_decode(data))[:2],
    )


def cropped(data: tf.Tensor, crop: Crop, *, image_size: int) -> tf.Tensor:
    """Decodes a crop of an image, and resizes it to a square.

    Bilinear with half-pixel centres, and of a larger crop an average of the pixels, as Pillow's
    `resize` does. Of a JPEG only the crop is decoded.

    Args:
        data: Scalar string, a JPEG, PNG, GIF (its first picture) or BMP.
        crop: What of it.
        image_size: Side of the result.

    Returns:
        uint8 [image_size, image_size, 3], RGB.
    """
    (top, left), (height, width) = tf.unstack(crop.offset), tf.unstack(crop.size)
    pixels = tf.cond(
        _is_jpeg(data),
        lambda: tf.image.decode_and_crop_jpeg(data, [top, left, height, width], channels=3),
        lambda: _decode(data)[top : top + height, left : left + width],
    )
    resized = tf.image.resize(pixels, [image_size, image_size], antialias=True)
    resized = tf.cond(crop.flip, lambda: resized[:, ::-1], lambda: resized)
    square = tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
    return tf.ensure_shape(square, [image_size, image_size, 3])


def _is_jpeg(data: tf.Tensor) -> tf.Tensor:
    return tf.strings.substr(data, 0, len(_JPEG_START)) == _JPEG_START


def _decode(data: tf.Tensor) -> tf.Tensor:
    image = tf.io.decode_image(data, channels=3, expand_animations=False)
    return tf.ensure_shape(image, [None, None, 3])
