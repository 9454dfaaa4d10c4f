"""TensorBoard's event files, where tensorboard is installed."""

import importlib.util

import numpy as np
import tensorflow as tf


class Summaries:
    """Writes scalars and pictures for TensorBoard, or nothing where it is not installed.

    Args:
        logdir: Where; None to write nothing, as all workers but one.
    """

    def __init__(self, logdir: str | None) -> None:
        self._writer = None
        if logdir is not None and importlib.util.find_spec("tensorboard"):
            self._writer = tf.summary.create_file_writer(logdir)

    def scalars(self, step: int, **values: float) -> None:
        """Writes one point of each curve."""
        if self._writer is None:
            return
        with self._writer.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Writes one picture, uint8 [h, w, 3]."""
        if self._writer is None:
            return
        with self._writer.as_default(step):
            tf.summary.image(name, picture[None])

    def images(self, step: int, pictures: list[np.ndarray]) -> None:
        """Writes pictures, uint8 [h, w, 3] each; those of a step replace nothing."""
        if self._writer is None:
            return
        with self._writer.as_default(step):
            for i, picture in enumerate(pictures):
                tf.summary.image(f"validation/{i}", picture[None])
        self._writer.flush()

    def flush(self) -> None:
        """Makes what was written so far visible."""
        if self._writer is not None:
            self._writer.flush()
