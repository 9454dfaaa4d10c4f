"""What a data set is: class names, colours, void label, splits. Stored beside the records.

Differs: the reference hard-codes this in `data_generator.py`, so a new data set there is a code
change; here every converter writes `dataset.json` and everything else reads it.
"""

import dataclasses
import json
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from deeplab_tf.data.output import write_file

FILENAME = "dataset.json"

# Labels travel as uint8.
_MAX_CLASSES = 256

_AUGMENTED_TRAIN = {"train_aug": "trainaug", "trainaug": "train_aug"}

# Not in dataset.json where they are these: that of 8-bit RGB images is what it always was.
_EIGHT_BIT_RGB = {"input_channels": 3, "bit_depth": 8, "value_range": (0, 255)}


@dataclass(frozen=True)
class DatasetInfo:
    """Description of one converted data set.

    Attributes:
        name: What the data set is called, such as "camvid".
        class_names: One name per class; the position is the label value.
        palette: One RGB colour (0..255 each) per class.
        ignore_label: Label value (0..255) of the pixels that count in no loss and no metric. It
            may be one of the class indices: ADE20K ignores its class 0.
        splits: Number of records by split name.
        input_channels: Channels of the images.
        bit_depth: Bits of each, 8 or 16.
        value_range: The values of the images that are 0 and 255 to the network. What lies outside
            is clipped.

    Raises:
        ValueError: A field is empty, inconsistent or out of range.
    """

    name: str
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore_label: int
    splits: dict[str, int]
    input_channels: int = 3
    bit_depth: int = 8
    value_range: tuple[float, float] = (0, 255)

    def __post_init__(self) -> None:
        """Checks every field, because dataset.json is meant to be edited by hand."""
        if not self.name:
            raise ValueError("name of the data set is empty")
        _check_class_names(self.class_names)
        _check_palette(self.palette, num_classes=self.num_classes)
        if not (isinstance(self.ignore_label, int) and 0 <= self.ignore_label <= 255):
            raise ValueError(f"ignore_label must be in 0..255, found {self.ignore_label!r}")
        if not (isinstance(self.splits, dict) and self.splits):
            raise ValueError(f"splits must be records by split name, found {self.splits!r}")
        for split, count in self.splits.items():
            if not re.fullmatch(r"[\w.-]+", split):
                raise ValueError(
                    f"split name {split!r} may hold only letters, digits, '_', '.' and '-'"
                )
            if not (isinstance(count, int) and count > 0):
                raise ValueError(f"split {split!r} must hold at least 1 record, found {count!r}")
        self._check_images()

    def _check_images(self) -> None:
        if not (isinstance(self.input_channels, int) and self.input_channels >= 1):
            raise ValueError(f"input_channels must be 1 or more, found {self.input_channels!r}")
        if self.bit_depth not in (8, 16):
            raise ValueError(f"bit_depth must be 8 or 16, found {self.bit_depth!r}")
        values = self.value_range
        if not (
            isinstance(values, tuple)
            and [type(value) in (int, float) for value in values] == [True, True]
            and -math.inf < values[0] < values[1] < math.inf
        ):
            raise ValueError(
                "value_range must be two numbers, the values of the images that are 0 and 255 to "
                f"the network, in this order; found {values!r}"
            )

    @property
    def num_classes(self) -> int:
        """Number of classes, background included, void excluded."""
        return len(self.class_names)

    @property
    def stores_input(self) -> bool:
        """Whether the images' values are those that the network sees: 8 bits, as they are."""
        return self.bit_depth == 8 and self.value_range == (0, 255)

    def check_split(self, split: str) -> None:
        """Raises ValueError, naming the known splits, if there is no `split`."""
        if split not in self.splits:
            raise ValueError(
                f"data set {self.name!r} has no split {split!r}; it has: {', '.join(self.splits)}"
            )

    def resolve_split(self, name: str) -> str:
        """Returns the split that `name` means: that one, or the same by another usual name.

        The reference calls Cityscapes' splits train_fine, val_fine, ... since July 2020. Its
        documentation, and records that were written before, say train, val, .... It calls VOC's
        augmented split train_aug; the list that everyone passes on is trainaug.txt.

        Raises:
            ValueError: There is no such split; the message names the known ones.
        """
        other = _AUGMENTED_TRAIN.get(name, name)
        spellings = (name, f"{name}_fine", name.removesuffix("_fine"), other)
        split = next((spelling for spelling in spellings if spelling in self.splits), name)
        self.check_split(split)
        return split

    @classmethod
    def load(cls, dataset_dir: str | os.PathLike[str]) -> Self:
        """Reads `<dataset_dir>/dataset.json`.

        Raises:
            FileNotFoundError: There is no such file; the message says how to make one.
            ValueError: The file is no JSON, lacks a field, has an unknown one or a wrong value.
        """
        path = Path(dataset_dir) / FILENAME
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} not found: the folder of records needs this description of its classes "
                "and splits. Every converter in datasets/ writes it (build_folder_data.py for "
                "your own images). For records made by the original DeepLab scripts write it by "
                'hand: {"name": ..., "class_names": [...], "palette": [[r, g, b], ...], '
                '"ignore_label": 255, "splits": {"train": <number of records>, ...}}'
            )
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            return cls(**_from_json(fields))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error

    def save(self, dataset_dir: str | os.PathLike[str]) -> None:
        """Writes `<dataset_dir>/dataset.json` at once: no reader ever sees half a file."""
        fields = {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if name not in _EIGHT_BIT_RGB or value != _EIGHT_BIT_RGB[name]
        }
        text = json.dumps(fields, indent=2, ensure_ascii=False)
        write_file(Path(dataset_dir) / FILENAME, f"{text}\n".encode())


