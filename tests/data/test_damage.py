"""Proves that damaged records are named, or left out and reported: never lost, never endless."""

import dataclasses
import itertools

import cv2
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.data import damage, records
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.data.pipeline import evaluation_examples, training_batches

NUM_SHARDS = 3
# Numbers of the examples of each shard; the label of example i is filled with i.
MEMBERS = ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10])
COUNT = 11
INFO = DatasetInfo(
    name="numbers",
    class_names=tuple(f"number {i}" for i in range(COUNT)),
    palette=((0, 0, 0),) * COUNT,
    ignore_label=255,
    splits={"train": COUNT},
)


def example(number, **changes):
    image = cv2.resize(
        np.random.default_rng(number).integers(0, 256, (3, 4, 3), np.uint8), (16, 12)
    )
    label = np.full((12, 16), number, np.uint8)
    fields = {
        "image_bytes": cv2.imencode(".jpg" if number % 2 else ".png", image)[1].tobytes(),
        "label_bytes": cv2.imencode(".png", label)[1].tobytes(),
        "filename": f"picture_{number}",
        "height": 12,
        "width": 16,
        "image_format": "png",
    }
    return records.make_example(**fields | changes)


def write(path, examples):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for serialized in examples:
            writer.write(serialized)


@pytest.fixture
def folder(tmp_path):
    """Eleven examples in three files."""
    for shard, members in enumerate(MEMBERS):
        write(tmp_path / shard_name(shard), map(example, members))
    return tmp_path


def shard_name(index):
    return records.shard_name("train", index, NUM_SHARDS)


def batches(folder, *, info=INFO, **options):
    return training_batches(
        folder,
        "train",
        info=info,
        crop_size=(9, 11),
        min_scale_factor=0.5,
        max_scale_factor=2.0,
        scale_factor_step_size=0.25,
        mean_pixel=(127.5,) * 3,
        seed=5,
        **{"batch_size": 1} | options,
    )


def evaluated(folder, info=INFO):
    """Reads the split once as eval.py does."""
    examples = evaluation_examples(folder, "train", info=info).as_numpy_iterator()
    return list(damage.naming_damage(examples, folder, "train", info=info))


def trained(folder, info=INFO):
    """Reads two epochs as train.py does."""
    items = batches(folder, info=info).take(2 * COUNT)
    return list(damage.naming_damage(items, folder, "train", info=info))


# --- The ways to be damaged -----------------------------------------------------------------------


def foreign_example():
    features = {
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[3])),
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"x"])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def wrongly_typed_example():
    """Has all features, but the height as text."""
    parsed = tf.train.Example.FromString(example(5))
    parsed.features.feature["image/height"].bytes_list.value.append(b"12")
    return parsed.SerializeToString()


def replace_record(path, serialized):
    """Puts something into the place of example 5, the second one of its file."""
    write(path, [example(4), serialized, example(6), example(7)])


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2 - 20])


def flip(path, text, distance):
    content = bytearray(path.read_bytes())
    content[content.index(text) + distance] ^= 1
    path.write_bytes(content)


def grey_jpeg_of_zeros():
    return cv2.imencode(".jpg", np.zeros((12, 16, 3), np.uint8))[1].tobytes()


# What happens to the second file; which examples that costs; what the message says.
DAMAGES = {
    "truncated": (truncate, {5, 6, 7}, r"record 1: truncated"),
    "data checksum": (
        lambda path: flip(path, b"picture_5", 0),
        {5},
        r"record 1: the checksum of its data is wrong",
    ),
    "length checksum": (
        lambda path: flip(path, b"picture_4", -path.read_bytes().index(b"picture_4")),
        {4},
        r"record 0: the checksum of its length is wrong",
    ),
    "no record file": (
        lambda path: path.write_bytes(b"<html>404</html>" * 99),
        {4, 5, 6, 7},
        r"record 0: .*is this a TFRecord file",
    ),
    "no example": (
        lambda path: replace_record(path, b"\xff" * 50),
        {5},
        r"record 1: it is no tf.train.Example",
    ),
    "foreign features": (
        lambda path: replace_record(path, foreign_example()),
        {5},
        r"record 1: .*expected bytes in image/encoded and image/segmentation/class/encoded, found "
        r"the features image/encoded, label\.",
    ),
    "no features": (
        lambda path: replace_record(path, b""),
        {5},
        r"record 1: .*found the features none\.",
    ),
    "wrong types": (
        lambda path: replace_record(path, wrongly_typed_example()),
        {5},
        r"record 1: it cannot be parsed: .*image/height",
    ),
    "image": (
        lambda path: replace_record(path, example(5, image_bytes=b"no image")),
        {5},
        r"record 1: the image of 'picture_5' does not decode",
    ),
    "half a JPEG": (
        lambda path: replace_record(path, example(5, image_bytes=grey_jpeg_of_zeros()[:-90])),
        {5},
        r"record 1: the image of 'picture_5' does not decode",
    ),
    "label": (
        lambda path: replace_record(path, example(5, label_bytes=b"no label")),
        {5},
        r"record 1: the label of 'picture_5' is no 8-bit grey PNG of class indices",
    ),
    "half a label": (
        lambda path: replace_record(
            path,
            example(
                5, label_bytes=cv2.imencode(".png", np.eye(16, dtype=np.uint8))[1][:50].tobytes()
            ),
        ),
        {5},
        r"record 1: the label of 'picture_5' does not decode",
    ),
}


