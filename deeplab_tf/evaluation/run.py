"""Scoring a model on a split of records."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from deeplab_tf.evaluation.metrics import (
    SegmentationScores,
    confusion_matrix,
    scores_from_confusion,
)


def evaluate(
    predict_labels: Callable[[np.ndarray], np.ndarray],
    examples: Iterable[Mapping[str, Any]],
    *,
    num_classes: int,
    ignore_label: int,
    total: int | None = None,
) -> SegmentationScores:
    """Scores predictions over a whole split, in one confusion matrix.

    Args:
        predict_labels: Image, [h, w, c], to labels, integer [h, w].
        examples: Dictionaries with "image" and "label", uint8 [h, w], as numpy arrays.
        num_classes: Number of classes.
        ignore_label: Label of the pixels that do not count.
        total: Number of examples, for the progress bar.
    """
    return scores_from_confusion(
        split_confusion(
            predict_labels,
            examples,
            num_classes=num_classes,
            ignore_label=ignore_label,
            total=total,
        )
    )


def split_confusion(
    predict_labels: Callable[[np.ndarray], np.ndarray],
    examples: Iterable[Mapping[str, Any]],
    *,
    num_classes: int,
    ignore_label: int,
    total: int | None = None,
) -> np.ndarray:
    """The confusion matrix of a whole split, int64 [classes, classes]; arguments of `evaluate`."""
    matrix = np.zeros((num_classes, num_classes), np.int64)
    for example in _with_progress(examples, total):
        matrix += confusion_matrix(
            example["label"],
            predict_labels(example["image"]),
            num_classes=num_classes,
            ignore_label=ignore_label,
        )
    return matrix


class ScoredImage(NamedTuple):
    """An image of a split and what the network says of it.

    Attributes:
        name: Of the image file.
        image: [h, w, c] in 0..255.
        label: uint8 [h, w], class ids or the ignore label.
        prediction: int32 [h, w], class ids.
        probabilities: float32 [h, w, classes]; None where nobody asked for them.
        confusion: int64 [classes, classes], rows = labels, columns = predictions.
    """

    name: str
    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    probabilities: np.ndarray | None
    confusion: np.ndarray


def scored_images(
    predict: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]],
    examples: Iterable[Mapping[str, Any]],
    *,
    num_classes: int,
    ignore_label: int,
    total: int | None = None,
) -> Iterator[ScoredImage]:
    """Predicts a split, an image at a time, for any number of measures in the same pass.

    Args:
        predict: Image, [h, w, c], to labels, integer [h, w], and probabilities or None.
        examples: Dictionaries with "image", "label", uint8 [h, w], and "filename", bytes, as numpy
            arrays.
        num_classes: Number of classes.
        ignore_label: Label of the pixels that do not count.
        total: Number of examples, for the progress bar.
    """
    for example in _with_progress(examples, total):
        image, label = example["image"], example["label"]
        prediction, probabilities = predict(image)
        confusion = confusion_matrix(
            label, prediction, num_classes=num_classes, ignore_label=ignore_label
        )
        name = os.fsdecode(example["filename"])
        yield ScoredImage(name, image, label, prediction, probabilities, confusion)


def _with_progress(
    examples: Iterable[Mapping[str, Any]], total: int | None
) -> Iterable[Mapping[str, Any]]:
    return tqdm(examples, total=total, desc="evaluate", unit="image", leave=False)
