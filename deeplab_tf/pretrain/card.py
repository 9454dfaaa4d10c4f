"""What a run of pretraining was, written beside its checkpoints as pretrain.json."""

import dataclasses
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from deeplab_tf.config import ModelConfig, PretrainConfig
from deeplab_tf.data.output import write_file
from deeplab_tf.model_card import from_json

FILENAME = "pretrain.json"


@dataclass(frozen=True)
class PretrainCard:
    """Everything that is needed to use, and to repeat, a run.

    Attributes:
        model: The encoder, and the number of classes.
        train: Images and optimisation.
        class_names: Of the scores, in order.
        splits: Number of images by split.
        train_split: The split that is trained on.
    """

    model: ModelConfig
    train: PretrainConfig
    class_names: tuple[str, ...]
    splits: dict[str, int]
    train_split: str

    @property
    def steps_per_epoch(self) -> float:
        """Batches in an epoch, of which the last may reach into the next one."""
        return self.splits[self.train_split] / self.train.batch_size

    @property
    def steps(self) -> int:
        """Steps in all."""
        return math.ceil(self.train.epochs * self.steps_per_epoch)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Reads `<folder>/pretrain.json`.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is no JSON, or a field is unknown, wrong or missing.
        """
        path = Path(folder) / FILENAME
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} not found: expected the folder of a run of python -m deeplab_tf.pretrain."
            )
        try:
            return from_json(cls, json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes `<folder>/pretrain.json` at once."""
        text = json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False)
        write_file(Path(folder) / FILENAME, f"{text}\n".encode())
