"""Training-time geometry: resize to range, random scale, pad, crop and flip, as pure functions.

The reference scales the whole image, pads it, and then throws most of it away by cropping. Here
the crop is traced back to the source image first (`sample_axis`), so that only the pixels it needs
are decoded and interpolated. The result is that of the plain order: labels exactly, images up to
the rounding to uint8.

All resizing is align-corners, as in the reference: output position p of n reads source position
p * (source - 1) / (n - 1).
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class Crop(NamedTuple):
    """One random crop of a randomly scaled image.

    Attributes:
        scaled_size: int32 [2], height and width of the scaled image.
        offset: int32 [2], row and column of the crop's top left corner in the scaled image.
        flip: bool scalar, whether the crop is mirrored left to right.
    """

    scaled_size: tf.Tensor
    offset: tf.Tensor
    flip: tf.Tensor


class AxisSamples(NamedTuple):
    """Where the positions of a crop along one axis lie in the source.

    Attributes:
        start: int32, first source position that is read.
        length: int32, number of source positions that are read: the window.
        low: int32 [n], window position at or below each of the n positions that are no padding.
        high: int32 [n], window position above, or the last one.
        weight: float32 [n] in [0, 1), the share of `high` in linear interpolation.
        padding: int32 [2], number of padded positions before and after these n.
        is_whole: bool scalar, whether these n are the whole scaled source.
        flip: bool scalar, whether they go backwards.
    """

    start: tf.Tensor
    length: tf.Tensor
    low: tf.Tensor
    high: tf.Tensor
    weight: tf.Tensor
    padding: tf.Tensor
    is_whole: tf.Tensor
    flip: tf.Tensor


def resize_to_range_size(
    height: int | tf.Tensor,
    width: int | tf.Tensor,
    *,
    min_size: int,
    max_size: int | None = None,
    factor: int | None = None,
    keep_aspect_ratio: bool = True,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Size that brings the shorter side to `min_size` (reference: `resize_to_range`).

    Args:
        height: Height of the image.
        width: Width of the image.
        min_size: Wanted length of the shorter side. Only `max_size` counts where the longer side
            would exceed it.
        max_size: Largest length of the longer side; None for no limit.
        factor: Sides are rounded up to a multiple of it plus one, after `max_size` was rounded
            down to one; None for no rounding.
        keep_aspect_ratio: Whether to keep it; if not, both sides get the longer one's length.

    Returns:
        Height and width, int32 scalars.
    """
    size = tf.cast(tf.stack([height, width]), tf.float32)
    # float32 and floor decide the last pixel: float64 gives other sizes than the reference's.
    new_size = tf.floor(size * (min_size / tf.reduce_min(size)))
    if max_size is not None:
        if factor is not None:
            max_size -= (max_size - 1) % factor
        fitting_size = tf.floor(size * (max_size / tf.reduce_max(size)))
        new_size = tf.where(tf.reduce_max(new_size) > max_size, fitting_size, new_size)
    # Of an absurdly long image, more than int32 holds would become any number, even a small one.
    new_size = tf.cast(tf.minimum(new_size, 2.0**30), tf.int32)
    if factor is not None:
        new_size += (1 - new_size) % factor
    if not keep_aspect_ratio:
        new_size = tf.fill([2], tf.reduce_max(new_size))
    return new_size[0], new_size[1]


def resize_image(image: tf.Tensor, size: tf.Tensor | tuple[int, int]) -> tf.Tensor:
    """Resizes [h, w, c] bilinearly with aligned corners to float32 [size[0], size[1], c]."""
    return tf.raw_ops.ResizeBilinear(images=image[None], size=size, align_corners=True)[0]


def resize_label(label: tf.Tensor, size: tf.Tensor | tuple[int, int]) -> tf.Tensor:
    """Resizes [h, w] to the nearest pixel with aligned corners; values and dtype are kept."""
    return tf.raw_ops.ResizeNearestNeighbor(
        images=label[None, :, :, None], size=size, align_corners=True
    )[0, :, :, 0]


