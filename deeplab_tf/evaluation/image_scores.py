"""What each image of a split adds to its scores, and the scores of the single image.

Of an image's confusion matrix only three numbers of each class are kept: the mean IoU of any choice
of images follows from them, and 2000 images of 150 classes are 7 MB.
"""

import csv
import io
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from zipfile import BadZipFile

import numpy as np

from deeplab_tf.data.output import write_file


@dataclass(frozen=True)
class ImageCounts:
    """Counts of the images of a split.

    Attributes:
        names: The images' names, in the order of the records.
        hits: Pixels of the class that are predicted as it, int64 [images, classes].
        labelled: Pixels whose label is the class, int64 [images, classes].
        predicted: Those of them and of other classes' pixels that are predicted as the class,
            int64 [images, classes].
    """

    names: tuple[str, ...]
    hits: np.ndarray
    labelled: np.ndarray
    predicted: np.ndarray

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes them as an .npz file."""
        data = io.BytesIO()
        np.savez_compressed(
            data,
            names=np.array(self.names, dtype=np.str_),
            hits=self.hits,
            labelled=self.labelled,
            predicted=self.predicted,
        )
        write_file(path, data.getvalue())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "ImageCounts":
        """Reads what `save` wrote.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is something else.
        """
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"{path} not found: expected the counts of each image, which eval.py writes beside "
                "its scores. Evaluate that checkpoint again."
            )
        try:
            # Opened here, because numpy does not close what it finds to be damaged.
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                names = tuple(arrays["names"].tolist())
                return cls(names, arrays["hits"], arrays["labelled"], arrays["predicted"])
        except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
            raise ValueError(
                f"{path} is no file of eval.py's ({error}): evaluate that checkpoint again."
            ) from error


class ImageScores:
    """Collects `ImageCounts`, an image at a time."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._counts: list[np.ndarray] = []

    def add(self, name: str, confusion: np.ndarray) -> None:
        """Adds an image by its confusion matrix, int64 [classes, classes], rows = labels."""
        self._names.append(name)
        self._counts.append(np.stack([np.diag(confusion), confusion.sum(1), confusion.sum(0)]))

    def counts(self) -> ImageCounts:
        """Those of all images so far; at least one."""
        return ImageCounts(tuple(self._names), *np.stack(self._counts, axis=1))


def class_ious(hits: np.ndarray, labelled: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """IoU of each class, float64 [..., classes], of counts of that shape.

    NaN where a class occurs neither in the labels nor in the predictions: a mean leaves it out. A
    class that is predicted only has 0.
    """
    union = labelled + predicted - hits
    return np.where(union > 0, hits / np.maximum(union, 1), np.nan)


def mean_ious(ious: np.ndarray) -> np.ndarray:
    """Mean over the classes of `class_ious`, float64 [...]; NaN where there is none."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        return np.nanmean(ious, axis=-1)


def image_scores_csv(counts: ImageCounts, class_names: Sequence[str]) -> str:
    """Returns the scores of each image as CSV: name, pixels, mean IoU, pixel accuracy, IoUs.

    The mean IoU of an image is the mean over the classes that occur in its labels or predictions; a
    cell is empty where a class does not. The mean of this column is not the mean IoU of the split,
    which counts all pixels together.
    """
    ious = class_ious(counts.hits, counts.labelled, counts.predicted)
    means, pixels = mean_ious(ious), counts.labelled.sum(axis=1)
    accuracies = counts.hits.sum(axis=1) / np.maximum(pixels, 1)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["name", "pixels", "mean_iou", "pixel_accuracy", *(f"iou {name}" for name in class_names)]
    )
    for row in zip(counts.names, pixels.tolist(), means, accuracies, ious, strict=True):
        name, count, mean, accuracy, of_classes = row
        shown = [mean, accuracy if count else np.nan, *of_classes]
        cells = ["" if np.isnan(value) else f"{value:.6f}" for value in shown]
        writer.writerow([name, count, *cells])
    return text.getvalue()
