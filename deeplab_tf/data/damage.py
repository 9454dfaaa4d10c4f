"""Damaged records of a split: named in an error, or left out and reported.

Reading fails somewhere in TensorFlow's graph, with a message that names no record. So when it does,
the split is searched for the first damage (`naming_damage`). To leave damage out, all of the split
is read and decoded once beforehand (`find_sound_records`), because the order of training must not
depend on what turns up on the way.
"""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tqdm import tqdm

from deeplab_tf.data import records
from deeplab_tf.data.dataset_info import FILENAME, DatasetInfo
from deeplab_tf.data.record_files import Damage, Record, scan

_Item = TypeVar("_Item")

# TensorFlow's messages may quote bytes of the record that are no text.
_ERRORS = (*records.READ_ERRORS, UnicodeDecodeError)

# Records that are in memory while they are decoded.
_AT_ONCE = 64
_SHOWN = 5

_REMEDY = "Copy that file again, or convert again; --skip_corrupt leaves such records out."


@dataclass(frozen=True)
class Shard:
    """A file of records, and which of them are sound.

    Attributes:
        path: The file.
        count: Number of its sound records.
        places: int64 [count, 2], where the data of each begin and how many bytes they are; None if
            all are sound.
    """

    path: str
    count: int
    places: np.ndarray | None


@dataclass(frozen=True)
class SoundRecords:
    """The records of a split that can be used, and what was found in place of the others.

    Attributes:
        split: Name of the split.
        shards: Its files, in order, without missing ones.
        damages: What is left out. A stretch of a file without a readable length is one.
        stated: Number of records by the data set's description.
    """

    split: str
    shards: tuple[Shard, ...]
    damages: tuple[Damage, ...]
    stated: int

    @property
    def count(self) -> int:
        """Number of sound records."""
        return sum(shard.count for shard in self.shards)

    @property
    def left_out(self) -> int:
        """Number of records that are missing or cannot be used."""
        return max(self.stated - self.count, len(self.damages))

    def reader(self) -> Callable[[tf.Tensor], tf.data.Dataset]:
        """A function of the number of a shard (int64 scalar) that reads its sound records."""
        paths = tf.constant([shard.path for shard in self.shards])
        sizes = tf.constant([os.path.getsize(shard.path) for shard in self.shards], tf.int64)
        is_whole = tf.constant([shard.places is None for shard in self.shards])
        no_places = np.zeros((0, 2), np.int64)
        rows = [no_places if shard.places is None else shard.places for shard in self.shards]
        places = tf.constant(np.concatenate(rows))
        starts = tf.constant(np.cumsum([0, *map(len, rows)]))

        def read(index: tf.Tensor) -> tf.data.Dataset:
            path, size = paths[index], sizes[index]
            # Record by record takes ten times as long, so only damaged files are read so.
            whole = tf.data.TFRecordDataset(tf.boolean_mask([path], [is_whole[index]]))
            single = tf.data.Dataset.from_tensor_slices(places[starts[index] : starts[index + 1]])
            return whole.concatenate(
                single.flat_map(
                    lambda place: tf.data.FixedLengthRecordDataset(
                        path,
                        place[1],
                        header_bytes=place[0],
                        footer_bytes=size - place[0] - place[1],
                    )
                )
            )

        return read

    def report(self) -> str:
        """What is left out, in words."""
        if self.count == self.stated and not self.damages:
            return f"All {self.count} records of {self.split} are sound."
        total = self.count + self.left_out
        lines = [f"Leaving out {self.left_out} of {total} records of {self.split}:"]
        lines += [f"  - {damage}" for damage in self.damages[:_SHOWN]]
        if len(self.damages) > _SHOWN:
            lines.append(f"  ... and {len(self.damages) - _SHOWN} more")
            lines.append(f"  in {', '.join(self._damaged_files())}")
        if self.count + len(self.damages) != self.stated:
            lines.append(
                f"  {FILENAME} states {self.stated} records, {self.count} sound ones were found"
            )
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """What is left out, for the file of scores."""
        return {
            "left_out": self.left_out,
            "of": self.count + self.left_out,
            "files": self._damaged_files(),
            "first": [str(damage) for damage in self.damages[:_SHOWN]],
        }

    def _damaged_files(self) -> list[str]:
        return sorted({Path(damage.shard).name for damage in self.damages})


