"""VGG-16 and the ResNets in TensorFlow's operations, layer by layer, as their papers draw them.

Weights are a network's own, by the reference's names. Paddings are the same on both sides, as in
Caffe, where DeepLabv1 and v2 were written; images have k * 32 + 1 pixels.
"""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from deeplab_tf.weights import reference_name

Weights = Mapping[str, np.ndarray]


def weights_of(model: keras.Model) -> Weights:
    return {reference_name(weight): weight.numpy() for weight in model.weights}


def conv(
    x: tf.Tensor, weights: Weights, scope: str, *, stride: int = 1, rate: int = 1
) -> tf.Tensor:
    """A convolution, with its bias if it has one."""
    kernel = weights[f"{scope}/weights"]
    x = tf.nn.conv2d(
        _pad(x, rate * (kernel.shape[0] - 1) // 2), kernel, stride, "VALID", dilations=rate
    )
    return x + weights.get(f"{scope}/biases", 0)


def conv_relu(
    x: tf.Tensor, weights: Weights, scope: str, *, stride: int = 1, rate: int = 1
) -> tf.Tensor:
    return tf.nn.relu(conv(x, weights, scope, stride=stride, rate=rate))


def max_pool(x: tf.Tensor, *, stride: int) -> tf.Tensor:
    return tf.nn.max_pool2d(_pad(x, 1, value=-np.inf), 3, stride, "VALID")


def resize(x: tf.Tensor, height: int, width: int) -> tf.Tensor:
    return tf.compat.v1.image.resize_bilinear(x, (height, width), align_corners=True)


def vgg_16(
    images: np.ndarray, weights: Weights, *, strides: Sequence[int], rates: Sequence[int]
) -> list[tf.Tensor]:
    """The image without its mean and the five poolings.

    Args:
        images: float32 [b, h, w, 3] in [0, 255].
        weights: Of the network.
        strides: Of the five poolings.
        rates: Of the five blocks' convolutions.
    """
    outputs = [x := images - np.float32([123.68, 116.779, 103.939])]
    for block, (convolutions, stride, rate) in enumerate(
        zip((2, 2, 3, 3, 3), strides, rates, strict=True), start=1
    ):
        for i in range(1, convolutions + 1):
            x = conv_relu(x, weights, f"vgg_16/conv{block}/conv{block}_{i}", rate=rate)
        outputs.append(x := max_pool(x, stride=stride))
    return outputs


def resnet(
    images: np.ndarray,
    weights: Weights,
    scope: str,
    *,
    strides: Sequence[int],
    rates: Sequence[Sequence[int]],
) -> tf.Tensor:
    """The last block's features, of bottlenecks behind a 7x7 convolution.

    Args:
        images: float32 [b, h, w, 3] in [0, 255].
        weights: Of the network.
        scope: That its names begin with.
        strides: One for each block, taken by its last unit.
        rates: For each block, that of each unit's 3x3 convolution.
    """

    def conv_bn(x: tf.Tensor, name: str, *, stride: int = 1, rate: int = 1) -> tf.Tensor:
        gamma, beta, mean, variance = (
            weights[f"{scope}/{name}/BatchNorm/{part}"]
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        x = conv(x, weights, f"{scope}/{name}", stride=stride, rate=rate)
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    x = images - np.float32([123.15, 115.90, 103.06])
    x = max_pool(tf.nn.relu(conv_bn(x, "conv1", stride=2)), stride=2)
    for b, (block_stride, unit_rates) in enumerate(zip(strides, rates, strict=True), start=1):
        for u, rate in enumerate(unit_rates, start=1):
            unit = f"block{b}/unit_{u}/bottleneck_v1"
            stride = block_stride if u == len(unit_rates) else 1
            shortcut = x[:, ::stride, ::stride]
            if f"{scope}/{unit}/shortcut/weights" in weights:
                shortcut = conv_bn(x, f"{unit}/shortcut", stride=stride)
            x = tf.nn.relu(conv_bn(x, f"{unit}/conv1"))
            x = tf.nn.relu(conv_bn(x, f"{unit}/conv2", stride=stride, rate=rate))
            x = tf.nn.relu(shortcut + conv_bn(x, f"{unit}/conv3"))
    return x


def _pad(x: tf.Tensor, pixels: int, *, value: float = 0.0) -> tf.Tensor:
    around = [pixels, pixels]
    return tf.pad(x, [[0, 0], around, around, [0, 0]], constant_values=value)
