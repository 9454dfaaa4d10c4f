"""Trimaps: scores in narrow bands around the borders of objects (v1, Fig. 5; v3+, Fig. 5)."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import cv2
import numpy as np

from deeplab_tf.evaluation.metrics import (
    SegmentationScores,
    confusion_matrix,
    scores_from_confusion,
    scores_to_json,
)

Border = Literal["void", "classes"]


def trimaps(
    labels: np.ndarray, *, widths: Sequence[int], ignore_label: int, around: Border = "void"
) -> np.ndarray:
    """Bands of pixels that have a class and lie near a border.

    A band of width w is the border dilated by a disc of radius w: the pixels whose centres lie w
    or less from the centre of the nearest pixel beyond the border. At width 1 these are the pixels
    that share an edge with it.

    Around "void", as in the papers, beyond the border lie the pixels of the ignore label: PASCAL
    VOC draws them as a line around each object. A large region without a class has a band around
    it as well. The edge of the image is no border.

    Around "classes", which serves data without such lines, beyond the border lie the pixels of
    every other class. Two objects of one class have no border between them, and a line of void
    between two classes is no border itself but counts as distance.

    Args:
        labels: uint8 [h, w], class ids or `ignore_label`.
        widths: Widths of the bands in pixels.
        ignore_label: Label of the pixels without a class.
        around: "void" or "classes".

    Returns:
        bool [widths, h, w], False wherever there is no class.
    """
    if not widths:
        return np.zeros((0, *labels.shape), bool)
    distance = np.full(labels.shape, np.inf, np.float32)
    valid = labels != ignore_label
    if around == "void":
        distance[valid] = _distance_to(~valid)[valid]
    else:
        for class_id in np.unique(labels[valid]):
            own = labels == class_id
            distance[own] = _distance_to(valid & ~own)[own]
    # Squares of distances are whole numbers, but OpenCV's roots are not always rounded well.
    limits = [math.sqrt(width**2 + 0.5) for width in widths]
    return np.stack([distance <= limit for limit in limits])


class TrimapScores:
    """Collects the scores in bands around borders, an image at a time.

    Args:
        widths: Widths of the bands in pixels of the images.
        around: What the bands lie around, see `trimaps`.
        num_classes: Number of classes.
        ignore_label: Label of the pixels that do not count.
    """

    def __init__(
        self, widths: Sequence[int], *, around: Border, num_classes: int, ignore_label: int
    ) -> None:
        self._widths = tuple(widths)
        self._around = around
        self._ignore_label = ignore_label
        self._matrices = np.zeros((len(self._widths), num_classes, num_classes), np.int64)

    def add(self, label: np.ndarray, prediction: np.ndarray) -> None:
        """Adds an image: uint8 [h, w], class ids or the ignore label; integer [h, w], class ids."""
        ignore_label = self._ignore_label
        bands = trimaps(label, widths=self._widths, ignore_label=ignore_label, around=self._around)
        for matrix, band in zip(self._matrices, bands, strict=True):
            matrix += confusion_matrix(
                np.where(band, label, np.uint8(ignore_label)),
                prediction,
                num_classes=len(matrix),
                ignore_label=ignore_label,
            )

    def scores(self) -> dict[int, SegmentationScores]:
        """Those of all images so far, by the width of the band."""
        return dict(zip(self._widths, map(scores_from_confusion, self._matrices), strict=True))


def format_trimap_scores(
    bands: Mapping[int, SegmentationScores], whole: SegmentationScores, *, around: Border
) -> str:
    """Returns the scores in bands as a table to print: width, mean IoU, accuracy, share.

    Args:
        bands: The scores by width.
        whole: Those of all pixels.
        around: What the bands lie around.
    """
    rows = [f"width  mean IoU  pixel accuracy  pixels   (bands around {around})"]
    rows.append("-" * len(rows[0].partition("   (")[0]))
    for width, scores in bands.items():
        mean_iou, accuracy = (
            "-" if math.isnan(score) else f"{score:.4f}"
            for score in (scores.mean_iou, scores.pixel_accuracy)
        )
        rows.append(f"{width:5}  {mean_iou:>8}  {accuracy:>14}  {_share(scores, whole):7.2%}")
    if not any(sum(scores.pixels) for scores in bands.values()):
        found = {"void": "no pixel without a class", "classes": "no image with two classes"}[around]
        rows.append(f"-: no pixel lies in a band, as the split has {found}.")
    return "\n".join(rows)


def trimap_scores_to_json(
    bands: Mapping[int, SegmentationScores],
    whole: SegmentationScores,
    class_names: Sequence[str],
    *,
    around: Border,
) -> dict[str, object]:
    """Returns the scores in bands as a JSON object, arguments as in `format_trimap_scores`."""
    return {
        "around": around,
        "bands": [
            {"width": width, "share": _share(scores, whole), **scores_to_json(scores, class_names)}
            for width, scores in bands.items()
        ],
    }


def _distance_to(pixels: np.ndarray) -> np.ndarray:
    """The distance of each pixel to the nearest one of those, float32; infinite without any."""
    if not pixels.any():
        return np.full(pixels.shape, np.inf, np.float32)
    return cv2.distanceTransform((~pixels).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _share(band: SegmentationScores, whole: SegmentationScores) -> float:
    return sum(band.pixels) / max(sum(whole.pixels), 1)
