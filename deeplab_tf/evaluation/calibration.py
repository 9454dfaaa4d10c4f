"""Whether probabilities are as often right as they say, and the temperature that mends them.

Guo et al., "On Calibration of Modern Neural Networks" (arXiv 1706.04599): of the pixels that are
predicted with 80 % confidence, 80 % should be right. The expected calibration error is the mean
distance between the two over all pixels, in 15 bins of the confidence. A temperature divides the
logits before the softmax and changes no prediction.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

BINS = 15
# Pixels kept for the fit: 21 classes take 17 MB, 150 classes 120 MB.
SAMPLE = 200_000

# A float32 probability may be 0, its logarithm not: e to the power of this is about the least.
_LEAST_LOG = -87.0
_HOTTEST = 50.0


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy in equal bins of the confidence: (0, 1/15], (1/15, 2/15], ...

    Attributes:
        weight: Number of pixels of each bin, float64 [bins].
        confidence: Sum of their confidences.
        correct: Number of those that are right.
    """

    weight: np.ndarray
    confidence: np.ndarray
    correct: np.ndarray

    @classmethod
    def of(
        cls, confidence: np.ndarray, correct: np.ndarray, weight: np.ndarray | None = None
    ) -> "Reliability":
        """That of some pixels.

        Args:
            confidence: Probability of the predicted class, float [n] in 0..1.
            correct: Whether it is the label, bool [n].
            weight: Pixels that each stands for, float [n]; None for one.
        """
        bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
        ones = np.ones(len(bins)) if weight is None else weight
        return cls(*(np.bincount(bins, w, BINS) for w in (ones, ones * confidence, ones * correct)))

    def __add__(self, other: "Reliability") -> "Reliability":
        return Reliability(
            self.weight + other.weight,
            self.confidence + other.confidence,
            self.correct + other.correct,
        )

    @property
    def error(self) -> float:
        """The expected calibration error, 0 to 1; NaN without pixels."""
        total = self.weight.sum()
        return float(np.abs(self.correct - self.confidence).sum() / total) if total else math.nan

    def to_json(self) -> list[dict[str, Any]]:
        """The bins that have pixels, from low confidence to high."""
        rows = zip(self.weight, self.confidence, self.correct, strict=True)
        return [
            {
                "from": index / BINS,
                "to": (index + 1) / BINS,
                "pixels": round(weight),
                "confidence": confidence / weight,
                "accuracy": correct / weight,
            }
            for index, (weight, confidence, correct) in enumerate(rows)
            if weight
        ]


