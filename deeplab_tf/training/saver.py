"""The checkpoints of a run, as it writes them one after the other."""

import contextlib
import glob
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator

import tensorflow as tf

from deeplab_tf.data.full_disk import DiskFullError, full_disk_reported

_NAME = "model.ckpt"
_KEPT = 3


class Saver:
    """Writes checkpoints of a run to a folder, keeps the last three, and knows when it did.

    A checkpoint is written under another name, and counts when it is whole. What a run that was
    killed had begun to write is deleted.

    Args:
        checkpoint: What is saved: `weights.training_checkpoint`.
        folder: Where.
        check: Of a step, raises an error if its weights are not to be saved.
        interval_secs: Seconds after which another one is due.
        interval_steps: It is also due at multiples of these steps; 0 for none.
    """

    def __init__(
        self,
        checkpoint: tf.train.Checkpoint,
        folder: str,
        check: Callable[[int], None],
        *,
        interval_secs: float = math.inf,
        interval_steps: int = 0,
    ) -> None:
        self._manager = tf.train.CheckpointManager(
            checkpoint, folder, max_to_keep=_KEPT, checkpoint_name=_NAME
        )
        self._folder = folder
        self._check = check
        self._interval_secs = interval_secs
        self._interval_steps = interval_steps
        self._saved = time.monotonic()
        _remove_unfinished(folder)

    def seconds_since(self) -> float:
        """Seconds since the last one, or since the run began."""
        return time.monotonic() - self._saved

    def is_due(self, step: int) -> bool:
        """Whether it is time for one."""
        at_interval = bool(self._interval_steps) and step % self._interval_steps == 0
        return at_interval or self.seconds_since() > self._interval_secs

    def save(self, step: int) -> None:
        """Writes that of a step, unless it is there; raises what `check` does."""
        if not (self._manager.latest_checkpoint or "").endswith(f"-{step}"):
            self._check(step)
            self._manager.save(checkpoint_number=step)
        self._saved = time.monotonic()

    @contextlib.contextmanager
    def full_disk_reported(self) -> Iterator[None]:
        """Ends a run that finds the disk full, here or elsewhere, with what becomes of it.

        Raises:
            DiskFullError: The disk is full.
        """
        try:
            with full_disk_reported(self._folder):
                yield
        except DiskFullError as error:
            _remove_unfinished(self._folder)
            raise DiskFullError(f"{error}. {self._what_is_left()}") from error

    def _what_is_left(self) -> str:
        # As the next run will see it.
        latest = tf.train.latest_checkpoint(self._folder)
        if latest is None:
            return "No checkpoint is written yet: the same command starts anew."
        files = glob.glob(f"{glob.escape(latest)}.*")
        megabytes = sum(map(os.path.getsize, files)) / 1e6
        return (
            f"The last checkpoint, {os.path.basename(latest)}, is whole: the same command goes on "
            f"from there. A checkpoint takes {megabytes:.1f} MB; there are up to {_KEPT + 2} at a "
            "time, the best one included."
        )


def _remove_unfinished(folder: str) -> None:
    """Deletes what was to become a checkpoint, or the file that names the last one."""
    for path in glob.glob(os.path.join(glob.escape(folder), f"{_NAME}-*_temp")):
        shutil.rmtree(path, ignore_errors=True)
    for path in glob.glob(os.path.join(glob.escape(folder), "checkpoint.tmp*")):
        os.remove(path)
