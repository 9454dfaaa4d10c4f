"""VGG-16 against TensorFlow's operations, and against itself at other output strides."""

import keras
import numpy as np
import pytest

from deeplab_tf.backbones import get_backbone
from tests import golden_cases
from tests.golden.rules import make_image
from tests.plain_networks import vgg_16, weights_of

# At each output stride: strides of the five poolings, rates of the five blocks (v1, section 3.1).
SCHEDULES = {
    8: ((2, 2, 2, 1, 1), (1, 1, 1, 1, 2)),
    16: ((2, 2, 2, 2, 1), (1, 1, 1, 1, 1)),
    32: ((2, 2, 2, 2, 2), (1, 1, 1, 1, 1)),
}
IMAGE = make_image(0, 65, 97)[None].astype(np.float32)


@pytest.fixture(scope="module")
def encoders():
    """Of each output stride, with the same weights: a model of poolings 1 to 5 and conv5_3."""
    models = {}
    for output_stride in SCHEDULES:
        backbone = get_backbone("vgg_16")
        images = keras.Input((None, None, 3))
        features = backbone.build(backbone.normalize(images), output_stride=output_stride)
        model = keras.Model(images, features.final)
        outputs = [*(features.low_level[stride] for stride in (1, 2, 4, 8, 16)), features.final]
        outputs.append(model.get_layer("vgg_16.conv5.conv5_3").output)
        golden_cases.set_case_weights(model)
        models[output_stride] = keras.Model(images, outputs)
    return models


@pytest.fixture(scope="module")
def features(encoders):
    return {
        stride: [np.asarray(x) for x in model(IMAGE, training=False)]
        for stride, model in encoders.items()
    }


@pytest.mark.parametrize("output_stride", SCHEDULES)
def test_equals_its_operations(encoders, features, output_stride):
    """The image and all five poolings."""
    strides, rates = SCHEDULES[output_stride]
    weights = weights_of(encoders[output_stride])
    expected = vgg_16(IMAGE, weights, strides=strides, rates=rates)
    for ours, theirs in zip(features[output_stride], expected, strict=False):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.std(theirs))


def test_atrous_consistency(features):
    """The same features where the grids meet, borders included.

    pool5 is left out at 8: it is 3x3 whatever the rate before it, as in the authors' networks.
    """
    for at_8, at_16, at_32 in zip(*(features[stride][:4] for stride in (8, 16, 32)), strict=True):
        np.testing.assert_array_equal(at_8, at_16)
        np.testing.assert_array_equal(at_8, at_32)
    pool4, pool5, conv5_3 = ([features[s][i] for s in (8, 16, 32)] for i in (4, 5, 6))
    for at_8, at_16, at_32 in (pool4, conv5_3):
        tolerance = 1e-4 * at_16.std()
        np.testing.assert_allclose(at_8[:, ::2, ::2], at_16, rtol=0, atol=tolerance)
        np.testing.assert_allclose(at_16, at_32, rtol=0, atol=tolerance)
    _, at_16, at_32 = pool5
    np.testing.assert_allclose(at_16[:, ::2, ::2], at_32, rtol=0, atol=1e-4 * at_32.std())


def test_the_mean_becomes_zero():
    """ImageNet's, in RGB, as the networks of arXiv 1409.1556 have it."""
    pixels = np.float32([[[[123.68, 116.779, 103.939], [0, 127, 255]]]])
    normalized = np.asarray(get_backbone("vgg_16").normalize(pixels))
    expected = [[0, 0, 0], [-123.68, 10.221, 151.061]]
    np.testing.assert_allclose(normalized[0, 0], expected, atol=1e-4)
