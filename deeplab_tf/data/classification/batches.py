"""Batches of images and labels.

As in `pipeline`, example i of a run is a pure function of the run's seed and i: the order of the
images and what is cropped of them. A run that goes on sees what it would have seen.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, TypeVar

import tensorflow as tf

from deeplab_tf.data.classification import crops
from deeplab_tf.data.classification.source import ImageSource
from deeplab_tf.data.records import READ_ERRORS, error_words

_Item = TypeVar("_Item")


def training_batches(
    source: ImageSource,
    *,
    image_size: int,
    batch_size: int,
    min_area: float,
    max_aspect_ratio: float,
    seed: int,
    start_step: int = 0,
    parts: int = 1,
    num_workers: int = 1,
    worker: int = 0,
) -> tf.data.Dataset:
    """Endless batches of random crops, each mirrored or not.

    Args:
        source: The images.
        image_size: Side of the crops after they are resized.
        batch_size: Images in a batch. A batch may span two epochs; each epoch has every image once.
        min_area: See `crops.random_area_crop`.
        max_aspect_ratio: See `crops.random_area_crop`.
        seed: Seed of the order and of the crops.
        start_step: Batches to leave out at the start.
        parts: Number of equal parts that every batch comes in, one after the other.
        num_workers: Number of processes that share every batch.
        worker: Which of them this is.

    Returns:
        Pairs of images, uint8 [batch_size / parts, image_size, image_size, 3], and labels, int32
        [batch_size / parts].
    """

    def example(index: tf.Tensor, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        encoded = source.read(place)
        crop = crops.random_area_crop(
            tf.stack([tf.constant(seed, tf.int64), index]),
            crops.image_size(encoded.data),
            min_area=min_area,
            max_aspect_ratio=max_aspect_ratio,
        )
        return crops.cropped(encoded.data, crop, image_size=image_size), encoded.label

    examples = source.endless(seed=seed, first_example=start_step * batch_size)
    if num_workers > 1:
        of_worker = batch_size // num_workers
        examples = examples.filter(lambda i, _: i % batch_size // of_worker == worker)
    return (
        examples.map(example, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size // parts, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def evaluation_batches(
    source: ImageSource, *, image_size: int, batch_size: int, central_fraction: float
) -> tf.data.Dataset:
    """The centre of every image once, always in the same order; the last batch may be smaller.

    Returns:
        Pairs as those of `training_batches`.
    """
    example = partial(_central, source, image_size=image_size, central_fraction=central_fraction)
    return (
        source.once()
        .map(example, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )


def naming_damage(
    batches: Iterable[_Item], source: ImageSource, places: tf.data.Dataset, *, batch_size: int
) -> Iterator[_Item]:
    """Yields batches; where reading fails, says which image is to blame.

    Args:
        batches: Of the source.
        source: The images.
        places: Where the images of the batches are, in their order.
        batch_size: Images of one of the batches.

    Raises:
        ValueError: An image or record is damaged, or a label is no class; the message names it.
    """
    done = 0
    try:
        for batch in batches:
            yield batch
            done += 1
    except READ_ERRORS as error:
        words = _damage(source, places.skip(done * batch_size).take(batch_size))
        raise ValueError(words or source.find_damage() or error_words(error)) from error


def _central(
    source: ImageSource, place: tf.Tensor, *, image_size: int, central_fraction: float
) -> tuple[tf.Tensor, tf.Tensor]:
    encoded = source.read(place)
    crop = crops.central_crop(crops.image_size(encoded.data), central_fraction=central_fraction)
    return crops.cropped(encoded.data, crop, image_size=image_size), encoded.label


def _damage(source: ImageSource, places: tf.data.Dataset) -> str | None:
    """What is wrong with the first of some images that cannot be read and decoded."""
    # As data sets, because TensorFlow words failed checks otherwise elsewhere.
    decode = partial(_central, source, image_size=8, central_fraction=1.0)
    found = iter(places)
    while True:
        try:
            place: Any = next(found)
        except (StopIteration, *READ_ERRORS):
            return None
        try:
            list(tf.data.Dataset.from_tensors(place).map(decode))
        except READ_ERRORS as error:
            return f"{source.describe(place)} cannot be used: {error_words(error)}"
