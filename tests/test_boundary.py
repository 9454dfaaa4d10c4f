"""Bands around borders against the distance to every pixel, and their scores against counting."""

import dataclasses
import json
import math

import numpy as np
import pytest

from deeplab_tf.evaluation.boundary import (
    TrimapScores,
    format_trimap_scores,
    trimap_scores_to_json,
    trimaps,
)
from deeplab_tf.evaluation.metrics import scores_from_confusion
from deeplab_tf.evaluation.run import evaluate

WIDTHS = (1, 2, 3, 5, 13)


def brute_force(labels, width, ignore_label, around):
    """Looks from each pixel at all others."""
    height, width_of_image = labels.shape
    rows, columns = np.indices(labels.shape)
    band = np.zeros(labels.shape, bool)
    for y in range(height):
        for x in range(width_of_image):
            if labels[y, x] == ignore_label:
                continue
            near = (rows - y) ** 2 + (columns - x) ** 2 <= width**2
            seen = labels[near]
            if around == "void":
                band[y, x] = (seen == ignore_label).any()
            else:
                band[y, x] = ((seen != ignore_label) & (seen != labels[y, x])).any()
    return band


def label_maps(ignore_label):
    """Blocks of classes of every size, with lines, points and regions of void."""
    rng = np.random.default_rng(ignore_label)
    for block, void in ((1, 0.3), (4, 0.05), (7, 0.2), (9, 0.0), (30, 0.01)):
        coarse = rng.integers(0, 4, (6, 7), dtype=np.uint8)
        labels = coarse.repeat(block, 0).repeat(block, 1)[:31, :37]
        labels[rng.random(labels.shape) < void] = ignore_label
        labels[:, 5:7] = ignore_label
        yield labels
    yield np.zeros((9, 12), np.uint8)  # one class, or nothing but void
    yield np.full((1, 1), 3, np.uint8)


@pytest.mark.parametrize("around", ["void", "classes"])
@pytest.mark.parametrize("ignore_label", [255, 0])
def test_bands_equal_looking_at_every_pixel(ignore_label, around):
    sizes = set()
    for labels in label_maps(ignore_label):
        bands = trimaps(labels, widths=WIDTHS, ignore_label=ignore_label, around=around)
        assert bands.dtype == bool
        for width, band in zip(WIDTHS, bands, strict=True):
            expected = brute_force(labels, width, ignore_label, around)
            np.testing.assert_array_equal(band, expected)
            sizes.add(band.mean())
    assert len(sizes) > 15


def test_a_distance_on_the_rim_of_the_disc_counts():
    """Up to widths at which float32 tells whole squares apart, whatever the roots round to."""
    labels = np.zeros((601, 801), np.uint8)
    labels[0, 0] = 255
    band = trimaps(labels, widths=(1000, 500), ignore_label=255)
    assert band[0, 600, 800] and band[1, 300, 400] and band[1, 480, 140]
    assert not band[1, 301, 400] and not band[1, 0, 501]


# --- Scores ---------------------------------------------------------------------------------------


def examples(void):
    """Images whose first channel is a label map with mistakes: a prediction."""
    rng = np.random.default_rng(3)
    for _ in range(4):
        label = rng.integers(0, 3, (4, 5), dtype=np.uint8).repeat(6, 0).repeat(5, 1)
        prediction = np.where(rng.random(label.shape) < 0.3, 3 - label // 2, label)
        label[rng.random(label.shape) < void] = 255
        yield {"image": prediction.astype(np.uint8)[..., None].repeat(3, axis=2), "label": label}


def evaluated(void, around, widths=(4, 1)):
    in_bands = TrimapScores(widths, around=around, num_classes=4, ignore_label=255)
    for example in examples(void):
        in_bands.add(example["label"], example["image"][..., 0].astype(np.int32))
    whole = evaluate(lambda image: image[..., 0], examples(void), num_classes=4, ignore_label=255)
    return whole, in_bands.scores()


@pytest.mark.parametrize("around", ["void", "classes"])
def test_scores_in_bands_equal_counting_by_hand(around):
    whole, bands = evaluated(0.02, around)
    assert list(bands) == [4, 1]
    for width, scores in bands.items():
        matrix = np.zeros((4, 4), np.int64)
        for example in examples(0.02):
            label = example["label"]
            band = brute_force(label, width, 255, around)
            np.add.at(matrix, (label[band], example["image"][band][:, 0]), 1)
        assert repr(scores) == repr(scores_from_confusion(matrix))
        assert 0 < sum(scores.pixels) < sum(whole.pixels)


def test_the_table_and_the_json_say_the_same():
    whole, bands = evaluated(0.02, "void")
    lines = format_trimap_scores(bands, whole, around="void").splitlines()
    assert "bands around void" in lines[0]
    written = trimap_scores_to_json(bands, whole, list("abcd"), around="void")
    assert written["around"] == "void"
    for line, band in zip(lines[2:], written["bands"], strict=True):
        expected = [str(band["width"]), f"{band['mean_iou']:.4f}", f"{band['pixel_accuracy']:.4f}"]
        assert line.split() == [*expected, f"{band['share']:.2%}"]
        in_band = sum(of_class["pixels"] for of_class in band["classes"])
        assert band["share"] == in_band / sum(whole.pixels)


def test_without_void_there_are_no_bands_around_it():
    whole, bands = evaluated(0, "void")
    assert all(math.isnan(scores.mean_iou) for scores in bands.values())
    table = format_trimap_scores(bands, whole, around="void")
    assert table.endswith("no pixel lies in a band, as the split has no pixel without a class.")
    written = trimap_scores_to_json(bands, whole, list("abcd"), around="void")
    assert json.loads(json.dumps(written))["bands"][0]["mean_iou"] is None
    empty = {1: dataclasses.replace(bands[1])}
    assert "no image with two classes" in format_trimap_scores(empty, whole, around="classes")