def _from_json(fields: Any) -> dict[str, Any]:
    expected = {field.name for field in dataclasses.fields(DatasetInfo)}
    required = expected - _EIGHT_BIT_RGB.keys()
    if not isinstance(fields, dict) or not required <= set(fields) <= expected:
        found = sorted(fields) if isinstance(fields, dict) else type(fields).__name__
        raise ValueError(
            f"expected the fields {sorted(required)} and perhaps {list(_EIGHT_BIT_RGB)}, found "
            f"{found}"
        )
    if not isinstance(fields["class_names"], list):
        raise ValueError(f"class_names must be a list, found {fields['class_names']!r}")
    values = fields.get("value_range", _EIGHT_BIT_RGB["value_range"])
    return {
        **fields,
        "value_range": tuple(values) if isinstance(values, list) else values,
        "class_names": tuple(fields["class_names"]),
        "palette": tuple(tuple(color) for color in fields["palette"]),
    }


def _check_class_names(class_names: tuple[str, ...]) -> None:
    if not 1 <= len(class_names) <= _MAX_CLASSES:
        raise ValueError(f"expected 1 to {_MAX_CLASSES} class names, found {len(class_names)}")
    for index, name in enumerate(class_names):
        if not (isinstance(name, str) and name.strip()):
            raise ValueError(f"the name of class {index} is empty")
    repeated = sorted({name for name in class_names if class_names.count(name) > 1})
    if repeated:
        raise ValueError(f"class names must differ, found twice: {', '.join(repeated)}")


def _check_palette(palette: tuple[Iterable[int], ...], *, num_classes: int) -> None:
    if len(palette) != num_classes:
        raise ValueError(
            f"palette must have one colour per class: {num_classes} classes, {len(palette)} colours"
        )
    for index, color in enumerate(palette):
        channels = tuple(color)
        if len(channels) != 3 or not all(isinstance(c, int) and 0 <= c <= 255 for c in channels):
            raise ValueError(
                f"colour of class {index} must be three integers 0..255 (RGB), found {channels}"
            )
