"""Crops against a numpy loop and Pillow."""

import io
import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.data.classification import crops
from tests.golden.rules import make_image
from tests.pretrain.shapes import encoded

SETTINGS = {"min_area": 0.08, "max_aspect_ratio": 4 / 3}


def draw(number, size, **settings):
    seed = tf.constant([7, number], tf.int64)
    return crops.random_area_crop(seed, tf.constant(size), **{**SETTINGS, **settings})


def numpy_crop(number, size, *, min_area, max_aspect_ratio):
    """The same draws, one attempt after the other."""
    draws = tf.random.stateless_uniform([41], tf.constant([7, number], tf.int64), alg="philox")
    draws = draws.numpy()
    height, width = size
    for attempt in range(10):
        area, ratio, down, across = draws[1 + attempt :: 10][:4]
        area = (min_area + area * (1 - min_area)) * height * width
        ratio = math.exp((2 * ratio - 1) * math.log(max_aspect_ratio))
        h, w = (max(1, round(math.sqrt(x))) for x in (area / ratio, area * ratio))
        if h <= height and w <= width:
            return (int(down * (height - h + 1)), int(across * (width - w + 1))), (h, w)
    h = min(height, round(width * max_aspect_ratio))
    w = min(width, round(height * max_aspect_ratio))
    return ((height - h + 1) // 2, (width - w + 1) // 2), (h, w)


@pytest.mark.parametrize("size", [(40, 60), (375, 500), (20, 300), (300, 20), (1, 1)])
def test_random_crops_are_those_of_a_numpy_loop(size):
    differing = 0
    for number in range(60):
        crop = draw(number, size)
        offset, shape = numpy_crop(number, size, **SETTINGS)
        found = (tuple(crop.offset.numpy()), tuple(crop.size.numpy()))
        differing += found != (offset, shape)
        assert all(0 <= o <= n - s for o, s, n in zip(*found, size, strict=True))
    assert differing <= 1  # float32 may round a side to the other pixel


def test_areas_are_spread_evenly_and_shapes_keep_their_bounds():
    found = [draw(number, (600, 800)) for number in range(400)]
    sizes = np.array([crop.size for crop in found])
    ratios = sizes[:, 1] / sizes[:, 0]
    assert ratios.min() > 0.99 * 3 / 4
    assert ratios.max() < 1.01 * 4 / 3
    assert abs(np.log(ratios).mean()) < 0.03  # as many wide ones as tall ones
    shares = sizes.prod(axis=1) / (600 * 800)
    assert 0.079 < shares.min() < 0.12
    # Large crops of the wrong shape do not fit, so that the mean is below that of [0.08, 1].
    assert 0.42 < shares.mean() < 0.55
    assert 0.4 < np.mean([bool(crop.flip) for crop in found]) < 0.6


def test_a_crop_is_a_function_of_its_seed():
    first, again, other = (draw(number, (50, 70)) for number in (3, 3, 4))
    np.testing.assert_array_equal(first.offset, again.offset)
    np.testing.assert_array_equal(first.size, again.size)
    assert not (
        np.array_equal(first.size, other.size) and np.array_equal(first.offset, other.offset)
    )


@pytest.mark.parametrize(
    ("size", "fraction", "offset", "side"),
    [((40, 60), 0.875, (2, 12), 35), ((61, 40), 1.0, (10, 0), 40), ((3, 3), 0.1, (1, 1), 1)],
)
def test_the_centre(size, fraction, offset, side):
    crop = crops.central_crop(tf.constant(size), central_fraction=fraction)
    assert tuple(crop.offset.numpy()) == offset
    assert tuple(crop.size.numpy()) == (side, side)
    assert not crop.flip


@pytest.mark.parametrize("side", [17, 48, 90])
@pytest.mark.parametrize("flip", [False, True])
def test_crops_are_resized_as_pillow_does(side, flip):
    """Smaller, about the same, and larger."""
    pixels = make_image(0, 70, 90)
    crop = crops.Crop(tf.constant([5, 11]), tf.constant([50, 44]), tf.constant(flip))
    found = crops.cropped(tf.constant(encoded(pixels)), crop, image_size=side).numpy()
    part = Image.fromarray(pixels).crop((11, 5, 55, 55))
    expected = np.asarray(part.resize((side, side), Image.Resampling.BILINEAR))
    expected = expected[:, ::-1] if flip else expected
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_of_a_jpeg_only_the_crop_is_decoded():
    pixels = make_image(1, 70, 90)
    data = encoded(pixels, "JPEG")
    np.testing.assert_array_equal(crops.image_size(tf.constant(data)), [70, 90])
    crop = crops.Crop(tf.constant([16, 32]), tf.constant([40, 40]), tf.constant(False))
    found = crops.cropped(tf.constant(data), crop, image_size=40).numpy().astype(int)
    whole = np.asarray(Image.open(io.BytesIO(data)))[16:56, 32:72]
    # Decoders differ by a little, and in the chroma at the crop's border.
    assert np.abs(found - whole)[2:-2, 2:-2].max() <= 4


@pytest.mark.parametrize("kind", ["GIF", "BMP"])
def test_other_kinds_and_grey_images_become_rgb(kind):
    grey = np.full((9, 13), 100, np.uint8)
    data = tf.constant(encoded(grey, kind))
    np.testing.assert_array_equal(crops.image_size(data), [9, 13])
    crop = crops.central_crop(tf.constant([9, 13]), central_fraction=1.0)
    found = crops.cropped(data, crop, image_size=5).numpy()
    assert found.shape == (5, 5, 3)
    assert (found == 100).all()
