"""How well neighbouring tiles agree where they meet."""

from dataclasses import dataclass

import numpy as np
from keras import ops


@dataclass
class Seams:
    """The disagreement of tiles about the features that their cores share, over all images.

    Attributes:
        count: Number of places that are compared, at the stride of the logits.
        other_label: At how many of them the most probable class differs.
        largest: Largest difference of a probability.
        total: Sum over the places of the largest difference there.
    """

    count: int = 0
    other_label: int = 0
    largest: float = 0.0
    total: float = 0.0

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        """Compares two tiles' logits of the same places, [n, classes]."""
        if not len(first):
            return
        ones, others = (ops.convert_to_numpy(ops.softmax(logits)) for logits in (first, second))
        differences = np.abs(ones - others).max(axis=-1)
        self.count += len(differences)
        self.other_label += int((ones.argmax(axis=-1) != others.argmax(axis=-1)).sum())
        self.largest = max(self.largest, float(differences.max()))
        self.total += float(differences.sum())

    def clear(self) -> None:
        """Forgets all images, before others."""
        self.count, self.other_label, self.largest, self.total = 0, 0, 0.0, 0.0

    def to_json(self) -> dict[str, int | float | None]:
        """Returns the figures as a JSON object, None for those of no place."""
        count = self.count
        return {
            "places": count,
            "largest_difference": self.largest if count else None,
            "mean_difference": self.total / count if count else None,
            "other_label": self.other_label / count if count else None,
        }

    def __str__(self) -> str:
        """One line."""
        if not self.count:
            return "Every image was one tile."
        return (
            f"Where tiles meet, their probabilities differ by {self.largest:.2g} at most and "
            f"{self.total / self.count:.2g} on average; {self.other_label / self.count:.3%} of "
            "these places have another label."
        )
