"""All that eval.py measures on a split, in one pass over the images."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplab_tf.evaluation.bootstrap import Interval, mean_iou_interval
from deeplab_tf.evaluation.boundary import (
    Border,
    TrimapScores,
    format_trimap_scores,
    trimap_scores_to_json,
)
from deeplab_tf.evaluation.boundary_iou import BoundaryIoU, BoundaryScores
from deeplab_tf.evaluation.calibration import Calibration, CalibrationScores
from deeplab_tf.evaluation.gallery import Gallery
from deeplab_tf.evaluation.image_scores import ImageCounts, ImageScores
from deeplab_tf.evaluation.metrics import (
    SegmentationScores,
    format_scores,
    scores_from_confusion,
    scores_to_json,
)
from deeplab_tf.evaluation.run import ScoredImage, scored_images


@dataclass(frozen=True)
class Measures:
    """What is measured besides the confusion matrix, which is free.

    Attributes:
        trimap_widths: Widths of bands around borders, in pixels.
        trimap_around: What they lie around.
        boundary_iou: Whether the boundary IoU is.
        calibration: Whether that of the probabilities is.
        gallery: Images to keep for a report: the worst, and as many random ones.
    """

    trimap_widths: tuple[int, ...] = ()
    trimap_around: Border = "void"
    boundary_iou: bool = False
    calibration: bool = False
    gallery: int = 0


@dataclass(frozen=True)
class SplitScores:
    """What was measured; None and empty where it was not asked for.

    Attributes:
        whole: Scores of all pixels.
        confusion: int64 [classes, classes], rows = labels, columns = predictions.
        images: Counts of each image.
        interval: That of the mean IoU.
        trimaps: Scores in bands around borders, by width.
        trimap_around: What they lie around.
        boundary: Boundary IoU.
        calibration: Of the probabilities.
        gallery: Pictures.
    """

    whole: SegmentationScores
    confusion: np.ndarray
    images: ImageCounts
    interval: Interval
    trimaps: Mapping[int, SegmentationScores]
    trimap_around: Border
    boundary: BoundaryScores | None
    calibration: CalibrationScores | None
    gallery: Gallery | None

    def table(self, class_names: Sequence[str]) -> str:
        """Returns the scores as text to print."""
        parts = [format_scores(self.whole, class_names)]
        low, high = self.interval.low, self.interval.high
        if not np.isnan(low):
            parts[0] += f"\n95 % interval of the mean IoU, by images: {low:.4f} to {high:.4f}"
        if self.boundary is not None:
            ratio = self.boundary.dilation_ratio
            parts[0] += f"\nboundary IoU ({ratio:.0%} of the diagonal): {self.boundary.mean:.4f}"
        if self.calibration is not None:
            parts.append(str(self.calibration))
        if self.trimaps:
            parts.append(format_trimap_scores(self.trimaps, self.whole, around=self.trimap_around))
        return "\n\n".join(parts)

    def to_json(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Returns the scores as a JSON object, None in place of NaN."""
        result = scores_to_json(self.whole, class_names)
        result["images"] = len(self.images.names)
        result["mean_iou_interval"] = self.interval.to_json()
        if self.boundary is not None:
            result["boundary_iou"] = self.boundary.to_json(class_names)
        if self.calibration is not None:
            result["calibration"] = self.calibration.to_json()
        if self.trimaps:
            result["trimaps"] = trimap_scores_to_json(
                self.trimaps, self.whole, class_names, around=self.trimap_around
            )
        return result


def measure_split(
    predict: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]],
    examples: Iterable[Mapping[str, Any]],
    measures: Measures,
    *,
    num_classes: int,
    ignore_label: int,
    palette: Sequence[Sequence[int]],
    total: int,
) -> SplitScores:
    """Measures the predictions of a split; each image is predicted once.

    Args:
        predict: Image, [h, w, c], to labels, integer [h, w], and probabilities, float32
            [h, w, classes], which may be None where no calibration is wanted.
        examples: As in `evaluation.scored_images`; at least one.
        measures: What is wanted.
        num_classes: Number of classes.
        ignore_label: Label of the pixels that do not count.
        palette: Colours of the classes, for the gallery.
        total: Number of examples.
    """
    collectors = _Collectors(
        measures, num_classes=num_classes, ignore_label=ignore_label, palette=palette, total=total
    )
    for seen in scored_images(
        predict, examples, num_classes=num_classes, ignore_label=ignore_label, total=total
    ):
        collectors.add(seen)
    return collectors.scores()


class _Collectors:
    """What adds up each measure, an image at a time; arguments as in `measure_split`."""

    def __init__(
        self,
        measures: Measures,
        *,
        num_classes: int,
        ignore_label: int,
        palette: Sequence[Sequence[int]],
        total: int,
    ) -> None:
        classes = {"num_classes": num_classes, "ignore_label": ignore_label}
        self._around = measures.trimap_around
        self._images = ImageScores()
        self._confusion = np.zeros((num_classes, num_classes), np.int64)
        self._trimaps = TrimapScores(measures.trimap_widths, around=self._around, **classes)
        self._boundary = BoundaryIoU(**classes) if measures.boundary_iou else None
        self._calibration, self._gallery = None, None
        if measures.calibration:
            self._calibration = Calibration(ignore_label=ignore_label, images=total)
        if measures.gallery:
            self._gallery = Gallery(measures.gallery, palette=palette, ignore_label=ignore_label)

    def add(self, seen: ScoredImage) -> None:
        self._confusion += seen.confusion
        self._images.add(seen.name, seen.confusion)
        self._trimaps.add(seen.label, seen.prediction)
        if self._boundary is not None:
            self._boundary.add(seen.label, seen.prediction)
        if self._calibration is not None:
            assert seen.probabilities is not None
            self._calibration.add(seen.label, seen.prediction, seen.probabilities)
        if self._gallery is not None:
            self._gallery.add(seen.name, seen.image, seen.label, seen.prediction, seen.confusion)

    def scores(self) -> SplitScores:
        counts = self._images.counts()
        return SplitScores(
            whole=scores_from_confusion(self._confusion),
            confusion=self._confusion,
            images=counts,
            interval=mean_iou_interval(counts),
            trimaps=self._trimaps.scores(),
            trimap_around=self._around,
            boundary=self._boundary.scores() if self._boundary else None,
            calibration=self._calibration.scores() if self._calibration else None,
            gallery=self._gallery,
        )
