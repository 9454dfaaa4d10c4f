"""Input pipelines: endless training batches and the examples of a split, both from TFRecords.

Training order is a pure function of (seed, step): epoch e shuffles with a seed made of the run's
seed and e, and example i of the run draws its scale, crop and flip, and whatever else is asked
for, from (seed, i). A run that resumes at step k therefore sees what the uninterrupted run would
have seen, without any saved iterator state.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from deeplab_tf.config import AugmentationConfig
from deeplab_tf.data import augment, decoding, record_order, records
from deeplab_tf.data.augmentations import Augmentations
from deeplab_tf.data.damage import SoundRecords
from deeplab_tf.data.dataset_info import DatasetInfo


class TrainingExample(NamedTuple):
    """What the network gets of one example, and how it was made.

    Attributes:
        image: uint8 or float32 [crop_h, crop_w, c], as `training_batches` says.
        label: uint8 [crop_h, crop_w].
        degrees: float32 scalar, its rotation after the flip, counter-clockwise about its centre.
        crop: Its scale, crop and flip.
    """

    image: tf.Tensor
    label: tf.Tensor
    degrees: tf.Tensor
    crop: augment.Crop


def training_batches(
    dataset_dir: str | os.PathLike[str],
    split: str,
    *,
    info: DatasetInfo,
    batch_size: int,
    crop_size: tuple[int, int],
    min_scale_factor: float,
    max_scale_factor: float,
    scale_factor_step_size: float,
    mean_pixel: Sequence[float],
    seed: int,
    start_step: int = 0,
    parts: int = 1,
    num_workers: int = 1,
    worker: int = 0,
    min_resize_value: int | None = None,
    max_resize_value: int | None = None,
    resize_factor: int | None = None,
    augmentations: AugmentationConfig | None = None,
    sound: SoundRecords | None = None,
) -> tf.data.Dataset:
    """Endless augmented batches: resize to range, random scale, pad, random crop, random flip.

    Differs: the reference shuffles 100 decoded examples and never the files; it feeds float images.
    Images are uint8 here, so the padding is the mean pixel rounded to it (127.5 to 128): the model
    casts and normalises.

    Args:
        dataset_dir: Folder of records.
        split: Name of the split.
        info: Description of the data set.
        batch_size: Examples per batch. A batch may span two epochs; each epoch has every example
            once.
        crop_size: Height and width of the crops.
        min_scale_factor: Smallest random scale.
        max_scale_factor: Largest random scale.
        scale_factor_step_size: Step of the grid of scales; 0 for any scale in between.
        mean_pixel: Colour 0..255 of the padding, a value for each channel.
        seed: Seed of the order and of the augmentation.
        start_step: Batches to leave out at the start, cheaply.
        parts: Number of equal parts that every batch comes in, one after the other.
        num_workers: Number of processes that share every batch.
        worker: Which of them this is; it is given the same part of each batch, and decodes only
            that.
        min_resize_value: Shorter side after the resize to range; None for no such resize.
        max_resize_value: Largest longer side after it; None for no limit.
        resize_factor: See `augment.resize_to_range_size`.
        augmentations: What else happens to the examples (see `Augmentations`); None for nothing.
        sound: The records to read, of this split; None for all, where damage is an error.

    Returns:
        Pairs of images, uint8 [batch_size / parts, crop_h, crop_w, info.input_channels], and
        labels, uint8 [batch_size / parts, crop_h, crop_w], where padding and void are
        `info.ignore_label`. Static shapes. Images of 16 bits, or of another range of values, are
        float32 0..255, not rounded. Iteration raises tf.errors.InvalidArgumentError, naming the
        image, for a label that is neither a class nor `ignore_label`, or for image and label of
        different size; and
        tf.errors.FailedPreconditionError where the number of records is not that of `info`.

    Raises:
        FileNotFoundError: The split's files are missing.
        ValueError: The data set has no such split, its files are empty, a resize lacks
            `min_resize_value`, or an augmentation is not for images with these channels.
    """
    source = record_order.open_split(dataset_dir, split, info=info, sound=sound)
    augmented = _augmenter(
        info=info,
        crop_size=crop_size,
        min_scale_factor=min_scale_factor,
        max_scale_factor=max_scale_factor,
        scale_factor_step_size=scale_factor_step_size,
        mean_pixel=mean_pixel,
        seed=seed,
        min_resize_value=min_resize_value,
        max_resize_value=max_resize_value,
        resize_factor=resize_factor,
        augmentations=augmentations,
    )

    def image_and_label(index: tf.Tensor, serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = augmented(index, serialized)
        return example.image, example.label

    first_example = start_step * batch_size
    examples = record_order.endless_records(source, seed=seed, first_example=first_example)
    if num_workers > 1:
        of_worker = batch_size // num_workers
        examples = examples.filter(lambda i, _: i % batch_size // of_worker == worker)
    return (
        examples.map(image_and_label, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size // parts, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def training_examples(
    dataset_dir: str | os.PathLike[str],
    split: str,
    *,
    info: DatasetInfo,
    seed: int,
    sound: SoundRecords | None = None,
    **options: Any,
) -> tf.data.Dataset:
    """The examples of `training_batches` one by one, beside what they were made of.

    Args:
        dataset_dir: Folder of records.
        split: Name of the split.
        info: Description of the data set.
        seed: Seed of the order and of the augmentation.
        sound: The records to read, of this split; None for all, where damage is an error.
        options: Those of `training_batches` but for `batch_size` and `start_step`.

    Returns:
        Pairs of a `TrainingExample` and its source, as `evaluation_examples` has it, endless.
        Raises as `training_batches`.
    """
    source = record_order.open_split(dataset_dir, split, info=info, sound=sound)
    augmented = _augmenter(info=info, seed=seed, **options)
    resize_names = ("min_resize_value", "max_resize_value", "resize_factor")
    resize = decoding.resizer(*(options.get(name) for name in resize_names))
    return (
        record_order.endless_records(source, seed=seed, first_example=0)
        .map(
            lambda index, serialized: (
                augmented(index, serialized),
                decoding.decode_example(serialized, info=info, resize=resize),
            ),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        .prefetch(tf.data.AUTOTUNE)
    )


def training_batch(
    dataset_dir: str | os.PathLike[str],
    split: str,
    *,
    info: DatasetInfo,
    batch_size: int,
    seed: int,
    step: int,
    sound: SoundRecords | None = None,
    **options: Any,
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """One batch of `training_batches`, whole, and the names of its images.

    Args:
        dataset_dir: Folder of records.
        split: Name of the split.
        info: Description of the data set.
        batch_size: Examples per batch.
        seed: Seed of the order and of the augmentation.
        step: Number of the batch, from 0.
        sound: The records to read, of this split; None for all.
        options: The other ones of `training_batches`.

    Returns:
        Names, images and labels. Raises as `training_batches` and its iteration.
    """
    batches = training_batches(
        dataset_dir,
        split,
        info=info,
        batch_size=batch_size,
        seed=seed,
        start_step=step,
        sound=sound,
        **options,
    )
    images, labels = next(batches.take(1).as_numpy_iterator())
    source = record_order.open_split(dataset_dir, split, info=info, sound=sound)
    first = step * batch_size
    examples = record_order.endless_records(source, seed=seed, first_example=first)
    parsed = (records.parse_example(serialized) for _, serialized in examples.take(batch_size))
    return [os.fsdecode(example["filename"].numpy()) for example in parsed], images, labels


def evaluation_examples(
    dataset_dir: str | os.PathLike[str],
    split: str,
    *,
    info: DatasetInfo,
    min_resize_value: int | None = None,
    max_resize_value: int | None = None,
    resize_factor: int | None = None,
    sound: SoundRecords | None = None,
) -> tf.data.Dataset:
    """The examples of a split, once, in the order of the records, unbatched and unpadded.

    Args:
        dataset_dir: Folder of records.
        split: Name of the split.
        info: Description of the data set.
        min_resize_value: Shorter side after the resize to range; None for no such resize.
        max_resize_value: Largest longer side after it; None for no limit.
        resize_factor: See `augment.resize_to_range_size`.
        sound: The records to read, of this split; None for all, where damage is an error.

    Returns:
        Dictionaries of "image", uint8 [h, w, info.input_channels] or, resized or scaled (see
        `training_batches`), float32 0..255, "label", uint8 [h, w], and "filename", scalar string.
        Iteration raises as that of `training_batches`.

    Raises:
        FileNotFoundError: The split's files are missing.
        ValueError: The data set has no such split, its files are empty, or a resize lacks
            `min_resize_value`.
    """
    source = record_order.open_split(dataset_dir, split, info=info, sound=sound)
    resize = decoding.resizer(min_resize_value, max_resize_value, resize_factor)
    decode = partial(decoding.decode_example, info=info, resize=resize)
    return (
        tf.data.Dataset.range(source.num_files)
        .flat_map(source.read)
        .apply(tf.data.experimental.assert_cardinality(source.num_records))
        .map(decode, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )


def split_labels(
    dataset_dir: str | os.PathLike[str],
    split: str,
    *,
    info: DatasetInfo,
    sound: SoundRecords | None = None,
) -> tf.data.Dataset:
    """The labels of a split, uint8 [h, w], once, in the order of the records, without the images.

    Iteration and this function raise as those of `evaluation_examples`.
    """
    source = record_order.open_split(dataset_dir, split, info=info, sound=sound)

    def decode(serialized: tf.Tensor) -> tf.Tensor:
        return decoding.decode_label(records.parse_example(serialized), info=info)

    return (
        tf.data.Dataset.range(source.num_files)
        .flat_map(source.read)
        .apply(tf.data.experimental.assert_cardinality(source.num_records))
        .map(decode, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )


def _augmenter(
    *,
    info: DatasetInfo,
    crop_size: tuple[int, int],
    min_scale_factor: float,
    max_scale_factor: float,
    scale_factor_step_size: float,
    mean_pixel: Sequence[float],
    seed: int,
    min_resize_value: int | None = None,
    max_resize_value: int | None = None,
    resize_factor: int | None = None,
    augmentations: AugmentationConfig | None = None,
) -> Callable[[tf.Tensor, tf.Tensor], TrainingExample]:
    """`_augmented` as the options of `training_batches` make it."""
    extra = Augmentations(
        augmentations or AugmentationConfig(),
        crop_size=crop_size,
        channels=len(mean_pixel),
        ignore_label=info.ignore_label,
    )
    draw_crop = partial(
        augment.random_crop,
        crop_size=crop_size,
        min_scale_factor=min_scale_factor,
        max_scale_factor=max_scale_factor,
        scale_factor_step_size=scale_factor_step_size,
    )
    canvas_size = extra.canvas_size
    return partial(
        _augmented,
        info=info,
        seed=seed,
        resize=decoding.resizer(min_resize_value, max_resize_value, resize_factor),
        draw_crop=draw_crop,
        extra=extra,
        image_canvas=decoding.image_canvas(canvas_size, mean_pixel, info=info),
        label_canvas=np.full(canvas_size, info.ignore_label, np.uint8),
    )


def _augmented(
    index: tf.Tensor,
    serialized: tf.Tensor,
    *,
    info: DatasetInfo,
    seed: int,
    resize: decoding.Resizer | None,
    draw_crop: Callable[[tf.Tensor, tf.Tensor], augment.Crop],
    extra: Augmentations,
    image_canvas: np.ndarray,
    label_canvas: np.ndarray,
) -> TrainingExample:
    """Example number `index` of the run; the canvases are of the size that `extra` asks for."""
    example = records.parse_example(serialized)
    label = decoding.decode_label(example, info=info)
    image = None
    if resize is not None:
        image, label = resize(
            decoding.decode_image(example, info=info, size=tf.shape(label)), label
        )
    size = tf.shape(label)
    seeds = tf.stack([tf.constant(seed, tf.int64), index])
    crop = extra.move_crop(draw_crop(seeds, size), label, seeds)
    top, left = tf.unstack(crop.offset - extra.margin)
    rows = augment.sample_axis(size[0], crop.scaled_size[0], top, len(label_canvas))
    columns = augment.sample_axis(
        size[1], crop.scaled_size[1], left, label_canvas.shape[1], flip=crop.flip
    )
    row_range = slice(rows.start, rows.start + rows.length)
    column_range = slice(columns.start, columns.start + columns.length)
    if image is None:
        image_rows = decoding.decode_image_rows(example, rows, info=info, size=size)
    else:
        image_rows = image[row_range]
    image = augment.crop_image(
        image_rows[:, column_range],
        rows,
        columns,
        canvas=tf.constant(image_canvas),
        change_pixels=partial(extra.change_pixels, seeds=seeds),
    )
    label = augment.crop_label(
        label[row_range, column_range], rows, columns, canvas=tf.constant(label_canvas)
    )
    return TrainingExample(*extra.rotate(image, label, seeds), crop)
