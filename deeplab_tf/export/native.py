"""What exported networks share: how they are copied, and layers in TensorFlow's own operations."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops

from deeplab_tf.layers import ResizeLike, scale_dimension


def cloned(
    model: keras.Model, kind_of: Callable[[layers.Layer], type[layers.Layer]]
) -> keras.Model:
    """The model, weights and names included, with layers of the kinds that `kind_of` tells."""

    def clone(layer: layers.Layer) -> layers.Layer:
        return kind_of(layer).from_config(layer.get_config())

    clone_of_model = keras.models.clone_model(model, clone_function=clone)
    copy_weights(model, clone_of_model)
    return clone_of_model


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Gives each layer of a model the weights of the other's layer of the same name."""
    for layer in filter(lambda layer: layer.weights, target.layers):
        layer.set_weights(source.get_layer(layer.name).get_weights())


def activated(layer: layers.Layer, outputs: tf.Tensor) -> tf.Tensor:
    """What a convolutional layer makes of its sums: bias, which is one operation, and activation.

    Keras adds a bias like any tensor, and then nothing sees that the three belong together.
    """
    if layer.use_bias:
        outputs = tf.nn.bias_add(outputs, layer.bias)
    return layer.activation(outputs)


class NativeConv2D(layers.Conv2D):
    """Dilated by the operation itself; Keras's way rearranges space to batch and back."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        outputs = tf.nn.conv2d(
            inputs,
            tf.convert_to_tensor(self.kernel),
            strides=self.strides,
            padding=self.padding.upper(),
            dilations=self.dilation_rate,
        )
        return activated(self, outputs)


class NativeResizeLike(ResizeLike):
    """By TensorFlow's own operation."""

    def call(self, x: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
        height, width = (scale_dimension(side, self.scale) for side in ops.shape(like)[1:3])
        return tf.cast(resize_aligned(x, height, width), x.dtype)


def resize_aligned(x: tf.Tensor, height: Any, width: Any) -> tf.Tensor:
    """`layers.resize_bilinear` in one operation, which returns float32 only."""
    return tf.raw_ops.ResizeBilinear(images=x, size=(height, width), align_corners=True)
