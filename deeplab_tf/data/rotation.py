"""Training-time rotation of a crop about its centre, as pure functions.

The crop is first taken with a margin, so that turning it brings in what lies around it in the
image, and padding only where there is nothing more.
"""

import math

import tensorflow as tf


def rotation_margin(crop_size: tuple[int, int], max_degrees: float) -> tuple[int, int]:
    """Rows above and below, and columns left and right, that a rotated crop may reach into.

    Args:
        crop_size: Height and width of the crop.
        max_degrees: Largest rotation either way.
    """
    height, width = (side - 1 for side in crop_size)

    def margin(along: int, across: int) -> int:
        # Half the extent of the rotated crop, which is largest with its diagonal along the axis.
        angle = min(math.radians(max_degrees), math.atan2(across, along))
        return math.ceil((along * math.cos(angle) + across * math.sin(angle) - along) / 2)

    return margin(height, width), margin(width, height)


def rotate_crop(
    image: tf.Tensor, label: tf.Tensor, degrees: tf.Tensor | float, *, crop_size: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Rotates a crop with its margin counter-clockwise and takes the margin off.

    Args:
        image: uint8 or float32 [crop_h + 2 * margin_h, crop_w + 2 * margin_w, c].
        label: uint8 of the same height and width.
        degrees: The rotation.
        crop_size: Height and width of what is returned.

    Returns:
        The image, interpolated bilinearly, of its dtype, [crop_h, crop_w, c]; and the label of the
        nearest pixels, uint8 [crop_h, crop_w].
    """
    angle = tf.cast(degrees, tf.float32) * (math.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    y, x = ((side - 1) / 2 for side in crop_size)
    source_y, source_x = ((side - 1) / 2 for side in label.shape)
    # Where the pixel (x, y) of the result lies in the source.
    to_source = tf.stack(
        [
            *(cos, -sin, source_x - cos * x + sin * y),
            *(sin, cos, source_y - sin * x - cos * y),
            *(0.0, 0.0),
        ]
    )

    def transformed(source: tf.Tensor, interpolation: str) -> tf.Tensor:
        # No position lies outside by more than its rounding, so that the fill value has no weight.
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=source[None],
            transforms=to_source[None],
            output_shape=crop_size,
            fill_value=0.0,
            interpolation=interpolation,
            fill_mode="CONSTANT",
        )[0]

    rotated = transformed(tf.cast(image, tf.float32), "BILINEAR")
    if image.dtype == tf.uint8:
        rotated = tf.cast(rotated + 0.5, tf.uint8)
    return (
        tf.ensure_shape(rotated, (*crop_size, image.shape[-1])),
        tf.ensure_shape(transformed(label[..., None], "NEAREST")[..., 0], crop_size),
    )
