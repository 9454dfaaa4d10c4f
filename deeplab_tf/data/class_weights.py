"""Label weights by median frequency, from a count of a split's labels."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from deeplab_tf.data import pipeline
from deeplab_tf.data.dataset_info import DatasetInfo


class LabelCounts(NamedTuple):
    """How often each class occurs, int64 [classes].

    Attributes:
        pixels: Pixels of the class.
        pixels_of_shown: Valid pixels of all images that show the class.
    """

    pixels: np.ndarray
    pixels_of_shown: np.ndarray


def count_labels(
    dataset_dir: str | os.PathLike[str], split: str, *, info: DatasetInfo
) -> LabelCounts:
    """Counts the labels of a split, under a progress bar. Images are not decoded.

    Raises:
        FileNotFoundError: The split's files are missing.
        ValueError: The data set has no such split, or its files are empty.
        tf.errors.InvalidArgumentError: A label is neither a class nor `ignore_label`.
    """
    pixels = np.zeros(info.num_classes, np.int64)
    pixels_of_shown = np.zeros(info.num_classes, np.int64)
    labels = pipeline.split_labels(dataset_dir, split, info=info).as_numpy_iterator()
    for label in tqdm(labels, total=info.splits[split], desc=f"labels of {split}", unit="image"):
        counts = np.bincount(label.ravel(), minlength=256)
        counts[info.ignore_label] = 0
        pixels += counts[: info.num_classes]
        pixels_of_shown[counts[: info.num_classes] > 0] += counts.sum()
    return LabelCounts(pixels, pixels_of_shown)


def median_frequency_weights(
    pixels: np.ndarray, pixels_of_shown: np.ndarray
) -> tuple[float, ...] | None:
    """Weights of the classes by median frequency (Eigen and Fergus, ICCV 2015, section 6.3.2).

    A class's frequency is its share of the valid pixels of the images that show it; its weight is
    the median of all frequencies over its own. Classes that do not occur weigh 1.

    Args:
        pixels: Pixels of each class, [classes]; 0 for one that is the ignore label.
        pixels_of_shown: Valid pixels of all images that show it, [classes].

    Returns:
        One weight per class, rounded to three digits; None if no class occurs.
    """
    occur = pixels > 0
    if not occur.any():
        return None
    frequencies = pixels[occur] / pixels_of_shown[occur]
    weights = np.ones(len(pixels))
    weights[occur] = np.median(frequencies) / frequencies
    return tuple(float(f"{weight:.3g}") for weight in weights)


def format_label_weights(
    weights: Sequence[float], counts: LabelCounts, class_names: Sequence[str]
) -> str:
    """The weights as a table, with each class's share of all valid pixels in percent."""
    width = max(len("class"), *map(len, class_names))
    shares = 100 * counts.pixels / max(counts.pixels.sum(), 1)
    rows = (
        f"{name:<{width}}  {share:8.3f}  {weight:6g}"
        for name, share, weight in zip(class_names, shares, weights, strict=True)
    )
    return "\n".join([f"{'class':<{width}}  {'% pixels':>8}  {'weight':>6}", *rows])
