"""Calibration errors against a loop over bins, temperatures against a grid and against SciPy."""

import json
import math

import numpy as np
import pytest
from scipy import optimize, special

from deeplab_tf.evaluation.calibration import BINS, Calibration, Reliability, Sample

CLASSES = 4


def logits_and_labels(count, *, sure, seed=0):
    """Logits whose softmax over `sure` is exactly how often each class is the label."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, CLASSES)) * 2
    chances = special.softmax(logits, axis=1)
    labels = (rng.random((count, 1)) > chances.cumsum(axis=1)).sum(axis=1).clip(0, CLASSES - 1)
    return (logits * sure).astype(np.float32), labels.astype(np.uint8)


def images(sure, count=8, ignore_label=255):
    for i in range(count):
        logits, labels = logits_and_labels(15 * (20 + i), sure=sure, seed=i)
        label = labels.reshape(15, 20 + i).copy()
        label[:2] = ignore_label
        logits = logits.reshape(*label.shape, CLASSES)
        probabilities = special.softmax(logits, axis=-1).astype(np.float32)
        yield label, probabilities.argmax(-1).astype(np.int32), probabilities


def loop_error(confidence, correct):
    """Bin by bin, as the paper's formula (3)."""
    error = 0.0
    for i in range(BINS):
        inside = (confidence > i / BINS) & (confidence <= (i + 1) / BINS)
        if inside.any():
            gap = abs(correct[inside].mean() - confidence[inside].mean())
            error += inside.sum() / len(confidence) * gap
    return error


def flat(found, ignore_label=255):
    labels = np.concatenate([label.ravel() for label, *_ in found])
    predicted = np.concatenate([prediction.ravel() for _, prediction, _ in found])
    probabilities = np.concatenate([p.reshape(-1, CLASSES) for *_, p in found]).astype(np.float64)
    valid = labels != ignore_label
    return labels[valid], predicted[valid], probabilities[valid]


def collected(found, **options):
    calibration = Calibration(images=len(found), **{"ignore_label": 255, **options})
    for image in found:
        calibration.add(*image)
    return calibration.scores()


@pytest.mark.parametrize("sure", [0.5, 1.0, 3.0])
def test_the_error_equals_a_loop_over_bins(sure):
    found = list(images(sure))
    labels, predicted, probabilities = flat(found)
    confidence = probabilities.max(axis=1)
    scores = collected(found)
    expected = loop_error(confidence, labels == predicted)
    assert scores.reliability.error == pytest.approx(expected, rel=1e-9)
    assert (expected < 0.03) == (sure == 1)
    # The sample has all pixels here, so its numbers are those of the split.
    assert scores.sampled == len(labels)
    assert scores.before == pytest.approx(expected, rel=1e-5)
    bins = scores.to_json()["bins"]
    assert sum(row["pixels"] for row in bins) == len(labels)
    for row in bins:
        inside = (confidence > row["from"]) & (confidence <= row["to"])
        assert row["pixels"] == inside.sum()
        assert row["accuracy"] == pytest.approx((labels == predicted)[inside].mean())


@pytest.mark.parametrize("sure", [0.5, 1.0, 3.0])
def test_the_temperature_equals_a_search(sure):
    found = list(images(sure))
    labels, predicted, probabilities = flat(found)
    logs = np.log(probabilities)

    def loss(temperature):
        return -special.log_softmax(logs / temperature, axis=1)[
            np.arange(len(labels)), labels
        ].mean()

    scores = collected(found)
    best = optimize.minimize_scalar(loss, bounds=(0.05, 20), method="bounded").x
    assert scores.temperature == pytest.approx(best, rel=1e-3)
    grid = np.geomspace(0.1, 10, 401)
    assert scores.temperature == pytest.approx(grid[np.argmin([loss(t) for t in grid])], rel=0.012)
    assert scores.temperature == pytest.approx(sure, rel=0.1)  # how the labels were made
    mended = special.softmax(logs / scores.temperature, axis=1)
    chosen = mended[np.arange(len(labels)), predicted]
    assert scores.after == pytest.approx(loop_error(chosen, labels == predicted), rel=1e-6)
    assert scores.after < 0.03 and scores.after_held_out < 0.04