@pytest.fixture(params=DAMAGES)
def damaged(request, folder):
    """A folder with one damage, the examples that costs, and the pattern of its message."""
    spoil, lost, message = DAMAGES[request.param]
    spoil(folder / shard_name(1))
    return folder, lost, message


def test_damage_is_an_error_that_names_file_and_record(damaged):
    folder, _, message = damaged
    pattern = rf"{folder}/train-00001-of-00003\.tfrecord, {message}.*Copy that file again"
    with pytest.raises(ValueError, match=pattern):
        evaluated(folder)


@pytest.mark.parametrize("kind", ["truncated", "no example", "half a JPEG"])
def test_damage_is_an_error_in_training_too(folder, kind):
    spoil, _, message = DAMAGES[kind]
    spoil(folder / shard_name(1))
    with pytest.raises(ValueError, match=rf"{folder}/train-00001-of-00003\.tfrecord, {message}"):
        trained(folder)


def test_damage_can_be_left_out_and_is_reported(damaged):
    folder, lost, _ = damaged
    sound = damage.find_sound_records(folder, "train", info=INFO)
    kept = sorted(set(range(COUNT)) - lost)
    examples = evaluation_examples(folder, "train", info=INFO, sound=sound)
    assert [int(item["label"][0, 0]) for item in examples.as_numpy_iterator()] == kept
    assert examples.cardinality() == sound.count == len(kept)
    assert sound.left_out == len(lost)
    assert f"Leaving out {len(lost)} of 11 records of train:" in sound.report()
    (found,) = sound.damages
    assert f"  - {found}" in sound.report()
    # Where several records are one damage, their number is seen beside it.
    assert ("dataset.json states 11" in sound.report()) == (len(lost) > 1)
    assert sound.to_json() == {
        "left_out": len(lost),
        "of": COUNT,
        "files": ["train-00001-of-00003.tfrecord"],
        "first": [str(found)],
    }


def test_training_sees_every_sound_record_once_an_epoch(folder):
    truncate(folder / shard_name(0))
    flip(folder / shard_name(1), b"picture_5", 0)
    (folder / shard_name(2)).unlink()
    sound = damage.find_sound_records(folder, "train", info=INFO)
    order = [int(label.numpy().min()) for _, label in batches(folder, sound=sound).take(24)]
    epochs = [order[start : start + 4] for start in range(0, 24, 4)]
    assert [sorted(epoch) for epoch in epochs] == [[0, 4, 6, 7]] * 6
    assert len(set(map(tuple, epochs))) > 1


def test_what_is_left_is_read_again_exactly_from_any_step(folder):
    flip(folder / shard_name(0), b"picture_2", 0)
    replace_record(folder / shard_name(1), b"")
    sound = damage.find_sound_records(folder, "train", info=INFO)
    assert sound.count == 9
    whole = [bytes(np.asarray(image)) for image, _ in batches(folder, sound=sound).take(30)]
    # Found anew, as by a run that goes on.
    sound = damage.find_sound_records(folder, "train", info=INFO)
    for start in (4, 9, 17):
        resumed = batches(folder, sound=sound, start_step=start).take(5)
        found = [bytes(np.asarray(image)) for image, _ in resumed]
        assert found == whole[start : start + 5]


def test_sound_data_give_the_same_batches_either_way(folder):
    sound = damage.find_sound_records(folder, "train", info=INFO)
    assert sound.report() == "All 11 records of train are sound."
    assert (sound.left_out, sound.damages) == (0, ())
    options = {"batch_size": 4}
    pairs = zip(
        batches(folder, **options).take(12),
        batches(folder, sound=sound, **options).take(12),
        strict=True,
    )
    for expected, found in pairs:
        for tensor, other in zip(expected, found, strict=True):
            np.testing.assert_array_equal(tensor, other)


