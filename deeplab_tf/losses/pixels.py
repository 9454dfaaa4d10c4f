"""Losses of single pixels: cross entropy, smoothed or focal, and hard pixel mining."""

from collections.abc import Sequence
from typing import Any

from keras import KerasTensor, ops

from deeplab_tf.losses.sums import LossSum, valid_pixels

# Of 1 - p in the focal loss: below it the slope of a power under 1 has no bound.
_LEAST_MISS = 1e-7


def pixel_loss(
    labels: KerasTensor,
    logits: KerasTensor,
    *,
    ignore_label: int,
    label_weights: float | Sequence[float] = 1.0,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    top_k_percent_pixels: float = 1.0,
    hard_example_mining_step: int = 0,
    step: Any = 0,
) -> LossSum:
    """Cross entropy of the pixels, as `softmax_cross_entropy`, smoothed or focal.

    With label smoothing the target of a pixel is 1 - eps for its class and eps / classes more for
    every class (arXiv 1512.00567, section 7). The focal loss is the cross entropy times
    (1 - p) ** gamma, for the probability p of the pixel's class (arXiv 1708.02002, equation 5); its
    alpha are the label weights. Here as there, weights and gamma leave the denominator alone.

    Differs: the focal loss of that paper is of independent sigmoids, this one of a softmax.

    Args:
        labels: Integer [b, h, w], as in `softmax_cross_entropy`.
        logits: float32 [b, h, w, classes].
        ignore_label: As in `softmax_cross_entropy`.
        label_weights: As there; the weight of a pixel is that of its label, smoothed or not.
        label_smoothing: eps, in [0, 1).
        focal_gamma: gamma; 0 for the cross entropy.
        top_k_percent_pixels: As in `softmax_cross_entropy`.
        hard_example_mining_step: As there.
        step: As there.

    Returns:
        Sum over the pixels that count, and their number.

    Raises:
        ValueError: If the number of label weights is not the number of classes.
    """
    counted = valid_pixels(labels, ignore_label)
    labels = ops.where(counted > 0, ops.cast(labels, "int32"), 0)
    losses = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    if focal_gamma > 0:
        losses *= ops.power(ops.maximum(-ops.expm1(-losses), _LEAST_MISS), focal_gamma)
    if label_smoothing > 0:
        of_all_classes = ops.logsumexp(logits, axis=-1) - ops.mean(logits, axis=-1)
        losses = (1 - label_smoothing) * losses + label_smoothing * of_all_classes
    losses *= counted * _weights_of(labels, label_weights, num_classes=logits.shape[-1])
    if top_k_percent_pixels < 1:
        share = _mined_share(step, top_k_percent_pixels, hard_example_mining_step)
        losses = _hardest(ops.reshape(losses, (-1,)), share)
        counted = ops.cast(ops.not_equal(losses, 0), "float32")
    return LossSum(ops.sum(losses), ops.sum(counted))


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
