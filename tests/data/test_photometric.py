"""Proves the colour changes and the blur: against Pillow, colorsys and OpenCV."""

import colorsys

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance

from deeplab_tf.data.photometric import ColorChange, change_color, gaussian_blur, random_color

ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


@pytest.fixture(scope="module")
def picture():
    """Noise of all colours, uint8, with black, white and grey pixels among it."""
    image = np.random.default_rng(0).integers(0, 256, (23, 31, 3), dtype=np.uint8)
    image[0, :3] = [[0, 0, 0], [255, 255, 255], [77, 77, 77]]
    return image


def changed(image, **change):
    return change_color(tf.constant(image, tf.float32), ColorChange(**change)).numpy()


# --- Colour ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENHANCERS)
@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7, 5.0])
def test_one_change_is_what_pillow_does(picture, name, factor):
    expected = np.asarray(ENHANCERS[name](Image.fromarray(picture)).enhance(factor), np.float32)
    # Pillow truncates, and rounds the grey it blends with to a whole number, which factors enlarge.
    tolerance = 1 + 0.5 * abs(1 - factor)
    np.testing.assert_allclose(changed(picture, **{name: factor}), expected, atol=tolerance)


@pytest.mark.parametrize("turn", [-0.5, -0.21, 0.0, 0.1, 0.5, 1.0])
def test_hue_turns_as_colorsys(picture, turn):
    expected = np.empty(picture.shape)
    for index in np.ndindex(picture.shape[:2]):
        hue, saturation, value = colorsys.rgb_to_hsv(*(picture[index] / 255))
        expected[index] = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
    np.testing.assert_allclose(changed(picture, hue=turn), 255 * expected, atol=0.05)


def test_changes_come_in_their_order_and_are_cut_off_once():
    """By hand, one after the other; nothing is lost where brightness goes beyond white."""
    image = np.array([[[200, 180, 160], [40, 90, 20]]], np.float32)
    luma = np.array([0.299, 0.587, 0.114])
    expected = 1.5 * image
    expected = 0.4 * expected + 0.6 * (expected @ luma).mean()
    expected = 1.3 * expected - 0.3 * (expected @ luma)[..., None]
    assert (1.5 * image).max() > 255 > expected.max() and expected.min() > 0
    change = {"brightness": 1.5, "contrast": 0.4, "saturation": 1.3}
    np.testing.assert_allclose(changed(image, **change), expected, rtol=1e-5)
    turned = changed(image, **change, hue=1 / 3)  # which moves each channel to the next
    np.testing.assert_allclose(turned, expected[..., [2, 0, 1]], rtol=1e-4)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channels_each_have_a_mean_of_their_own(channels):
    image = np.random.default_rng(1).uniform(60, 200, (7, 5, channels)).astype(np.float32)
    expected = 0.9 * (image.mean(axis=(0, 1)) + 1.2 * (image - image.mean(axis=(0, 1))))
    np.testing.assert_allclose(changed(image, brightness=0.9, contrast=1.2), expected, rtol=1e-5)
    for change in ({"saturation": 0.5}, {"hue": 0.1}):
        with pytest.raises(ValueError, match=f"RGB images, found {channels} channels"):
            changed(image, **change)


def test_results_stay_in_range_at_the_extremes(picture):
    for change in (
        {"brightness": 50.0},
        {"contrast": 50.0},
        {"saturation": 50.0},
        {"brightness": 0.0, "contrast": 9.0, "saturation": 9.0, "hue": 0.5},
    ):
        result = changed(picture, **change)
        assert result.min() >= 0 and result.max() <= 255 and np.isfinite(result).all()


def test_draws_cover_torchvision_s_ranges_and_depend_on_the_seed_alone():
    def draws(*jitter):
        changes = [random_color(tf.constant([3, i], tf.int64), *jitter) for i in range(300)]
        return np.array(changes, np.float32).T

    drawn = draws(0.4, 1.5, 0.2, 0.1)
    ranges = [(0.6, 1.4), (0.0, 2.5), (0.8, 1.2), (-0.1, 0.1)]
    for values, (low, high) in zip(drawn, ranges, strict=True):
        # Uniform: the mean within four standard errors, the ends nearly reached.
        assert abs(values.mean() - (low + high) / 2) < 4 * (high - low) / np.sqrt(12 * 300)
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high >= values.max() > high - 0.05 * (high - low)
    assert np.abs(np.corrcoef(drawn) - np.eye(4)).max() < 0.25
    np.testing.assert_array_equal(draws(0.4, 1.5, 0.2, 0.1), drawn)
    still = random_color(tf.constant([3, 0], tf.int64), 0.4, 0.0, 0.0, 0.0)
    assert (float(still.contrast), still.saturation, still.hue) == (1.0, None, None)


# --- Blur -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 1.9, 4.0])
@pytest.mark.parametrize("shape", [(23, 31, 3), (5, 40, 1), (16, 9, 4)])
def test_blur_is_opencv_s_up_to_the_edges(shape, sigma):
    image = np.random.default_rng(2).uniform(0, 255, shape).astype(np.float32)
    side = 2 * int(np.ceil(3 * sigma)) + 1
    expected = cv2.GaussianBlur(image, (side, side), sigma, borderType=cv2.BORDER_REFLECT_101)
    blurred = gaussian_blur(tf.constant(image), sigma).numpy()
    np.testing.assert_allclose(blurred, expected.reshape(shape), atol=0.01)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 3), (2, 2, 3), (3, 1, 3)])
def test_blur_of_images_smaller_than_its_kernel(shape):
    image = np.random.default_rng(3).uniform(0, 255, shape).astype(np.float32)
    expected = cv2.GaussianBlur(image, (19, 19), 3.0, borderType=cv2.BORDER_REFLECT_101)
    np.testing.assert_allclose(gaussian_blur(tf.constant(image), 3.0), expected, atol=0.01)
