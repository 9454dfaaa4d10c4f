"""Proves the rotation: against OpenCV, and that the margin is large enough and no larger."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.data.rotation import rotate_crop, rotation_margin


def with_margin(crop_size, margin, seed=0, channels=3):
    """A smooth image and a blocky label, both of a crop with its margin."""
    height, width = (side + 2 * m for side, m in zip(crop_size, margin, strict=True))
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 11, channels), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    label = rng.integers(0, 20, (8, 8), dtype=np.uint8)
    label = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST)
    return image.reshape(height, width, channels), label


def opencv(source, degrees, crop_size, interpolation):
    """Rotates the whole about its centre and cuts the crop out."""
    height, width = source.shape[:2]
    centre = (width - 1) / 2, (height - 1) / 2
    matrix = cv2.getRotationMatrix2D(centre, degrees, 1.0)
    rotated = cv2.warpAffine(source, matrix, (width, height), flags=interpolation)
    top, left = (height - crop_size[0]) // 2, (width - crop_size[1]) // 2
    return rotated[top : top + crop_size[0], left : left + crop_size[1]]


def ties(shape, degrees, crop_size):
    """Where the source position is nearly as far from one pixel as from the next."""
    angle = np.deg2rad(degrees)
    y, x = np.mgrid[: crop_size[0], : crop_size[1]]
    y, x = y - (crop_size[0] - 1) / 2, x - (crop_size[1] - 1) / 2
    positions = np.stack(
        [
            np.sin(angle) * x + np.cos(angle) * y + (shape[0] - 1) / 2,
            np.cos(angle) * x - np.sin(angle) * y + (shape[1] - 1) / 2,
        ]
    )
    return positions, (np.abs(positions % 1 - 0.5) < 1e-3).any(axis=0)


ANGLES = [-180.0, -90.0, -33.0, -10.0, 0.0, 0.3, 7.0, 45.0, 90.0, 179.0]


@pytest.mark.parametrize("degrees", ANGLES)
@pytest.mark.parametrize("crop_size", [(65, 65), (33, 80), (64, 49)])
def test_labels_are_the_nearest_pixels_of_the_source(degrees, crop_size):
    margin = rotation_margin(crop_size, abs(degrees))
    image, label = with_margin(crop_size, margin)
    _, rotated = rotate_crop(tf.constant(image), tf.constant(label), degrees, crop_size=crop_size)
    positions, tie = ties(label.shape, degrees, crop_size)
    row, column = np.rint(positions).astype(int)
    # The margin suffices: not one position lies outside.
    assert min(row.min(), column.min()) >= 0
    assert row.max() < label.shape[0] and column.max() < label.shape[1]
    np.testing.assert_array_equal(rotated.numpy()[~tie], label[row, column][~tie])


@pytest.mark.parametrize("degrees", ANGLES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_and_labels_turn_as_opencv_s(degrees, dtype):
    """Away from the outermost pixels, which OpenCV mixes with black."""
    crop_size = (63, 81)
    margin = tuple(m + 2 for m in rotation_margin(crop_size, abs(degrees)))
    image, label = with_margin(crop_size, margin)
    rotated, rotated_label = rotate_crop(
        tf.constant(image.astype(dtype)), tf.constant(label), degrees, crop_size=crop_size
    )
    assert rotated.dtype == dtype and rotated.shape == (*crop_size, 3)
    expected = opencv(image, degrees, crop_size, cv2.INTER_LINEAR)
    # OpenCV rounds positions to 1/32 of a pixel.
    slope = max(np.abs(np.diff(image.astype(int), axis=axis)).max() for axis in (0, 1))
    tolerance = 2 * slope / 32 + (0.5 if dtype == np.uint8 else 0.01)
    np.testing.assert_allclose(rotated, expected, atol=tolerance)
    expected = opencv(label, degrees, crop_size, cv2.INTER_NEAREST)
    assert (rotated_label.numpy() == expected).mean() > 0.985  # the rest: its positions' rounding


def test_bytes_are_rounded_to_the_nearest_value():
    margin = rotation_margin((33, 41), 30.0)
    image, label = with_margin((33, 41), margin)
    as_bytes, as_floats = (
        rotate_crop(tf.constant(image, dtype), tf.constant(label), 12.0, crop_size=(33, 41))[0]
        for dtype in (tf.uint8, tf.float32)
    )
    np.testing.assert_array_equal(as_bytes, np.floor(as_floats.numpy() + 0.5))


def test_no_rotation_changes_nothing():
    margin = rotation_margin((33, 41), 30.0)
    for channels in (1, 3, 5):
        image, label = with_margin((33, 41), margin, channels=channels)
        inner = np.s_[margin[0] : margin[0] + 33, margin[1] : margin[1] + 41]
        rotated = rotate_crop(tf.constant(image), tf.constant(label), 0.0, crop_size=(33, 41))
        np.testing.assert_array_equal(rotated[0], image[inner])
        np.testing.assert_array_equal(rotated[1], label[inner])


@pytest.mark.parametrize("crop_size", [(65, 65), (33, 80), (1, 7), (513, 257)])
@pytest.mark.parametrize("limit", [0.0, 1.0, 20.0, 60.0, 180.0])
def test_the_margin_is_the_least_that_holds_every_angle(crop_size, limit):
    """Brute force over angles up to the limit."""
    angle = np.deg2rad(np.linspace(0, limit, 2000))
    height, width = crop_size[0] - 1, crop_size[1] - 1
    extents = (
        np.abs(height * np.cos(angle)) + width * np.sin(angle),
        height * np.sin(angle) + np.abs(width * np.cos(angle)),
    )
    margin = rotation_margin(crop_size, limit)
    for actual, extent, side in zip(margin, extents, (height, width), strict=True):
        needed = (extent.max() - side) / 2
        assert needed - 1e-6 <= actual < needed + 1.01


def test_a_rotation_brings_padding_in_as_padding():
    """A crop that is half padding: the pads stay the mean pixel, exactly, and void."""
    margin = rotation_margin((41, 41), 25.0)
    image, label = with_margin((41, 41), margin)
    image[30:], label[30:] = (123, 116, 104), 255
    rotated, rotated_label = rotate_crop(
        tf.constant(image), tf.constant(label), 25.0, crop_size=(41, 41)
    )
    void = cv2.erode((rotated_label.numpy() == 255).astype(np.uint8), np.ones((3, 3)))
    assert void.sum() > 300
    assert (rotated.numpy()[void == 1] == (123, 116, 104)).all()
