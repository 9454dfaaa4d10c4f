"""Proves the pipelines: order, exact resume, pixels equal to the plain order, clear errors."""

import io
import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.data import augment, records
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.data.pipeline import evaluation_examples, training_batches

GOLDEN = Path(__file__).parent.parent / "golden"
IGNORE = 255


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def write_split(folder, examples, *, num_shards=1, num_classes=21, count=None):
    """Writes (image bytes, label) pairs as the split "train" and returns the description."""
    shards = np.array_split(np.arange(len(examples)), num_shards)
    for shard, members in enumerate(shards):
        path = folder / records.shard_name("train", shard, num_shards)
        with tf.io.TFRecordWriter(str(path)) as writer:
            for index in members:
                image_bytes, label = examples[index]
                writer.write(
                    records.make_example(
                        image_bytes=image_bytes,
                        label_bytes=png(label),
                        filename=f"picture_{index}",
                        height=label.shape[0],
                        width=label.shape[1],
                        image_format="png",
                    )
                )
    return DatasetInfo(
        name="test",
        class_names=tuple(f"class {index}" for index in range(num_classes)),
        palette=((0, 0, 0),) * num_classes,
        ignore_label=IGNORE,
        splits={"train": count or len(examples)},
    )


def batches(folder, info, **options):
    return training_batches(
        folder,
        "train",
        **{
            "info": info,
            "batch_size": 4,
            "crop_size": (9, 11),
            "min_scale_factor": 0.5,
            "max_scale_factor": 2.0,
            "scale_factor_step_size": 0.25,
            "mean_pixel": (127.5, 127.5, 127.5),
            "seed": 5,
            **options,
        },
    )


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """13 examples in 3 shards; each label is filled with the example's own number."""
    folder = tmp_path_factory.mktemp("numbered")
    rng = np.random.default_rng(0)
    examples = [
        (png(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)), np.full((12, 16), index, np.uint8))
        for index in range(13)
    ]
    return folder, write_split(folder, examples, num_shards=3)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """JPEG and PNG images of several sizes, in one shard. Returns folder, info, and the pairs."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(1)
    examples = []
    for index, (height, width) in enumerate([(60, 80), (33, 50), (75, 41), (20, 90), (64, 64)]):
        image = cv2.resize(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8), (width, height))
        image_bytes = png(image)
        if index != 1:
            image_bytes = cv2.imencode(".jpg", image)[1].tobytes()
        label = rng.integers(0, 22, (height, width), dtype=np.uint8)
        label[label == 21] = IGNORE
        examples.append((image_bytes, label))
    return folder, write_split(folder, examples), examples


def example_numbers(dataset, steps):
    """The number of each example of the first batches; [0, 0] is never padding."""
    return [
        [int(label.min()) for label in labels]
        for _, labels in dataset.take(steps).as_numpy_iterator()
    ]


def assert_equal_batches(actual, expected):
    for (images, labels), (other_images, other_labels) in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)


# --- Order ----------------------------------------------------------------------------------------


def test_every_epoch_has_every_example_once_in_another_order(numbered):
    order = list(itertools.chain(*example_numbers(batches(*numbered), 13)))
    epochs = [tuple(order[start : start + 13]) for start in range(0, 52, 13)]
    assert all(sorted(epoch) == list(range(13)) for epoch in epochs)
    assert len(set(epochs)) == 4


def test_start_step_continues_exactly_where_the_run_would_be(numbered):
    whole_run = list(batches(*numbered).take(12).as_numpy_iterator())
    # In the first epoch, across the border of two, at the start of the fourth, and at 0.
    for start_step in (2, 3, 10, 0):
        resumed = batches(*numbered, start_step=start_step).take(2).as_numpy_iterator()
        assert_equal_batches(resumed, whole_run[start_step : start_step + 2])


def test_order_and_augmentation_depend_on_the_seed_alone(numbered):
    first = list(batches(*numbered).take(4).as_numpy_iterator())
    tf.random.set_seed(99)
    assert_equal_batches(batches(*numbered).take(4).as_numpy_iterator(), first)
    other_order = example_numbers(batches(*numbered, seed=6), 8)
    assert other_order != example_numbers(batches(*numbered), 8)
    # Not the same orders an epoch later, either.
    assert other_order[0] not in example_numbers(batches(*numbered), 8)


def test_repeats_of_one_example_are_augmented_differently(tmp_path):
    rng = np.random.default_rng(2)
    image = png(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    info = write_split(tmp_path, [(image, np.zeros((20, 30), np.uint8))])
    images, _ = next(batches(tmp_path, info, batch_size=16).as_numpy_iterator())
    assert len({crop.tobytes() for crop in images}) == 16


# --- Pixels ---------------------------------------------------------------------------------------


def plain_example(image_bytes, label, index, *, resize, **options):
    """The reference's order: resize to range, scale, pad, crop, flip, each on whole images."""
    image = tf.io.decode_image(image_bytes, channels=3)
    if resize:
        size = augment.resize_to_range_size(*label.shape, **resize)
        image, label = augment.resize_image(image, size), augment.resize_label(label, size)
    crop_size = options["crop_size"]
    crop = augment.random_crop(tf.constant([5, index], tf.int64), tf.shape(label), **options)
    height, width = crop.scaled_size.numpy()
    padded_size = np.maximum((height, width), crop_size)
    padded_image = np.full((*padded_size, 3), 127.5, np.float32)
    padded_image[:height, :width] = augment.resize_image(image, (height, width))
    padded_label = np.full(padded_size, IGNORE, np.uint8)
    padded_label[:height, :width] = augment.resize_label(label, (height, width))
    top, left = crop.offset.numpy()
    window = np.s_[top : top + crop_size[0], left : left + crop_size[1]]
    step = -1 if crop.flip else 1
    return padded_image[window][:, ::step], padded_label[window][:, ::step]


