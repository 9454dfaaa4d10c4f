"""Segmentation scores from a confusion matrix: mean IoU, IoU per class, pixel accuracy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SegmentationScores:
    """Scores over every pixel whose label is not the ignore label.

    Attributes:
        mean_iou: Mean of the IoU over the classes that occur in the labels or in the predictions:
            a class that is predicted but occurs in no label counts as 0. NaN without pixels.
        iou: Intersection over union per class, NaN where the class occurs in no label.
        pixel_accuracy: Share of pixels whose prediction is their label. NaN without pixels.
        pixels: Number of label pixels per class.
    """

    mean_iou: float
    iou: tuple[float, ...]
    pixel_accuracy: float
    pixels: tuple[int, ...]


def confusion_matrix(
    labels: np.ndarray, predictions: np.ndarray, *, num_classes: int, ignore_label: int
) -> np.ndarray:
    """Counts how often each label meets each prediction; add up the matrices of several images.

    Args:
        labels: Integer, any shape, class ids in [0, num_classes) or `ignore_label`.
        predictions: Integer, the shape of `labels`, class ids in [0, num_classes); any byte where
            the label is `ignore_label`.
        num_classes: 1 to 255.
        ignore_label: 0 to 255, pixels not to count. May itself be a class id (ADE20K: 0).

    Returns:
        int64 [num_classes, num_classes], rows = labels, columns = predictions.

    Raises:
        ValueError: If an argument, a label or a prediction is not as said above.
    """
    if not 1 <= num_classes <= 255 or not 0 <= ignore_label <= 255:
        raise ValueError(
            "Expected num_classes in 1..255 and ignore_label in 0..255, "
            f"found {num_classes} and {ignore_label}."
        )
    if labels.shape != predictions.shape:
        raise ValueError(
            f"Labels and predictions differ in shape: {labels.shape} and {predictions.shape}."
        )
    expected_label = f"0 to {num_classes - 1} or the ignore label {ignore_label}"
    expected_prediction = f"0 to {num_classes - 1}"
    codes = _as_bytes(labels, "Label", expected_label).astype(np.uint16)
    codes <<= 8
    codes |= _as_bytes(predictions, "Prediction", expected_prediction)
    # A histogram of all 256 x 256 pairs: dropping the ignored pixels and finding wrong values
    # afterwards costs nothing per pixel.
    pairs = np.bincount(codes.ravel(), minlength=1 << 16).reshape(256, 256)
    pairs[ignore_label] = 0
    wrong_labels = num_classes + np.flatnonzero(pairs[num_classes:].any(axis=1))
    if wrong_labels.size:
        raise ValueError(f"Label {wrong_labels[0]} found: expected {expected_label}.")
    wrong_predictions = num_classes + np.flatnonzero(pairs[:, num_classes:].any(axis=0))
    if wrong_predictions.size:
        raise ValueError(
            f"Prediction {wrong_predictions[0]} found: expected {expected_prediction}."
        )
    return pairs[:num_classes, :num_classes].copy()


def scores_from_confusion(matrix: np.ndarray) -> SegmentationScores:
    """Computes the scores of the reference's eval.py from one matrix over the whole split.

    Differs: the mean IoU of no pixels at all is NaN, in the reference 0.

    Args:
        matrix: Integer [classes, classes], rows = labels, columns = predictions.
    """
    hits = np.diag(matrix)
    label_pixels = matrix.sum(axis=1)
    union = label_pixels + matrix.sum(axis=0) - hits
    iou = np.where(union > 0, hits / np.maximum(union, 1), np.nan)
    total = label_pixels.sum()
    return SegmentationScores(
        mean_iou=float(np.nanmean(iou)) if total else math.nan,
        iou=tuple(np.where(label_pixels > 0, iou, np.nan).tolist()),
        pixel_accuracy=float(hits.sum() / total) if total else math.nan,
        pixels=tuple(label_pixels.tolist()),
    )


def format_scores(scores: SegmentationScores, class_names: Sequence[str]) -> str:
    """Returns the scores as a table to print: class, IoU, share of the label pixels."""
    _check_class_names(scores, class_names)
    total = max(sum(scores.pixels), 1)
    width = max(len("pixel accuracy"), *map(len, class_names))
    header = f"{'class':<{width}}     IoU   pixels"
    rule = "-" * len(header)
    rows = [header, rule]
    for name, iou, pixels in zip(class_names, scores.iou, scores.pixels, strict=True):
        shown = "-" if math.isnan(iou) else f"{iou:.4f}"
        rows.append(f"{name:<{width}}  {shown:>6}  {pixels / total:7.2%}")
    rows += [
        rule,
        f"{'mean IoU':<{width}}  {scores.mean_iou:6.4f}",
        f"{'pixel accuracy':<{width}}  {scores.pixel_accuracy:6.4f}",
    ]
    if any(map(math.isnan, scores.iou)):
        rows.append("-: in no label. If it was predicted somewhere, the mean counts it as 0.")
    return "\n".join(rows)


def format_class_ious(
    scores: SegmentationScores, class_names: Sequence[str], *, width: int = 100, limit: int = 40
) -> str:
    """Returns the IoU of each class in a few lines, to print often: in columns, by class id.

    Args:
        scores: What to print.
        class_names: One name per class.
        width: Length of a line, at least that of one class.
        limit: Number of classes to print; of more, those with the lowest IoU.
    """
    _check_class_names(scores, class_names)
    shown = list(enumerate(scores.iou))
    heading = []
    if len(shown) > limit:
        lowest = sorted((item for item in shown if not math.isnan(item[1])), key=lambda i: i[1])
        shown = sorted(lowest[:limit])
        heading = [f"  the {len(shown)} lowest of {len(scores.iou)} classes:"]
    longest = max((len(class_names[i]) for i, _ in shown), default=0)
    cells = [
        f"{class_names[i]:<{longest}} {'-' if math.isnan(iou) else f'{iou:.4f}':>6}"
        for i, iou in shown
    ]
    columns = max(1, (width - 2) // (longest + 10))
    rows = math.ceil(len(cells) / columns)
    lines = ["   ".join(cells[row::rows]) for row in range(rows)]
    return "\n".join(heading + [f"  {line}" for line in lines])


def scores_to_json(scores: SegmentationScores, class_names: Sequence[str]) -> dict[str, object]:
    """Returns the scores as a JSON object, IoU and pixels by class name, None in place of NaN."""
    _check_class_names(scores, class_names)
    classes = zip(class_names, scores.iou, scores.pixels, strict=True)
    return {
        "mean_iou": _none_if_nan(scores.mean_iou),
        "pixel_accuracy": _none_if_nan(scores.pixel_accuracy),
        "classes": [
            {"name": name, "iou": _none_if_nan(iou), "pixels": pixels}
            for name, iou, pixels in classes
        ],
    }


def _as_bytes(ids: np.ndarray, what: str, expected: str) -> np.ndarray:
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"{what}s of type {ids.dtype} found: expected integers, {expected}.")
    if ids.dtype != np.uint8 and ids.size and (ids.min() < 0 or ids.max() > 255):
        wrong = ids[(ids < 0) | (ids > 255)][0]
        raise ValueError(f"{what} {wrong} found: expected {expected}.")
    return ids.astype(np.uint8, copy=False)


def _check_class_names(scores: SegmentationScores, class_names: Sequence[str]) -> None:
    if len(class_names) != len(scores.iou):
        raise ValueError(f"{len(class_names)} class names found for {len(scores.iou)} classes.")


def _none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value
