"""A loss as a sum and a count, and what is counted."""

from typing import Any, NamedTuple

from keras import KerasTensor, ops


class LossSum(NamedTuple):
    """A loss in two parts, each of which adds up over the parts of a batch.

    Attributes:
        total: Sum of the losses of pixels or of images, float32 scalar.
        count: How many of them there are, float32 scalar. But for hard pixel mining it depends on
            the labels only: see `label_counts`.
    """

    total: Any
    count: Any

    def mean(self) -> Any:
        """The loss of these pixels or images, float32 scalar; 0 where there are none."""
        return self.total / ops.maximum(self.count, 1)


def valid_pixels(labels: KerasTensor, ignore_label: int) -> KerasTensor:
    """1 for pixels that have a class, 0 for ignored ones, float32."""
    return ops.cast(ops.not_equal(ops.cast(labels, "int32"), ignore_label), "float32")


def labelled_images(valid: KerasTensor) -> KerasTensor:
    """How many images of [b, h, w] or [b, 1, pixels] have a valid pixel, float32 scalar."""
    return ops.sum(ops.max(valid, axis=(1, 2)))
