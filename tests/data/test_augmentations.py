"""Proves the augmentations in the pipeline: resume, labels, padding, and that off means off."""

import dataclasses

import cv2
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.config import AugmentationConfig
from deeplab_tf.data.augmentations import Augmentations
from deeplab_tf.data.pipeline import training_examples
from tests.data.test_pipeline import IGNORE, assert_equal_batches, batches, png, write_split

EVERYTHING = AugmentationConfig(
    brightness_jitter=0.4,
    contrast_jitter=0.3,
    saturation_jitter=0.5,
    hue_jitter=0.2,
    max_rotation_degrees=40.0,
    blur_probability=0.5,
    class_balanced_crops=0.5,
)
EXTREME = AugmentationConfig(9.0, 9.0, 9.0, 0.5, 180.0, 1.0, 0.01, 9.0, 1.0)
OPTIONS = {
    "crop_size": (25, 31),
    "min_scale_factor": 0.5,
    "max_scale_factor": 2.0,
    "scale_factor_step_size": 0.25,
    "mean_pixel": (123.15, 115.9, 103.06),
}


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    """Nine JPEGs whose labels are blocks of few classes without void; folder and description."""
    folder = tmp_path_factory.mktemp("blocks")
    rng = np.random.default_rng(0)
    examples = []
    for index in range(9):
        size = (44 + index, 60 - 2 * index)
        image = cv2.resize(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8), size[::-1])
        label = rng.integers(0, 4, (3, 3), dtype=np.uint8) * 4 + index % 2
        label = cv2.resize(label, size[::-1], interpolation=cv2.INTER_NEAREST)
        examples.append((cv2.imencode(".jpg", image)[1].tobytes(), label))
    return folder, write_split(folder, examples, num_shards=2)


def some(blocks, steps=3, **options):
    """The first batches of 4."""
    return list(batches(*blocks, **{**OPTIONS, **options}).take(steps).as_numpy_iterator())


def stacked(blocks, **options):
    """Images and labels of the first 12 examples."""
    return [np.concatenate(parts) for parts in zip(*some(blocks, **options), strict=True)]


# --- Order and randomness -------------------------------------------------------------------------


def test_with_everything_on_a_run_resumes_exactly(blocks):
    whole_run = some(blocks, 9, augmentations=EVERYTHING)
    for start_step in (1, 2, 5):  # in the first epoch, across the border of two, in the third
        resumed = some(blocks, 9 - start_step, augmentations=EVERYTHING, start_step=start_step)
        assert_equal_batches(resumed, whole_run[start_step:])


def test_the_seed_decides_and_repeats_of_an_example_differ(tmp_path):
    image = cv2.resize(np.random.default_rng(1).integers(0, 256, (9, 9, 3), np.uint8), (50, 40))
    info = write_split(tmp_path, [(png(image), np.zeros((40, 50), np.uint8))])
    # One scale and one place, so that without any augmentation there are two different crops.
    options = {**OPTIONS, "min_scale_factor": 1.0, "max_scale_factor": 1.0, "crop_size": (40, 50)}
    for change in (
        {"brightness_jitter": 0.4},
        {"contrast_jitter": 0.4},
        {"saturation_jitter": 0.4},
        {"hue_jitter": 0.2},
        {"blur_probability": 1.0, "blur_min_sigma": 0.8},
        {"max_rotation_degrees": 30.0},
    ):
        config = AugmentationConfig(**change)
        images, _ = stacked((tmp_path, info), augmentations=config, **options)
        other, _ = stacked((tmp_path, info), augmentations=config, **options, seed=6)
        assert len({crop.tobytes() for crop in images}) == 12, change
        assert not {crop.tobytes() for crop in images} & {crop.tobytes() for crop in other}


def test_off_is_what_there_was_before(blocks):
    plain = some(blocks)
    assert_equal_batches(some(blocks, augmentations=AugmentationConfig()), plain)
    unused = AugmentationConfig(blur_min_sigma=1.0, blur_max_sigma=1.5)
    assert_equal_batches(some(blocks, augmentations=unused), plain)


def test_each_augmentation_leaves_alone_what_is_not_its_own(blocks):
    images, labels = stacked(blocks)
    photometric = AugmentationConfig(0.4, 0.4, 0.4, 0.1, blur_probability=1.0)
    changed, same_labels = stacked(blocks, augmentations=photometric)
    np.testing.assert_array_equal(same_labels, labels)
    assert (changed != images).any(axis=(1, 2, 3)).all()
    # A blur on top of the colours does not draw other colours: the mean of an image stays.
    jitter = AugmentationConfig(brightness_jitter=0.5)
    both = dataclasses.replace(jitter, blur_probability=1.0)
    means = [
        stacked(blocks, augmentations=config)[0].mean(
            axis=(1, 2, 3), where=(labels != IGNORE)[..., None]
        )
        for config in (jitter, both)
    ]
    assert np.ptp(means[0]) > 30
    np.testing.assert_allclose(means[1], means[0], atol=1.5)


@pytest.mark.parametrize(("probability", "count"), [(0.0, 0), (1.0, 12)])
def test_blur_is_as_likely_as_asked_for(blocks, probability, count):
    images, _ = stacked(blocks)
    config = AugmentationConfig(blur_probability=probability, blur_min_sigma=1.0)
    blurred, _ = stacked(blocks, augmentations=config)
    assert (blurred != images).any(axis=(1, 2, 3)).sum() == count

    # A blurred image has smaller differences between neighbours.
    def roughness(batch):
        return np.abs(np.diff(batch.astype(int), axis=1)).mean()

    assert (roughness(blurred) < roughness(images)) == bool(count)


