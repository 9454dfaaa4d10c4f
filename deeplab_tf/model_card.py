"""The model card: what a training run was, written beside its checkpoints as config.json.

Evaluation, visualisation and export read it, so that no setting is typed twice.
"""

import dataclasses
import json
import os
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from deeplab_tf.config import DataConfig, InferenceConfig, ModelConfig, TrainConfig
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.data.output import write_file

FILENAME = "config.json"


@dataclass(frozen=True)
class ModelCard:
    """Everything that is needed to use, and to repeat, a training run.

    Attributes:
        model: The network.
        data: How training images were prepared.
        train: The optimisation.
        inference: How images meet the network after training.
        dataset: Class names, palette and ignore label of the training data.
    """

    model: ModelConfig
    data: DataConfig
    train: TrainConfig
    inference: InferenceConfig
    dataset: DatasetInfo

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Reads `<folder>/config.json`.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is no JSON, or a field is missing, unknown or wrong.
        """
        path = Path(folder) / FILENAME
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} not found: expected the folder that train.py wrote (--train_logdir), with "
                "the model card beside the checkpoints."
            )
        try:
            return _from_json(cls, json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes `<folder>/config.json` at once: no reader ever sees half a file."""
        text = json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False)
        write_file(Path(folder) / FILENAME, f"{text}\n".encode())


def differences(first: Any, second: Any, prefix: str = "") -> list[str]:
    """One line for each field that two configs of a kind do not share."""
    lines = []
    for field in dataclasses.fields(first):
        a, b = getattr(first, field.name), getattr(second, field.name)
        if dataclasses.is_dataclass(a):
            lines += differences(a, b, prefix=f"{field.name}.")
        elif a != b:
            lines.append(f"{prefix}{field.name}: {a!r}, now {b!r}")
    return lines


def _from_json(cls: Any, fields: Any) -> Any:
    hints = typing.get_type_hints(cls)
    if not isinstance(fields, dict) or set(fields) != set(hints):
        found = sorted(fields) if isinstance(fields, dict) else type(fields).__name__
        raise ValueError(f"{cls.__name__} has the fields {sorted(hints)}, found {found}")
    return cls(
        **{
            name: _from_json(hint, fields[name])
            if dataclasses.is_dataclass(hint)
            else _tuples(fields[name])
            for name, hint in hints.items()
        }
    )


def _tuples(value: Any) -> Any:
    """JSON has lists where configs have tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