def find_sound_records(
    dataset_dir: str | os.PathLike[str], split: str, *, info: DatasetInfo
) -> SoundRecords:
    """Reads, parses and decodes every record of a split, to tell the sound ones.

    Values of labels and sizes of images are not looked at: where they are wrong, so is the
    conversion or its description, and they stay an error of the pipeline.

    Args:
        dataset_dir: Folder of records.
        split: Name of the split.
        info: Description of the data set.

    Raises:
        FileNotFoundError: The folder or all of the split's files are missing.
        ValueError: There is no such split, or no sound record in it.
    """
    info.check_split(split)
    paths, missing = records.present_and_missing_files(dataset_dir, split)
    damages = [Damage(path, 0, "the file is missing") for path in missing]
    shards = []
    with tqdm(total=info.splits[split], desc="check records", unit="image", disable=None) as bar:
        for path in paths:
            places, is_whole = [], True
            for found in _examined(path, info=info):
                if isinstance(found, Damage):
                    damages.append(found)
                    is_whole = False
                else:
                    places.append((found.offset, len(found.data)))
                bar.update()
            array = None if is_whole else np.array(places, np.int64).reshape(-1, 2)
            shards.append(Shard(path, len(places), array))
    sound = SoundRecords(split, tuple(shards), tuple(damages), stated=info.splits[split])
    if not sound.count:
        raise ValueError(
            f"no record of the split {split!r} in {dataset_dir} can be used. {sound.report()}"
        )
    return sound


def naming_damage(
    items: Iterable[_Item], dataset_dir: str | os.PathLike[str], split: str, *, info: DatasetInfo
) -> Iterator[_Item]:
    """Yields what a pipeline of a split yields; where that fails, says which record is to blame.

    Raises:
        ValueError: A record is damaged or their number is wrong; the message names file and record.
    """
    try:
        yield from items
    except (*_ERRORS, tf.errors.FailedPreconditionError) as error:
        if records.WRONG_VALUE in str(error) or records.WRONG_SIZE in str(error):
            raise  # it names the image
        words = _explain(dataset_dir, split, info=info)
        if words is None:
            raise
        raise ValueError(words) from error


def record_damage(data: bytes, *, input_channels: int = 3, bit_depth: int = 8) -> str | None:
    """What makes a record with right checksums unusable; None if it can be parsed and decoded.

    Args:
        data: The record.
        input_channels: Channels of the images of its data set.
        bit_depth: Bits of each.
    """
    try:
        example = records.parse_example(tf.constant(data))
    except _ERRORS as error:
        if _feature_names(data) is None:
            return "it is no tf.train.Example"
        return f"it cannot be parsed: {records.error_words(error)}"
    if not (example["image_bytes"].numpy() and example["label_bytes"].numpy()):
        return (
            f"it has other features: expected bytes in {records.IMAGE} and {records.LABEL}, found "
            f"the features {', '.join(_feature_names(data) or ['none'])}"
        )
    name = example["filename"].numpy().decode(errors="replace")
    try:
        records.decode_image(example["image_bytes"], channels=input_channels, bit_depth=bit_depth)
    except _ERRORS as error:
        return f"the image of {name!r} does not decode: {records.error_words(error)}"
    if example["label_bytes"].numpy()[24:26] != records.EIGHT_BIT_GREY:
        return f"the label of {name!r} is no 8-bit grey PNG of class indices"
    try:
        records.decode_label(example["label_bytes"])
    except _ERRORS as error:
        return f"the label of {name!r} does not decode: {records.error_words(error)}"
    return None


def _feature_names(data: bytes) -> list[str] | None:
    # TensorFlow parses some bytes that protobuf does not, so this is for messages only.
    try:
        return sorted(tf.train.Example.FromString(data).features.feature)
    except DecodeError:
        return None


def _examined(path: str, *, info: DatasetInfo) -> Iterator[Record | Damage]:
    """As `scan`, with a damage in place of records that do not parse and decode, too."""
    damage_of = partial(record_damage, input_channels=info.input_channels, bit_depth=info.bit_depth)

    def examine(found: Record | Damage) -> Record | Damage:
        if isinstance(found, Record) and (reason := damage_of(found.data)) is not None:
            return Damage(path, found.number, reason)
        return found

    found = scan(path)
    with ThreadPoolExecutor() as pool:
        while batch := list(itertools.islice(found, _AT_ONCE)):
            yield from pool.map(examine, batch)


def _explain(dataset_dir: str | os.PathLike[str], split: str, *, info: DatasetInfo) -> str | None:
    """Names the first damage of a split, or says that its files hold another number of records."""
    counts = {}
    for path in records.split_files(dataset_dir, split):
        counts[path] = 0
        for found in tqdm(
            _examined(path, info=info),
            desc="look for the damage",
            unit="image",
            disable=None,
            leave=False,
        ):
            if isinstance(found, Damage):
                return f"{path}, record {found.record}: {found.reason}. {_REMEDY}"
            counts[path] += 1
    total = sum(counts.values())
    if total == info.splits[split]:
        return None
    each = ", ".join(f"{Path(path).name}: {count}" for path, count in counts.items())
    return (
        f"{dataset_dir} holds {total} records of the split {split!r}, but {FILENAME} states "
        f"{info.splits[split]} ({each}). Copy the files again, or convert again; if they are "
        f"complete, correct {FILENAME}."
    )
