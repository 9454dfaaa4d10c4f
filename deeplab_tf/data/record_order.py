"""The files of a split, and the order of its records in training.

A pure function of the run's seed: epoch e shuffles with a seed made of that and e.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import tensorflow as tf

from deeplab_tf.data import records
from deeplab_tf.data.damage import SoundRecords
from deeplab_tf.data.dataset_info import FILENAME, DatasetInfo

# Serialized records kept in memory for shuffling. Records further apart than this are mixed by
# shuffling the files and reading many of them in turns.
_SHUFFLE_BYTES = 256 * 2**20
_FILES_AT_ONCE = 16


class RecordSource(NamedTuple):
    """The files of a split: their number and bytes, their records, and how to read file i."""

    num_files: int
    num_bytes: int
    num_records: int
    read: Callable[[tf.Tensor], tf.data.Dataset]


def open_split(
    dataset_dir: str | os.PathLike[str],
    split: str,
    *,
    info: DatasetInfo,
    sound: SoundRecords | None,
) -> RecordSource:
    """The record files of a split that exists and is not empty."""
    info.check_split(split)
    if sound is not None:
        num_bytes = sum(os.path.getsize(shard.path) for shard in sound.shards)
        return RecordSource(len(sound.shards), num_bytes, sound.count, sound.reader())
    paths = records.split_files(dataset_dir, split)
    num_bytes = sum(map(os.path.getsize, paths))
    if not num_bytes:
        raise ValueError(
            f"the {len(paths)} files of {paths[0]} hold no record, but {FILENAME} states "
            f"{info.splits[split]} for split {split!r}; copy the folder again, or convert again"
        )
    names = tf.constant(paths)
    return RecordSource(
        len(paths), num_bytes, info.splits[split], lambda i: tf.data.TFRecordDataset(names[i])
    )


def endless_records(source: RecordSource, *, seed: int, first_example: int) -> tf.data.Dataset:
    """Pairs of an example's number in the run and its record, from `first_example` on."""
    shuffled_epoch = partial(_shuffled_epoch, source=source, seed=seed)
    first_epoch, first_in_epoch = divmod(first_example, source.num_records)
    return (
        tf.data.Dataset.counter(first_epoch)
        .flat_map(shuffled_epoch)
        .skip(first_in_epoch)
        .enumerate(first_example)
    )


def _shuffled_epoch(epoch: tf.Tensor, *, source: RecordSource, seed: int) -> tf.data.Dataset:
    # Shuffling mixes in the program's global seed, unless the graph traced here forgets it.
    tf.compat.v1.set_random_seed(None)
    epoch_seed = tf.random.stateless_uniform(
        [], [tf.constant(seed, tf.int64), epoch], None, None, dtype=tf.int64, alg="philox"
    )
    files = tf.data.Dataset.range(source.num_files)
    files = files.shuffle(source.num_files, seed=epoch_seed, reshuffle_each_iteration=False)
    serialized = files.interleave(source.read, cycle_length=_FILES_AT_ONCE)
    mean_bytes = source.num_bytes / source.num_records
    return serialized.apply(tf.data.experimental.assert_cardinality(source.num_records)).shuffle(
        min(source.num_records, int(_SHUFFLE_BYTES / mean_bytes) + 1),
        seed=epoch_seed,
        reshuffle_each_iteration=False,
    )
