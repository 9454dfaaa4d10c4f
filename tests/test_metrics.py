"""Scores against the reference's recorded ones; the confusion matrix against counting by hand."""

import csv
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from deeplab_tf.evaluation.metrics import (
    SegmentationScores,
    confusion_csv,
    confusion_matrix,
    format_class_ious,
    format_scores,
    scores_from_confusion,
    scores_to_json,
)

GOLDEN = Path(__file__).parent / "golden"
CASES = json.loads((GOLDEN / "facts_metrics.json").read_text())["cases"]


@pytest.mark.golden
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_scores_equal_the_reference(case):
    with np.load(GOLDEN / "facts_metrics.npz") as arrays:
        labels = arrays[f"{case['case']}_labels"]
        predictions = arrays[f"{case['case']}_predictions"]
    matrix = sum(
        confusion_matrix(
            label, prediction, num_classes=case["num_classes"], ignore_label=case["ignore_label"]
        )
        for label, prediction in zip(labels, predictions, strict=True)
    )
    scores = scores_from_confusion(matrix)
    assert scores.mean_iou == pytest.approx(case["miou"], abs=1e-6)
    np.testing.assert_allclose(scores.iou, np.array(case["per_class"], float), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
@pytest.mark.parametrize(
    ("num_classes", "ignore_label"), [(1, 255), (2, 0), (21, 255), (151, 0), (200, 7), (255, 255)]
)
def test_matrix_equals_counting_by_hand(dtype, num_classes, ignore_label):
    rng = np.random.default_rng(num_classes)
    labels = rng.integers(0, num_classes, (23, 17)).astype(dtype)
    predictions = rng.integers(0, num_classes, (23, 17)).astype(dtype)
    labels[rng.random(labels.shape) < 0.2] = ignore_label
    expected = np.zeros((num_classes, num_classes), np.int64)
    for label, prediction in zip(labels.flat, predictions.flat, strict=True):
        if label != ignore_label:
            expected[label, prediction] += 1
    matrix = confusion_matrix(
        labels, predictions, num_classes=num_classes, ignore_label=ignore_label
    )
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(matrix, expected)


def test_counts_beyond_float32_are_exact():
    """An image of more pixels than float32 counts one by one, nearly all of one pair."""
    labels = np.zeros((1 << 12, (1 << 12) + 1025), np.uint8)
    predictions = labels.copy()
    predictions[-1, -3:] = 1
    matrix = confusion_matrix(labels, predictions, num_classes=2, ignore_label=255)
    np.testing.assert_array_equal(matrix, [[labels.size - 3, 3], [0, 0]])
    assert labels.size - 3 != int(np.float32(labels.size - 3))


def test_an_image_without_pixels_and_a_number():
    empty = np.zeros((0, 5), np.uint8)
    assert not confusion_matrix(empty, empty, num_classes=2, ignore_label=255).any()
    one = np.array(1, np.int64)
    matrix = confusion_matrix(one, one, num_classes=2, ignore_label=255)
    np.testing.assert_array_equal(matrix, [[0, 0], [0, 1]])


def test_predictions_under_ignored_pixels_do_not_matter():
    labels = np.array([[0, 1, 255, 255]], np.uint8)
    matrices = [
        confusion_matrix(
            labels, np.array([[0, 1, value, 255]], np.int32), num_classes=2, ignore_label=255
        )
        for value in range(256)
    ]
    np.testing.assert_array_equal(matrices, [np.eye(2)] * 256)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_wrong_values_are_named(dtype):
    right = np.array([0, 1, 2, 255], dtype)
    wrong = np.array([0, 1, 77, 2], dtype)
    with pytest.raises(ValueError, match="Label 77 found: expected 0 to 2 or the ignore label 255"):
        confusion_matrix(wrong, right, num_classes=3, ignore_label=255)
    with pytest.raises(ValueError, match="Prediction 77 found: expected 0 to 2"):
        confusion_matrix(right[[0, 1, 2, 2]], wrong, num_classes=3, ignore_label=255)


@pytest.mark.parametrize("value", [-1, 256, 300])
def test_values_beyond_a_byte_are_not_taken_for_the_ignore_label(value):
    ids = np.array([0, 1, value])
    with pytest.raises(ValueError, match=f"Label {value} found"):
        confusion_matrix(ids, np.zeros_like(ids), num_classes=2, ignore_label=255)
    with pytest.raises(ValueError, match=f"Prediction {value} found"):
        confusion_matrix(np.zeros_like(ids), ids, num_classes=2, ignore_label=255)


def test_wrong_arguments_are_errors():
    ids = np.zeros((2, 3), np.uint8)
    with pytest.raises(ValueError, match="differ in shape"):
        confusion_matrix(ids, ids.T, num_classes=2, ignore_label=255)
    with pytest.raises(ValueError, match="Predictions of type float32 found: expected integers"):
        confusion_matrix(ids, ids.astype(np.float32), num_classes=2, ignore_label=255)
    with pytest.raises(ValueError, match="Expected num_classes in 1"):
        confusion_matrix(ids, ids, num_classes=256, ignore_label=255)


def test_a_class_only_predicted_counts_as_zero_in_the_mean():
    # Labels: 3 x class 0, 1 x class 1. Class 2 is predicted once, class 3 never occurs.
    scores = scores_from_confusion(
        np.array([[2, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    )
    assert scores.mean_iou == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert scores.iou[:2] == pytest.approx((2 / 3, 1))
    assert math.isnan(scores.iou[2]) and math.isnan(scores.iou[3])
    assert scores.pixel_accuracy == 0.75
    assert scores.pixels == (3, 1, 0, 0)


@pytest.mark.parametrize("seed", range(4))
def test_f1_and_accuracy_equal_their_definitions_pixel_by_pixel(seed):
    """Precision and recall as scikit-learn defines them, in float64, from the pixels themselves."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 2, 4], 300, p=(0.6, 0.3, 0.05, 0.05))  # 3 and 5 are in no label
    predictions = np.where(rng.random(300) < 0.6, labels, rng.integers(0, 4, 300))
    scores = scores_from_confusion(
        confusion_matrix(labels, predictions, num_classes=6, ignore_label=255)
    )
    f1, recall, weighted = {}, {}, 0.0
    for c in range(6):
        is_label, is_predicted = labels == c, predictions == c
        both = (is_label & is_predicted).sum(dtype=float)
        if is_label.any():
            recall[c] = both / is_label.sum()
            weighted += is_label.mean() * both / (is_label | is_predicted).sum()
        if both:
            precision = both / is_predicted.sum()
            f1[c] = 2 * precision * recall[c] / (precision + recall[c])
        elif is_label.any() or is_predicted.any():
            f1[c] = 0.0
    assert scores.mean_f1 == pytest.approx(np.mean(list(f1.values())), rel=1e-12)
    assert scores.mean_accuracy == pytest.approx(np.mean(list(recall.values())), rel=1e-12)
    assert scores.frequency_weighted_iou == pytest.approx(weighted, rel=1e-12)
    np.testing.assert_allclose(scores.accuracy, [recall.get(c, np.nan) for c in range(6)])
    expected = [f1[c] if (labels == c).any() else np.nan for c in range(6)]
    np.testing.assert_allclose(scores.f1, expected)
    assert f1[3] == 0  # predicted, in no label: in the mean it counts as 0
    assert 5 not in f1


def test_the_matrix_as_csv():
    matrix = np.array([[5, 1], [0, 7]])
    text = confusion_csv(matrix, ['road, "wet"', "sky"])
    head, *rows = csv.reader(text.splitlines())
    assert head == ["label \\ predicted", 'road, "wet"', "sky"]
    assert [row[0] for row in rows] == head[1:]
    np.testing.assert_array_equal([list(map(int, row[1:])) for row in rows], matrix)


def test_no_pixels_have_no_score():
    scores = scores_from_confusion(np.zeros((3, 3), np.int64))
    assert math.isnan(scores.mean_iou) and math.isnan(scores.pixel_accuracy)
    assert math.isnan(scores.mean_f1) and math.isnan(scores.mean_accuracy)
    assert math.isnan(scores.frequency_weighted_iou)
    assert scores_to_json(scores, "abc")["mean_iou"] is None


SCORES = SegmentationScores(
    mean_iou=0.25,
    iou=(0.5, math.nan),
    pixel_accuracy=0.75,
    pixels=(300, 0),
    mean_accuracy=0.625,
    accuracy=(0.625, math.nan),
    frequency_weighted_iou=0.5,
    mean_f1=0.125,
    f1=(0.25, math.nan),
)


def test_table_shows_each_class():
    expected = [
        "class              IoU   pixels",
        "-------------------------------",
        "road            0.5000  100.00%",
        "bird                 -    0.00%",
        "-------------------------------",
        "mean IoU        0.2500",
        "pixel accuracy  0.7500",
        "mean accuracy   0.6250",
        "mean F1 (Dice)  0.1250",
        "weighted IoU    0.5000",
        "-: in no label. If it was predicted somewhere, the mean counts it as 0.",
    ]
    assert format_scores(SCORES, ["road", "bird"]).splitlines() == expected
    with pytest.raises(ValueError, match="3 class names found for 2 classes"):
        format_scores(SCORES, ["road", "bird", "car"])


def test_json_has_null_for_nan():
    text = json.dumps(scores_to_json(SCORES, ["road", "bird"]), allow_nan=False)
    assert json.loads(text) == {
        "mean_iou": 0.25,
        "pixel_accuracy": 0.75,
        "mean_accuracy": 0.625,
        "mean_f1": 0.125,
        "frequency_weighted_iou": 0.5,
        "classes": [
            {"name": "road", "iou": 0.5, "f1": 0.25, "accuracy": 0.625, "pixels": 300},
            {"name": "bird", "iou": None, "f1": None, "accuracy": None, "pixels": 0},
        ],
    }


def test_class_ious_come_in_columns():
    scores = dataclasses.replace(SCORES, iou=(0.5, math.nan, 0.25, 1.0, 0.0))
    names = ("sky", "traffic light", "road", "car", "tree")
    assert format_class_ious(scores, names, width=55).splitlines() == [
        "  sky           0.5000   car           1.0000",
        "  traffic light      -   tree          0.0000",
        "  road          0.2500",
    ]
    assert format_class_ious(scores, names, width=200).count("\n") == 0


def test_of_many_classes_the_lowest_ious_are_shown():
    iou = (0.9, math.nan, 0.1, 0.5, 0.2, 0.8)
    scores = dataclasses.replace(SCORES, iou=iou)
    assert format_class_ious(scores, "abcdef", limit=3).splitlines() == [
        "  the 3 lowest of 6 classes:",
        "  c 0.1000   d 0.5000   e 0.2000",
    ]
