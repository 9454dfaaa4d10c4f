"""Boundary IoU: the IoU of what lies within a short distance of the classes' outlines.

After Cheng et al., "Boundary IoU" (arXiv 2103.16562). The mean IoU is that of large regions, whose
insides are easy; this one is lost where outlines are. Unlike a trimap's score it also counts what
is predicted far from any border of the labels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

DILATION_RATIO = 0.02

_OUTSIDE = 255  # no class id: there are 255 classes at most


@dataclass(frozen=True)
class BoundaryScores:
    """Boundary IoU of a split.

    Attributes:
        mean: Mean over the classes, as the mean IoU: a class that is predicted but occurs in no
            label counts as 0. NaN without pixels.
        of_classes: Of each class, NaN where it occurs in no label.
        dilation_ratio: Width of the band over the diagonal of an image.
    """

    mean: float
    of_classes: tuple[float, ...]
    dilation_ratio: float

    def to_json(self, class_names: Sequence[str]) -> dict[str, Any]:
        """As a JSON object, None in place of NaN."""
        rows = zip(class_names, self.of_classes, strict=True)
        return {
            "mean": None if math.isnan(self.mean) else self.mean,
            "dilation_ratio": self.dilation_ratio,
            "classes": [
                {"name": name, "iou": None if math.isnan(iou) else iou} for name, iou in rows
            ],
        }


class BoundaryIoU:
    """Adds up the intersections and unions of the bands over images.

    Differs: the paper averages over masks of instances; here, as in a mean IoU, pixels of all
    images count together, class by class. Void in the labels is void in the prediction too, so that
    both have the same outline along it and a perfect prediction has 1; void pixels do not count.

    Args:
        num_classes: Number of classes.
        ignore_label: Label of the pixels that do not count.
        dilation_ratio: Width of the band over the diagonal of an image.
    """

    def __init__(
        self, *, num_classes: int, ignore_label: int, dilation_ratio: float = DILATION_RATIO
    ) -> None:
        self._num_classes = num_classes
        self._ignore_label = ignore_label
        self._dilation_ratio = dilation_ratio
        # Pixels in the band of the label, of the prediction, and of both; and label pixels.
        self._labelled = np.zeros(num_classes, np.int64)
        self._predicted = np.zeros(num_classes, np.int64)
        self._common = np.zeros(num_classes, np.int64)

    def add(self, label: np.ndarray, prediction: np.ndarray) -> None:
        """Adds an image.

        Args:
            label: uint8 [h, w], class ids or the ignore label.
            prediction: Integer [h, w], class ids.
        """
        valid = label != self._ignore_label
        width = band_width(label.shape, self._dilation_ratio)
        truth = np.where(valid, label, _OUTSIDE).astype(np.uint8)
        found = np.where(valid, prediction, _OUTSIDE).astype(np.uint8)
        in_truth = boundary_band(truth, width) & valid
        in_found = boundary_band(found, width) & valid
        self._labelled += self._count(truth[in_truth])
        self._predicted += self._count(found[in_found])
        self._common += self._count(truth[in_truth & in_found & (truth == found)])

    def scores(self) -> BoundaryScores:
        """Those of all images so far."""
        union = self._labelled + self._predicted - self._common
        iou = np.where(union > 0, self._common / np.maximum(union, 1), np.nan)
        return BoundaryScores(
            mean=float(np.nanmean(iou)) if union.any() else math.nan,
            # A class has pixels where its outline has: every region has an outline.
            of_classes=tuple(np.where(self._labelled > 0, iou, np.nan).tolist()),
            dilation_ratio=self._dilation_ratio,
        )

    def _count(self, ids: np.ndarray) -> np.ndarray:
        return np.bincount(ids, minlength=self._num_classes)


def band_width(size: Sequence[int], dilation_ratio: float = DILATION_RATIO) -> int:
    """Pixels that the band of an image, height x width, is wide: at least 1."""
    return max(1, round(dilation_ratio * math.hypot(*size[:2])))


def boundary_band(labels: np.ndarray, width: int) -> np.ndarray:
    """Pixels with another class, or the outside of the image, at most `width` pixels away.

    That is what an erosion of each class's mask by a square of 2 x width + 1 takes away, as in the
    paper's code; of all classes at once, because a square within one class has one value.

    Args:
        labels: uint8 [h, w]; 255 is no class.
        width: In pixels, along rows, columns and diagonals alike.

    Returns:
        bool [h, w].
    """
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    around = np.pad(labels, width, constant_values=_OUTSIDE)
    same = cv2.erode(around, square) == cv2.dilate(around, square)
    inside = same[width : width + labels.shape[0], width : width + labels.shape[1]]
    return ~inside
