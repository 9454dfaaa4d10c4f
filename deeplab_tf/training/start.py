"""How a training run starts: whether it may, and from which weights."""

import os
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from tqdm import tqdm

from deeplab_tf.data.damage import SoundRecords, find_sound_records
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.model_card import FILENAME, ModelCard, differences
from deeplab_tf.model_info.memory import TrainingMemory, training_memory
from deeplab_tf.weights import (
    initialize_from_checkpoint,
    initialize_from_classifier,
    initialize_from_keras,
    is_classifier,
    is_from_keras,
)


def check_start(
    card: ModelCard, strategy: tf.distribute.Strategy, logdir: str, splits: Sequence[str]
) -> None:
    """Whether a run may start, or go on; for the errors see `train`."""
    for split in splits:
        card.dataset.check_split(split)
    check_card(card, strategy)
    check_logdir(logdir, card)


def sound_records(
    dataset_dir: str, splits: Sequence[str], *, info: DatasetInfo
) -> dict[str, SoundRecords]:
    """The records of some splits that can be read, by split; tells of the others."""
    sound = {}
    for split in splits:
        sound[split] = find_sound_records(dataset_dir, split, info=info)
        tqdm.write(sound[split].report())
    return sound


def memory_of_a_step(card: ModelCard, model: keras.Model, *, replicas: int) -> TrainingMemory:
    """What a step takes on one device."""
    slots = 1 if card.train.optimizer == "momentum" else 2
    parts = card.train.gradient_accumulation_steps
    return training_memory(
        model,
        crop_size=card.data.crop_size,
        images=card.data.batch_size // (replicas * parts),
        feature_bytes=4 if card.train.mixed_precision == "none" else 2,
        slots=slots + (card.train.ema_decay > 0) + (parts > 1),
    )


def start_from(
    checkpoint: tf.train.Checkpoint,
    model: keras.Model,
    card: ModelCard,
    logdir: str,
    initial_checkpoint: str | None,
    initial_class_names: Sequence[str] | None,
) -> None:
    """Puts a run where its latest checkpoint is, or a new one at its start; see `train`."""
    latest = tf.train.latest_checkpoint(logdir)
    if latest is not None:
        resume(checkpoint, latest, initial_checkpoint)
    elif initial_checkpoint is not None:
        initialize(model, card, initial_checkpoint, initial_class_names)


def resume(checkpoint: tf.train.Checkpoint, latest: str, initial_checkpoint: str | None) -> None:
    """Puts a run where its latest checkpoint is."""
    checkpoint.restore(latest).assert_consumed()
    tqdm.write(f"Resuming from {latest}.")
    if initial_checkpoint is not None:
        tqdm.write(f"The initial checkpoint {initial_checkpoint} is for new runs: it is not read.")


def initialize(
    model: keras.Model, card: ModelCard, checkpoint: str, class_names: Sequence[str] | None
) -> None:
    """Sets the weights of a new run from an initial checkpoint, and says which; see `train`."""
    logits_only = card.train.last_layers_contain_logits_only
    if is_from_keras(checkpoint):
        keeps_head = not card.train.initialize_last_layer and not logits_only
        report = initialize_from_keras(model, checkpoint, backbone_only=keeps_head)
    elif is_classifier(checkpoint):
        report = initialize_from_classifier(model, checkpoint)
    else:
        report = initialize_from_checkpoint(
            model,
            checkpoint,
            initialize_last_layer=card.train.initialize_last_layer,
            last_layers_contain_logits_only=logits_only,
            class_names=card.dataset.class_names,
            checkpoint_class_names=class_names,
        )
    tqdm.write(str(report))


def check_card(card: ModelCard, strategy: tf.distribute.Strategy) -> None:
    """What only several of its configs together, or these and the devices, can tell."""
    replicas, steps = strategy.num_replicas_in_sync, card.train.gradient_accumulation_steps
    if card.data.batch_size % (replicas * steps):
        raise ValueError(
            f"--train_batch_size={card.data.batch_size} cannot be shared by {replicas} devices in "
            f"{steps} steps of accumulation: expected a multiple of {replicas * steps}."
        )
    if card.model.input_channels != card.dataset.input_channels:
        raise ValueError(
            f"The network takes images of {card.model.input_channels} channels (input_channels), "
            f"those of {card.dataset.name} have {card.dataset.input_channels}: expected the same."
        )
    if len(card.train.label_weights) not in (0, card.dataset.num_classes):
        raise ValueError(
            f"{len(card.train.label_weights)} label_weights for {card.dataset.num_classes} classes:"
            " expected one for each class, or none."
        )
    if card.model.crop_size not in (None, card.data.crop_size):
        raise ValueError(
            f"The network is built for images of {card.model.crop_size} (crop_size), the training "
            f"crops have {card.data.crop_size}: expected the same, or a network for any size."
        )


def check_logdir(logdir: str, card: Any, *, filename: str = FILENAME) -> None:
    """A folder that is not new or empty must hold a run with this very card, of this file name."""
    if not os.path.exists(logdir) or not os.listdir(logdir):
        return
    if not os.path.isfile(os.path.join(logdir, filename)):
        raise FileExistsError(
            f"--train_logdir={logdir} is not empty and holds no {filename} of a run to go on "
            "with: give another folder, or empty this one."
        )
    if changed := differences(type(card).load(logdir), card):
        raise FileExistsError(
            f"--train_logdir={logdir} holds a run with other settings:\n  "
            + "\n  ".join(changed)
            + "\nGive the same settings to go on with it, or another folder to start anew."
        )