def test_what_tensorflow_parses_is_sound_although_protobuf_does_not(folder):
    """A name that is no UTF-8, of a feature that is not read."""
    foreign = tf.train.Example()
    foreign.features.feature["image/note"].int64_list.value.append(1)
    note = foreign.SerializeToString().replace(b"note", b"n\xff\xffe")
    replace_record(folder / shard_name(1), example(5) + note)
    assert len(evaluated(folder)) == COUNT
    assert damage.find_sound_records(folder, "train", info=INFO).count == COUNT


# --- Numbers of records ---------------------------------------------------------------------------


def test_a_missing_file(folder):
    (folder / shard_name(1)).unlink()
    for read in (evaluated, trained):
        with pytest.raises(ValueError, match=r"2 of the 3 shards.*train-00001-of-00003\.tfrecord"):
            read(folder)
    sound = damage.find_sound_records(folder, "train", info=INFO)
    assert (sound.count, sound.left_out) == (7, 4)
    assert "train-00001-of-00003.tfrecord, record 0: the file is missing" in sound.report()


def test_an_emptied_file_is_found_by_the_number_of_records(folder):
    (folder / shard_name(1)).write_bytes(b"")
    for read in (evaluated, trained):
        with pytest.raises(ValueError, match=r"7 records .*states 11 .*00001-of-00003.tfrecord: 0"):
            read(folder)
    sound = damage.find_sound_records(folder, "train", info=INFO)
    assert sound.left_out == 4
    assert "dataset.json states 11 records, 7 sound ones were found" in sound.report()


def test_an_empty_file_is_sound_if_the_numbers_say_so(folder):
    (folder / shard_name(1)).write_bytes(b"")
    info = dataclasses.replace(INFO, splits={"train": 7})
    assert len(evaluated(folder, info)) == 7
    assert len(trained(folder, info)) == 2 * COUNT
    sound = damage.find_sound_records(folder, "train", info=info)
    assert sound.report() == "All 7 records of train are sound."


def test_more_records_than_stated(folder):
    info = dataclasses.replace(INFO, splits={"train": 10})
    for read in (evaluated, trained):
        with pytest.raises(ValueError, match=r"holds 11 records .*states 10"):
            read(folder, info)
    sound = damage.find_sound_records(folder, "train", info=info)
    assert "dataset.json states 10 records, 11 sound ones were found" in sound.report()


def test_nothing_left_is_an_error(folder):
    for shard, members in enumerate(MEMBERS):
        write(folder / shard_name(shard), [foreign_example()] * len(members))
    with pytest.raises(
        ValueError, match=r"no record of .*can be used(.|\n)*features image/encoded, l"
    ):
        damage.find_sound_records(folder, "train", info=INFO)


def test_many_damages_are_counted_and_their_files_named(folder):
    for shard, members in enumerate(MEMBERS[:2]):
        write(folder / shard_name(shard), [b""] * (len(members) - 1) + [example(members[-1])])
    sound = damage.find_sound_records(folder, "train", info=INFO)
    report = sound.report()
    assert "Leaving out 6 of 11" in report
    assert "... and 1 more" in report
    assert "in train-00000-of-00003.tfrecord, train-00001-of-00003.tfrecord" in report
    assert len(sound.to_json()["first"]) == 5


# --- What is no damage ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_bytes": cv2.imencode(".png", np.full((12, 16), 99, np.uint8))[1]}, "value 99"),
        ({"label_bytes": cv2.imencode(".png", np.zeros((12, 15), np.uint8))[1]}, "one size"),
    ],
)
def test_wrong_contents_are_no_damage(folder, changes, message, monkeypatch):
    """The message of the pipeline names the image, so no file is searched."""
    changes = {key: value.tobytes() for key, value in changes.items()}
    replace_record(folder / shard_name(1), example(5, **changes))
    assert damage.find_sound_records(folder, "train", info=INFO).damages == ()
    monkeypatch.setattr(damage, "scan", None)
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"picture_5.*{message}"):
        evaluated(folder)


def test_an_error_of_who_uses_the_items_is_not_touched(folder):
    def consume():
        for _ in damage.naming_damage(itertools.repeat(1), folder, "train", info=INFO):
            raise tf.errors.InvalidArgumentError(None, None, "of the consumer")

    with pytest.raises(tf.errors.InvalidArgumentError, match="of the consumer"):
        consume()


def test_an_error_of_reading_that_is_no_damage_stays(folder):
    def broken():
        yield 1
        raise tf.errors.NotFoundError(None, None, "the disk went away")

    items = damage.naming_damage(broken(), folder, "train", info=INFO)
    with pytest.raises(tf.errors.NotFoundError, match="the disk went away"):
        list(items)
