"""Predictions that are all of one class: when to say so, and what it comes from."""

from collections.abc import Sequence

import numpy as np

# Nearly all: other classes have less than this share of the predicted pixels ...
_OTHERS = 0.01
# ... and less than this part of what the labels give them. Without this, nobody could train on
# cracks or vessels, whose background is 99 % of the labels, too.
_OTHERS_OF_LABELS = 0.1

_YOUNG = "the network is untrained, at an early step, or diverged (see the loss);"
_STATISTICS = (
    "batch norm's moving statistics are not those of the images, so that a low loss in training\n"
    "    means nothing here: too few images in a batch (--fine_tune_batch_norm=false with a\n"
    "    pretrained checkpoint), or --batch_norm_decay too long for the run;"
)
_MASKS = (
    "the masks were converted wrongly, so that this is nearly their only class\n"
    "    (colour or 0/255 masks read as class ids; see eval's share of the pixels);"
)
_RARE = "the other classes are rare: train longer, or give them larger label weights;"
_IMAGES = "these images are unlike the training images (size of the objects, colours)."


def dominating_class(confusion: np.ndarray) -> int | None:
    """The class that takes nearly all predicted pixels although the labels have others.

    Args:
        confusion: Integer [classes, classes], rows = labels, columns = predictions.

    Returns:
        Its id; None if there is no such class.
    """
    total = confusion.sum()
    if not total:
        return None
    predicted, labelled = confusion.sum(axis=0) / total, confusion.sum(axis=1) / total
    largest = int(predicted.argmax())
    others, others_of_labels = 1 - predicted[largest], 1 - labelled[largest]
    if others < _OTHERS and others < _OTHERS_OF_LABELS * others_of_labels:
        return largest
    return None


def warn_of_pictures(name: str) -> list[str]:
    """What to say of images with unknown labels whose every pixel is one class.

    Args:
        name: Name of the class.

    Returns:
        Lines, the likely causes in the order to look at them.
    """
    return _warning(f'every pixel is "{name}"', (_YOUNG, _MASKS, _RARE, _IMAGES))


def warn_of_validation(name: str, predicted: float, labelled: float) -> list[str]:
    """What to say of a validation that found a `dominating_class`.

    Args:
        name: Name of the class.
        predicted: Its share of the predicted pixels.
        labelled: Its share of the labels. That there are others clears the masks.

    Returns:
        As `warn_of_pictures`.
    """
    what = f'{predicted:.1%} of the predictions are "{name}", of the labels {labelled:.1%}'
    return _warning(what, (_YOUNG, _STATISTICS, _RARE, _IMAGES))


def _warning(what: str, causes: Sequence[str]) -> list[str]:
    return [f"WARNING: {what}. Likely causes:", *(f"  - {cause}" for cause in causes)]
