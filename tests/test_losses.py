"""The loss against the reference's recorded values and gradients, and against plain numpy."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.losses import softmax_cross_entropy

GOLDEN = Path(__file__).parent / "golden"
FACTS = json.loads((GOLDEN / "facts_train.json").read_text())
CASES = {case["case"]: case for case in FACTS["cases"]}


def loss_and_gradient(labels, logits, **options):
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = softmax_cross_entropy(labels, logits, **options)
    return loss.numpy(), tape.gradient(loss, logits).numpy()


def numpy_loss(labels, logits, *, ignore_label, label_weights=None):
    """One pixel after the other, in float64."""
    total, count = 0.0, 0
    for label, row in zip(labels.ravel(), logits.reshape(-1, logits.shape[-1]), strict=True):
        if label != ignore_label:
            row = row.astype(np.float64)
            weight = 1.0 if label_weights is None else label_weights[label]
            total += weight * (np.log(np.exp(row - row.max()).sum()) + row.max() - row[label])
            count += 1
    return total / count


@pytest.fixture
def pixels():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, (2, 6, 7)).astype(np.uint8)
    labels[rng.random(labels.shape) < 0.3] = 255
    return labels, rng.normal(0, 4, (2, 6, 7, 5)).astype(np.float32)


@pytest.mark.golden
@pytest.mark.parametrize("name", ["plain", "class_weights", "all_ignored"])
def test_equals_the_reference(name):
    with np.load(GOLDEN / "facts_train.npz") as arrays:
        logits = tf.constant(arrays["logits"])
        labels = arrays["labels"][..., 0]
        expected_gradient = arrays[f"grad_{name}"]
    if name == "all_ignored":
        labels = np.full_like(labels, 255)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        upsampled = tf.compat.v1.image.resize_bilinear(logits, (33, 41), align_corners=True)
        weights = FACTS["class_weights"] if name == "class_weights" else None
        loss = softmax_cross_entropy(labels, upsampled, ignore_label=255, label_weights=weights)
    np.testing.assert_allclose(loss, CASES[name]["loss"], rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(loss, logits), expected_gradient, atol=1e-7)


@pytest.mark.parametrize("label_weights", [None, (0.5, 1.0, 2.0, 0.0, 1.5)])
@pytest.mark.parametrize("ignore_label", [255, 0])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_equals_numpy(pixels, label_weights, ignore_label, dtype):
    labels, logits = pixels
    labels = np.where(labels == 255, ignore_label, labels).astype(dtype)
    options = {"ignore_label": ignore_label, "label_weights": label_weights}
    loss = softmax_cross_entropy(labels, logits, **options)
    np.testing.assert_allclose(loss, numpy_loss(labels, logits, **options), rtol=1e-5)


@pytest.mark.parametrize("value", [0, 3, 5, 254, 255, -1, 1 << 20])
def test_the_value_and_the_logits_of_ignored_pixels_do_not_matter(pixels, value):
    labels, logits = pixels
    ignored = (labels == 255) | (labels == value)
    weights = [1, 2, 3, 4, 5]
    loss, gradient = loss_and_gradient(
        np.where(ignored, 255, labels), logits, ignore_label=255, label_weights=weights
    )
    other_labels = np.where(ignored, value, labels.astype(np.int32))
    other_logits = np.where(ignored[..., np.newaxis], np.float32(1e4), logits)
    other_loss, other_gradient = loss_and_gradient(
        other_labels, other_logits, ignore_label=value, label_weights=weights
    )
    np.testing.assert_array_equal(other_loss, loss)
    np.testing.assert_array_equal(other_gradient, gradient)
    assert not gradient[ignored].any()


def test_no_valid_pixel_gives_zero(pixels):
    _, logits = pixels
    loss, gradient = loss_and_gradient(np.full((2, 6, 7), 255, np.uint8), logits, ignore_label=255)
    assert loss == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(logits))


def test_runs_in_a_graph_with_unknown_sizes(pixels):
    labels, logits = pixels
    signature = [
        tf.TensorSpec([None, None, None], tf.uint8),
        tf.TensorSpec([None, None, None, 5], tf.float32),
    ]

    @tf.function(input_signature=signature)
    def graph_loss(labels, logits):
        return softmax_cross_entropy(labels, logits, ignore_label=255)

    expected = numpy_loss(labels, logits, ignore_label=255)
    np.testing.assert_allclose(graph_loss(labels, logits), expected, rtol=1e-5)


def test_wrong_input_is_an_error(pixels):
    labels, logits = pixels
    with pytest.raises(ValueError, match="4 label weights found for 5 classes"):
        softmax_cross_entropy(labels, logits, ignore_label=255, label_weights=[1, 1, 1, 1])
    labels[0, 0, 0] = 5
    with pytest.raises(tf.errors.InvalidArgumentError, match="label value of 5"):
        softmax_cross_entropy(labels, logits, ignore_label=255)
