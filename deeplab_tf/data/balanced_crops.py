"""Training-time choice of crops that meet all classes of an image alike, as a pure function."""

import tensorflow as tf

from deeplab_tf.data.augment import Crop


def balance_crop(
    seed: tf.Tensor,
    crop: Crop,
    label: tf.Tensor,
    *,
    crop_size: tuple[int, int],
    ignore_label: int,
    probability: float,
) -> Crop:
    """Moves a crop, with a probability, to where a class drawn from the image's is found.

    A pixel is drawn by the inverse frequency of its class in the image, so that each class that
    occurs is equally likely, however small it is (nnU-Net's foreground oversampling,
    10.1038/s41592-020-01008-z, Methods). The crop becomes any of those that contain it, all
    equally likely; nnU-Net puts it into the middle.

    Args:
        seed: int64 [2].
        crop: Its scale and flip stay.
        label: uint8 [h, w] of the whole image, before it is scaled.
        crop_size: Height and width of the crop.
        ignore_label: Value of `label` that is no class.
        probability: How likely the crop is moved. It stays where no pixel has a class.

    Returns:
        The crop, with another offset.
    """
    draws = tf.random.stateless_uniform([5], seed, alg="philox")

    def moved() -> tf.Tensor:
        counts = tf.math.bincount(tf.cast(tf.reshape(label, [-1]), tf.int32), minlength=256)
        is_class = (counts > 0) & (tf.range(256) != ignore_label)
        classes = tf.cast(tf.where(is_class)[:, 0], tf.uint8)
        return tf.cond(
            tf.size(classes) > 0,
            lambda: _offset_with(_drawn(classes, draws[1])),
            lambda: crop.offset,
        )

    def _offset_with(value: tf.Tensor) -> tf.Tensor:
        pixel = tf.cast(_drawn(tf.where(label == value), draws[2]), tf.float32)
        last_pixel, last_scaled = tf.shape(label) - 1, crop.scaled_size - 1
        ratio = tf.cast(last_scaled, tf.float32) / tf.cast(tf.maximum(last_pixel, 1), tf.float32)
        position = tf.cast(tf.round(pixel * ratio), tf.int32)
        lowest = tf.maximum(position - crop_size + 1, 0)
        highest = tf.minimum(position, tf.maximum(crop.scaled_size - crop_size, 0))
        choices = tf.cast(highest - lowest + 1, tf.float32)
        return lowest + tf.cast(draws[3:5] * choices, tf.int32)

    return crop._replace(offset=tf.cond(draws[0] < probability, moved, lambda: crop.offset))


def _drawn(values: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
    """The entry that a draw in [0, 1) stands for."""
    count = tf.shape(values)[0]
    index = tf.cast(draw * tf.cast(count, tf.float32), tf.int32)
    return values[tf.minimum(index, count - 1)]
