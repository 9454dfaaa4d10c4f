"""The pictures of a report: the images with the lowest mean IoU, and some chosen at random.

While a split is evaluated only these are kept, reduced and encoded, so that memory does not grow
with the split.
"""

import heapq
import io
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from deeplab_tf.colormap import VOID_COLOR
from deeplab_tf.data.channels import display_rgb
from deeplab_tf.evaluation.image_scores import class_ious, mean_ious

MAX_SIDE = 640
# Of the pictures of one image together; they are reduced further where that is not enough.
MAX_BYTES = 400_000

_VOID = 255  # no class id: there are 255 classes at most
# Red, green, blue and opacity over the image.
_CORRECT, _WRONG, _UNKNOWN = (255, 255, 255, 140), (214, 40, 40, 235), (90, 90, 90, 140)


@dataclass(frozen=True)
class Exhibit:
    """The pictures of one image, of one size.

    Attributes:
        name: Of the image file.
        mean_iou: Over the classes that occur in its labels or predictions.
        pixel_accuracy: Of its pixels with a class.
        mistake: The label and the prediction that most wrong pixels have; None if none is wrong.
        mistake_share: Their share of the pixels with a class.
        classes: Ids of the classes that occur in labels or predictions.
        size: Height and width of the pictures.
        image: JPEG.
        truth: PNG, colours of the labels.
        prediction: PNG, colours of the predictions.
        error: PNG to lay over the image: wrong pixels are red, right ones pale, void ones grey.
    """

    name: str
    mean_iou: float
    pixel_accuracy: float
    mistake: tuple[int, int] | None
    mistake_share: float
    classes: tuple[int, ...]
    size: tuple[int, int]
    image: bytes
    truth: bytes
    prediction: bytes
    error: bytes


class Gallery:
    """Chooses and encodes the pictures, an image at a time.

    Args:
        count: Number of images with the lowest mean IoU, and of random ones.
        palette: RGB colours in 0..255, [classes, 3].
        ignore_label: Label of the pixels without a class.
        seed: Of the random choice.
    """

    def __init__(
        self, count: int, *, palette: Sequence[Sequence[int]], ignore_label: int, seed: int = 0
    ) -> None:
        self._count = count
        self._palette = np.asarray(palette, np.uint8)
        self._ignore_label = ignore_label
        self._rng = np.random.default_rng(seed)
        self._worst = _Lowest(count)
        # Twice as many, as some may be among the worst. Lots make each choice equally likely.
        self._random = _Lowest(2 * count)

    def add(
        self,
        name: str,
        image: np.ndarray,
        label: np.ndarray,
        prediction: np.ndarray,
        confusion: np.ndarray,
    ) -> None:
        """Shows it an image; arguments as the attributes of `evaluation.ScoredImage`."""
        parts = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
        mean_iou, lot = float(mean_ious(class_ious(*parts))), self._rng.random()
        if math.isnan(mean_iou):  # nothing but void
            return
        if self._worst.takes(mean_iou) or self._random.takes(lot):
            exhibit = self._exhibit(name, mean_iou, image, label, prediction, confusion)
            self._worst.add(mean_iou, exhibit)
            self._random.add(lot, exhibit)

    @property
    def worst(self) -> list[Exhibit]:
        """Those with the lowest mean IoU, the lowest first."""
        return self._worst.items()

    @property
    def random(self) -> list[Exhibit]:
        """As many random ones, of those that are not among the worst."""
        shown = set(map(id, self.worst))
        others = [exhibit for exhibit in self._random.items() if id(exhibit) not in shown]
        return others[: self._count]

    def _exhibit(
        self,
        name: str,
        mean_iou: float,
        image: np.ndarray,
        label: np.ndarray,
        prediction: np.ndarray,
        confusion: np.ndarray,
    ) -> Exhibit:
        wrong = confusion - np.diag(np.diag(confusion))
        row, column = np.unravel_index(wrong.argmax(), wrong.shape)
        occur = confusion.sum(axis=0) + confusion.sum(axis=1)
        size, pictures = self._pictures(display_rgb(image), label, prediction)
        return Exhibit(
            name=name,
            mean_iou=mean_iou,
            pixel_accuracy=float(np.trace(confusion) / confusion.sum()),
            mistake=(int(row), int(column)) if wrong.any() else None,
            mistake_share=float(wrong.max() / confusion.sum()),
            classes=tuple(np.flatnonzero(occur).tolist()),
            size=size,
            image=pictures[0],
            truth=pictures[1],
            prediction=pictures[2],
            error=pictures[3],
        )

    def _pictures(
        self, image: np.ndarray, label: np.ndarray, prediction: np.ndarray
    ) -> tuple[tuple[int, int], list[bytes]]:
        """Size, and image, truth, prediction and error, small enough."""
        valid = label != self._ignore_label
        truth = np.where(valid, label, _VOID).astype(np.uint8)
        found = prediction.astype(np.uint8)
        error = np.where(valid, truth != found, 2).astype(np.uint8)
        colors = np.tile(np.array(VOID_COLOR, np.uint8), (256, 1))
        colors[: len(self._palette)] = self._palette
        of_error = np.array([_CORRECT, _WRONG, _UNKNOWN], np.uint8)
        side = min(MAX_SIDE, max(label.shape))
        while True:
            factor = side / max(label.shape)
            height, width = (max(1, round(length * factor)) for length in label.shape)
            pictures = [
                _jpeg(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)),
                *(_palette_png(_nearest(ids, height, width), colors) for ids in (truth, found)),
                _palette_png(_nearest(error, height, width), of_error),
            ]
            if sum(map(len, pictures)) <= MAX_BYTES or side <= 32:
                return (height, width), pictures
            side = side * 3 // 4


class _Lowest:
    """Keeps the exhibits with the lowest keys; of equal ones the first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._numbers = itertools.count()
        self._heap: list[tuple[float, int, Exhibit]] = []  # its first is the next to go

    def takes(self, key: float) -> bool:
        return len(self._heap) < self._limit or (bool(self._heap) and -key > self._heap[0][0])

    def add(self, key: float, exhibit: Exhibit) -> None:
        if self.takes(key):
            heapq.heappush(self._heap, (-key, -next(self._numbers), exhibit))
            if len(self._heap) > self._limit:
                heapq.heappop(self._heap)

    def items(self) -> list[Exhibit]:
        return [exhibit for *_, exhibit in sorted(self._heap, reverse=True)]


def _nearest(ids: np.ndarray, height: int, width: int) -> np.ndarray:
    return cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def _jpeg(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=82, optimize=True)
    return data.getvalue()


def _palette_png(ids: np.ndarray, colors: np.ndarray) -> bytes:
    """An image of indices; colours uint8 [n, 3], or [n, 4] with their opacity."""
    picture = Image.fromarray(ids, "P")
    picture.putpalette(colors[:, :3].tobytes())
    opacity = {"transparency": colors[:, 3].tobytes()} if colors.shape[1] == 4 else {}
    data = io.BytesIO()
    picture.save(data, "PNG", optimize=True, **opacity)
    return data.getvalue()
