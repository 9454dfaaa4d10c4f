"""The plain log of a run: one JSON object a line, in a file that needs no TensorBoard.

JSON lines and not CSV, because a run has rows of two kinds, steps and validations, and the IoU of
each class by its name, which may hold any character. A row is one write at the end of the file: a
run that is killed spoils no more than the row that it was writing.
`pandas.read_json(path, lines=True)` reads it.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

from deeplab_tf.data.output import write_file

FILENAME = "history.jsonl"

Row = dict[str, Any]


class History:
    """The rows of a run: those of an earlier part of it, as far as this one goes on, and its own.

    A run goes on from a checkpoint, and what an earlier part logged after it is said again: such
    rows are dropped from the file, as well as what is left of one that was not written to its end.

    Args:
        logdir: Folder of the run; None to keep no file, as all workers but one.
        step: Steps taken so far: the last one whose rows stay.
        score: What validations are compared by; only their rows have it.

    Attributes:
        rows: By step. Those of steps have "loss", those of validations the score.
    """

    def __init__(
        self, logdir: str | os.PathLike[str] | None, step: int, *, score: str = "miou"
    ) -> None:
        self._score = score
        self._path = None if logdir is None else Path(logdir) / FILENAME
        self.rows: list[Row] = []
        if self._path is not None and self._path.exists():
            text = self._path.read_bytes()
            self.rows = [row for row in map(_row, text.splitlines()) if row and row["step"] <= step]
            kept = "".join(map(_line, self.rows)).encode()
            if kept != text:
                write_file(self._path, kept)

    def add(self, step: int, **values: Any) -> None:
        """Adds a row; numbers in it that are not finite become None, for which JSON has a word."""
        row = _without_nan({"step": step, **values})
        self.rows.append(row)
        if self._path is not None:
            # Closed at once, so that nothing waits in a buffer when the run is killed.
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(_line(row))

    @property
    def validations(self) -> list[Row]:
        """The rows of validations."""
        return [row for row in self.rows if self._score in row]

    def has_validation(self, step: int) -> bool:
        """Whether a step was validated."""
        return any(row["step"] == step for row in self.validations)

    @property
    def best(self) -> Row | None:
        """The validation with the highest score, the first of equals; None if none has any."""
        scored = [row for row in self.validations if row[self._score] is not None]
        return max(scored, key=lambda row: row[self._score], default=None)

    @property
    def validations_since_best(self) -> int:
        """Number of validations after the best one; 0 if none is best."""
        best = self.best
        return sum(row["step"] > best["step"] for row in self.validations) if best else 0


def _row(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
        return row if isinstance(row["step"], int) else None
    except (ValueError, TypeError, KeyError):
        return None


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
