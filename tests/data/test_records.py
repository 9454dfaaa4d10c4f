import hashlib
import io
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.data import records

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.golden
def test_example_is_byte_identical_to_the_references():
    example = records.make_example(
        image_bytes=(GOLDEN / "voc_example_0.jpg").read_bytes(),
        label_bytes=(GOLDEN / "voc_example_0.png").read_bytes(),
        filename="2007_000000",
        height=24,
        width=32,
        image_format="jpeg",
    )
    facts = json.loads((GOLDEN / "facts_dataset.json").read_text())
    assert example == (GOLDEN / "voc_example_0.bin").read_bytes()
    assert hashlib.sha256(example).hexdigest() == facts["voc"]["example_sha256"]


def test_every_parser_reads_the_example():
    example = records.make_example(
        image_bytes=b"i" * 300,
        label_bytes=b"l" * 200,
        filename="Straße 1",
        height=70000,
        width=3,
        image_format="png",
    )
    feature = tf.train.Example.FromString(example).features.feature
    assert feature["image/encoded"].bytes_list.value[0] == b"i" * 300
    assert feature["image/format"].bytes_list.value[0] == b"png"
    assert feature["image/channels"].int64_list.value[0] == 3
    assert len(feature) == 8
    parsed = records.parse_example(tf.constant(example))
    assert parsed["label_bytes"].numpy() == b"l" * 200
    assert parsed["filename"].numpy().decode() == "Straße 1"
    assert (parsed["height"].numpy(), parsed["width"].numpy()) == (70000, 3)


@pytest.mark.golden
def test_reads_the_references_file_as_its_reader_does():
    dataset = tf.data.TFRecordDataset(GOLDEN / "val-00000-of-00004.tfrecord")
    examples = list(dataset.map(records.parse_example))
    reader = np.load(GOLDEN / "facts_reader.npz")
    assert [example["filename"].numpy() for example in examples] == [b"2007_000000", b"2007_000001"]
    image = records.decode_image(examples[0]["image_bytes"]).numpy()
    label = records.decode_label(examples[0]["label_bytes"]).numpy()
    np.testing.assert_array_equal(image, reader["original_image"][0])
    # The reference pads image and label to the crop, 33 x 49, at the bottom and right.
    np.testing.assert_array_equal(label, reader["label"][0, :24, :32, 0])


@pytest.mark.golden
def test_missing_features_take_the_references_defaults():
    parsed = records.parse_example(tf.constant(b""))
    assert {key: value.numpy() for key, value in parsed.items()} == {
        "image_bytes": b"",
        "label_bytes": b"",
        "filename": b"",
        "height": 0,
        "width": 0,
    }


@pytest.mark.parametrize("extension", [".jpg", ".png"])
@pytest.mark.parametrize("channels", [1, 3])
def test_decode_image_agrees_with_opencv(extension, channels):
    rng = np.random.default_rng(0)
    pixels = cv2.resize(rng.integers(0, 256, (4, 5, channels), np.uint8), (50, 40))
    encoded = cv2.imencode(extension, pixels)[1].tobytes()
    expected = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    decoded = records.decode_image(tf.constant(encoded)).numpy()
    difference = np.abs(decoded.astype(int) - expected)
    # As in the reference, TensorFlow's default for JPEG is the fast, less accurate DCT.
    assert difference.max() <= (12 if extension == ".jpg" else 0)
    assert difference.mean() < 2


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_decode_label_returns_the_stored_values():
    values = np.arange(256, dtype=np.uint8).reshape(8, 32)
    label = records.decode_label(tf.constant(png(Image.fromarray(values))))
    np.testing.assert_array_equal(label, values)


@pytest.mark.parametrize("mode", ["P", "RGB", "1", "I;16"])
@pytest.mark.parametrize("in_pipeline", [False, True])
def test_decode_label_refuses_what_tensorflow_would_misread(mode, in_pipeline):
    encoded = png(Image.new(mode, (4, 4)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="not an 8-bit grey PNG"):
        if in_pipeline:
            list(tf.data.Dataset.from_tensors(encoded).map(records.decode_label))
        else:
            records.decode_label(tf.constant(encoded))


def test_split_files_are_sorted_and_of_that_split_only(tmp_path):
    names = [records.shard_name("train", index, 11) for index in range(11)]
    for name in [*names[::-1], "train_aug-00000-of-00001.tfrecord", "train-notes.txt"]:
        (tmp_path / name).touch()
    assert [Path(path).name for path in records.split_files(tmp_path, "train")] == names


def test_split_files_takes_other_names_as_the_reference_does(tmp_path):
    (tmp_path / "val-b").touch()
    (tmp_path / "val-a").touch()
    assert [Path(path).name for path in records.split_files(tmp_path, "val")] == ["val-a", "val-b"]


def test_split_files_refuses_folders_that_are_not_whole(tmp_path):
    with pytest.raises(FileNotFoundError, match="folder of records"):
        records.split_files(tmp_path / "absent", "val")
    with pytest.raises(FileNotFoundError, match=r"val-\*\.tfrecord"):
        records.split_files(tmp_path, "val")
    (tmp_path / records.shard_name("val", 0, 2)).touch()
    with pytest.raises(ValueError, match="1 of the 2 shards"):
        records.split_files(tmp_path, "val")
    (tmp_path / records.shard_name("val", 1, 3)).touch()
    with pytest.raises(ValueError, match="mixes conversions"):
        records.split_files(tmp_path, "val")


def test_splits_in_a_folder(tmp_path):
    """Counted as TensorFlow reads them; other files, and splits without a record, are none."""
    counts = {"train-00000-of-00002": 3, "train-00001-of-00002": 1, "val_fine-00000-of-00001": 2}
    for name, count in {**counts, "test-00000-of-00001": 0}.items():
        with tf.io.TFRecordWriter(f"{tmp_path}/{name}.tfrecord") as writer:
            for size in range(count):
                writer.write(b"x" * size * 1000)
    (tmp_path / "readme.txt").write_text("mine")
    assert records.splits_in(tmp_path) == {"train": 4, "val_fine": 2}
    assert records.splits_in(tmp_path / "nowhere") == {}
    shutil.copy(GOLDEN / "val-00000-of-00004.tfrecord", tmp_path)
    golden = tf.data.TFRecordDataset(str(GOLDEN / "val-00000-of-00004.tfrecord"))
    assert records.splits_in(tmp_path)["val"] == len(list(golden)) > 0
