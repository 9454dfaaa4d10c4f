"""Losses of pixels, and the objective: against the reference's recorded values and plain numpy."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.losses import (
    dice_loss,
    label_counts,
    lovasz_softmax,
    pixel_loss,
    segmentation_losses,
    softmax_cross_entropy,
)

GOLDEN = Path(__file__).parent / "golden"
FACTS = json.loads((GOLDEN / "facts_train.json").read_text())
CASES = {case["case"]: case for case in FACTS["cases"]}


@pytest.fixture(scope="module")
def arrays():
    with np.load(GOLDEN / "facts_train.npz") as stored:
        return dict(stored)


def loss_and_gradient(labels, logits, **options):
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = softmax_cross_entropy(labels, logits, **options)
    return loss.numpy(), tape.gradient(loss, logits).numpy()


def case_options(case):
    return {
        "ignore_label": 255,
        "label_weights": case["loss_weight"],
        "upsample_logits": case["upsample_logits"],
        "top_k_percent_pixels": case["top_k_percent_pixels"],
        "hard_example_mining_step": case["hard_example_mining_step"],
        "step": case["global_step"],
    }


def numpy_losses(labels, logits, *, ignore_label, label_weights=None):
    """Weighted losses of the valid pixels, one after the other, in float64."""
    losses = []
    for label, row in zip(labels.ravel(), logits.reshape(-1, logits.shape[-1]), strict=True):
        if label != ignore_label:
            row = row.astype(np.float64)
            weight = 1.0 if label_weights is None else label_weights[label]
            losses.append(weight * (np.log(np.exp(row - row.max()).sum()) + row.max() - row[label]))
    return losses


def numpy_loss(labels, logits, **options):
    return np.mean(numpy_losses(labels, logits, **options))


@pytest.fixture
def pixels():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, (2, 6, 7)).astype(np.uint8)
    labels[rng.random(labels.shape) < 0.3] = 255
    return labels, rng.normal(0, 4, (2, 6, 7, 5)).astype(np.float32)


# --- The reference --------------------------------------------------------------------------------


@pytest.mark.golden
@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(arrays, name):
    labels = arrays["labels"][..., 0]
    if name.startswith("all_ignored"):
        labels = np.full_like(labels, 255)
    loss, gradient = loss_and_gradient(labels, arrays["logits"], **case_options(CASES[name]))
    np.testing.assert_allclose(loss, CASES[name]["loss"], rtol=1e-6)
    np.testing.assert_allclose(gradient, arrays[f"grad_{name}"], atol=1e-8)


@pytest.mark.golden
def test_the_losses_of_two_scales_equal_the_reference(arrays):
    labels, facts = arrays["labels"][..., 0], FACTS["two_scales"]
    losses = [
        softmax_cross_entropy(labels, arrays[name], ignore_label=255)
        for name in ("logits", "logits2")
    ]
    np.testing.assert_allclose(losses, facts["losses"], rtol=1e-6)
    np.testing.assert_allclose(sum(losses), facts["total"], rtol=1e-6)


@pytest.mark.golden
@pytest.mark.parametrize(
    ("label_weights", "mask"),
    [("weights", "mask"), (1.0, "mask_scalar_1"), (2.5, "mask_scalar_2_5")],
)
def test_pixel_weights_equal_the_reference(label_weights, mask):
    """The gradient of a pixel of logits (0, ..., 0) is its weight, up to a constant."""
    facts = FACTS["label_weight_mask"]
    labels = np.array(facts["labels"])[None, None]
    weights = facts["weights"] if label_weights == "weights" else label_weights
    _, gradient = loss_and_gradient(
        labels, np.zeros((1, 1, 7, 5), np.float32), ignore_label=255, label_weights=weights
    )
    largest = np.abs(gradient[0, 0]).max(axis=1)
    np.testing.assert_allclose(largest, np.array(facts[mask]) * 0.8 / 6, rtol=1e-6)


# --- Plain numpy ----------------------------------------------------------------------------------


@pytest.mark.parametrize("label_weights", [None, (0.5, 1.0, 2.0, 0.0, 1.5)])
@pytest.mark.parametrize("ignore_label", [255, 0])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_equals_numpy(pixels, label_weights, ignore_label, dtype):
    labels, logits = pixels
    labels = np.where(labels == 255, ignore_label, labels).astype(dtype)
    options = {"ignore_label": ignore_label, "label_weights": label_weights}
    expected = numpy_loss(labels, logits, **options)
    loss = softmax_cross_entropy(
        labels, logits, ignore_label=ignore_label, label_weights=label_weights or 1.0
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize("share", [0.01, 0.02, 0.3, 0.6, 0.99])
def test_mining_equals_numpy(pixels, share):
    """The hardest of all pixels count, though the ignored and the weightless have no loss."""
    labels, logits = pixels
    weights = (0.5, 1.0, 2.0, 0.0, 1.5)
    losses = sorted(numpy_losses(labels, logits, ignore_label=255, label_weights=weights))
    hardest = [loss for loss in losses[::-1][: int(share * labels.size)] if loss > 0]
    loss, gradient = loss_and_gradient(
        labels, logits, ignore_label=255, label_weights=weights, top_k_percent_pixels=share
    )
    np.testing.assert_allclose(loss, np.mean(hardest) if hardest else 0, rtol=1e-5)
    assert np.count_nonzero(np.abs(gradient).sum(axis=-1)) == len(hardest)


def test_mining_keeps_its_number_of_equal_losses():
    """As in an untrained network; a threshold in place of the order would take all or none."""
    labels, logits = np.zeros((1, 4, 5), int), np.zeros((1, 4, 5, 3), np.float32)
    loss, gradient = loss_and_gradient(labels, logits, ignore_label=255, top_k_percent_pixels=0.25)
    np.testing.assert_allclose(loss, np.log(3), rtol=1e-6)
    assert np.count_nonzero(np.abs(gradient).sum(axis=-1)) == 5


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (9, 11), (6, 7), (13, 5)])
@pytest.mark.parametrize("upsample_logits", [True, False])
def test_sizes_are_matched_as_in_tf1(pixels, size, upsample_logits):
    """By either resize of TF1 with aligned corners, whose result has one size already."""
    labels, logits = pixels
    logits = np.random.default_rng(1).normal(size=(2, *size, 5)).astype(np.float32)
    resize = tf.compat.v1.image
    if upsample_logits:
        same = labels, resize.resize_bilinear(logits, labels.shape[1:3], align_corners=True)
    else:
        same = (
            resize.resize_nearest_neighbor(labels[..., None], size, align_corners=True)[..., 0],
            logits,
        )
    options = {"ignore_label": 255, "upsample_logits": upsample_logits}
    np.testing.assert_allclose(
        softmax_cross_entropy(labels, logits, **options),
        softmax_cross_entropy(*same, **options),
        rtol=1e-6,
    )


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


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_no_valid_pixel_gives_zero(pixels, share):
    _, logits = pixels
    labels = np.full((2, 6, 7), 255, np.uint8)
    loss, gradient = loss_and_gradient(labels, logits, ignore_label=255, top_k_percent_pixels=share)
    assert loss == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(logits))


@pytest.mark.parametrize("name", ["plain", "plain_downsample_labels", "topk25_hem1000_at250"])
def test_runs_in_a_graph_with_unknown_sizes_and_step(arrays, name):
    signature = [
        tf.TensorSpec([None, None, None], tf.uint8),
        tf.TensorSpec([None, None, None, 5], tf.float32),
        tf.TensorSpec([], tf.int64),
    ]
    options = case_options(CASES[name])

    @tf.function(input_signature=signature)
    def graph_loss(labels, logits, step):
        return softmax_cross_entropy(labels, logits, **{**options, "step": step})

    loss = graph_loss(arrays["labels"][..., 0], arrays["logits"], options["step"])
    np.testing.assert_allclose(loss, CASES[name]["loss"], rtol=1e-6)


def test_wrong_input_is_an_error(pixels):
    labels, logits = pixels
    with pytest.raises(ValueError, match="4 label weights found for 5 classes"):
        softmax_cross_entropy(labels, logits, ignore_label=255, label_weights=[1, 1, 1, 1])
    labels[0, 0, 0] = 5
    with pytest.raises(tf.errors.InvalidArgumentError, match="label value of 5"):
        softmax_cross_entropy(labels, logits, ignore_label=255)


# --- Smoothed and focal ---------------------------------------------------------------------------


def numpy_pixel_loss(labels, logits, *, label_weights, label_smoothing=0.0, focal_gamma=0.0):
    """Mean over the valid pixels of 255-void labels, by the definitions."""
    valid = labels != 255
    y, weights = labels[valid], np.asarray(label_weights)
    p = np.exp(logits[valid])
    p /= p.sum(axis=-1, keepdims=True)
    target = (1 - label_smoothing) * np.eye(5)[y] + label_smoothing / 5
    losses = -np.sum(target * np.log(p), axis=-1) * (1 - p[np.arange(len(y)), y]) ** focal_gamma
    return np.mean(weights[y] * losses)


KINDS = [
    {"label_smoothing": 0.1},
    {"label_smoothing": 0.9},
    {"focal_gamma": 0.5},
    {"focal_gamma": 2.0},
    {"focal_gamma": 5.0},
]


@pytest.mark.parametrize("label_weights", [(1.0,) * 5, (0.5, 1.0, 2.0, 0.0, 1.5)])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradient_equal_the_definition(pixels, kind, label_weights):
    labels, logits = pixels
    loss, gradient = value_and_gradient(labels, logits, label_weights=label_weights, **kind)
    options = {"label_weights": label_weights, **kind}
    np.testing.assert_allclose(loss, numpy_pixel_loss(labels, logits, **options), rtol=1e-5)
    logits = logits.astype(np.float64)
    for place in np.ndindex(1, 2, *logits.shape[2:]):
        ends = []
        for shift in (1e-5, -1e-5):
            moved = logits.copy()
            moved[place] += shift
            ends.append(numpy_pixel_loss(labels, moved, **options))
        np.testing.assert_allclose(gradient[place], (ends[0] - ends[1]) / 2e-5, atol=1e-6)


def value_and_gradient(labels, logits, **options):
    logits = tf.constant(logits, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = pixel_loss(labels, logits, ignore_label=255, **options).mean()
    return loss.numpy(), tape.gradient(loss, logits).numpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("label", [0, 1])
def test_gradients_without_doubt_are_finite(kind, label):
    """Where a probability is 1 or 0 in float32."""
    logits = np.array([200.0, -200.0, -200.0], np.float32).reshape(1, 1, 1, 3)
    loss, gradient = value_and_gradient(np.full((1, 1, 1), label), logits, **kind)
    assert np.isfinite(gradient).all()
    if "focal_gamma" in kind:
        np.testing.assert_allclose(loss, 400.0 * label, rtol=1e-6)
        np.testing.assert_allclose(gradient.ravel(), [label, -label, 0], atol=1e-6)


def test_focal_losses_are_mined_as_others(pixels):
    labels, logits = pixels
    losses = []
    for place in zip(*np.nonzero(labels != 255), strict=True):
        one = np.full((1, 1, 1), labels[place])
        losses.append(value_and_gradient(one, logits[place].reshape(1, 1, 1, 5), focal_gamma=2)[0])
    mined, _ = value_and_gradient(labels, logits, focal_gamma=2, top_k_percent_pixels=0.25)
    np.testing.assert_allclose(mined, np.mean(sorted(losses)[-21:]), rtol=1e-5)


# --- The objective --------------------------------------------------------------------------------

ALL_TERMS = {"dice_weight": 0.5, "lovasz_weight": 2.0}


def test_by_default_the_objective_is_the_cross_entropy(pixels):
    labels, logits = pixels
    ((weight, loss),) = segmentation_losses(labels, logits, ignore_label=255)
    expected = softmax_cross_entropy(labels, logits, ignore_label=255)
    np.testing.assert_array_equal(weight * loss.mean(), expected)
    assert loss.count == (labels != 255).sum()


@pytest.mark.parametrize("upsample_logits", [True, False])
def test_the_objective_has_all_its_terms_at_one_size(pixels, upsample_logits):
    labels, logits = pixels
    small = np.ascontiguousarray(logits[:, :3, :4])
    terms = segmentation_losses(
        labels,
        small,
        ignore_label=255,
        loss="focal",
        focal_gamma=1.5,
        label_weights=(0.5, 1.0, 2.0, 0.0, 1.5),
        upsample_logits=upsample_logits,
        **ALL_TERMS,
    )
    resize = tf.compat.v1.image
    if upsample_logits:
        small = resize.resize_bilinear(small, labels.shape[1:], align_corners=True)
    else:
        labels = resize.resize_nearest_neighbor(labels[..., None], (3, 4), align_corners=True)
        labels = labels.numpy()[..., 0]
    expected = [
        (
            1.0,
            pixel_loss(
                labels,
                small,
                ignore_label=255,
                focal_gamma=1.5,
                label_weights=(0.5, 1.0, 2.0, 0.0, 1.5),
            ),
        ),
        (0.5, dice_loss(labels, small, ignore_label=255)),
        (2.0, lovasz_softmax(labels, small, ignore_label=255)),
    ]
    assert [weight for weight, _ in terms] == [weight for weight, _ in expected]
    for (_, found), (_, loss) in zip(terms, expected, strict=True):
        np.testing.assert_allclose(found, loss, rtol=1e-5)


def test_the_parts_of_a_batch_add_up_to_it(pixels):
    """So do replicas and accumulated gradients, though one part has no valid pixel in an image."""
    labels, logits = np.tile(pixels[0], (2, 1, 1)), np.tile(pixels[1], (2, 1, 1, 1))
    labels[1] = 255
    options = {"ignore_label": 255, "label_smoothing": 0.1, **ALL_TERMS}
    whole = segmentation_losses(labels, logits, **options)
    parts = [
        segmentation_losses(labels[part], logits[part], **options)
        for part in (slice(1), slice(1, 2), slice(2, 4))
    ]
    for i, (_, loss) in enumerate(whole):
        np.testing.assert_allclose(sum(part[i][1].total for part in parts), loss.total, rtol=1e-6)
        assert sum(part[i][1].count for part in parts) == loss.count


@pytest.mark.parametrize("upsample_logits", [True, False])
@pytest.mark.parametrize("terms", [{}, ALL_TERMS, {"lovasz_weight": 1.0}])
def test_counts_are_known_from_the_labels(pixels, upsample_logits, terms):
    labels, logits = pixels
    labels[1] = 255
    logits = logits[:, :3, :4]
    options = {"ignore_label": 255, "upsample_logits": upsample_logits, **terms}
    losses = segmentation_losses(labels, logits, **options)
    counts = label_counts(labels, (3, 4), **options)
    np.testing.assert_array_equal(counts, [loss.count for _, loss in losses])
    valid = labels != 255 if upsample_logits else (labels != 255)[:, [0, 3, 5]][:, :, [0, 2, 4, 6]]
    assert counts[0] == valid.sum()
    assert all(count == 1 for count in counts[1:])
    assert label_counts(labels, (3, 4), top_k_percent_pixels=0.5, **options)[0] is None


@pytest.mark.parametrize("options", [{"loss": "focal"}, {"label_smoothing": 0.1}])
@pytest.mark.parametrize("value", [3, -1, 1 << 20])
def test_the_objective_does_not_depend_on_ignored_pixels(pixels, options, value):
    """Nor does its gradient, to the last bit."""
    labels, logits = pixels
    ignored = (labels == 255) | (labels == value)
    found = []
    for void, there in ((255, 0.0), (value, 1e4)):
        changed = tf.constant(np.where(ignored[..., np.newaxis], np.float32(there), logits))
        with tf.GradientTape() as tape:
            tape.watch(changed)
            terms = segmentation_losses(
                np.where(ignored, void, labels.astype(np.int32)),
                changed,
                ignore_label=void,
                **ALL_TERMS,
                **options,
            )
            loss = sum(weight * term.mean() for weight, term in terms)
        found.append((loss.numpy(), tape.gradient(loss, changed).numpy()))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])
    assert not found[0][1][ignored].any()


@pytest.mark.parametrize("options", [{}, {"loss": "focal"}, {"label_smoothing": 0.1}])
def test_a_batch_of_void_has_no_loss_and_no_gradient(pixels, options):
    logits = tf.constant(pixels[1])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        terms = segmentation_losses(
            np.full((2, 6, 7), 255), logits, ignore_label=255, **ALL_TERMS, **options
        )
        loss = sum(weight * term.mean() for weight, term in terms)
    assert loss == 0
    np.testing.assert_array_equal(tape.gradient(loss, logits), np.zeros(logits.shape))
