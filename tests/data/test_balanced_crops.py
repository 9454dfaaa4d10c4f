"""Proves the class-balanced crops: against counted frequencies, and that they are legal crops."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.data.augment import Crop
from deeplab_tf.data.balanced_crops import balance_crop

IGNORE = 255


def crop_at(offset, scaled_size):
    return Crop(tf.constant(scaled_size), tf.constant(offset), flip=tf.constant(True))


@tf.function(reduce_retracing=True)
def offsets(label, crop, index, crop_size, probability):
    return balance_crop(
        tf.stack([tf.constant(4, tf.int64), index]),
        crop,
        label,
        crop_size=crop_size,
        ignore_label=IGNORE,
        probability=probability,
    ).offset


def drawn(label, count, *, crop_size, scaled_size=None, start=(0, 0), probability=1.0):
    """Offsets of `count` examples, [count, 2]."""
    crop = crop_at(start, scaled_size or label.shape)
    label = tf.constant(label)
    rows = [
        offsets(label, crop, tf.constant(i, tf.int64), crop_size, probability) for i in range(count)
    ]
    return np.array(rows)


def test_each_class_is_met_equally_often_however_rare():
    """A crop of one pixel is the drawn pixel itself."""
    label = np.zeros((30, 40), np.uint8)
    label[5:8, 30:35] = 7
    label[20, 3] = 9
    label[10:20] = IGNORE
    met = drawn(label, 1500, crop_size=(1, 1))
    classes, counts = np.unique(label[met[:, 0], met[:, 1]], return_counts=True)
    assert classes.tolist() == [0, 7, 9]
    # Four standard deviations of a binomial of 1500 with 1/3.
    assert np.abs(counts - 500).max() < 4 * np.sqrt(1500 * 2 / 9)
    # Within a class each pixel is as likely as another: all 15 of the second, about 33 times each.
    of_seven = met[label[met[:, 0], met[:, 1]] == 7]
    _, counts = np.unique(of_seven, axis=0, return_counts=True)
    assert len(counts) == 15 and counts.max() < 66 and counts.min() > 10


def test_every_legal_crop_that_holds_the_pixel_is_equally_likely():
    label = np.full((20, 30), IGNORE, np.uint8)
    label[2, 20] = 1
    met = drawn(label, 1200, crop_size=(7, 9))
    places, counts = np.unique(met, axis=0, return_counts=True)
    # Rows 0 to 2: above 0 there is no image. Columns 12 to 20: all are inside 0 to 21.
    assert {tuple(place) for place in places} == {(r, c) for r in range(3) for c in range(12, 21)}
    expected = 1200 / 27
    # Chi-square with 26 degrees of freedom: 54 is exceeded once in a thousand.
    assert ((counts - expected) ** 2 / expected).sum() < 54


def test_where_the_pixel_lies_in_the_crop_does_not_depend_on_the_pixel():
    label = np.full((100, 1), IGNORE, np.uint8)
    label[40:60] = 1
    met = drawn(label, 400, crop_size=(20, 1))[:, 0]
    assert 21 <= met.min() < 30 and 50 < met.max() <= 59
    # The sum of two independent uniform numbers of 20; one and the same would give 11.5.
    assert abs(met.std() - 20 * np.sqrt(2 / 12)) < 1.2


@pytest.mark.parametrize("scaled_size", [(15, 20), (60, 80), (31, 43)])
def test_the_crop_of_a_scaled_image_holds_the_scaled_pixel(scaled_size):
    label = np.full((30, 40), IGNORE, np.uint8)
    label[29, 25] = 3
    met = drawn(label, 60, crop_size=(13, 17), scaled_size=scaled_size)
    row, column = (
        position * (scaled - 1) / (size - 1)
        for position, scaled, size in zip((29, 25), scaled_size, (30, 40), strict=True)
    )
    assert (met >= 0).all() and (met <= np.array(scaled_size) - (13, 17)).all()
    assert (met[:, 0] <= row + 0.5).all() and (met[:, 0] + 12 >= row - 0.5).all()
    assert (met[:, 1] <= column + 0.5).all() and (met[:, 1] + 16 >= column - 0.5).all()
    assert len(np.unique(met[:, 1])) > 3


def test_a_crop_larger_than_the_image_stays_at_its_corner():
    label = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert (drawn(label, 20, crop_size=(9, 9)) == 0).all()
    # One side smaller, the other larger.
    met = drawn(label, 40, crop_size=(9, 2))
    assert (met[:, 0] == 0).all() and set(met[:, 1].tolist()) == {0, 1, 2}


def test_the_probability_is_the_share_of_crops_that_move():
    label = np.zeros((30, 40), np.uint8)
    label[29, 39] = 1
    start = (3, 4)  # which holds no pixel of class 1, and is hardly drawn again
    for probability, low, high in ((0.0, 0, 0), (1.0, 395, 400), (0.25, 65, 135)):
        met = drawn(label, 400, crop_size=(5, 5), start=start, probability=probability)
        assert low <= (met != start).any(axis=1).sum() <= high


def test_without_any_class_the_crop_stays():
    label = np.full((9, 9), IGNORE, np.uint8)
    assert (drawn(label, 5, crop_size=(3, 3), start=(2, 5)) == (2, 5)).all()


def test_scale_and_flip_stay_and_the_seed_decides():
    label = np.random.default_rng(0).integers(0, 5, (30, 40), dtype=np.uint8)
    crop = balance_crop(
        tf.constant([1, 2], tf.int64),
        crop_at((0, 0), (60, 80)),
        tf.constant(label),
        crop_size=(9, 9),
        ignore_label=IGNORE,
        probability=1.0,
    )
    assert crop.flip and crop.scaled_size.numpy().tolist() == [60, 80]
    first = drawn(label, 20, crop_size=(9, 9))
    np.testing.assert_array_equal(drawn(label, 20, crop_size=(9, 9)), first)
    assert len(np.unique(first, axis=0)) > 15
