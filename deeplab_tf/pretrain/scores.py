"""How often the right class is among the likeliest."""

from dataclasses import dataclass

import numpy as np

# Top-5 of no more classes is always right.
_TOP = 5


@dataclass(frozen=True)
class ClassificationScores:
    """Over all images of a split.

    Attributes:
        top1: Share of the images whose class has the highest score.
        top5: Share of those whose class is among the five highest; None for up to five classes.
        images: Number of images.
    """

    top1: float
    top5: float | None
    images: int

    def __str__(self) -> str:
        top5 = "" if self.top5 is None else f", top-5 {self.top5:.4f}"
        return f"top-1 {self.top1:.4f}{top5}"


class HitCounter:
    """Counts hits, batch by batch."""

    def __init__(self) -> None:
        self._top1 = self._top5 = self._images = self._classes = 0

    def add(self, logits: np.ndarray, labels: np.ndarray) -> None:
        """Takes in a batch: scores, [b, classes], and classes, integer [b]."""
        self._top1 += int(in_top(logits, labels, 1).sum())
        self._top5 += int(in_top(logits, labels, _TOP).sum())
        self._images += len(labels)
        self._classes = logits.shape[1]

    def scores(self) -> ClassificationScores:
        """The shares so far; ValueError if there was no image."""
        if not self._images:
            raise ValueError("there are no images to score: expected one or more.")
        top5 = self._top5 / self._images if self._classes > _TOP else None
        return ClassificationScores(self._top1 / self._images, top5, self._images)


def in_top(logits: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Whether each label is among the k classes of the highest scores.

    Of equal scores the lower class comes first, as argmax has it, so that a network whose scores
    are all alike is no better than one that always says class 0.

    Args:
        logits: Float [b, classes].
        labels: Integer [b].
        k: Number of classes to look at.

    Returns:
        bool [b].
    """
    best = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return (best == labels[:, None]).any(axis=1)
