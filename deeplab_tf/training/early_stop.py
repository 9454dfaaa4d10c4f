"""The word that a run leaves when it ends before its last step, for those who wait for more."""

import json
import os
from pathlib import Path

from deeplab_tf.data.output import write_file

FILENAME = "stopped_early.json"


def note_stopped_early(logdir: str | os.PathLike[str], step: int) -> None:
    """Says that a run has ended by itself after a step, whose checkpoint is there."""
    write_file(Path(logdir) / FILENAME, json.dumps({"step": step}).encode())


def forget_stopped_early(logdir: str | os.PathLike[str]) -> None:
    """Takes that back, for a run that goes on."""
    (Path(logdir) / FILENAME).unlink(missing_ok=True)


def stopped_early_at(logdir: str | os.PathLike[str]) -> int | None:
    """The step after which a run ended by itself; None if it did not.

    Raises:
        ValueError: The file that says so is damaged.
    """
    path = Path(logdir) / FILENAME
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["step"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): delete it.") from error
