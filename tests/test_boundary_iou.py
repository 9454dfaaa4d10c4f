"""Boundary IoU against looking at every pixel's neighbours, and against the paper's erosion."""

import math

import cv2
import numpy as np
import pytest

from deeplab_tf.evaluation.boundary_iou import BoundaryIoU, band_width, boundary_band

CLASSES = 4


def paper_band(mask, width):
    """The paper's way: erode a class's mask by 3x3 again and again, in a frame of zeros."""
    framed = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]
    return mask & (eroded == 0)


def brute_force_band(mask, width):
    """Pixels of the mask with something else, or the outside, in the square around them."""
    height, width_of_image = mask.shape
    band = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        for v in range(y - width, y + width + 1):
            for u in range(x - width, x + width + 1):
                if not (0 <= v < height and 0 <= u < width_of_image) or not mask[v, u]:
                    band[y, x] = True
    return band


def pairs(ignore_label, void=0.02):
    """Label maps of blobs and predictions that err along their borders; "3" is in no label."""
    rng = np.random.default_rng(7)
    for size in ((40, 57), (61, 33), (9, 9)):
        noise = rng.random((5, 6, 3), np.float32)
        label = cv2.resize(noise, size[::-1]).argmax(axis=-1).astype(np.uint8)
        shifted = np.roll(label, (2, -1), (0, 1))
        prediction = np.where(rng.random(size) < 0.02, 3, shifted).astype(np.int32)
        blank = cv2.resize(rng.random((8, 8), np.float32), size[::-1]) < 0.15
        label[blank | (rng.random(size) < void)] = ignore_label
        yield label, prediction


@pytest.mark.parametrize("width", [1, 2, 5])
def test_bands_of_all_classes_are_those_of_each_mask(width):
    for label, _ in pairs(255):
        band = boundary_band(label, width)
        for class_id in range(CLASSES):
            mask = label == class_id
            np.testing.assert_array_equal(band & mask, paper_band(mask, width))
            np.testing.assert_array_equal(band & mask, brute_force_band(mask, width))
        assert band.mean() > 0.1
        if label.shape != (9, 9) and width < 5:
            assert band.mean() < 1


@pytest.mark.parametrize("ignore_label", [255, 1])
@pytest.mark.parametrize("ratio", [0.02, 0.06])
def test_scores_equal_adding_up_masks(ignore_label, ratio):
    ours = BoundaryIoU(num_classes=CLASSES, ignore_label=ignore_label, dilation_ratio=ratio)
    common, union = np.zeros(CLASSES), np.zeros(CLASSES)
    present = np.zeros(CLASSES, bool)
    for label, prediction in pairs(ignore_label):
        ours.add(label, prediction)
        valid = label != ignore_label
        width = max(1, round(ratio * math.sqrt(label.shape[0] ** 2 + label.shape[1] ** 2)))
        for c in range(CLASSES):
            truth = paper_band(valid & (label == c), width)
            found = paper_band(valid & (prediction == c), width)
            common[c] += (truth & found).sum()
            union[c] += (truth | found).sum()
            present[c] |= (valid & (label == c)).any()
    scores = ours.scores()
    iou = np.divide(common, union, out=np.full(CLASSES, np.nan), where=union > 0)
    np.testing.assert_allclose(scores.of_classes, np.where(present, iou, np.nan))
    assert scores.mean == pytest.approx(np.nanmean(iou))
    assert iou[3] == 0 and not present[3]  # predicted, in no label: 0 in the mean
    assert 0.1 < scores.mean < 0.9


def test_a_perfect_prediction_has_one_whatever_void_hides():
    ours = BoundaryIoU(num_classes=CLASSES, ignore_label=255, dilation_ratio=0.05)
    rng = np.random.default_rng(0)
    for label, _ in pairs(255, void=0.1):
        ours.add(label, np.where(label == 255, rng.integers(0, 3, label.shape), label))
    scores = ours.scores()
    assert scores.mean == 1
    assert scores.of_classes[:3] == (1, 1, 1) and math.isnan(scores.of_classes[3])


def test_no_pixels_have_no_score():
    ours = BoundaryIoU(num_classes=2, ignore_label=0)
    ours.add(np.zeros((5, 5), np.uint8), np.ones((5, 5), np.int32))
    scores = ours.scores()
    assert math.isnan(scores.mean)
    assert scores.to_json(["a", "b"]) == {
        "mean": None,
        "dilation_ratio": 0.02,
        "classes": [{"name": "a", "iou": None}, {"name": "b", "iou": None}],
    }


def test_the_width_of_the_band():
    assert band_width((3, 4)) == 1
    assert band_width((300, 400)) == 10
    assert band_width((375, 500), 0.01) == 6
