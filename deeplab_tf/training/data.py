"""The examples of a training run, as the network gets them."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab_tf.backbones import get_backbone
from deeplab_tf.data import pipeline
from deeplab_tf.data.damage import SoundRecords, naming_damage
from deeplab_tf.model_card import ModelCard
from deeplab_tf.training.distribution import (
    distribute,
)


def input_examples(
    card: ModelCard, *, dataset_dir: str, split: str, sound: SoundRecords | None = None
) -> tf.data.Dataset:
    """The examples that a run sees, in its order: see `pipeline.training_examples`.

    Args:
        card: The run.
        dataset_dir: Folder of records with its dataset.json.
        split: Split to train on.
        sound: The records to read; None for all.
    """
    return pipeline.training_examples(dataset_dir, split, sound=sound, **pipeline_options(card))


def training_parts(
    card: ModelCard,
    strategy: tf.distribute.Strategy,
    dataset_dir: str,
    split: str,
    *,
    start_step: int,
    sound: SoundRecords | None,
) -> Iterator[Any]:
    """The parts of the batches that are left, each as the replicas are to have it."""
    parts = strategy.num_replicas_in_sync * card.train.gradient_accumulation_steps

    def of_worker(num_workers: int, worker: int) -> tf.data.Dataset:
        batches = pipeline.training_batches(
            dataset_dir,
            split,
            batch_size=card.data.batch_size,
            start_step=start_step,
            parts=parts,
            num_workers=num_workers,
            worker=worker,
            sound=sound,
            **pipeline_options(card),
        )
        left = card.train.training_number_of_steps - start_step
        return batches.take(left * parts // num_workers)

    batches = distribute(strategy, of_worker)
    return naming_damage(batches, dataset_dir, split, info=card.dataset)


def pipeline_options(card: ModelCard) -> dict[str, Any]:
    """The arguments of `pipeline.training_batches` that a card says."""
    data, backbone = card.data, get_backbone(card.model.model_variant)
    return {
        "info": card.dataset,
        "crop_size": data.crop_size,
        "min_scale_factor": data.min_scale_factor,
        "max_scale_factor": data.max_scale_factor,
        "scale_factor_step_size": data.scale_factor_step_size,
        "min_resize_value": data.min_resize_value,
        "max_resize_value": data.max_resize_value,
        "resize_factor": data.resize_factor,
        "augmentations": data.augmentations,
        "mean_pixel": backbone.padding_color(card.model.input_channels),
        "seed": card.train.seed,
    }


def batch_reader(
    card: ModelCard, dataset_dir: str, split: str, sound: SoundRecords | None
) -> Callable[[int], tuple[list[str], np.ndarray, np.ndarray]]:
    """What the batch of a step is, for a report of it."""
    return lambda step: pipeline.training_batch(
        dataset_dir,
        split,
        batch_size=card.data.batch_size,
        step=step,
        sound=sound,
        **pipeline_options(card),
    )
