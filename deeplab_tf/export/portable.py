"""The exported function in operations that runtimes other than TensorFlow have, LiteRT and ONNX.

It computes what `inference.predict` computes. Where the size of the images is fixed, so is that of
everything else: padding that is none leaves no trace.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from deeplab_tf.data.records import scale_values
from deeplab_tf.export.native import (
    NativeConv2D,
    NativeResizeLike,
    activated,
    cloned,
    resize_aligned,
)
from deeplab_tf.export.serving import images_spec
from deeplab_tf.folding import fold_batch_norm
from deeplab_tf.inference import pad_images, predict_probabilities
from deeplab_tf.layers import (
    DepthwiseConv2D,
    ResizeLike,
    resize_bilinear,
    resize_nearest,
)
from deeplab_tf.model_card import ModelCard
from deeplab_tf.predictors import image_predictor

OUTPUTS = ("SemanticPredictions", "SemanticProbabilities")


def frozen_function(
    model: keras.Model,
    card: ModelCard,
    *,
    size: tuple[int, int] | None,
    batch: int | None,
    probabilities: bool,
) -> Any:
    """The whole function of images as a concrete one whose weights are constants.

    Args:
        model: The network of `card.model`, with its weights.
        card: What the network is, and how images meet it.
        size: Height and width of the images; None for any.
        batch: Number of images; None for any.
        probabilities: Whether it returns "SemanticProbabilities" too, float32
            [b, h, w, classes], beside "SemanticPredictions", int32 [b, h, w].

    Returns:
        A concrete function of "ImageTensor" to these, by their names.

    Raises:
        ValueError: The card has a CRF, whose lattice no other runtime has operations for.
    """
    if card.inference.crf is not None:
        raise ValueError(
            "the dense CRF can be exported in a SavedModel or a frozen graph only: leave out "
            "--crf_params, or give an --export_path without .tflite or .onnx."
        )
    spec = images_spec(card)
    spec = tf.TensorSpec([batch, *(size or (None, None)), spec.shape[-1]], spec.dtype, spec.name)
    network = cloned(fold_batch_norm(model), _native)
    # The very settings of evaluation.
    settings = image_predictor(network, card.model, card.inference).keywords
    info = card.dataset

    @tf.function(input_signature=[spec])
    def portable(images: tf.Tensor) -> tuple[tf.Tensor, ...]:
        if info.stores_input:
            images = tf.cast(images, tf.float32)
        else:
            images = scale_values(images, info.value_range)
        labels, scores = _predict(network, images, probabilities=probabilities, **settings)
        return (labels, scores) if probabilities else (labels,)

    frozen = convert_variables_to_constants_v2(portable.get_concrete_function())

    @tf.function(input_signature=[spec])
    def named(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            name: tf.identity(tensor, name)
            for name, tensor in zip(OUTPUTS, frozen(images), strict=False)
        }

    return named.get_concrete_function()


def _predict(
    model: keras.Model,
    images: tf.Tensor,
    *,
    probabilities: bool,
    output_stride: int,
    mean_pixel: Sequence[float],
    crop_size: tuple[int, int] | None,
    resized_size: Callable[[Any, Any], tuple[Any, Any]] | None,
    scales: Sequence[float],
    flip: bool,
    upsampled_logits: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Labels and scores of `inference.predict`; scores are probabilities if these are wanted.

    Differs from it in what runtimes are slow at or do not have: argmax is TensorFlow's, and
    padding is what is left of it when sizes are known.
    """
    original_size = _sides(images)
    height, width = original_size
    if resized_size is not None:
        height, width = _known(resized_size(height, width))
        images = resize_bilinear(images, height, width)
    padded = _pad(images, crop_size or (1, 1), output_stride=output_stride, color=mean_pixel)
    if tuple(scales) != (1.0,) or flip:
        scores = predict_probabilities(model, padded, scales=scales, flip=flip)
        labels = tf.argmax(scores, axis=-1, output_type=tf.int32)
    else:
        if not upsampled_logits:
            model = keras.Model(model.input, model.get_layer("logits").output)
        scores = model.call(padded, training=False)  # so, whatever its crop_size
        labels = tf.argmax(scores, axis=-1, output_type=tf.int32)
        if probabilities:
            scores = tf.nn.softmax(scores)
        if not upsampled_logits:
            labels = resize_nearest(labels, *_sides(padded))
            scores = resize_aligned(scores, *_sides(padded))
    if padded is not images:
        labels, scores = labels[:, :height, :width], scores[:, :height, :width]
    if resized_size is not None:
        labels = resize_nearest(labels, *original_size)
        scores = resize_bilinear(scores, *original_size)
    return labels, scores