@pytest.mark.parametrize(
    "resize", [None, {"min_size": 45, "max_size": 70, "factor": 4}], ids=["as is", "to range"]
)
def test_batches_hold_the_pixels_of_the_plain_order(pictures, resize):
    folder, info, examples = pictures
    options = {
        "crop_size": (47, 55),
        "min_scale_factor": 0.5,
        "max_scale_factor": 2.0,
        "scale_factor_step_size": 0.25,
    }
    arguments = (
        {f"{key}_resize_value": resize[f"{key}_size"] for key in ("min", "max")} if resize else {}
    )
    dataset = batches(
        folder,
        info,
        batch_size=5,
        resize_factor=resize and resize["factor"],
        **arguments,
        **options,
    )
    index = 0
    for images, labels in dataset.take(4).as_numpy_iterator():
        matched = set()
        for image, label in zip(images, labels, strict=True):
            # Which example it is, the batch does not say; but the labels are noise: one will fit.
            for number, example in enumerate(examples):
                expected = plain_example(*example, index, resize=resize, **options)
                if np.array_equal(label, expected[1]):
                    assert np.abs(image - expected[0]).max() <= 0.5
                    matched.add(number)
                    break
            index += 1
        assert matched == set(range(5))


def test_batches_have_static_shapes_and_stay_uint8(numbered):
    images, labels = batches(*numbered).element_spec
    assert images == tf.TensorSpec([4, 9, 11, 3], tf.uint8)
    assert labels == tf.TensorSpec([4, 9, 11], tf.uint8)


def test_padding_is_the_rounded_mean_pixel_and_the_ignore_label(numbered):
    options = {"min_scale_factor": 0.5, "max_scale_factor": 0.5}
    dataset = batches(*numbered, mean_pixel=(123.15, 115.9, 103.06), **options)
    for images, labels in dataset.take(4).as_numpy_iterator():
        padding = labels == IGNORE
        # 12x16 at half size covers 6x8 of the 9x11 crop.
        assert padding.sum(axis=(1, 2)).tolist() == [9 * 11 - 6 * 8] * 4
        assert np.all(images[padding] == (123, 116, 103))


@pytest.mark.parametrize("options", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]])
def test_decoding_whole_rows_of_a_jpeg_is_exact(options):
    """The pipeline relies on it; it is not true of windows that cut rows."""
    rng = np.random.default_rng(3)
    image = cv2.resize(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8), (150, 130))
    encoded = cv2.imencode(".jpg", image, options)[1].tobytes()
    whole = records.decode_image(encoded)
    for start in range(0, 130, 7):
        for length in (1, 5, 16, 130 - start):
            length = min(length, 130 - start)
            rows = tf.image.decode_and_crop_jpeg(encoded, [start, 0, length, 150], channels=3)
            np.testing.assert_array_equal(rows, whole[start : start + length])


# --- Evaluation -----------------------------------------------------------------------------------


def test_evaluation_yields_the_records_in_order_as_they_are(pictures):
    folder, info, examples = pictures
    dataset = evaluation_examples(folder, "train", info=info)
    assert dataset.cardinality() == len(examples)
    for index, (actual, (image_bytes, label)) in enumerate(
        zip(dataset.as_numpy_iterator(), examples, strict=True)
    ):
        assert actual["filename"].decode() == f"picture_{index}"
        np.testing.assert_array_equal(actual["label"], label)
        np.testing.assert_array_equal(actual["image"], tf.io.decode_image(image_bytes))


