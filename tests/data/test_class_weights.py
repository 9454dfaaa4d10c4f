"""Median frequencies: counted by hand, and in records."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.data.class_weights import (
    LabelCounts,
    count_labels,
    format_label_weights,
    median_frequency_weights,
)
from tests import tiny_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "tfrecord"
    tiny_run.write_dataset(folder)
    return folder


def test_three_images_by_hand():
    """Classes in images of 10, 10 and 5 valid pixels: 8 + 5, 2 + 5 and 5 + 0 pixels.

    Frequencies are 13 / 20, 7 / 15 and 5 / 10; the median is 0.5.
    """
    pixels, pixels_of_shown = np.array([13, 7, 5]), np.array([20, 15, 10])
    assert median_frequency_weights(pixels, pixels_of_shown) == (0.769, 1.07, 1.0)


def test_a_class_that_does_not_occur_weighs_one_and_does_not_move_the_median():
    """Of an even number of classes the median lies in the middle of two."""
    pixels, pixels_of_shown = np.array([0, 60, 20, 0]), np.array([0, 100, 100, 0])
    assert median_frequency_weights(pixels, pixels_of_shown) == (1.0, 0.667, 2.0, 1.0)


def test_without_any_class_there_are_no_weights():
    assert median_frequency_weights(np.zeros(3, int), np.zeros(3, int)) is None


@pytest.mark.parametrize("ignore_label", [255, 1])
def test_counts_equal_those_pixel_by_pixel(folder, ignore_label):
    """Void is left out, be it the id of a class."""
    info = dataclasses.replace(tiny_run.INFO, ignore_label=ignore_label)
    labels = [tiny_run.scene(0, i)[1] for i in range(info.splits["train"])]
    if ignore_label == 1:
        with pytest.raises(tf.errors.InvalidArgumentError, match="holds the value 255"):
            count_labels(folder, "train", info=info)
        info = dataclasses.replace(
            info, class_names=(*map(str, range(256)),), palette=((0,) * 3,) * 256
        )
    pixels, pixels_of_shown = [0] * info.num_classes, [0] * info.num_classes
    for label in labels:
        valid = [int(value) for value in label.ravel() if value != ignore_label]
        for value in set(valid):
            pixels[value] += valid.count(value)
            pixels_of_shown[value] += len(valid)
    counts = count_labels(folder, "train", info=info)
    assert counts.pixels.tolist() == pixels
    assert counts.pixels_of_shown.tolist() == pixels_of_shown
    assert sum(pixels) > 5000


def test_shows_how_far_it_is(folder, capsys):
    count_labels(folder, "val", info=tiny_run.INFO)
    assert "labels of val: 100%" in capsys.readouterr().err


def test_the_table_has_shares_and_weights():
    counts = LabelCounts(np.array([900, 100]), np.array([1000, 500]))
    lines = format_label_weights((0.611, 2.75), counts, ("road", "traffic light")).splitlines()
    assert [line.split() for line in lines] == [
        ["class", "%", "pixels", "weight"],
        ["road", "90.000", "0.611"],
        ["traffic", "light", "10.000", "2.75"],
    ]
    assert len(set(map(len, lines))) == 1
