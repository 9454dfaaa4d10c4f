"""Classification records, by the keys of slim's and ImageNet's converters.

`image/encoded` is the image, `image/class/label` its class. ImageNet's (`build_imagenet_data.py`)
has the labels 1 to 1000 and leaves 0 to a background that no image has.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from deeplab_tf.data import record_order, records
from deeplab_tf.data.classification.source import EncodedImage
from deeplab_tf.data.record_files import Damage, count_records, scan

_LABEL = "image/class/label"
_FILENAME = "image/filename"
# Lines `label:name`, as slim's converters write them.
_NAMES_FILE = "labels.txt"
# ImageNet's records are called so.
_OTHER_NAMES = {"val": "validation", "validation": "val"}


@dataclass(frozen=True)
class RecordSource:
    """The images of a split (`source.ImageSource`); the place of an image is its record.

    Attributes:
        paths: Of the files.
        num_classes: Number of classes.
        label_offset: Label of the first class.
        count: Number of records.
    """

    paths: tuple[str, ...]
    num_classes: int
    label_offset: int
    count: int

    def endless(self, *, seed: int, first_example: int) -> tf.data.Dataset:
        """Files and records are shuffled as those of segmentation (`record_order`)."""
        num_bytes = sum(map(os.path.getsize, self.paths))
        files = record_order.RecordSource(len(self.paths), num_bytes, self.count, self._file)
        return record_order.endless_records(files, seed=seed, first_example=first_example)

    def once(self) -> tf.data.Dataset:
        """The records in order."""
        return tf.data.Dataset.range(len(self.paths)).flat_map(self._file)

    def read(self, place: tf.Tensor) -> EncodedImage:
        """Parses a record; tf.errors.InvalidArgumentError for a label that is no class."""
        number = tf.io.FixedLenFeature((), tf.int64)
        text = tf.io.FixedLenFeature((), tf.string)
        parsed = tf.io.parse_single_example(place, {records.IMAGE: text, _LABEL: number})
        label = tf.cast(parsed[_LABEL], tf.int32) - self.label_offset
        last = self.label_offset + self.num_classes - 1
        check = tf.debugging.Assert(
            (label >= 0) & (label < self.num_classes),
            [
                f"{_LABEL} is no class; expected {self.label_offset} to {last}, by --num_classes="
                f"{self.num_classes} and --label_offset={self.label_offset} (ImageNet's labels "
                "begin with 1, others with 0). Found:",
                parsed[_LABEL],
            ],
        )
        with tf.control_dependencies([check]):
            return EncodedImage(parsed[records.IMAGE], tf.identity(label))

    def describe(self, place: Any) -> str:
        """The image's file name, if the record has it."""
        text = tf.io.FixedLenFeature((), tf.string, default_value="")
        try:
            parsed = tf.io.parse_single_example(place, {_FILENAME: text})
        except records.READ_ERRORS:
            return "A record that is no tf.train.Example"
        name = os.fsdecode(parsed[_FILENAME].numpy())
        return f"The record of {name}" if name else "A record without a file name"

    def find_damage(self) -> str | None:
        """The first record that cannot be read."""
        for path in self.paths:
            for found in scan(path):
                if isinstance(found, Damage):
                    return f"{path}, record {found.record}: {found.reason}. Copy that file again."
        return None

    def _file(self, index: tf.Tensor) -> tf.data.Dataset:
        return tf.data.TFRecordDataset(tf.gather(tf.constant(self.paths), index))


def open_records(
    dataset_dir: str | os.PathLike[str],
    *,
    train_split: str = "train",
    val_split: str = "val",
    num_classes: int | None = None,
    label_offset: int = 1,
) -> tuple[tuple[str, ...], dict[str, RecordSource]]:
    """Finds the records of a folder, `train-00000-of-01024` or with `.tfrecord`, and counts them.

    Args:
        dataset_dir: The folder.
        train_split: Split to train on: what the names of its files begin with.
        val_split: Split to validate on, "val" or "validation" if either is there; empty for none.
        num_classes: Number of classes; None for those of labels.txt, a file of lines `label:name`.
        label_offset: Label of the first class: 1 for ImageNet's, of which 0 is no image's.

    Returns:
        The class names, from labels.txt or else the labels, and the splits that there are, by name.

    Raises:
        FileNotFoundError: The folder or the records of a split are missing.
        ValueError: Some shards are missing, or have no records, or the number of classes is not
            known, or is not that of labels.txt, or below 2.
    """
    names = _class_names(Path(dataset_dir), num_classes, label_offset)
    splits = {}
    for split in filter(None, (train_split, val_split)):
        paths = _split_files(dataset_dir, split)
        count = sum(map(count_records, paths))
        if not count:
            raise ValueError(
                f"the {len(paths)} files of {paths[0]} hold no record: copy them again."
            )
        splits[split] = RecordSource(tuple(paths), len(names), label_offset, count)
    return names, splits


def _split_files(dataset_dir: str | os.PathLike[str], split: str) -> list[str]:
    try:
        return records.split_files(dataset_dir, split)
    except FileNotFoundError as error:
        if split not in _OTHER_NAMES:
            raise
        try:
            return records.split_files(dataset_dir, _OTHER_NAMES[split])
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{error}, nor {_OTHER_NAMES[split]}-*: give the split to validate on as "
                "--val_split, or an empty one for none."
            ) from None


def _class_names(folder: Path, num_classes: int | None, label_offset: int) -> tuple[str, ...]:
    path = folder / _NAMES_FILE
    if num_classes is not None and num_classes < 2:
        raise ValueError(f"--num_classes={num_classes}: expected 2 or more.")
    if not path.is_file():
        if num_classes is None:
            raise ValueError(
                f"Give --num_classes: {folder} has no {_NAMES_FILE} of lines `label:name` to tell."
            )
        return tuple(str(label_offset + i) for i in range(num_classes))
    pairs = [line.partition(":") for line in path.read_text(encoding="utf-8").splitlines() if line]
    try:
        by_label = {int(label): name.strip() for label, _, name in pairs}
    except ValueError as error:
        raise ValueError(
            f"{path}: expected lines `label:name`, such as 1:tench ({error})"
        ) from None
    labels = sorted(label for label in by_label if label >= label_offset)
    expected = list(range(label_offset, label_offset + (num_classes or len(labels))))
    if labels != expected or len(labels) < 2:
        raise ValueError(
            f"{path} names the labels {labels[:1]} to {labels[-1:]}, {len(labels)} in all, from "
            f"--label_offset={label_offset} on: expected two or more that follow each other"
            + (f", and --num_classes={num_classes} of them." if num_classes else ".")
        )
    return tuple(by_label[label] for label in labels)