@pytest.mark.golden
def test_evaluation_resizes_as_the_reference(tmp_path):
    with np.load(GOLDEN / "facts_preprocess.npz") as arrays:
        expected_image, expected_label = arrays["pre_b_image"], arrays["pre_b_label"][..., 0]
    cases = json.loads((GOLDEN / "facts_preprocess.json").read_text())["preprocess_eval"]["cases"]
    case = next(case for case in cases if case["case"] == "b")
    # What the reference resized is its image "a" before padding.
    height, width = case["hw"]
    with np.load(GOLDEN / "facts_preprocess.npz") as arrays:
        source = arrays["pre_a_image"][:height, :width].astype(np.uint8)
    label = (np.arange(height * width) % 21).reshape(height, width).astype(np.uint8)
    info = write_split(tmp_path, [(png(source), label)])
    (example,) = evaluation_examples(tmp_path, "train", info=info, **case["args"])
    height, width, _ = case["original_out_shape"]
    np.testing.assert_allclose(example["image"], expected_image[:height, :width], atol=1e-4)
    np.testing.assert_array_equal(example["label"], expected_label[:height, :width])


# --- Bad input ------------------------------------------------------------------------------------


def both(folder, info):
    return batches(folder, info), evaluation_examples(folder, "train", info=info)


def test_label_outside_the_classes_is_an_error_that_names_file_and_value(tmp_path):
    labels = [np.full((12, 16), value, np.uint8) for value in (0, 1, 4, IGNORE)]
    labels[2][5, 5] = 7
    info = write_split(tmp_path, [(png(np.stack([x] * 3, -1)), x) for x in labels], num_classes=5)
    for dataset in both(tmp_path, info):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"picture_2 holds the value 7"):
            list(dataset.take(4))


@pytest.mark.parametrize("ignore_label", [0, 255])
def test_ignore_label_is_valid_inside_and_outside_the_classes(tmp_path, ignore_label):
    label = np.array([[0, 1, 2, ignore_label]] * 4, np.uint8)
    info = write_split(tmp_path, [(png(np.stack([label] * 3, -1)), label)], num_classes=3)
    info = DatasetInfo(
        info.name, info.class_names, info.palette, ignore_label=ignore_label, splits=info.splits
    )
    (example,) = evaluation_examples(tmp_path, "train", info=info)
    np.testing.assert_array_equal(example["label"], label)


def test_all_256_label_values_can_be_classes(tmp_path):
    label = np.arange(256, dtype=np.uint8).reshape(16, 16)
    info = write_split(tmp_path, [(png(np.stack([label] * 3, -1)), label)], num_classes=256)
    (example,) = evaluation_examples(tmp_path, "train", info=info)
    np.testing.assert_array_equal(example["label"], label)


@pytest.mark.parametrize("encode", [png, lambda image: cv2.imencode(".jpg", image)[1].tobytes()])
def test_image_and_label_of_different_size_are_an_error_that_names_the_file(tmp_path, encode):
    image, label = np.zeros((12, 16, 3), np.uint8), np.zeros((17, 16), np.uint8)
    info = write_split(tmp_path, [(encode(image), label)])
    for dataset in both(tmp_path, info):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"of. .picture_0.*12 16.*17 16"):
            next(iter(dataset))


@pytest.mark.parametrize("count", [2, 4])
def test_another_number_of_records_than_described_is_an_error(tmp_path, count):
    label = np.zeros((12, 16), np.uint8)
    info = write_split(tmp_path, [(png(np.stack([label] * 3, -1)), label)] * 3, count=count)
    for dataset in both(tmp_path, info):
        with pytest.raises(tf.errors.FailedPreconditionError, match=f"expected to contain {count}"):
            list(dataset.take(5))


def test_empty_record_files_are_an_error_instead_of_an_endless_wait(tmp_path):
    info = write_split(tmp_path, [], num_shards=2, count=3)
    for make in (batches, lambda folder, info: evaluation_examples(folder, "train", info=info)):
        with pytest.raises(ValueError, match=r"train-00000-of-00002.tfrecord hold no record"):
            make(tmp_path, info)


def test_unknown_split_and_missing_records_are_errors(tmp_path, numbered):
    folder, info = numbered
    with pytest.raises(ValueError, match="no split 'val'"):
        evaluation_examples(folder, "val", info=info)
    with pytest.raises(FileNotFoundError, match="train-"):
        batches(tmp_path, info)


def test_a_bound_without_a_resize_is_an_error(numbered):
    folder, info = numbered
    with pytest.raises(ValueError, match="need min_resize_value"):
        evaluation_examples(folder, "train", info=info, max_resize_value=100)
