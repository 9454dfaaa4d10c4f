"""The search for the CRF's parameters on a few images, from coarse to fine (v1, section 5.1)."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from deeplab_tf.config import CRFParams
from deeplab_tf.crf import DenseCRF, compile_kernels
from deeplab_tf.data.channels import display_rgb
from deeplab_tf.evaluation.metrics import (
    SegmentationScores,
    confusion_matrix,
    scores_from_confusion,
)


@dataclasses.dataclass(frozen=True)
class Ranges:
    """The values that are searched for each parameter of the appearance kernel, rising.

    Attributes:
        bi_w: Its weight.
        bi_xy: Its standard deviation in pixels.
        bi_rgb: Its standard deviation in grey levels.
    """

    bi_w: tuple[float, ...]
    bi_xy: tuple[float, ...]
    bi_rgb: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, values in dataclasses.asdict(self).items():
            if not values or list(values) != sorted(set(values)):
                raise ValueError(f"{name} to search are {values}; expected one or more, rising.")


# v1, section 5.1, and v2, section 4.1.
RANGES = {
    "v1": Ranges(tuple(range(5, 11)), tuple(range(50, 101, 10)), tuple(range(3, 11))),
    "v2": Ranges(tuple(range(3, 7)), tuple(range(30, 101, 10)), tuple(range(3, 7))),
}


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        before: Mean IoU of the network alone.
        default: Where the search came from.
        mean_iou: Mean IoU of every point that was tried, that of `default` included.
    """

    before: float
    default: CRFParams
    mean_iou: dict[CRFParams, float]

    def ranking(self) -> list[tuple[CRFParams, float]]:
        """All points, the best first; of equal ones the one that was tried first."""
        return sorted(self.mean_iou.items(), key=lambda item: -item[1])


def search(
    score: Callable[[Sequence[CRFParams]], Mapping[CRFParams, float]],
    ranges: Ranges,
    default: CRFParams,
) -> SearchResult:
    """Tries every second value of each range, ends included, then what surrounds the best point.

    Args:
        score: Points to their mean IoU. Called twice.
        ranges: What is searched.
        default: What the other parameters are taken from. It is tried too, and so is the network
            alone, which is a CRF without a step of mean field.
    """
    axes = [getattr(ranges, field.name) for field in dataclasses.fields(ranges)]

    def points(indices: Sequence[Iterable[int]]) -> list[CRFParams]:
        chosen = ([axis[i] for i in kept] for axis, kept in zip(axes, indices, strict=True))
        return [
            dataclasses.replace(default, bi_w=bi_w, bi_xy=bi_xy, bi_rgb=bi_rgb)
            for bi_w, bi_xy, bi_rgb in itertools.product(*chosen)
        ]

    coarse = points([sorted({*range(0, len(axis), 2), len(axis) - 1}) for axis in axes])
    alone = dataclasses.replace(default, iterations=0)
    found = dict(score(list(dict.fromkeys([alone, default, *coarse]))))
    before = found.pop(alone)
    best = max(coarse, key=found.__getitem__)
    centre = [axis.index(value) for axis, value in zip(axes, _searched(best), strict=True)]
    around = points(
        [range(max(i - 1, 0), min(i + 2, len(axis))) for axis, i in zip(axes, centre, strict=True)]
    )
    found |= score([point for point in around if point not in found])
    return SearchResult(before, default, found)


def score_points(
    points: Sequence[CRFParams],
    examples: Iterable[Mapping[str, Any]],
    predict_probabilities: Callable[[np.ndarray], np.ndarray],
    *,
    num_classes: int,
    ignore_label: int,
    total: int,
) -> dict[CRFParams, SegmentationScores]:
    """Scores a CRF with each of several parameters on the same images, predicting each once.

    Args:
        points: The parameters.
        examples: Dictionaries with "image" and "label", uint8 [h, w], as numpy arrays.
        predict_probabilities: Image, [h, w, 3], to probabilities, float [h, w, classes].
        num_classes: Number of classes.
        ignore_label: Label of the pixels that do not count.
        total: Number of examples, for the progress bar.
    """
    compile_kernels()
    matrices = {point: np.zeros((num_classes, num_classes), np.int64) for point in points}
    with tqdm(total=total * len(points), desc="search", unit="CRF", leave=False) as progress:
        for example in examples:
            image = display_rgb(example["image"])
            probabilities = predict_probabilities(example["image"])
            for point, refined in _refined(image, probabilities, points):
                matrices[point] += confusion_matrix(
                    example["label"],
                    refined.argmax(axis=-1),
                    num_classes=num_classes,
                    ignore_label=ignore_label,
                )
                progress.update()
    return {point: scores_from_confusion(matrix) for point, matrix in matrices.items()}


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` indices below `count`, evenly spaced, the same ones every time."""
    return [i * count // min(count, wanted) for i in range(min(count, wanted))]


def format_search(result: SearchResult, ranges: Ranges) -> str:
    """Returns the outcome as text: the five best points, what they gain, and the flag to use."""
    names = [field.name for field in dataclasses.fields(CRFParams)]
    lines = ["  ".join([*names, "mean IoU"])]
    lines.append("-" * len(lines[0]))

    def row(point: CRFParams, mean_iou: float) -> str:
        cells = [f"{getattr(point, name):{len(name)}g}" for name in names]
        return "  ".join([*cells, f"{mean_iou:8.4f}"])

    lines.append(f"{'before the CRF':<{len(lines[0]) - 8}}{result.before:8.4f}")
    lines.append(f"{row(result.default, result.mean_iou[result.default])}  default")
    ranking = result.ranking()
    lines += [row(point, mean_iou) for point, mean_iou in ranking[:5]]
    best = ranking[0][0]
    for name, value in zip(("bi_w", "bi_xy", "bi_rgb"), _searched(best), strict=True):
        values = getattr(ranges, name)
        if len(values) > 1 and value in (values[0], values[-1]):
            lines.append(f"The best {name} is at an end of what was searched: try --{name} beyond.")
    text = ",".join(f"{getattr(best, name):g}" for name in names)
    return "\n".join([*lines, f"Use it with --crf_params={text}."])


def search_to_json(result: SearchResult) -> dict[str, object]:
    """Returns the outcome as a JSON object, the best point first."""
    return {
        "mean_iou_before": result.before,
        "default": dataclasses.asdict(result.default),
        "points": [
            {**dataclasses.asdict(point), "mean_iou": mean_iou}
            for point, mean_iou in result.ranking()
        ],
    }


def _refined(
    image: np.ndarray, probabilities: np.ndarray, points: Iterable[CRFParams]
) -> Iterator[tuple[CRFParams, np.ndarray]]:
    """Each point and what it makes of an image; points of equal deviations share the lattices."""

    def deviations(point: CRFParams) -> tuple[float, float, float]:
        return point.pos_xy, point.bi_xy, point.bi_rgb

    for (pos_xy, bi_xy, bi_rgb), group in itertools.groupby(
        sorted(points, key=deviations), deviations
    ):
        crf = DenseCRF(image, pos_xy=pos_xy, bi_xy=bi_xy, bi_rgb=bi_rgb)
        for point in group:
            yield (
                point,
                crf.mean_field(
                    probabilities, pos_w=point.pos_w, bi_w=point.bi_w, iterations=point.iterations
                ),
            )


def _searched(point: CRFParams) -> tuple[float, float, float]:
    return point.bi_w, point.bi_xy, point.bi_rgb