@dataclass(frozen=True)
class CalibrationScores:
    """The calibration of a split.

    Attributes:
        reliability: Over every pixel with a class.
        temperature: What logits are best divided by, on the sample; NaN without pixels.
        sampled: Number of pixels of the sample.
        before: The sample's calibration error as it is.
        after: With `temperature`, which the same pixels chose: flattered.
        after_held_out: Each half of the images with the temperature of the other half; NaN where a
            half has no pixels.
    """

    reliability: Reliability
    temperature: float
    sampled: int
    before: float
    after: float
    after_held_out: float

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, None in place of NaN."""
        numbers = {
            "ece": self.reliability.error,
            "temperature": self.temperature,
            "ece_of_sample": self.before,
            "ece_with_temperature": self.after,
            "ece_with_temperature_of_other_half": self.after_held_out,
        }
        return {
            **{name: None if math.isnan(value) else value for name, value in numbers.items()},
            "sampled_pixels": self.sampled,
            "bins": self.reliability.to_json(),
        }

    def __str__(self) -> str:
        """Two lines."""
        return (
            f"calibration error (ECE, {BINS} bins)  {self.reliability.error:.4f}\n"
            f"with logits over {self.temperature:.3f}        {self.after_held_out:.4f}  "
            "(each half of the images with the temperature of the other)"
        )


class Calibration:
    """Collects the calibration of a split, an image at a time.

    Every pixel is counted in the bins. The fit takes a sample: of each image the same number of
    pixels, which stand for all pixels of the image, so that it is as large for any split.

    Args:
        ignore_label: Label of the pixels that do not count.
        images: Number of images that will come.
        sample: Number of pixels to keep in all.
        seed: Of the choice of pixels.
    """

    def __init__(
        self, *, ignore_label: int, images: int, sample: int = SAMPLE, seed: int = 0
    ) -> None:
        self._ignore_label = ignore_label
        self._of_image = max(1, sample // max(images, 1))
        self._rng = np.random.default_rng(seed)
        nothing = np.zeros(0)
        self._reliability = Reliability.of(nothing, nothing)
        self._parts: list[Sample] = []

    def add(self, label: np.ndarray, prediction: np.ndarray, probabilities: np.ndarray) -> None:
        """Adds an image.

        Args:
            label: uint8 [h, w], class ids or the ignore label.
            prediction: Integer [h, w], class ids.
            probabilities: float32 [h, w, classes], summing to 1 over the classes.
        """
        valid = np.flatnonzero(label.ravel() != self._ignore_label)
        labels, predicted = label.ravel()[valid], prediction.ravel()[valid]
        flat = probabilities.reshape(-1, probabilities.shape[-1])
        confidence = flat[valid, predicted].astype(np.float64)
        self._reliability += Reliability.of(confidence, predicted == labels)
        count = min(self._of_image, len(valid))
        chosen = self._rng.choice(len(valid), count, replace=False) if count else valid
        with np.errstate(divide="ignore"):
            logs = np.maximum(np.log(flat[valid[chosen]]), _LEAST_LOG)
        weight = np.full(count, len(valid) / max(count, 1))
        self._parts.append(Sample(logs, labels[chosen], predicted[chosen], weight))

    def scores(self) -> CalibrationScores:
        """Those of all images so far."""
        halves = [_joined(self._parts[0::2]), _joined(self._parts[1::2])]
        fits = [half.temperature() if half else math.nan for half in halves]
        whole = _joined(self._parts)
        if whole is None:
            return CalibrationScores(self._reliability, math.nan, 0, math.nan, math.nan, math.nan)
        held_out = math.nan
        if halves[0] and halves[1]:
            held_out = (halves[0].reliability(fits[1]) + halves[1].reliability(fits[0])).error
        temperature = whole.temperature()
        return CalibrationScores(
            reliability=self._reliability,
            temperature=temperature,
            sampled=len(whole.labels),
            before=whole.reliability(1.0).error,
            after=whole.reliability(temperature).error,
            after_held_out=held_out,
        )


@dataclass(frozen=True)
class Sample:
    """Some pixels.

    Attributes:
        logs: Logits, or logarithms of probabilities, float [n, classes].
        labels: Integer [n], class ids.
        predicted: Integer [n], class ids.
        weight: Pixels that each stands for, float [n].
    """

    logs: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    weight: np.ndarray

    def reliability(self, temperature: float) -> Reliability:
        """That of the softmax of the logits over a temperature."""
        chosen = [
            _softmax_of(self.logs[part] / temperature, self.predicted[part])
            for part in _parts_of(len(self.labels))
        ]
        return Reliability.of(np.concatenate(chosen), self.predicted == self.labels, self.weight)

    def temperature(self) -> float:
        """The temperature, 1/50 to 50, of the least negative log likelihood of the labels.

        That is convex in the inverse of the temperature: Newton's method within a bracket finds the
        place without a slope. Where everything is right, there is none, and it stops where float64
        tells no more.
        """
        low, high, inverse = 1 / _HOTTEST, _HOTTEST, 1.0
        for _ in range(60):
            slope, curvature = self._derivatives(inverse)
            if slope == 0:
                break
            low, high = (low, inverse) if slope > 0 else (inverse, high)
            better = inverse - slope / curvature if curvature > 0 else math.nan
            if not low < better < high:
                better = math.sqrt(low * high)
            done = abs(better - inverse) < 1e-7 * inverse
            inverse = better
            if done:
                break
        return 1 / inverse

    def _derivatives(self, inverse: float) -> tuple[float, float]:
        """Slope and curvature of the sum over the pixels, by the inverse of the temperature.

        Mean of the logits, as the probabilities have it, minus that of the label; and variance.
        """
        slope = curvature = 0.0
        for part in _parts_of(len(self.labels)):
            logs, weight = self.logs[part].astype(np.float64), self.weight[part]
            logs -= logs.max(axis=1, keepdims=True)
            scaled = np.exp(inverse * logs)
            scaled /= scaled.sum(axis=1, keepdims=True)
            mean = (scaled * logs).sum(axis=1)
            slope += float(weight @ (mean - logs[np.arange(len(logs)), self.labels[part]]))
            curvature += float(weight @ ((scaled * logs**2).sum(axis=1) - mean**2))
        return slope, curvature


def _softmax_of(logits: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The probability of one class of each row, float64 [n]."""
    logits = logits.astype(np.float64)
    scaled = np.exp(logits - logits.max(axis=1, keepdims=True))
    return scaled[np.arange(len(ids)), ids] / scaled.sum(axis=1)


def _parts_of(count: int, size: int = 50_000) -> list[slice]:
    """Slices of so many rows, which make float64 copies small."""
    return [slice(start, start + size) for start in range(0, count, size)]


def _joined(parts: Sequence[Sample]) -> Sample | None:
    """One sample of several; None without pixels."""
    if not sum(len(part.labels) for part in parts):
        return None
    return Sample(
        np.concatenate([part.logs for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.predicted for part in parts]),
        np.concatenate([part.weight for part in parts]),
    )
