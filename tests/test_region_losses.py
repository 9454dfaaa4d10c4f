"""Dice and Lovász-softmax against their definitions, pixel by pixel in float64."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.losses import dice_loss, lovasz_softmax

IGNORED = 255


def numpy_dice(labels, logits):
    """Of one image, over the classes among its labels."""
    valid = labels != IGNORED
    y, p = labels[valid], softmax(logits)[valid]
    dices = [2 * p[y == c, c].sum() / (p[:, c].sum() + (y == c).sum()) for c in np.unique(y)]
    return 1 - np.mean(dices) if dices else 0.0


def numpy_lovasz(labels, logits):
    """As the paper defines it: the Lovász extension of the Jaccard loss as a set function."""
    valid = labels != IGNORED
    y, p = labels[valid], softmax(logits)[valid]
    losses = []
    for c in np.unique(y):
        errors = np.where(y == c, 1 - p[:, c], p[:, c])
        wrong, before, loss = np.zeros(len(y), bool), 0.0, 0.0
        for pixel in np.argsort(-errors):
            wrong[pixel] = True
            jaccard = 1 - np.sum((y == c) & ~wrong) / np.sum((y == c) | wrong)
            loss += errors[pixel] * (jaccard - before)
            before = jaccard
        losses.append(loss)
    return np.mean(losses) if losses else 0.0


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


CASES = [(dice_loss, numpy_dice), (lovasz_softmax, numpy_lovasz)]


@pytest.fixture
def pixels():
    """Three images of four classes: one of them lacks class 2, one is void."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (3, 4, 5))
    labels[1][labels[1] == 2] = 1
    labels[rng.random(labels.shape) < 0.3] = IGNORED
    labels[2] = IGNORED
    return labels.astype(np.uint8), rng.normal(0, 2, (3, 4, 5, 4))


def value_and_gradient(function, labels, logits):
    logits = tf.constant(logits, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        total, count = function(labels, logits, ignore_label=IGNORED)
    return total.numpy(), count.numpy(), tape.gradient(total, logits).numpy()


def finite_differences(function, labels, logits, *, step=1e-6):
    slopes = np.zeros(logits.shape)
    for place in itertools.product(*map(range, logits.shape)):
        ends = []
        for shift in (step, -step):
            moved = logits.copy()
            moved[place] += shift
            ends.append(sum(map(function, labels, moved)))
        slopes[place] = (ends[0] - ends[1]) / (2 * step)
    return slopes


@pytest.mark.parametrize(("function", "by_hand"), CASES)
def test_loss_and_gradient_equal_numpy(pixels, function, by_hand):
    labels, logits = pixels
    total, count, gradient = value_and_gradient(function, labels, logits)
    np.testing.assert_allclose(total, sum(map(by_hand, labels, logits)), rtol=1e-5)
    assert count == 2
    expected = finite_differences(by_hand, labels, logits)
    np.testing.assert_allclose(gradient, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("function", "by_hand"), CASES)
def test_the_label_and_the_logits_of_ignored_pixels_do_not_matter(pixels, function, by_hand):
    labels, logits = pixels
    total, _, gradient = value_and_gradient(function, labels, logits)
    ignored = labels == IGNORED
    assert not gradient[ignored].any()
    other = tf.constant(np.where(ignored[..., None], -1e4, logits), tf.float32)
    for void in (-1, 4, 1 << 20):
        labels_there = np.where(ignored, void, labels.astype(np.int32))
        found, count = function(labels_there, other, ignore_label=void)
        assert (found.numpy(), count.numpy()) == (total, 2)


@pytest.mark.parametrize(("function", "by_hand"), CASES)
def test_a_class_may_be_the_ignored_one(pixels, function, by_hand):
    """As in ADE20K, whose void is 0."""
    labels, logits = pixels
    labels = np.where(labels == 0, IGNORED, labels)
    total, _, _ = value_and_gradient(function, labels, logits)
    found, _ = function(
        np.where(labels == IGNORED, 0, labels), tf.constant(logits, tf.float32), ignore_label=0
    )
    np.testing.assert_allclose(found, total, rtol=1e-6)


@pytest.mark.parametrize(("function", "by_hand"), CASES)
@pytest.mark.parametrize("sure_of", [0, 1])
def test_predictions_without_doubt(function, by_hand, sure_of):
    """0 where they are right, 1 where they are wrong, with finite gradients; nothing for void."""
    labels = np.zeros((1, 3, 3), np.uint8)
    logits = np.full((1, 3, 3, 2), -200.0)
    logits[..., sure_of] = 200.0
    total, count, gradient = value_and_gradient(function, labels, logits)
    assert (total, count) == (sure_of, 1)
    assert np.isfinite(gradient).all()
    total, count, gradient = value_and_gradient(function, np.full_like(labels, IGNORED), logits)
    assert (total, count) == (0, 0)
    assert not gradient.any()


def test_lovasz_of_certain_predictions_is_one_minus_the_mean_iou(pixels):
    """Its corners are those of the set function it extends."""
    labels, _ = pixels
    labels = labels[:1]
    predicted = np.random.default_rng(1).integers(0, 4, labels.shape)
    valid = labels != IGNORED
    ious = [
        np.sum((labels == c) & (predicted == c))
        / np.sum(((labels == c) | (predicted == c)) & valid)
        for c in np.unique(labels[valid])
    ]
    total, _, _ = value_and_gradient(lovasz_softmax, labels, 300.0 * np.eye(4)[predicted])
    np.testing.assert_allclose(total, 1 - np.mean(ious), rtol=1e-5)


def test_lovasz_is_exact_for_a_small_object_in_a_large_image():
    """Where growths of 1e-5 would be differences of numbers near 1."""
    rng = np.random.default_rng(0)
    labels = np.zeros((1, 200, 200), np.uint8)
    labels[0, :3, :3] = 1
    logits = rng.normal(0, 1, (1, 200, 200, 2))
    y, p = labels.ravel() == 1, softmax(logits).reshape(-1, 2)
    expected = 0.0
    for c, of_class in enumerate((~y, y)):
        errors = np.where(of_class, 1 - p[:, c], p[:, c])
        order = np.argsort(-errors)
        inside = of_class[order].cumsum()
        jaccard = 1 - (of_class.sum() - inside) / (of_class.sum() + (~of_class[order]).cumsum())
        expected += errors[order] @ np.diff(jaccard, prepend=0) / 2
    total, _, _ = value_and_gradient(lovasz_softmax, labels, logits)
    np.testing.assert_allclose(total, expected, rtol=1e-5)


@pytest.mark.parametrize(("function", "by_hand"), CASES)
def test_runs_in_a_graph_with_unknown_sizes(pixels, function, by_hand):
    labels, logits = pixels

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, None], tf.uint8),
            tf.TensorSpec([None, None, None, 4], tf.float32),
        ]
    )
    def in_graph(labels, logits):
        return function(labels, logits, ignore_label=IGNORED)

    total, count = in_graph(labels, tf.constant(logits, tf.float32))
    np.testing.assert_allclose(total, sum(map(by_hand, labels, logits)), rtol=1e-5)
    assert count == 2
