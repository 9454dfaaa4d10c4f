"""An average of the weights over the steps, for use in place of the last ones."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops


class WeightAverage:
    """Exponential moving average of weights: average = d * average + (1 - d) * weight.

    With a constant d the first weights would stay in the average for 1 / (1 - d) steps, so it
    rises: before step t (from 0) it is min(decay, t / (9 + t)), the usual
    (1 + n) / (10 + n) of `tf.train.ExponentialMovingAverage`, for the n-th average after the first,
    which is the weights themselves.

    Keras' own (`use_ema` of its optimizers) has no such warm-up, and its averages are the
    optimizer's, where nothing but the optimizer can find them.

    Args:
        weights: What is averaged: the network's trainable ones. Batch norm's moving statistics are
            averages already.
        decay: d after the warm-up, in [0, 1); 0 for no average: then nothing is kept or changed.

    Attributes:
        averages: By the path of each weight, float variables of its shape.
    """

    def __init__(self, weights: Sequence[keras.Variable], decay: float) -> None:
        self.averages: dict[str, keras.Variable] = {}
        self._decay = decay
        self._weights = list(weights) if decay > 0 else []
        for weight in self._weights:
            self.averages[weight.path] = keras.Variable(
                ops.copy(weight),
                dtype=weight.dtype,
                trainable=False,
                # All replicas have the same weights, so that none has to wait for another.
                aggregation="only_first_replica",
                name=f"{weight.name}_average",
            )

    def update(self, steps: Any) -> None:
        """Takes in the weights as they are after an optimizer's step; runs in a graph, too.

        Args:
            steps: Steps taken, this one included: the optimizer's `iterations`.
        """
        share = ops.maximum(1 - self._decay, 9 / (8 + ops.cast(steps, "float32")))
        for weight in self._weights:
            average = self.averages[weight.path]
            average.assign(average + (weight - average) * ops.cast(share, weight.dtype))

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Gives the network the averages, and in the end its own weights again, bit for bit."""
        kept = [ops.convert_to_numpy(weight) for weight in self._weights]
        try:
            for weight in self._weights:
                weight.assign(self.averages[weight.path])
            yield
        finally:
            for weight, value in zip(self._weights, kept, strict=True):
                weight.assign(value)
