"""Training-time changes of pixel values: colour jitter and Gaussian blur, as pure functions.

Images may have any number of channels, as uint8 or as float32 in 0..255, and keep their dtype.
Saturation and hue are of RGB images alone.
"""

from typing import NamedTuple

import tensorflow as tf

# ITU-R BT.601, as Pillow's and torchvision's grey.
_LUMA = (0.299, 0.587, 0.114)

# A Gaussian has 0.3 % of its weight beyond.
_RADIUS_IN_SIGMAS = 3.0


class ColorChange(NamedTuple):
    """One colour change; Python numbers or float32 scalars.

    Attributes:
        brightness: Factor of all values.
        contrast: Factor of the distance to the mean grey; 0 makes a grey image.
        saturation: Factor of the distance to each pixel's grey; 0 makes a black and white image.
        hue: Turn of the hue, in turns of the colour circle, -1 to 1.
    """

    brightness: tf.Tensor | float = 1.0
    contrast: tf.Tensor | float = 1.0
    saturation: tf.Tensor | float | None = None
    hue: tf.Tensor | float | None = None


def random_color(
    seed: tf.Tensor, brightness: float, contrast: float, saturation: float, hue: float
) -> ColorChange:
    """Draws a colour change as torchvision's ColorJitter; a pure function of `seed`.

    Args:
        seed: int64 [2].
        brightness: Its factor is uniform in [max(0, 1 - brightness), 1 + brightness].
        contrast: The same of the contrast.
        saturation: The same of the saturation.
        hue: The turn is uniform in [-hue, hue]; up to 0.5.

    Returns:
        The change, with None for a saturation or hue that cannot change.
    """
    draws = tf.random.stateless_uniform([4], seed, alg="philox")

    def factor(draw: tf.Tensor, jitter: float) -> tf.Tensor:
        low = max(0.0, 1.0 - jitter)
        return low + draw * (1.0 + jitter - low)

    return ColorChange(
        factor(draws[0], brightness),
        factor(draws[1], contrast),
        factor(draws[2], saturation) if saturation else None,
        (2.0 * draws[3] - 1.0) * hue if hue else None,
    )


def change_color(image: tf.Tensor, change: ColorChange) -> tf.Tensor:
    """Changes brightness, contrast, saturation and hue, in this order.

    Each alone is what torchvision's ColorJitter does, and the first three Pillow's ImageEnhance.
    Differs: torchvision draws the order, and cuts off at 0 and 255 after each; here a contrast
    below 1 brings back what a brightness above 1 made too bright.

    Args:
        image: float32 0..255 [h, w, c]. Of images with other than 3 channels, each channel has a
            mean grey of its own.
        change: What to do.

    Returns:
        float32 0..255 [h, w, c].

    Raises:
        ValueError: Saturation or hue of an image that has not exactly 3 channels.
    """
    is_rgb = image.shape[-1] == len(_LUMA)
    if not is_rgb and not (change.saturation is None and change.hue is None):
        raise ValueError(
            f"saturation and hue are of RGB images, found {image.shape[-1]} channels: set "
            "saturation_jitter and hue_jitter to 0"
        )
    # All but the hue are linear, so that one pass does them: gain * x + grey_gain * grey(x) + c.
    mean = tf.reduce_mean(image, axis=(0, 1))
    if is_rgb:
        mean = tf.reduce_sum(mean * _LUMA)
    gain = change.brightness * change.contrast
    constant = change.brightness * (1.0 - change.contrast) * mean
    if change.saturation is None:
        image = image * gain + constant
    else:
        grey = tf.linalg.matvec(tf.reshape(image, [-1, 3]), tf.constant(_LUMA))
        grey_term = grey * (gain * (1.0 - change.saturation)) + constant
        image = image * (gain * change.saturation) + tf.reshape(grey_term, tf.shape(image[..., :1]))
    image = tf.clip_by_value(image, 0.0, 255.0)
    if change.hue is not None:
        # Unlike tf.image.adjust_hue, this does not go by way of 0..1.
        image = tf.raw_ops.AdjustHue(images=image, delta=change.hue)
    return image


def gaussian_blur(image: tf.Tensor, sigma: tf.Tensor | float) -> tf.Tensor:
    """Blurs with a Gaussian, cut off at 3 sigma; the image is mirrored at its edges.

    Equal to cv2.GaussianBlur with a kernel of that size, whose edges are mirrored alike.

    Args:
        image: float32 [h, w, c], of any size.
        sigma: Standard deviation in pixels, above 0.

    Returns:
        float32 [h, w, c].
    """
    sigma = tf.cast(sigma, tf.float32)
    radius = tf.cast(tf.math.ceil(_RADIUS_IN_SIGMAS * sigma), tf.int32)
    offsets = tf.cast(tf.range(-radius, radius + 1), tf.float32)
    weights = tf.exp(-0.5 * tf.square(offsets / sigma))
    weights /= tf.reduce_sum(weights)
    channels = image.shape[-1]
    for _ in range(2):
        height, width = tf.shape(image)[0], tf.shape(image)[1]
        rows = tf.gather(image, _mirrored(tf.range(-radius, height + radius), height))
        rows = _convolve_rows(tf.reshape(rows, [height + 2 * radius, width * channels]), weights)
        image = tf.transpose(tf.reshape(rows, [height, width, channels]), [1, 0, 2])
    return image


def _mirrored(positions: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Positions of any distance reflected into [0, size), without repeating the outermost."""
    period = tf.maximum(2 * (size - 1), 1)
    positions = positions % period
    return tf.minimum(positions, period - positions)


def _convolve_rows(rows: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Weighted sums of neighbouring rows: [n, m] with k weights to [n - k + 1, m]."""
    # Along the rows, with a channel for each column, is how TensorFlow convolves fastest.
    kernel = tf.tile(weights[:, None, None, None], [1, 1, tf.shape(rows)[1], 1])
    return tf.nn.depthwise_conv2d(rows[None, :, None, :], kernel, [1, 1, 1, 1], "VALID")[0, :, 0, :]