def test_each_half_is_judged_with_the_temperature_of_the_other():
    found = [image for pair in zip(images(1.0), images(3.0), strict=True) for image in pair]
    halves = [collected(found[0::2]), collected(found[1::2])]
    assert halves[1].temperature > 2 * halves[0].temperature
    right = confidence = np.zeros(0)
    for half, other in ((0, 1), (1, 0)):
        labels, predicted, probabilities = flat(found[half::2])
        mended = special.softmax(np.log(probabilities) / halves[other].temperature, axis=1)
        confidence = np.append(confidence, mended[np.arange(len(labels)), predicted])
        right = np.append(right, labels == predicted)
    scores = collected(found)
    assert scores.after_held_out == pytest.approx(loop_error(confidence, right == 1), rel=1e-5)
    assert scores.after_held_out > 2 * scores.after


def test_a_sample_stands_for_all_pixels():
    """Large images count more, though of each image equally many pixels are kept."""
    easy, hard = logits_and_labels(20_000, sure=1.0), logits_and_labels(200, sure=4.0)
    found = []
    for logits, labels in (easy, hard):
        probabilities = special.softmax(logits, axis=1).astype(np.float32)[None]
        found.append((labels[None], probabilities.argmax(-1), probabilities))
    scores = collected(found, sample=400)
    assert scores.sampled == 400
    whole = collected(found)
    assert whole.temperature == pytest.approx(1.02, abs=0.05)
    assert scores.temperature == pytest.approx(whole.temperature, rel=0.2)  # unweighted: about 2
    assert scores.reliability.error == whole.reliability.error
    again = collected(found, sample=400)
    assert again.temperature == scores.temperature
    assert collected(found, sample=400, seed=1).temperature != scores.temperature


def test_probabilities_of_zero_and_one():
    probabilities = np.zeros((1, 4, 2), np.float32)
    probabilities[0, :, 0] = 1
    prediction = np.zeros((1, 4), np.int32)
    scores = collected([(np.zeros((1, 4), np.uint8), prediction, probabilities)])
    assert scores.reliability.error == 0  # certain, and right
    assert math.isnan(scores.after_held_out)  # there is but one image
    wrong = collected([(np.array([[0, 0, 1, 1]], np.uint8), prediction, probabilities)])
    assert wrong.reliability.error == 0.5
    assert wrong.temperature == pytest.approx(50, rel=1e-3)  # half is wrong: as hot as it goes
    json.dumps(wrong.to_json(), allow_nan=False)


def test_no_pixels_have_no_score():
    nothing = (np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.int32), np.ones((2, 2, 1)))
    scores = collected([nothing, nothing])
    assert scores.to_json() == {
        "ece": None,
        "temperature": None,
        "ece_of_sample": None,
        "ece_with_temperature": None,
        "ece_with_temperature_of_other_half": None,
        "sampled_pixels": 0,
        "bins": [],
    }


def test_edges_of_bins_belong_to_the_lower_bin():
    edges = np.arange(1, BINS + 1) / BINS
    reliability = Reliability.of(edges, np.ones(BINS, bool))
    np.testing.assert_array_equal(reliability.weight, 1)


def test_derivatives_equal_differences():
    logits, labels = logits_and_labels(500, sure=2.0)
    weight = np.random.default_rng(0).uniform(1, 3, 500)
    sample = Sample(logits, labels, logits.argmax(1), weight)

    def loss(inverse):
        own = special.log_softmax(inverse * logits.astype(np.float64), axis=1)
        return -(weight * own[np.arange(500), labels]).sum()

    for inverse in (0.3, 1.0, 2.5):
        slope, curvature = sample._derivatives(inverse)
        h = 1e-4
        ahead, here, behind = (loss(inverse + d) for d in (h, 0, -h))
        assert slope == pytest.approx((ahead - behind) / (2 * h), rel=1e-5, abs=1e-3)
        assert curvature == pytest.approx((ahead - 2 * here + behind) / h**2, rel=1e-3)
