"""Resize and atrous bookkeeping."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from deeplab_tf.layers import (
    BatchNormalization,
    ResizeLike,
    atrous_schedule,
    resize_bilinear,
    resize_nearest,
    scale_dimension,
    sum_of_shifts,
)
from tests.golden_cases import FOLDER


@pytest.mark.parametrize("size", [(33, 21), (9, 5), (1, 1), (2, 50), (17, 17), (5, 1)])
@pytest.mark.parametrize("source", [(9, 5), (1, 1), (1, 7), (17, 17)])
def test_resize_is_tensorflows_with_aligned_corners(source, size):
    x = np.random.default_rng(0).normal(size=(2, *source, 3)).astype(np.float32)
    expected = tf.compat.v1.image.resize_bilinear(x, size, align_corners=True)
    np.testing.assert_allclose(resize_bilinear(x, *size), expected, atol=1e-6)


def test_resize_keeps_corners_and_midpoints():
    x = np.array([[0.0, 1.0], [2.0, 3.0]], np.float32)[None, :, :, None]
    expected = [[0, 0.5, 1], [1, 1.5, 2], [2, 2.5, 3]]
    np.testing.assert_allclose(np.asarray(resize_bilinear(x, 3, 3))[0, :, :, 0], expected)


def test_resize_layer_takes_sizes_that_are_known_only_when_called():
    x, like = keras.Input((None, None, 4)), keras.Input((None, None, 1))
    model = keras.Model([x, like], ResizeLike()(x, like))
    assert model.output_shape == (None, None, None, 4)
    compiled = tf.function(model, reduce_retracing=True)
    rng = np.random.default_rng(0)
    for source, size in (((3, 5), (9, 7)), ((4, 4), (2, 3))):
        image = rng.normal(size=(1, *source, 4)).astype(np.float32)
        ours = compiled([image, np.zeros((1, *size, 1), np.float32)])
        expected = tf.compat.v1.image.resize_bilinear(image, size, align_corners=True)
        np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("output_stride", "expected"),
    [
        (8, [(2, 1), (1, 1), (2, 1), (2, 1), (1, 1), (1, 2), (1, 2), (1, 4)]),
        (16, [(2, 1), (1, 1), (2, 1), (2, 1), (2, 1), (1, 1), (1, 1), (1, 2)]),
        (32, [(2, 1), (1, 1), (2, 1), (2, 1), (2, 1), (1, 1), (2, 1), (1, 1)]),
    ],
)
def test_a_unit_that_loses_its_stride_keeps_the_rate_before_it(output_stride, expected):
    strides = [2, 1, 2, 2, 2, 1, 2, 1]
    assert list(atrous_schedule(strides, output_stride)) == expected


@pytest.mark.parametrize("size", [(1, 1), (3, 8), (7, 5), (20, 31)])
def test_nearest_resize_equals_tf1(size):
    labels = np.random.default_rng(0).integers(0, 9, (2, 7, 5)).astype(np.int32)
    expected = tf.raw_ops.ResizeNearestNeighbor(
        images=labels[..., None], size=size, align_corners=True
    )[..., 0]
    np.testing.assert_array_equal(resize_nearest(labels, *size), expected)


def test_scaled_dimensions_equal_the_reference():
    facts = json.loads((FOLDER / "facts_preprocess.json").read_text())["scale_dimension"]
    for fact in facts:
        dim, scale = fact["dim"], fact["scale"]
        assert scale_dimension(dim, scale) == fact["out"]
        assert int(scale_dimension(tf.constant(dim), scale)) == fact["out"]
    assert len(facts) > 20


def fused_batch_norm(x, layer, before):
    """TF1's kernel in training: output and the moving statistics after it."""
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=layer.gamma.value,
        offset=layer.beta.value,
        mean=before[0],
        variance=before[1],
        epsilon=layer.epsilon,
        exponential_avg_factor=1 - layer.momentum,
        is_training=True,
    )
    return y, mean, variance


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("kernel_size", "stride", "rate"), [(3, 1, 1), (3, 2, 1), (5, 2, 1), (3, 1, 6)]
)
@pytest.mark.parametrize("size", [(14, 19), (13, 18)])
def test_depthwise_convolution_is_a_sum_of_shifts(size, kernel_size, stride, rate, padding):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *size, 5)).astype(np.float32)
    kernel = rng.normal(size=(kernel_size, kernel_size, 5, 1)).astype(np.float32)
    expected = ops.depthwise_conv(x, kernel, stride, padding, dilation_rate=rate)
    found = sum_of_shifts(
        ops.convert_to_tensor(x),
        kernel,
        strides=(stride, stride),
        rates=(rate, rate),
        padding=padding,
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 1, 1, 5), (1, 1, 1, 5)])
def test_moving_statistics_equal_the_fused_kernel(shape):
    rng = np.random.default_rng(0)
    layer = BatchNormalization(momentum=0.9, epsilon=1e-3)
    layer.build(shape)
    for weight in layer.weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    x = rng.normal(1, 3, shape).astype(np.float32)
    before = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    expected, mean, variance = fused_batch_norm(x, layer, before)
    np.testing.assert_allclose(layer(x, training=True), expected, atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-5)


def test_frozen_statistics_leave_gamma_and_beta_to_learn():
    layer = BatchNormalization()
    layer.build((None, None, None, 3))
    layer.moving_variance.assign([4, 4, 4])
    layer.frozen_statistics = True
    x = np.random.default_rng(0).normal(1, 3, (2, 4, 4, 3)).astype(np.float32)
    with tf.GradientTape() as tape:
        y = layer(x, training=True)
        loss = tf.reduce_sum(y * y)
    np.testing.assert_allclose(y, x / np.sqrt(4 + layer.epsilon), rtol=1e-5)
    np.testing.assert_array_equal(layer.moving_variance, [4, 4, 4])
    gradients = tape.gradient(loss, [layer.gamma.value, layer.beta.value])
    assert all(np.abs(gradient).min() > 0 for gradient in gradients)
