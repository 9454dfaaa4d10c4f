"""The objective of training: all losses of one set of logits."""

from collections.abc import Sequence
from typing import Any

from keras import KerasTensor, ops

from deeplab_tf.layers import resize_bilinear, resize_nearest
from deeplab_tf.losses.pixels import pixel_loss
from deeplab_tf.losses.regions import dice_loss, lovasz_softmax
from deeplab_tf.losses.sums import LossSum, labelled_images, valid_pixels


def segmentation_losses(
    labels: KerasTensor,
    logits: KerasTensor,
    *,
    ignore_label: int,
    loss: str = "cross_entropy",
    label_weights: float | Sequence[float] = 1.0,
    label_smoothing: float = 0.0,
    focal_gamma: float = 2.0,
    dice_weight: float = 0.0,
    lovasz_weight: float = 0.0,
    upsample_logits: bool = True,
    top_k_percent_pixels: float = 1.0,
    hard_example_mining_step: int = 0,
    step: Any = 0,
) -> list[tuple[float, LossSum]]:
    """All terms of the objective for one set of logits.

    Args:
        labels: As in `softmax_cross_entropy`.
        logits: As there.
        ignore_label: As there.
        loss: "cross_entropy" or "focal", of each pixel: see `pixel_loss`.
        label_weights: As in `softmax_cross_entropy`. Dice and Lovász give every class the same.
        label_smoothing: Of the cross entropy: see `pixel_loss`.
        focal_gamma: Of the focal loss: see `pixel_loss`.
        dice_weight: Factor of `dice_loss`; 0 leaves it out.
        lovasz_weight: Factor of `lovasz_softmax`; 0 leaves it out.
        upsample_logits: As in `softmax_cross_entropy`.
        top_k_percent_pixels: As there; Dice and Lovász always see all pixels.
        hard_example_mining_step: As there.
        step: As there.

    Returns:
        Pairs of a factor and a loss. The objective is the sum of factor * loss.mean().
    """
    labels, logits = _at_one_size(labels, logits, upsample_logits=upsample_logits)
    of_pixels = pixel_loss(
        labels,
        logits,
        ignore_label=ignore_label,
        label_weights=label_weights,
        label_smoothing=label_smoothing,
        focal_gamma=focal_gamma if loss == "focal" else 0.0,
        top_k_percent_pixels=top_k_percent_pixels,
        hard_example_mining_step=hard_example_mining_step,
        step=step,
    )
    terms = [(1.0, of_pixels)]
    if dice_weight > 0:
        terms.append((dice_weight, dice_loss(labels, logits, ignore_label=ignore_label)))
    if lovasz_weight > 0:
        terms.append((lovasz_weight, lovasz_softmax(labels, logits, ignore_label=ignore_label)))
    return terms


def label_counts(
    labels: KerasTensor,
    logits_size: tuple[Any, Any],
    *,
    ignore_label: int,
    dice_weight: float = 0.0,
    lovasz_weight: float = 0.0,
    upsample_logits: bool = True,
    top_k_percent_pixels: float = 1.0,
) -> list[Any]:
    """The counts of `segmentation_losses`, before there are logits.

    Args:
        labels: Integer [b, h, w].
        logits_size: Height and width of the logits.
        ignore_label: As in `segmentation_losses`.
        dice_weight: As there.
        lovasz_weight: As there.
        upsample_logits: As there.
        top_k_percent_pixels: As there.

    Returns:
        float32 scalars, one for each term and in the same order. The first is None with hard pixel
        mining, where it is known only when the losses are.
    """
    if not upsample_logits:
        labels = resize_nearest(labels, *logits_size)
    valid = valid_pixels(labels, ignore_label)
    pixels = None if top_k_percent_pixels < 1 else ops.sum(valid)
    return [pixels] + [labelled_images(valid) for weight in (dice_weight, lovasz_weight) if weight]


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
    labels, logits = _at_one_size(labels, logits, upsample_logits=upsample_logits)
    return pixel_loss(
        labels,
        logits,
        ignore_label=ignore_label,
        label_weights=label_weights,
        top_k_percent_pixels=top_k_percent_pixels,
        hard_example_mining_step=hard_example_mining_step,
        step=step,
    ).mean()


def _at_one_size(
    labels: KerasTensor, logits: KerasTensor, *, upsample_logits: bool
) -> tuple[KerasTensor, KerasTensor]:
    """Labels, int32, and logits at the size the loss is taken at."""
    labels = ops.cast(labels, "int32")
    if upsample_logits:
        return labels, resize_bilinear(logits, *ops.shape(labels)[1:3])
    return resize_nearest(labels, *ops.shape(logits)[1:3]), logits
