"""The images that exports are made and verified with, as their clients would send them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import flags

from deeplab_tf.cli import inputs
from deeplab_tf.data.channels import stored_pixels
from deeplab_tf.model_card import ModelCard

FLAGS = flags.FLAGS


def chosen_images(card: ModelCard, *, split_flag: str, count_flag: str) -> list[np.ndarray]:
    """Some images of --images or of a split of --dataset_dir, evenly spaced, as they are stored.

    Raises:
        ValueError: There is none of the two flags, or both, or the data set is another one.
    """
    if (FLAGS.images is None) == (FLAGS.dataset_dir is None):
        raise ValueError(
            "int8 and --verify need images: give either --dataset_dir (a folder of records) or "
            "--images (files or folders)."
        )
    count = getattr(FLAGS, count_flag)
    if count < 1:
        raise ValueError(f"--{count_flag}={count}: expected 1 or more.")
    examples, total = _examples(card, split_flag)
    count = min(count, total)
    chosen = {i * total // count for i in range(count)}
    return [
        stored_pixels(example["image"], card.dataset)
        for i, example in enumerate(examples)
        if i in chosen
    ]


def _examples(card: ModelCard, split_flag: str) -> tuple[Iterator[Any], int]:
    from deeplab_tf.data import pipeline

    if FLAGS.images is not None:
        return inputs.image_examples(card.dataset)
    info = inputs.records()
    if (info.input_channels, info.bit_depth) != (
        card.dataset.input_channels,
        card.dataset.bit_depth,
    ):
        raise ValueError(
            f"--dataset_dir={FLAGS.dataset_dir} has images of {info.input_channels} channels of "
            f"{info.bit_depth} bits, but the network is of {card.dataset.input_channels} of "
            f"{card.dataset.bit_depth}: give records of its own data set."
        )
    split = inputs.split(info, split_flag)
    dataset = pipeline.evaluation_examples(FLAGS.dataset_dir, split, info=info)
    return dataset.as_numpy_iterator(), info.splits[split]
