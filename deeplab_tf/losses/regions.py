"""Losses of whole regions: Dice and Lovász-softmax."""

from keras import KerasTensor, ops

from deeplab_tf.losses.sums import LossSum, labelled_images, valid_pixels


def dice_loss(labels: KerasTensor, logits: KerasTensor, *, ignore_label: int) -> LossSum:
    """Soft Dice loss of each image: 1 - mean over classes of 2 sum(p y) / (sum(p) + sum(y)).

    The sums are over an image's valid pixels, the classes those among its labels. A class that an
    image does not show has a Dice of 0 whatever is predicted, so it would add a constant to the
    loss and nothing to the gradient; without it there is no 0 / 0 to smooth away, either.

    Source: arXiv 1606.04797, section 3, with several classes and sums of p where that has p ** 2,
    as in arXiv 1809.10486.

    Args:
        labels: Integer [b, h, w], as in `softmax_cross_entropy`.
        logits: float32 [b, h, w, classes].
        ignore_label: As in `softmax_cross_entropy`.

    Returns:
        Sum over the images that have a valid pixel, and their number.
    """
    shown, predicted, valid = _masks(labels, logits, ignore_label=ignore_label)
    sizes = ops.sum(shown, axis=2)
    overlaps = ops.sum(predicted * shown, axis=2)
    dice = 2 * overlaps / ops.maximum(ops.sum(predicted, axis=2) + sizes, 1)
    return _of_present_classes(1 - dice, sizes, valid)


def lovasz_softmax(labels: KerasTensor, logits: KerasTensor, *, ignore_label: int) -> LossSum:
    """Lovász-softmax of each image, a convex surrogate of 1 - IoU (arXiv 1705.08790).

    It is the mean over the classes among an image's labels: the paper's "present" classes, per
    image. The errors of a class's pixels are sorted, and each weighs as much as the Jaccard loss
    grows when its pixel is added to the wrong ones before it. That growth is written out, 1 / U for
    a pixel of the class and I / (U (U - 1)) for another one, where the paper's Algorithm 1
    subtracts neighbours, which in float32 differ in their last digits.

    Args:
        labels: Integer [b, h, w], as in `softmax_cross_entropy`.
        logits: float32 [b, h, w, classes].
        ignore_label: As in `softmax_cross_entropy`.

    Returns:
        Sum over the images that have a valid pixel, and their number.
    """
    shown, predicted, valid = _masks(labels, logits, ignore_label=ignore_label)
    # 0 of ignored pixels: they come last, where they change no weight that counts.
    errors = ops.abs(shown - predicted)
    order = ops.argsort(-errors, axis=2)
    errors = ops.take_along_axis(errors, order, axis=2)
    shown = ops.take_along_axis(shown, order, axis=2)
    sizes = ops.sum(shown, axis=2, keepdims=True)
    intersections = sizes - ops.cumsum(shown, axis=2)
    unions = ops.maximum(sizes + ops.cumsum(1 - shown, axis=2), 1)
    growth = ops.where(shown > 0, 1 / unions, intersections / (unions * ops.maximum(unions - 1, 1)))
    losses = ops.sum(errors * ops.stop_gradient(growth), axis=2)
    return _of_present_classes(losses, sizes[..., 0], valid)


def _masks(
    labels: KerasTensor, logits: KerasTensor, *, ignore_label: int
) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
    """Of each image and class its pixels' labels, 0 or 1, and probabilities; and what is valid.

    All are float32 [b, classes, pixels] or, the last, [b, 1, pixels]. Labels and probabilities of
    ignored pixels are 0.
    """
    num_classes = logits.shape[-1]
    valid = ops.reshape(valid_pixels(labels, ignore_label), (ops.shape(labels)[0], 1, -1))
    probabilities = ops.transpose(ops.softmax(logits, axis=-1), (0, 3, 1, 2))
    predicted = ops.reshape(probabilities, (ops.shape(labels)[0], num_classes, -1)) * valid
    flat = ops.reshape(ops.cast(labels, "int32"), (ops.shape(labels)[0], 1, -1))
    classes = ops.reshape(ops.arange(num_classes, dtype="int32"), (1, -1, 1))
    return ops.cast(ops.equal(flat, classes), "float32") * valid, predicted, valid


def _of_present_classes(losses: KerasTensor, sizes: KerasTensor, valid: KerasTensor) -> LossSum:
    """The mean of each image's classes whose sizes, [b, classes], are not 0, over the images."""
    present = ops.cast(sizes > 0, "float32")
    classes = ops.maximum(ops.sum(present, axis=1), 1)
    of_images = ops.sum(losses * present, axis=1) / classes
    return LossSum(ops.sum(of_images), labelled_images(valid))
