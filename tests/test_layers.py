"""Resize and atrous bookkeeping."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.layers import ResizeLike, atrous_schedule, resize_bilinear


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
