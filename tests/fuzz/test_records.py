"""Files of records: a sound example, a damage, or an error that names file and record."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.data import damage, records
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.data.pipeline import evaluation_examples
from deeplab_tf.data.record_files import Damage, scan_records
from tests.fuzz.inputs import both_sizes, mutate, random_numbers, within

INFO = DatasetInfo("fuzz", ("a", "b"), ((0, 0, 0), (9, 9, 9)), 255, {"train": 5})
NAME = records.shard_name("train", 0, 1)
SECONDS = 60


def serialized(number):
    rng = np.random.default_rng(number)
    image = Image.fromarray(rng.integers(0, 256, (6, 7, 3), np.uint8))
    label = Image.fromarray(rng.integers(0, 2, (6, 7), np.uint8))
    image_bytes, label_bytes = io.BytesIO(), io.BytesIO()
    image.save(image_bytes, "PNG" if number % 2 else "JPEG")
    label.save(label_bytes, "PNG")
    return records.make_example(
        image_bytes=image_bytes.getvalue(),
        label_bytes=label_bytes.getvalue(),
        filename=f"picture_{number}",
        height=6,
        width=7,
        image_format="jpeg",
    )


SOUND = [serialized(number) for number in range(INFO.splits["train"])]


def file_of(contents, path):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content in contents:
            writer.write(content)


@pytest.fixture
def path(tmp_path):
    return tmp_path / NAME


@pytest.fixture
def whole_file(path):
    file_of(SOUND, path)
    return path.read_bytes()


def damaged_file(whole_file, rng, path):
    """Half of the time bytes of the file change, else those of a record with right checksums."""
    if rng.random() < 0.5:
        path.write_bytes(mutate(whole_file, rng))
    else:
        contents = list(SOUND)
        place = rng.integers(len(contents))
        contents[place] = mutate(contents[place], rng)
        file_of(contents, path)


@both_sizes(20, 500)
def test_scan(count, path, whole_file):
    """Checksums are certain, so what is found is what was written, in order."""
    for rng in random_numbers("files of records, scanned", count):
        path.write_bytes(mutate(whole_file, rng))
        found = within(SECONDS, list, scan_records(path))
        sound = [item for item in found if isinstance(item, bytes)]
        rest = iter(SOUND)
        assert all(item in rest for item in sound) or len(sound) > len(SOUND), sound
        assert set(sound) <= set(SOUND)
        is_damaged = any(isinstance(item, Damage) for item in found)
        assert is_damaged or sound == SOUND or len(path.read_bytes()) != len(whole_file)


@both_sizes(20, 500)
def test_record(count):
    for rng in random_numbers("records with right checksums", count):
        content = mutate(SOUND[rng.integers(len(SOUND))], rng)
        reason = within(SECONDS, damage.record_damage, content)
        if reason is None:
            example = records.parse_example(tf.constant(content))
            assert records.decode_image(example["image_bytes"]).shape[2] == 3
            assert records.decode_label(example["label_bytes"]).shape.rank == 2
        else:
            assert content not in SOUND
            assert reason.isprintable() or "\n" in reason


@both_sizes(6, 120)
def test_pipeline(count, path, whole_file):
    for rng in random_numbers("files of records, read", count):
        damaged_file(whole_file, rng, path)
        try:
            names = within(SECONDS, read, path.parent, None)
        except ValueError as error:
            assert f"{path}, record " in str(error) or "dataset.json states 5" in str(error)
            names = None
        except tf.errors.InvalidArgumentError as error:
            assert "picture" in str(error) or records.WRONG_VALUE in str(error), error
            continue
        assert names is None or len(names) == 5
        try:
            sound = within(SECONDS, find_sound_records, path.parent)
        except ValueError as error:
            assert "no record of the split" in str(error)
            assert names is None
            continue
        assert (names is None) == (sound.left_out > 0 or sound.count != 5)
        try:
            assert len(within(SECONDS, read, path.parent, sound)) == sound.count
        except tf.errors.InvalidArgumentError as error:
            assert records.WRONG_VALUE in str(error) or records.WRONG_SIZE in str(error)


def find_sound_records(folder):
    return damage.find_sound_records(folder, "train", info=INFO)


def read(folder, sound):
    examples = evaluation_examples(folder, "train", info=INFO, sound=sound).as_numpy_iterator()
    examples = damage.naming_damage(examples, folder, "train", info=INFO)
    return [example["filename"] for example in examples]
