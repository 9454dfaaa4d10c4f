"""How sure a mean IoU is, and a difference of two: the bootstrap over the images of a split.

Images are drawn with replacement, as many as there are, again and again; the scores of the draws
scatter as those of other splits of this size would (Efron and Tibshirani, An Introduction to the
Bootstrap, 1993, chapter 13: the percentile interval). Pixels of an image depend on each other, so
images are drawn, not pixels. It knows nothing of other seeds of the training, nor of images that
resemble each other, such as the frames of a video: the true interval is wider there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from deeplab_tf.evaluation.image_scores import ImageCounts, class_ious, mean_ious

RESAMPLES = 2000
CONFIDENCE = 0.95

# Numbers of one block of draws: 32 MB of weights, whatever the number of images.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Interval:
    """The middle 95 % of the draws; NaN where there are too few images for any, less than two."""

    low: float
    high: float

    def to_json(self) -> list[float | None]:
        """Both ends, None in place of NaN."""
        return [None if np.isnan(end) else end for end in (self.low, self.high)]


@dataclass(frozen=True)
class ClassDifference:
    """The IoU of a class in two runs, NaN where it is in no label, and second minus first."""

    name: str
    first: float
    second: float
    interval: Interval


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same images.

    Attributes:
        images: Number of images.
        first: Mean IoU of the first run.
        second: Mean IoU of the second run.
        interval: Of second minus first.
        share_not_better: Share of the draws in which the second is not above the first.
        classes: The same of each class.
    """

    images: int
    first: float
    second: float
    interval: Interval
    share_not_better: float
    classes: tuple[ClassDifference, ...]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, None in place of NaN."""
        return _without_nan(asdict(self))

    def __str__(self) -> str:
        """As a table, and what it means in words."""
        width = max(len("mean IoU"), *(len(row.name) for row in self.classes))
        head = f"{'class':<{width}}   first  second  difference  {'95 % interval':>18}"
        rule = "-" * len(head)
        rows = [_row(r.name, r.first, r.second, r.interval, width) for r in self.classes]
        mean = _row("mean IoU", self.first, self.second, self.interval, width)
        return "\n".join([head, rule, *rows, rule, mean, "", self._verdict()])

    def _verdict(self) -> str:
        low, high = self.interval.low, self.interval.high
        said = (
            f"{self.images} images drawn anew {RESAMPLES} times: the second is not better in "
            f"{self.share_not_better:.1%} of the draws."
        )
        if low > 0:
            return f"{said} It is better than the first by more than chance."
        if high < 0:
            return f"{said} It is worse than the first by more than chance."
        return f"{said} The interval holds 0: these images do not tell the two apart."


def draws(images: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[np.ndarray]:
    """How often each image is drawn, in blocks, float64 [draws, images] that are whole numbers.

    Float64, because a matrix product with it is BLAS's; its sums are exact up to 2**53 pixels.
    """
    rng = np.random.default_rng(seed)
    rows = max(1, _BLOCK // images)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        yield rng.multinomial(images, np.full(images, 1 / images), size=size).astype(np.float64)


def mean_iou_interval(
    counts: ImageCounts, *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """The 95 % percentile interval of the mean IoU of a split.

    In a draw that lacks a class, labels and predictions alike, the mean leaves the class out.
    """
    if len(counts.names) < 2:
        return Interval(np.nan, np.nan)
    return _interval(mean_ious(_resampled_ious([counts], resamples=resamples, seed=seed)[0]))


def compare(
    first: ImageCounts,
    second: ImageCounts,
    class_names: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compares two runs on the same images, each draw with the same images for both.

    What makes an image hard is hard for both runs and cancels out: the interval of the difference
    is narrower than those of the two scores let expect.

    Raises:
        ValueError: The images are not the same, or their labels are not, or there is but one.
    """
    second = _in_order_of(first, second)
    if len(first.names) < 2:
        raise ValueError("There is only one image: a comparison needs two or more.")
    ious = _resampled_ious([first, second], resamples=resamples, seed=seed)
    means = mean_ious(ious)
    difference = means[1] - means[0]
    difference = difference[~np.isnan(difference)]  # a draw may have void images only
    of_split = np.stack([_split_ious(counts) for counts in (first, second)])
    shown = np.where(first.labelled.sum(axis=0) > 0, of_split, np.nan)
    whole = mean_ious(of_split)
    return Comparison(
        images=len(first.names),
        first=float(whole[0]),
        second=float(whole[1]),
        interval=_interval(difference),
        share_not_better=float((difference <= 0).sum() / max(difference.size, 1)),
        classes=tuple(
            ClassDifference(name, float(a), float(b), _interval(ious[1, :, i] - ious[0, :, i]))
            for i, (name, a, b) in enumerate(zip(class_names, *shown, strict=True))
        ),
    )


def _resampled_ious(runs: Sequence[ImageCounts], *, resamples: int, seed: int) -> np.ndarray:
    """IoU of each class in each draw, float64 [runs, resamples, classes]; the same for all runs."""
    tables = [
        [part.astype(np.float64) for part in (run.hits, run.labelled, run.predicted)]
        for run in runs
    ]
    blocks = [
        [class_ious(*(drawn @ part for part in table)) for table in tables]
        for drawn in draws(len(runs[0].names), resamples=resamples, seed=seed)
    ]
    return np.concatenate(blocks, axis=1)


def _split_ious(counts: ImageCounts) -> np.ndarray:
    parts = (counts.hits, counts.labelled, counts.predicted)
    return class_ious(*(part.sum(axis=0) for part in parts))


def _in_order_of(first: ImageCounts, second: ImageCounts) -> ImageCounts:
    """The second run's counts in the order of the first's."""
    if first.names != second.names:
        for names in (first.names, second.names):
            if len(set(names)) < len(names):
                raise ValueError(
                    "Several images have one name and the runs have them in another order: their "
                    "pairs cannot be told. Convert the images under names of their own."
                )
        if alone := sorted(set(first.names) ^ set(second.names)):
            raise ValueError(
                f"The runs were evaluated on other images: {len(alone)} are in one of them only, "
                f"such as {alone[0]}. Evaluate both on the same records."
            )
        places = {name: place for place, name in enumerate(second.names)}
        order = [places[name] for name in first.names]
        second = ImageCounts(
            first.names, second.hits[order], second.labelled[order], second.predicted[order]
        )
    if first.labelled.shape != second.labelled.shape:
        raise ValueError("The runs have different numbers of classes.")
    other = (first.labelled != second.labelled).any(axis=1)
    if other.any():
        raise ValueError(
            f"The labels of {other.sum()} images differ between the runs, such as those of "
            f"{first.names[int(other.argmax())]}: other records, or images resized in another way "
            "(--min_resize_value). Evaluate both on the same pixels."
        )
    return second


def _interval(values: np.ndarray) -> Interval:
    """Of the draws that have a value."""
    values = values[~np.isnan(values)]
    if not values.size:
        return Interval(np.nan, np.nan)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(float(low), float(high))


def _row(name: str, first: float, second: float, interval: Interval, width: int) -> str:
    if np.isnan(first):
        return f"{name:<{width}}       -       -           -"
    between = f"{interval.low:+.4f} {interval.high:+.4f}"
    return f"{name:<{width}}  {first:.4f}  {second:.4f}  {second - first:+10.4f}  {between:>18}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and np.isnan(value) else value
