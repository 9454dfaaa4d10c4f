"""The checkpoints of a run, in order."""

import time
from collections.abc import Callable

import tensorflow as tf


class Saver:
    """Writes checkpoints of a run to a folder, and knows when it did.

    Args:
        checkpoint: What to write.
        folder: Where; it keeps the last three.
        check: Of a step, raises an error if its weights are not to be saved.
    """

    def __init__(
        self, checkpoint: tf.train.Checkpoint, folder: str, check: Callable[[int], None]
    ) -> None:
        self._manager = tf.train.CheckpointManager(
            checkpoint, folder, max_to_keep=3, checkpoint_name="model.ckpt"
        )
        self._check = check
        self._saved = time.monotonic()

    def seconds_since(self) -> float:
        """Seconds since the last one, or since the run began."""
        return time.monotonic() - self._saved

    def save(self, step: int) -> None:
        """Writes that of a step, unless it is there; raises what `check` does."""
        if not (self._manager.latest_checkpoint or "").endswith(f"-{step}"):
            self._check(step)
            self._manager.save(checkpoint_number=step)
        self._saved = time.monotonic()