def _pad(
    images: tf.Tensor, least_size: Sequence[int], *, output_stride: int, color: Sequence[float]
) -> tf.Tensor:
    """Images padded at the bottom and right as `inference.predict` pads them."""
    bottom, right = (
        _padding(side, least, output_stride)
        for side, least in zip(_sides(images), least_size, strict=True)
    )
    if isinstance(bottom, int) and isinstance(right, int) and bottom == right == 0:
        return images
    return pad_images(images, bottom, right, color=color)


def _padding(side: Any, least: int, output_stride: int) -> Any:
    """Pixels to the next k * output_stride + 1, without the rest of a negative number.

    Runtimes do not agree on that one.
    """
    wanted = max(side, least) if isinstance(side, int) else tf.maximum(side, least)
    return (wanted + output_stride - 2) // output_stride * output_stride + 1 - side


def _sides(images: tf.Tensor) -> tuple[Any, Any]:
    """Height and width, as integers where they are known."""
    height, width = keras.ops.shape(images)[1:3]
    return height, width


def _known(sides: tuple[Any, Any]) -> tuple[Any, Any]:
    """Height and width as integers, where they depend on nothing."""
    height, width = (tf.get_static_value(side) for side in sides)
    return sides if height is None or width is None else (int(height), int(width))


def _native(layer: keras.layers.Layer) -> type[keras.layers.Layer]:
    """The kind of layer that takes the place of one, in which all it does is one operation.

    Keras writes resizes and dilated convolutions as several, around a convolution that is not
    dilated for one. Converters know such patterns again only where sizes are fixed, if at all.
    """
    kind = type(layer)
    if kind in (keras.layers.Conv2D, DepthwiseConv2D) and max(layer.dilation_rate) == 1:
        return kind
    return _NATIVE.get(kind, kind)


class _Rescaling(keras.layers.Rescaling):
    def call(self, inputs: Any) -> Any:
        batch, height, width, channels = inputs.shape
        if width is None:
            return super().call(inputs)
        # Row by row, because runtimes are slow at repeating a number for each channel.
        scale, offset = (
            np.tile(np.broadcast_to(np.float32(number), channels), width)
            for number in (self.scale, self.offset)
        )
        rows = tf.reshape(inputs, [batch or -1, height, width * channels])
        return tf.reshape(rows * scale + offset, [batch or -1, height, width, channels])


class _DilatedDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """For conversion only: TensorFlow itself has no kernel for this operation."""

    def call(self, inputs: Any) -> Any:
        x = tf.raw_ops.DepthwiseConv2dNative(
            input=inputs,
            filter=self.kernel,
            strides=(1, *self.strides, 1),
            padding=self.padding.upper(),
            dilations=(1, *self.dilation_rate, 1),
        )
        return activated(self, x)


_NATIVE: dict[type[keras.layers.Layer], type[keras.layers.Layer]] = {
    keras.layers.Conv2D: NativeConv2D,
    DepthwiseConv2D: _DilatedDepthwiseConv2D,
    keras.layers.Rescaling: _Rescaling,
    ResizeLike: NativeResizeLike,
}
