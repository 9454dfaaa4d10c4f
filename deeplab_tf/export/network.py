"""A network as TensorFlow runs it fastest: without batch norms, and with constants for weights."""

from collections.abc import Callable
from typing import Any, Literal

import keras
import tensorflow as tf
from keras import layers, ops
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from deeplab_tf.config import ModelConfig
from deeplab_tf.deeplab import build_deeplab
from deeplab_tf.export.native import NativeConv2D, NativeResizeLike, activated, cloned, copy_weights
from deeplab_tf.folding import fold_batch_norm
from deeplab_tf.layers import DepthwiseConv2D, Logits, ResizeLike
from deeplab_tf.precision import dtype_policy

DType = Literal["float32", "bfloat16"]


def fused_network(
    model: keras.Model, config: ModelConfig, *, dtype: DType = "float32"
) -> keras.Model:
    """The same function of other operations, which TensorFlow's graph optimiser fuses.

    Batch norms are folded. Convolution, bias and activation then become one operation, which they
    do not as Keras writes them: it adds a bias like any tensor. Resizes are TensorFlow's own.

    Args:
        model: The network, with its weights.
        config: What `model` was built of.
        dtype: What weights are kept, and features computed, in. Logits are float32 in any case.
    """
    network = cloned(fold_batch_norm(model), _fusible)
    if dtype == "float32":
        return network
    with dtype_policy(dtype):
        # Which layers are float32 whatever the policy is known only when they are made.
        other = cloned(fold_batch_norm(build_deeplab(config)), _fusible)
    copy_weights(network, other)
    return other


def frozen_network(network: keras.Model) -> keras.Model:
    """A model of one function with the weights in it, for `inference`'s functions to call.

    Constants load where variables do not (a Keras model's are not found by TF1 sessions and the C
    API), and are as fast. However often a graph calls the function, it is in the graph once.
    """
    native = keras.Model(network.input, network.get_layer("logits").output)
    channels = network.input.shape[-1]

    # Not native(images): so, a network built for one crop_size takes all sizes.
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, channels], tf.float32)])
    def logits_of(images: tf.Tensor) -> tf.Tensor:
        return native.call(images, training=False)

    function = convert_variables_to_constants_v2(logits_of.get_concrete_function())
    images = keras.Input((None, None, channels), name=network.input.name)
    logits = _Frozen(lambda x: function(x)[0], classes=native.output.shape[-1], name="network")(
        images
    )
    logits = Logits(network.get_layer("logits").stride, name="logits")(logits)
    upsampled = NativeResizeLike(dtype="float32", name="upsampled_logits")(logits, images)
    return keras.Model(images, upsampled, name=network.name)


class _DepthwiseConv2D(layers.DepthwiseConv2D):
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if max(self.dilation_rate) > 1 and self.padding == "same":
            return self._atrous(inputs)
        outputs = ops.depthwise_conv(
            inputs, self.kernel, strides=self.strides, padding=self.padding
        )
        return activated(self, outputs)

    def _atrous(self, inputs: tf.Tensor) -> tf.Tensor:
        """A dense convolution of every rate-th row and column, for each first row and column.

        The kernel pads those with zeros. TensorFlow's own way pads before it takes them apart,
        by the rate on every side, and is 2 to 5 times slower in ASPP, whose rates are as large as
        the features.
        """
        rates, sides = self.dilation_rate, tf.shape(inputs)[1:3]
        paddings = tf.stack([tf.zeros_like(sides), tf.math.floormod(-sides, rates)], axis=1)
        blocks = tf.space_to_batch(inputs, rates, paddings)
        outputs = activated(self, ops.depthwise_conv(blocks, self.kernel, padding=self.padding))
        return tf.batch_to_space(outputs, rates, paddings)


class _SeparableConv2D(layers.SeparableConv2D):
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        outputs = ops.separable_conv(
            inputs,
            self.depthwise_kernel,
            self.pointwise_kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
        )
        return activated(self, outputs)


class _RectifiedSum(layers.Activation):
    """ReLU or ReLU6 of a sum that is used elsewhere too.

    TensorFlow's graph optimiser (2.21) takes convolution, sum and ReLU for one operation even then,
    misses the sum it has removed, and leaves all of the graph as it was. A maximum it lets alone.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        rectified = tf.maximum(inputs, 0)
        return tf.minimum(rectified, 6) if self.activation is keras.activations.relu6 else rectified


class _Frozen(layers.Layer):
    """Images to logits by a function that holds its weights."""

    def __init__(self, function: Callable[[Any], Any], *, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.function = function
        self.classes = classes

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return self.function(images)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], None, None, self.classes)


_RECTIFIERS = (keras.activations.relu, keras.activations.relu6)
_FUSIBLE: dict[type[layers.Layer], type[layers.Layer]] = {
    layers.Conv2D: NativeConv2D,
    DepthwiseConv2D: _DepthwiseConv2D,
    layers.SeparableConv2D: _SeparableConv2D,
    ResizeLike: NativeResizeLike,
}


def _fusible(layer: layers.Layer) -> type[layers.Layer]:
    """The kind of layer that takes the place of one."""
    kind = type(layer)
    if kind is layers.Activation and layer.activation in _RECTIFIERS:
        source = layer.input._keras_history.operation
        if isinstance(source, layers.Add) and len(source._outbound_nodes) > 1:
            return _RectifiedSum
    return _FUSIBLE.get(kind, kind)