def scale_grid(min_scale: float, max_scale: float, step: float) -> tf.Tensor:
    """Scales to choose from, float32 [n] (reference: `get_random_scale`).

    Their number is (max - min) / step + 1, truncated, and they are spread evenly over [min, max],
    so their spacing is `step` only where that divides the range.
    """
    # tf.linspace and np.linspace differ in the last bit, which truncation can turn into a pixel.
    return tf.linspace(min_scale, max_scale, int((max_scale - min_scale) / step + 1))


def random_crop(
    seed: tf.Tensor,
    size: tf.Tensor,
    *,
    crop_size: tuple[int, int],
    min_scale_factor: float,
    max_scale_factor: float,
    scale_factor_step_size: float,
) -> Crop:
    """Draws scale, crop and flip; a pure function of `seed`.

    Args:
        seed: int64 [2].
        size: int32 [2], height and width of the image before scaling.
        crop_size: Height and width of the crop.
        min_scale_factor: Smallest scale.
        max_scale_factor: Largest scale.
        scale_factor_step_size: Step of the grid of scales (see `scale_grid`); 0 draws uniformly
            from [min, max).

    Returns:
        The crop. Where the scaled image is smaller than `crop_size` the offset is 0.
    """
    # Philox by name: the default algorithm depends on the device.
    draws = tf.random.stateless_uniform([4], seed, alg="philox")
    if min_scale_factor == max_scale_factor:
        scale = tf.constant(min_scale_factor)
    elif scale_factor_step_size == 0:
        scale = min_scale_factor + draws[0] * (max_scale_factor - min_scale_factor)
    else:
        grid = scale_grid(min_scale_factor, max_scale_factor, scale_factor_step_size)
        scale = grid[tf.cast(draws[0] * grid.shape[0], tf.int32)]
    new_size = scaled_size(size, scale)
    num_offsets = tf.maximum(new_size - crop_size, 0) + 1
    offset = tf.cast(draws[1:3] * tf.cast(num_offsets, tf.float32), tf.int32)
    return Crop(new_size, offset, flip=draws[3] < 0.5)


