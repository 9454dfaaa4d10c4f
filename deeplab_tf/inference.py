"""From an image of any size to classes and probabilities, around any model."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from deeplab_tf.layers import resize_bilinear, resize_nearest, scale_dimension


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
    resized_size: Callable[[Any, Any], tuple[Any, Any]] | None = None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    upsampled_logits: bool = True,
) -> Prediction:
    """Predicts every pixel of images of any size (reference: `export_model.py`).

    Images are resized if `resized_size` says so, padded at the bottom and right with the mean
    pixel, and predictions are cropped and resized back. The padded size is k * output_stride + 1:
    only there do the corners of the feature grid lie on the corners of the image, as in training.

    Differs: the reference pads to a crop size that has to be given and fails on larger images; it
    flips only where there are several scales; and what it returns as probabilities of several
    scales is a softmax of probabilities.

    Args:
        model: Maps float32 [b, h, w, c] in [0, 255] to logits [b, h, w, classes]; its layer
            "logits" has them at their own stride.
        images: [b, h, w, c] in [0, 255], any number type.
        output_stride: The encoder's.
        mean_pixel: Colour 0..255 of the padding, a value for each channel.
        crop_size: Least height and width to pad to.
        resized_size: Height and width of an image to those the network is to see it at.
        scales: See `predict_probabilities`.
        flip: See `predict_probabilities`.
        upsampled_logits: Whether labels are chosen at full size. False, for one scale without flip,
            chooses them at the logits' stride and repeats them; probabilities are then upsampled.
    """
    original_size = tuple(ops.shape(images)[1:3])
    padded, (height, width) = _padded(
        images,
        output_stride=output_stride,
        mean_pixel=mean_pixel,
        crop_size=crop_size,
        resized_size=resized_size,
    )

    if tuple(scales) == (1.0,) and not flip:
        labels, probabilities = _predict_once(model, padded, upsampled_logits=upsampled_logits)
    else:
        probabilities = predict_probabilities(model, padded, scales=scales, flip=flip)
        labels = ops.argmax(probabilities, axis=-1)
    labels, probabilities = labels[:, :height, :width], probabilities[:, :height, :width]
    if resized_size is not None:
        labels = resize_nearest(labels, *original_size)
        probabilities = resize_bilinear(probabilities, *original_size)
    return Prediction(labels, probabilities)


def predict_logits(
    model: keras.Model,
    images: Any,
    *,
    output_stride: int,
    mean_pixel: Sequence[float],
    crop_size: tuple[int, int] | None = None,
    resized_size: Callable[[Any, Any], tuple[Any, Any]] | None = None,
) -> Any:
    """The logits of every pixel of images of any size, seen at one scale; arguments of `predict`.

    Returns:
        float32 [b, h, w, classes], the upsampled logits; resized back like probabilities.
    """
    padded, (height, width) = _padded(
        images,
        output_stride=output_stride,
        mean_pixel=mean_pixel,
        crop_size=crop_size,
        resized_size=resized_size,
    )
    logits = model(padded, training=False)[:, :height, :width]
    return logits if resized_size is None else resize_bilinear(logits, *ops.shape(images)[1:3])


def padded_size(
    height: Any,
    width: Any,
    *,
    output_stride: int,
    crop_size: tuple[int, int] | None = None,
    resized_size: Callable[[Any, Any], tuple[Any, Any]] | None = None,
) -> tuple[Any, Any]:
    """Height and width that `predict`, with these arguments, shows the network of an image."""
    if resized_size is not None:
        height, width = resized_size(height, width)
    least_height, least_width = crop_size or (1, 1)
    return (
        height + _padding(height, least_height, output_stride),
        width + _padding(width, least_width, output_stride),
    )


def pad_images(images: Any, bottom: Any, right: Any, *, color: Sequence[float]) -> Any:
    """Float images, [b, h, w, c], with so many rows and columns more of a colour, [c]."""
    padding = [[0, 0], [0, bottom], [0, right], [0, 0]]
    if len(set(color)) == 1:
        return ops.pad(images, padding, constant_values=color[0])
    offset = ops.convert_to_tensor(color, "float32")
    return ops.pad(images - offset, padding) + offset


def predict_probabilities(
    model: keras.Model, images: Any, *, scales: Sequence[float] = (1.0,), flip: bool = False
) -> Any:
    """Class probabilities averaged over scales and mirror images (v3, section 4.1).

    As the reference's `predict_labels_multi_scale`: the logits of a reduced image are first
    brought to the grid of the image itself, then to its size.

    Differs: the reference returns the softmax of the averaged probabilities.

    Args:
        model: Maps float32 [b, h, w, c] in [0, 255] to logits; its layer "logits" has them at
            their own stride.
        images: [b, h, w, c] in [0, 255], any number type; sides are best
            k * output_stride + 1.
        scales: Factors on the images' size.
        flip: Whether to add the left-right mirror image at each scale.

    Returns:
        float32 [b, h, w, classes], summing to 1 over the classes.
    """
    images = ops.cast(images, "float32")
    height, width = ops.shape(images)[1:3]
    native = _native(model)
    stride = model.get_layer("logits").stride

    def probabilities(scale: float, step: int) -> Any:
        x = images
        if scale != 1:
            x = resize_bilinear(x, *(scale_dimension(size, scale) for size in (height, width)))
        # Not native(x): so, a network built for one crop_size takes its other scales too.
        logits = native.call(x[:, :, ::step], training=False)[:, :, ::step]
        if scale < 1:
            grid = [scale_dimension(size, 1 / stride) for size in (height, width)]
            logits = resize_bilinear(logits, *grid)
        return ops.softmax(resize_bilinear(logits, height, width), axis=-1)

    steps = (1, -1) if flip else (1,)  # through the columns
    views = [(scale, step) for scale in scales for step in steps]
    return sum(probabilities(scale, step) for scale, step in views) / len(views)


def _padded(
    images: Any,
    *,
    output_stride: int,
    mean_pixel: Sequence[float],
    crop_size: tuple[int, int] | None,
    resized_size: Callable[[Any, Any], tuple[Any, Any]] | None,
) -> tuple[Any, tuple[Any, Any]]:
    """Images as `predict` shows them to the network, and their size before the padding."""
    images = ops.cast(images, "float32")
    height, width = ops.shape(images)[1:3]
    if resized_size is not None:
        height, width = resized_size(height, width)
        images = resize_bilinear(images, height, width)
    least_height, least_width = crop_size or (1, 1)
    bottom = _padding(height, least_height, output_stride)
    right = _padding(width, least_width, output_stride)
    return pad_images(images, bottom, right, color=mean_pixel), (height, width)


def _predict_once(model: keras.Model, images: Any, *, upsampled_logits: bool) -> Prediction:
    if upsampled_logits:
        logits = model(images, training=False)
        return Prediction(ops.argmax(logits, axis=-1), ops.softmax(logits, axis=-1))
    size = ops.shape(images)[1:3]
    logits = _native(model)(images, training=False)
    return Prediction(
        labels=resize_nearest(ops.argmax(logits, axis=-1), *size),
        probabilities=resize_bilinear(ops.softmax(logits, axis=-1), *size),
    )


def _native(model: keras.Model) -> keras.Model:
    return keras.Model(model.input, model.get_layer("logits").output)


def _padding(size: Any, least: int, output_stride: int) -> Any:
    """Pixels from `size` to the next k * output_stride + 1 that is no less than `least`."""
    wanted = ops.maximum(size, least)
    return wanted + (1 - wanted) % output_stride - size
