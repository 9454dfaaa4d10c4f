"""Segmentation scores from a confusion matrix: IoU, F1 and accuracy, of classes and of all."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

_EXACT_PIXELS = 1 << 24


@dataclass(frozen=True)
class SegmentationScores:
    """Scores over every pixel whose label is not the ignore label.

    Attributes:
        mean_iou: Mean of the IoU over the classes that occur in the labels or in the predictions:
            a class that is predicted but occurs in no label counts as 0. NaN without pixels.
        iou: Intersection over union per class, NaN where the class occurs in no label.
        pixel_accuracy: Share of pixels whose prediction is their label. NaN without pixels.
        pixels: Number of label pixels per class.
        mean_accuracy: Mean of the accuracy over the classes that occur in the labels: as this one
            asks which label pixels are found, no other class has one. NaN without pixels.
        accuracy: Share of the class's label pixels that are predicted as it (recall), NaN where the
            class occurs in no label.
        frequency_weighted_iou: Mean of the IoU weighted by the label pixels (Long et al.,
            arXiv 1411.4038, section 5), to which a class in no label adds nothing.
        mean_f1: As `mean_iou`, of the F1.
        f1: 2 x hits / (label pixels + predicted pixels) per class, which is the Dice coefficient;
            NaN where the class occurs in no label.
    """

    mean_iou: float
    iou: tuple[float, ...]
    pixel_accuracy: float
    pixels: tuple[int, ...]
    mean_accuracy: float
    accuracy: tuple[float, ...]
    frequency_weighted_iou: float
    mean_f1: float
    f1: tuple[float, ...]


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
    # A histogram of all 256 x 256 pairs: dropping the ignored pixels and finding wrong values
    # afterwards costs nothing per pixel.
    pairs = _count_pairs(
        _as_bytes(labels, "Label", expected_label).ravel(),
        _as_bytes(predictions, "Prediction", expected_prediction).ravel(),
    )
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
    labelled = matrix.sum(axis=1)
    both = labelled + matrix.sum(axis=0)  # twice the hits, and what is in one of the two
    iou = _ratio(hits, both - hits)
    f1 = _ratio(2 * hits, both)
    accuracy = _ratio(hits, labelled)
    total = labelled.sum()
    return SegmentationScores(
        mean_iou=float(np.nanmean(iou)) if total else math.nan,
        iou=tuple(np.where(labelled > 0, iou, np.nan).tolist()),
        pixel_accuracy=float(hits.sum() / total) if total else math.nan,
        pixels=tuple(labelled.tolist()),
        mean_accuracy=float(np.nanmean(accuracy)) if total else math.nan,
        accuracy=tuple(accuracy.tolist()),
        frequency_weighted_iou=float(np.nansum(labelled * iou) / total) if total else math.nan,
        mean_f1=float(np.nanmean(f1)) if total else math.nan,
        f1=tuple(np.where(labelled > 0, f1, np.nan).tolist()),
    )


def format_scores(scores: SegmentationScores, class_names: Sequence[str]) -> str:
    """Returns the scores as a table to print: class, IoU, share of the label pixels."""
    _check_class_names(scores, class_names)
    total = max(sum(scores.pixels), 1)
    means = {
        "mean IoU": scores.mean_iou,
        "pixel accuracy": scores.pixel_accuracy,
        "mean accuracy": scores.mean_accuracy,
        "mean F1 (Dice)": scores.mean_f1,
        "weighted IoU": scores.frequency_weighted_iou,
    }
    width = max(map(len, [*means, *class_names]))
    header = f"{'class':<{width}}     IoU   pixels"
    rule = "-" * len(header)
    rows = [header, rule]
    for name, iou, pixels in zip(class_names, scores.iou, scores.pixels, strict=True):
        shown = "-" if math.isnan(iou) else f"{iou:.4f}"
        rows.append(f"{name:<{width}}  {shown:>6}  {pixels / total:7.2%}")
    rows += [rule, *(f"{name:<{width}}  {mean:6.4f}" for name, mean in means.items())]
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
    """Returns the scores as a JSON object, those of classes by name, None in place of NaN."""
    _check_class_names(scores, class_names)
    classes = zip(class_names, scores.iou, scores.f1, scores.accuracy, scores.pixels, strict=True)
    return {
        "mean_iou": _none_if_nan(scores.mean_iou),
        "pixel_accuracy": _none_if_nan(scores.pixel_accuracy),
        "mean_accuracy": _none_if_nan(scores.mean_accuracy),
        "mean_f1": _none_if_nan(scores.mean_f1),
        "frequency_weighted_iou": _none_if_nan(scores.frequency_weighted_iou),
        "classes": [
            {
                "name": name,
                "iou": _none_if_nan(iou),
                "f1": _none_if_nan(f1),
                "accuracy": _none_if_nan(accuracy),
                "pixels": pixels,
            }
            for name, iou, f1, accuracy, pixels in classes
        ],
    }


def confusion_csv(matrix: np.ndarray, class_names: Sequence[str]) -> str:
    """Returns a confusion matrix as CSV: a row for each label, a column for each prediction.

    Args:
        matrix: Integer [classes, classes], rows = labels, columns = predictions.
        class_names: One name per class.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["label \\ predicted", *class_names])
    for name, row in zip(class_names, matrix.tolist(), strict=True):
        writer.writerow([name, *row])
    return text.getvalue()


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Element by element, float64; NaN where the whole is nothing."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _count_pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How often each byte meets each, uint8 [n] twice to int64 [256, 256].

    OpenCV counts bytes nearly twice as fast as numpy's bincount, but returns float32, which is
    exact up to 2**24: larger images are counted in parts.
    """
    counts = np.zeros((256, 256), np.int64)
    for start in range(0, first.size, _EXACT_PIXELS):
        part = slice(start, start + _EXACT_PIXELS)
        planes = [first[part], second[part]]
        counts += cv2.calcHist(planes, [0, 1], None, [256, 256], [0, 256, 0, 256]).astype(np.int64)
    return counts


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