def scaled_size(size: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """`size` (int32) times `scale` (float32), truncated (reference: `randomly_scale_...`).

    Differs: it is at least 1; the reference fails where a side would vanish.
    """
    return tf.maximum(tf.cast(tf.cast(size, tf.float32) * scale, tf.int32), 1)


def sample_axis(
    source_size: tf.Tensor,
    scaled_size: tf.Tensor,
    offset: tf.Tensor,
    crop_size: int,
    *,
    flip: tf.Tensor | bool = False,
) -> AxisSamples:
    """Traces the positions of a crop along one axis back to the source.

    Args:
        source_size: int32, length of the source along this axis.
        scaled_size: int32, length of the scaled source.
        offset: int32, first scaled position of the crop, which may lie before the source.
        crop_size: Length of the crop. What reaches over the ends of the scaled source is padding.
        flip: Whether the crop is mirrored along this axis, its padding included.
    """
    # TensorFlow's resize computes in this precision and order too, so ties fall the same way.
    ratio = tf.cast(source_size - 1, tf.float32) / tf.cast(
        tf.maximum(scaled_size - 1, 1), tf.float32
    )
    first = tf.maximum(offset, 0)
    scaled_position = tf.range(first, tf.minimum(offset + crop_size, scaled_size))
    position = tf.cast(scaled_position, tf.float32) * ratio
    floor = tf.floor(position)
    low = tf.cast(floor, tf.int32)
    start = low[0]
    length = tf.minimum(low[-1] + 2, source_size) - start
    step = 1 - 2 * tf.cast(flip, tf.int32)
    low = (low - start)[::step]
    before = first - offset
    padding = tf.stack([before, crop_size - tf.size(low) - before])[::step]
    weight = (position - floor)[::step]
    is_whole = (tf.size(low) == scaled_size) & (length == source_size)
    high = tf.minimum(low + 1, length - 1)
    return AxisSamples(
        start, length, low, high, weight, padding, is_whole, tf.convert_to_tensor(flip)
    )


def crop_image(
    window: tf.Tensor,
    rows: AxisSamples,
    columns: AxisSamples,
    *,
    canvas: tf.Tensor,
    change_pixels: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> tf.Tensor:
    """Interpolates a crop bilinearly from the part of the source that it needs, and pads it.

    Args:
        window: uint8 or float32 0..255 [rows.length, columns.length, c] of the source.
        rows: Samples along the height.
        columns: Samples along the width.
        canvas: uint8 or float32 [crop_h, crop_w, c], the colour of the padding.
        change_pixels: What else is done to the crop, before it is padded.

    Returns:
        [crop_h, crop_w, c] of the canvas's type; uint8 is rounded to the nearest value.
    """
    image = tf.cond(
        rows.is_whole & columns.is_whole,
        lambda: _resize_whole(window, rows, columns),
        lambda: _interpolate_window(window, rows, columns),
    )
    if canvas.dtype == tf.uint8:
        image = tf.cast(image + 0.5, tf.uint8)
    image = tf.ensure_shape(image, [None, None, canvas.shape[-1]])
    if change_pixels is not None:
        image = change_pixels(image)
    return _pad(image, rows, columns, canvas=canvas)


def _resize_whole(window: tf.Tensor, rows: AxisSamples, columns: AxisSamples) -> tf.Tensor:
    """A whole scaled image, float32: TensorFlow's resize is twice as fast where nothing is cut."""
    image = resize_image(window, (tf.size(rows.low), tf.size(columns.low)))
    image = tf.cond(rows.flip, lambda: image[::-1], lambda: image)
    return tf.cond(columns.flip, lambda: image[:, ::-1], lambda: image)


def _interpolate_window(window: tf.Tensor, rows: AxisSamples, columns: AxisSamples) -> tf.Tensor:
    """The same for a part of one: float32 [rows.low, columns.low, c]."""
    # Gathering single pixels is ten times as slow as gathering whole rows and transposing twice,
    # and TensorFlow transposes matrices fastest, hence the reshapes. The width goes first, because
    # then an enlarged image is small for longer, and the resize kernel does it so.
    height, width = tf.shape(window)[0], tf.shape(window)[1]
    channels = window.shape[-1]
    by_column = tf.transpose(tf.reshape(window, [height, width * channels]))
    by_column = _interpolate(tf.reshape(by_column, [width, channels * height]), columns)
    by_row = tf.transpose(tf.reshape(by_column, [-1, height]))
    by_row = _interpolate(by_row, rows)
    return tf.reshape(by_row, [tf.size(rows.low), tf.size(columns.low), channels])


def crop_label(
    window: tf.Tensor, rows: AxisSamples, columns: AxisSamples, *, canvas: tf.Tensor
) -> tf.Tensor:
    """Takes a crop's labels from the nearest pixels of the source, and pads it.

    Args:
        window: uint8 [rows.length, columns.length] of the source.
        rows: Samples along the height.
        columns: Samples along the width.
        canvas: uint8 [crop_h, crop_w], the label of the padding.

    Returns:
        uint8 [crop_h, crop_w].
    """
    by_column = tf.gather(tf.transpose(window), _nearest(columns))
    label = tf.gather(tf.transpose(by_column), _nearest(rows))
    return _pad(label, rows, columns, canvas=canvas)


def _interpolate(lines: tf.Tensor, samples: AxisSamples) -> tf.Tensor:
    """Lines [n, l], float32, between the lines [samples.length, l]."""
    low = tf.cast(tf.gather(lines, samples.low), tf.float32)
    high = tf.cast(tf.gather(lines, samples.high), tf.float32)
    return low + (high - low) * samples.weight[:, None]


def _nearest(samples: AxisSamples) -> tf.Tensor:
    return tf.where(samples.weight < 0.5, samples.low, samples.high)


def _pad(
    crop: tf.Tensor, rows: AxisSamples, columns: AxisSamples, *, canvas: tf.Tensor
) -> tf.Tensor:
    # Slices of a canvas instead of tf.pad: that is slower and knows one value for all channels.
    above, below = canvas[: rows.padding[0]], canvas[: rows.padding[1]]
    height = tf.size(rows.low)
    left, right = canvas[:height, : columns.padding[0]], canvas[:height, : columns.padding[1]]
    padded = tf.concat([above, tf.concat([left, crop, right], axis=1), below], axis=0)
    return tf.ensure_shape(padded, canvas.shape)
