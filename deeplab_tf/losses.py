"""Training losses, on any Keras backend."""

from collections.abc import Sequence

import keras
from keras import ops


def softmax_cross_entropy(
    labels: keras.KerasTensor,
    logits: keras.KerasTensor,
    *,
    ignore_label: int,
    label_weights: Sequence[float] | None = None,
) -> keras.KerasTensor:
    """Computes the cross entropy at full label resolution, averaged over the valid pixels.

    As the reference's `add_softmax_cross_entropy_loss_for_each_scale` for one scale without hard
    pixel mining: label weights scale each pixel's loss but do not enter the denominator. The
    sparse cross entropy is used because a one-hot form, at equal speed, needs more than twice the
    memory, and because it fails on a label without a class.

    Args:
        labels: Integer [b, h, w], class ids in [0, classes) or `ignore_label`. Another id is an
            error in TensorFlow on a CPU and gives NaN on a GPU; the converters reject such masks.
        logits: float32 [b, h, w, classes].
        ignore_label: Id of the pixels that do not count; any integer, also a class id (ADE20K: 0).
        label_weights: One weight per class. None weighs all classes alike.

    Returns:
        float32 scalar. 0 with zero gradients where no pixel is valid.

    Raises:
        ValueError: If the number of label weights is not the number of classes.
    """
    labels = ops.cast(labels, "int32")
    valid = ops.not_equal(labels, ignore_label)
    labels = ops.where(valid, labels, 0)
    weights = ops.cast(valid, "float32")
    count = ops.maximum(ops.sum(weights), 1)
    if label_weights is not None:
        if len(label_weights) != logits.shape[-1]:
            raise ValueError(
                f"{len(label_weights)} label weights found for {logits.shape[-1]} classes: "
                "expected one weight per class."
            )
        weights *= ops.take(ops.convert_to_tensor(label_weights, "float32"), labels)
    losses = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    return ops.sum(weights * losses) / count