# --- Pixels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [EVERYTHING, EXTREME], ids=["everything", "extreme"])
def test_labels_hold_values_of_their_source_or_void(blocks, config):
    folder, info = blocks
    examples = training_examples(
        folder, "train", info=info, seed=5, augmentations=config, **OPTIONS
    )
    for example, source in examples.take(30).as_numpy_iterator():
        assert example.label.dtype == example.image.dtype == np.uint8
        assert example.image.shape == (25, 31, 3) and example.label.shape == (25, 31)
        assert set(np.unique(example.label)) <= {*np.unique(source["label"]), IGNORE}
        assert (example.label != IGNORE).any()


def test_padding_stays_the_mean_pixel_whatever_happens_to_the_colours(blocks):
    """Where a pixel and its neighbours are void: the sources have none."""
    images, labels = stacked(blocks, augmentations=EVERYTHING)
    deep = [cv2.erode((label == IGNORE).astype(np.uint8), np.ones((3, 3))) for label in labels]
    assert np.sum(deep) > 500
    assert (images[np.array(deep) == 1] == (123, 116, 103)).all()
    unrotated = dataclasses.replace(EVERYTHING, max_rotation_degrees=0.0)
    images, labels = stacked(blocks, augmentations=unrotated)
    assert (images[labels == IGNORE] == (123, 116, 103)).all()


def test_rotated_labels_are_those_of_the_image_wherever_it_reaches(blocks):
    """Each pixel traced back by hand: rotation, flip, crop and scale, as the example says."""
    folder, info = blocks
    config = AugmentationConfig(max_rotation_degrees=70.0)
    examples = training_examples(
        folder, "train", info=info, seed=5, augmentations=config, **OPTIONS
    )
    y, x = np.mgrid[:25, :31]
    y, x = y - 12.0, x - 15.0
    angles, outside, beyond = [], 0, 0
    for example, source in examples.take(20).as_numpy_iterator():
        crop, angle = example.crop, np.deg2rad(example.degrees)
        angles.append(float(example.degrees))
        rows = 12 + np.sin(angle) * x + np.cos(angle) * y
        columns = 15 + np.cos(angle) * x - np.sin(angle) * y
        tie = (np.abs(np.stack([rows, columns]) % 1 - 0.5) < 1e-3).any(axis=0)
        rows, columns = np.rint(rows).astype(int), np.rint(columns).astype(int)
        beyond += ((rows < 0) | (columns < 0) | (rows > 24) | (columns > 30)).sum()
        if crop.flip:
            columns = 30 - columns
        rows, columns = rows + crop.offset[0], columns + crop.offset[1]
        height, width = crop.scaled_size
        inside = (rows >= 0) & (columns >= 0) & (rows < height) & (columns < width)
        scaled = tf.raw_ops.ResizeNearestNeighbor(
            images=source["label"][None, ..., None], size=crop.scaled_size, align_corners=True
        ).numpy()[0, ..., 0]
        expected = np.where(
            inside, scaled[rows.clip(0, height - 1), columns.clip(0, width - 1)], IGNORE
        )
        np.testing.assert_array_equal(example.label[~tie], expected[~tie])
        outside += (~inside).sum()
    assert min(angles) < -30 and max(angles) > 30
    # The test is of something: padding comes in, and so do pixels from beyond the crop.
    assert outside > 500 and beyond > 500


def test_balanced_crops_show_a_rare_class_more_often(tmp_path):
    image, label = np.zeros((100, 120, 3), np.uint8), np.zeros((100, 120), np.uint8)
    label[90:93, 110:113] = 2
    info = write_split(tmp_path, [(png(image), label)])
    options = {**OPTIONS, "min_scale_factor": 1.0, "max_scale_factor": 1.0, "crop_size": (15, 15)}

    def share(probability):
        config = AugmentationConfig(class_balanced_crops=probability)
        _, labels = stacked((tmp_path, info), augmentations=config, steps=30, **options)
        return (labels == 2).any(axis=(1, 2)).mean()

    assert share(0.0) < 0.1 < 0.15 < share(0.5) < 0.36 < 0.38 < share(1.0) < 0.65


def test_images_keep_their_dtype_and_their_number_of_channels():
    config = AugmentationConfig(brightness_jitter=0.4, contrast_jitter=0.4, blur_probability=1.0)
    seeds = tf.constant([1, 2], tf.int64)
    image = np.random.default_rng(2).integers(0, 256, (9, 12, 5), dtype=np.uint8)
    augmentations = Augmentations(config, crop_size=(9, 12), channels=5, ignore_label=IGNORE)
    as_uint8 = augmentations.change_pixels(tf.constant(image), seeds)
    as_float = augmentations.change_pixels(tf.constant(image.astype(np.float32)), seeds)
    assert (as_uint8.dtype, as_float.dtype) == (tf.uint8, tf.float32)
    assert as_uint8.shape == as_float.shape == (9, 12, 5)
    np.testing.assert_array_equal(as_uint8, np.floor(as_float.numpy() + 0.5))
    assert (as_float.numpy() % 1).any()


@pytest.mark.parametrize("name", ["saturation_jitter", "hue_jitter"])
def test_colour_changes_of_images_without_colours_are_an_error(blocks, name):
    with pytest.raises(ValueError, match=rf"{name}=0.3.* RGB images, and these have 4 channels"):
        some(blocks, augmentations=AugmentationConfig(**{name: 0.3}), mean_pixel=(127.5,) * 4)
