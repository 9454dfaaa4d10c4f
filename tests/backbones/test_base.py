"""What all encoders do with images of any channels."""

import numpy as np
import pytest

from deeplab_tf.backbones import BACKBONES


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("variant", ["mobilenet_v2", "resnet_v1_50", "vgg_16"])
def test_the_padding_becomes_0_and_a_grey_level_keeps_its_scale(variant, channels):
    backbone = BACKBONES[variant]
    color = np.float32(backbone.padding_color(channels))
    assert color.shape == (channels,)
    pixels = np.stack([color, color + 51])[None, None]
    normalized = np.asarray(backbone.normalize(pixels))[0, 0]
    np.testing.assert_allclose(normalized[0], np.zeros(channels), atol=1e-4)
    step = 0.4 if variant == "mobilenet_v2" else 51
    np.testing.assert_allclose(normalized[1], np.full(channels, step), rtol=1e-5)


def test_the_mean_pixel_goes_as_kernels_are_inflated():
    mean = r, g, b = BACKBONES["vgg_16"].mean_pixel
    color = BACKBONES["vgg_16"].padding_color
    assert color(3) == mean
    assert color(1) == (pytest.approx(np.mean(mean)),)
    assert (color(2), color(4), color(7)) == ((r, g), (r, g, b, r), (r, g, b, r, g, b, r))
