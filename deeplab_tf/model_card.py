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

        Fields that it lacks have their defaults: a card stays good when configs get new fields.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is no JSON, or a field is unknown or wrong, or missing although it
                has no default.
        """
        path = Path(folder) / FILENAME
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} not found: expected the folder that train.py wrote (--train_logdir), with "
                "the model card beside the checkpoints."
            )
        return cls.read(path)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Reads a card of any file name; errors as in `load`."""
        path = Path(path)
        try:
            return from_json(cls, json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes `<folder>/config.json` at once: no reader ever sees half a file."""
        write_file(Path(folder) / FILENAME, f"{self.to_json()}\n".encode())

    def save_beside(self, file: str | os.PathLike[str]) -> None:
        """Writes `<file>.config.json`: the card of an exported file that has no room for it."""
        write_file(beside(file), f"{self.to_json()}\n".encode())

    def to_json(self) -> str:
        """The card as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False)


def beside(file: str | os.PathLike[str]) -> Path:
    """Where `ModelCard.save_beside` puts the card of a file."""
    return Path(f"{os.fspath(file)}.{FILENAME}")


def differences(first: Any, second: Any, prefix: str = "") -> list[str]:
    """One line for each field that two configs of a kind do not share."""
    lines = []
    for field in dataclasses.fields(first):
        a, b = getattr(first, field.name), getattr(second, field.name)
        if dataclasses.is_dataclass(a) and dataclasses.is_dataclass(b):
            lines += differences(a, b, prefix=f"{prefix}{field.name}.")
        elif a != b:
            lines.append(f"{prefix}{field.name}: {a!r}, now {b!r}")
    return lines


def from_json(cls: Any, fields: Any) -> Any:
    """A dataclass of configs from what `dataclasses.asdict` and JSON made of it; ValueError."""
    hints = typing.get_type_hints(cls)
    if not isinstance(fields, dict):
        raise ValueError(
            f"{cls.__name__} is {fields!r}; expected its fields, which are {list(hints)}"
        )
    required = {
        field.name
        for field in dataclasses.fields(cls)
        if field.default is field.default_factory is dataclasses.MISSING
    }
    if missing := sorted(required - set(fields)):
        raise ValueError(f"{cls.__name__} lacks the fields {missing}")
    if unknown := sorted(set(fields) - set(hints)):
        raise ValueError(f"{cls.__name__} has no fields {unknown}; it has {list(hints)}")
    return cls(**{name: _value(hints[name], value) for name, value in fields.items()})


def _value(hint: Any, value: Any) -> Any:
    """A field's value of JSON as its type."""
    if dataclasses.is_dataclass(hint):
        return from_json(hint, value)
    item = (typing.get_args(hint) or (None,))[0]
    if not dataclasses.is_dataclass(item):
        return _tuples(value)
    if typing.get_origin(hint) is tuple:
        return tuple(from_json(item, fields) for fields in value)
    return None if value is None else from_json(item, value)


def _tuples(value: Any) -> Any:
    """JSON has lists where configs have tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
