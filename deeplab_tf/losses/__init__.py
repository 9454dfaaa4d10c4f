"""Training losses, on any Keras backend.

Each is a sum and what it is divided by, so that the parts of a batch, on several devices or in
several steps, add up to the loss of the whole batch.
"""

from deeplab_tf.losses.objective import label_counts, segmentation_losses, softmax_cross_entropy
from deeplab_tf.losses.pixels import pixel_loss
from deeplab_tf.losses.regions import dice_loss, lovasz_softmax
from deeplab_tf.losses.sums import LossSum

__all__ = [
    "LossSum",
    "dice_loss",
    "label_counts",
    "lovasz_softmax",
    "pixel_loss",
    "segmentation_losses",
    "softmax_cross_entropy",
]
