"""Crops and examples of images of any channels and bits hold the pixels of a plain computation."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.data import augment, records
from deeplab_tf.data.channels import encode_png
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.data.pipeline import evaluation_examples, training_batches

IGNORE = 255
SIZE = 23, 31
CROP = {
    "crop_size": (27, 25),
    "min_scale_factor": 0.5,
    "max_scale_factor": 2.0,
    "scale_factor_step_size": 0.0,
}
CASES = [
    (1, 8, (0, 255)),
    (2, 8, (0, 255)),
    (4, 8, (0, 255)),
    (6, 8, (0, 255)),
    (3, 8, (20, 180)),
    (1, 16, (0, 65535)),
    (3, 16, (0, 65535)),
    (4, 16, (500, 40000)),
    (6, 16, (0, 4095.5)),
]


@pytest.fixture(params=CASES, ids=str)
def example(request, tmp_path):
    """A folder of one record, its description, and the image and label in it."""
    channels, bits, value_range = request.param
    rng = np.random.default_rng(channels + bits)
    image = rng.integers(0, 2**bits, (*SIZE, channels)).astype(f"uint{bits}")
    label = rng.integers(0, 5, SIZE).astype(np.uint8)
    with tf.io.TFRecordWriter(str(tmp_path / records.shard_name("train", 0, 1))) as writer:
        writer.write(
            records.make_example(
                image_bytes=encode_png(image),
                label_bytes=encode_png(label[..., None]),
                filename="noise",
                height=SIZE[0],
                width=SIZE[1],
                image_format="png",
                channels=channels,
            )
        )
    info = DatasetInfo(
        name="noise",
        class_names=tuple("abcde"),
        palette=((0, 0, 0),) * 5,
        ignore_label=IGNORE,
        splits={"train": 1},
        input_channels=channels,
        bit_depth=bits,
        value_range=value_range,
    )
    return tmp_path, info, image, label


def scaled(image, info):
    """What the network is to see, float64."""
    low, high = info.value_range
    return np.clip((image.astype(np.float64) - low) / (high - low), 0, 1) * 255


def resized(image, size):
    """Bilinear with aligned corners, pixel by pixel."""
    result = np.zeros((*size, image.shape[2]))
    ratio = [(old - 1) / max(new - 1, 1) for old, new in zip(image.shape, size, strict=False)]
    for y, x in np.ndindex(*size):
        (top, left), (bottom, right) = (
            [int(p * r) for p, r in zip((y, x), ratio, strict=True)],
            [
                min(int(p * r) + 1, n - 1)
                for p, r, n in zip((y, x), ratio, image.shape, strict=False)
            ],
        )
        down, along = y * ratio[0] - top, x * ratio[1] - left
        above = (1 - along) * image[top, left] + along * image[top, right]
        below = (1 - along) * image[bottom, left] + along * image[bottom, right]
        result[y, x] = (1 - down) * above + down * below
    return result


def test_crops_hold_the_pixels_of_the_plain_order(example):
    folder, info, image, label = example
    mean_pixel = np.linspace(90.3, 140.7, info.input_channels)
    dataset = training_batches(
        folder, "train", info=info, batch_size=1, mean_pixel=mean_pixel, seed=5, **CROP
    )
    assert dataset.element_spec[0].shape == (1, 27, 25, info.input_channels)
    padded = 0
    for index, (images, labels) in enumerate(dataset.take(6).as_numpy_iterator()):
        crop = augment.random_crop(tf.constant([5, index], tf.int64), tf.constant(SIZE), **CROP)
        size, (top, left) = crop.scaled_size.numpy(), crop.offset.numpy()
        canvas = np.full((*np.maximum(size, CROP["crop_size"]), info.input_channels), mean_pixel)
        canvas[: size[0], : size[1]] = resized(scaled(image, info), size)
        expected = canvas[top : top + 27, left : left + 25][:, :: -1 if crop.flip else 1]
        padded += bool((size < CROP["crop_size"]).any())
        if info.stores_input:
            assert images.dtype == np.uint8
            assert np.abs(images[0] - expected).max() <= 0.501
        else:
            assert images.dtype == np.float32
            np.testing.assert_allclose(images[0], expected, atol=2e-3)
        assert set(np.unique(labels)) <= {*np.unique(label), IGNORE}
    assert 0 < padded < 6


def test_resized_examples(example):
    folder, info, image, _ = example
    (whole,) = evaluation_examples(folder, "train", info=info).as_numpy_iterator()
    assert whole["image"].dtype == (np.uint8 if info.stores_input else np.float32)
    np.testing.assert_allclose(whole["image"], scaled(image, info), atol=1e-3)
    (small,) = evaluation_examples(
        folder, "train", info=info, min_resize_value=11
    ).as_numpy_iterator()
    np.testing.assert_allclose(small["image"], resized(scaled(image, info), (11, 14)), atol=5e-3)


def test_a_mean_pixel_of_other_channels(example):
    folder, info, *_ = example
    with pytest.raises(ValueError, match=rf"7 values for images of {info.input_channels} channels"):
        training_batches(
            folder, "train", info=info, batch_size=1, mean_pixel=[0] * 7, seed=0, **CROP
        )
