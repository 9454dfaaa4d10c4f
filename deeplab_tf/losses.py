"""Training losses, on any Keras backend."""

from collections.abc import Sequence
from typing import Any

from keras import KerasTensor, ops

from deeplab_tf.layers import resize_bilinear, resize_nearest


def softmax_cross_entropy(
    labels: KerasTensor,
    logits: KerasTensor,
    *,
    ignore_label: int,
    label_weights: float | Sequence[float] = 1.0,
    upsample_logits: bool = True,
    top_k_percent_pixels: float = 1.0,
    hard_example_mining_step: int = 0,
    step: Any = 0,
) -> KerasTensor:
    """Computes the cross entropy of a batch's pixels, averaged over those that count.

    As the reference's `add_softmax_cross_entropy_loss_for_each_scale` for one of its scales: label
    weights scale each pixel's loss but do not enter the denominator. That is the number of valid
    pixels or, with hard pixel mining, of the mined pixels whose loss is not 0. The sparse cross
    entropy is used because a one-hot form, at equal speed, needs more than twice the memory, and
    because it fails on a label without a class.

    Differs: a label that is no class has no loss in the reference.

    Args:
        labels: Integer [b, h, w], class ids in [0, classes) or `ignore_label`. Another id is an
            error in TensorFlow on a CPU and gives NaN on a GPU; the converters reject such masks.
        logits: float32 [b, h2, w2, classes].
        ignore_label: Id of the pixels that do not count; any integer, also a class id (ADE20K: 0).
        label_weights: One weight per class, or one for all.
        upsample_logits: True resizes the logits to the labels' size, bilinearly, which loses no
            label (v3, section 4.1); False resizes the labels to the logits' size, to the nearest.
        top_k_percent_pixels: Share of all pixels, ignored ones included, that hard pixel mining
            keeps: those of the largest weighted losses. 1 for no mining.
        hard_example_mining_step: Step at which that share is reached; it falls to it linearly,
            from 1 at step 0. 0 for that share from the beginning.
        step: Number of steps already taken, a number or a scalar tensor.

    Returns:
        float32 scalar. 0 with zero gradients where no pixel counts.

    Raises:
        ValueError: If the number of label weights is not the number of classes.
    """
    labels = ops.cast(labels, "int32")
    if upsample_logits:
        logits = resize_bilinear(logits, *ops.shape(labels)[1:3])
    else:
        labels = resize_nearest(labels, *ops.shape(logits)[1:3])
    valid = ops.not_equal(labels, ignore_label)
    labels = ops.where(valid, labels, 0)
    counted = ops.cast(valid, "float32")
    losses = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    losses *= counted * _weights_of(labels, label_weights, num_classes=logits.shape[-1])
    if top_k_percent_pixels < 1:
        share = _mined_share(step, top_k_percent_pixels, hard_example_mining_step)
        losses = _hardest(ops.reshape(losses, (-1,)), share)
        counted = ops.cast(ops.not_equal(losses, 0), "float32")
    return ops.sum(losses) / ops.maximum(ops.sum(counted), 1)


def _weights_of(
    labels: KerasTensor, label_weights: float | Sequence[float], *, num_classes: int
) -> Any:
    if isinstance(label_weights, float | int):
        return label_weights
    if len(label_weights) != num_classes:
        raise ValueError(
            f"{len(label_weights)} label weights found for {num_classes} classes: expected one "
            "weight per class."
        )
    return ops.take(ops.convert_to_tensor(label_weights, "float32"), labels)


def _mined_share(step: Any, end: float, end_step: int) -> Any:
    """The share of the pixels that count at a step, float32 scalar."""
    if end_step == 0:
        return ops.convert_to_tensor(end, "float32")
    progress = ops.minimum(ops.cast(step, "float32") / end_step, 1)
    return progress * end + (1 - progress)


def _hardest(losses: KerasTensor, share: Any) -> KerasTensor:
    """The largest of [n] losses, among zeros: as many as the share of n, truncated."""
    # Not ops.top_k: JAX and PyTorch do not take a number that is known in the graph only.
    count = ops.shape(losses)[0]
    kept = ops.cast(share * ops.cast(count, "float32"), "int32")
    return ops.where(ops.arange(count) >= count - kept, ops.sort(losses), 0)
