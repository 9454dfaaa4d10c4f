"""The training loop: steps on random crops, with validation, checkpoints and exact resume."""

import dataclasses
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from deeplab_tf import optimizers
from deeplab_tf.backbones import get_backbone
from deeplab_tf.config import InferenceConfig
from deeplab_tf.data import pipeline
from deeplab_tf.data.channels import display_rgb
from deeplab_tf.data.damage import SoundRecords, find_sound_records, naming_damage
from deeplab_tf.deeplab import build_deeplab
from deeplab_tf.evaluation import evaluate, label_predictor
from deeplab_tf.metrics import SegmentationScores
from deeplab_tf.model_card import FILENAME, ModelCard, differences
from deeplab_tf.summaries import Summaries
from deeplab_tf.train_step import Loss, freeze_layers, set_batch_norm, train_step
from deeplab_tf.visualization import panel
from deeplab_tf.weights import (
    initialize_from_checkpoint,
    initialize_from_keras_vgg16,
    is_keras_vgg16,
    training_checkpoint,
)

_PICTURES = 4


def train(
    card: ModelCard,
    *,
    dataset_dir: str,
    train_split: str,
    val_split: str | None,
    logdir: str,
    initial_checkpoint: str | None = None,
    initial_class_names: Sequence[str] | None = None,
    val_interval_steps: int = 500,
    save_interval_secs: float = 1200,
    log_steps: int = 10,
    skip_corrupt: bool = False,
) -> SegmentationScores | None:
    """Trains a network, or goes on where an earlier run in the same folder stopped.

    Args:
        card: What to train, and how.
        dataset_dir: Folder of records with its dataset.json.
        train_split: Split to train on.
        val_split: Split to score on; None for no validation.
        logdir: Folder of checkpoints, model card and summaries; made if it does not exist.
        initial_checkpoint: Checkpoint that a new run begins with; one that goes on has no use for
            it. See `weights.initialize_from_checkpoint`; "keras_vgg16" and .h5 files are for
            `weights.initialize_from_keras_vgg16`.
        initial_class_names: Classes of that checkpoint, where they are known.
        val_interval_steps: Steps between validations; there is always one at the end.
        save_interval_secs: Seconds between checkpoints; one is always written at the end and when
            the run is interrupted with Ctrl-C.
        log_steps: Steps between the points of TensorBoard's curves.
        skip_corrupt: Whether to look for damaged records before the first step and leave them out;
            they are reported. If not, they are an error.

    Returns:
        The last validation's scores, or None if there was none.

    Raises:
        FileExistsError: `logdir` holds something else than a run with this card.
        FloatingPointError: The loss is no longer finite.
        ValueError: A split does not exist, the label weights do not fit the classes, the initial
            checkpoint is not of this network, or a record is damaged.
    """
    splits = [split for split in (train_split, val_split) if split]
    for split in splits:
        card.dataset.check_split(split)
    _check_card(card)
    _check_logdir(logdir, card)
    sound = {}
    if skip_corrupt:
        for split in splits:
            sound[split] = find_sound_records(dataset_dir, split, info=card.dataset)
            tqdm.write(sound[split].report())
    keras.utils.set_random_seed(card.train.seed)
    model = build_deeplab(card.model)
    set_batch_norm(model, card.train)
    freeze_layers(model, card.train.trained_layers)
    optimizer = optimizers.build_optimizer(card.train, model.trainable_variables)
    manager = tf.train.CheckpointManager(
        training_checkpoint(model, optimizer), logdir, max_to_keep=3, checkpoint_name="model.ckpt"
    )
    if manager.latest_checkpoint is not None:
        _resume(manager, initial_checkpoint)
    elif initial_checkpoint is not None:
        _initialize(model, card, initial_checkpoint, initial_class_names)

    step = start_step = _steps_taken(optimizer)
    last_step = card.train.training_number_of_steps
    batches = _batches(
        card, dataset_dir, train_split, start_step=start_step, sound=sound.get(train_split)
    )
    # Here, because a run that cannot start leaves no folder behind.
    os.makedirs(logdir, exist_ok=True)
    card.save(logdir)
    predict_labels = label_predictor(
        model, card.model, _validation_inference(card.inference), resize=False
    )
    summaries, scores, saved = Summaries(logdir), None, time.monotonic()
    steps = _steps(train_step(model, optimizer, card), optimizer, batches, card)
    try:
        for step, curves in steps:
            if step % log_steps == 0:
                summaries.scalars(step, **curves)
            if val_split and (step % val_interval_steps == 0 or step == last_step):
                scores = _validate(
                    predict_labels,
                    card,
                    dataset_dir,
                    val_split,
                    summaries,
                    step,
                    sound=sound.get(val_split),
                )
            if time.monotonic() - saved > save_interval_secs:
                manager.save(checkpoint_number=step)
                saved = time.monotonic()
    except KeyboardInterrupt:
        step = _steps_taken(optimizer)
        manager.save(checkpoint_number=step)
        tqdm.write(f"Stopped after step {step}; the same command goes on from there.")
        raise
    manager.save(checkpoint_number=step)
    return scores


def _resume(manager: tf.train.CheckpointManager, initial_checkpoint: str | None) -> None:
    manager.checkpoint.restore(manager.latest_checkpoint).assert_consumed()
    tqdm.write(f"Resuming from {manager.latest_checkpoint}.")
    if initial_checkpoint is not None:
        tqdm.write(f"The initial checkpoint {initial_checkpoint} is for new runs: it is not read.")


def _initialize(
    model: keras.Model, card: ModelCard, checkpoint: str, class_names: Sequence[str] | None
) -> None:
    logits_only = card.train.last_layers_contain_logits_only
    if is_keras_vgg16(checkpoint):
        keeps_head = not card.train.initialize_last_layer and not logits_only
        report = initialize_from_keras_vgg16(model, checkpoint, backbone_only=keeps_head)
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
    return pipeline.training_examples(dataset_dir, split, sound=sound, **_pipeline_options(card))


def _batches(
    card: ModelCard,
    dataset_dir: str,
    split: str,
    *,
    start_step: int,
    sound: SoundRecords | None,
) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
    batches = pipeline.training_batches(
        dataset_dir,
        split,
        batch_size=card.data.batch_size,
        start_step=start_step,
        sound=sound,
        **_pipeline_options(card),
    )
    batches = batches.take(card.train.training_number_of_steps - start_step)
    return naming_damage(batches, dataset_dir, split, info=card.dataset)


def _pipeline_options(card: ModelCard) -> dict[str, Any]:
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


def _steps(
    step_function: Loss,
    optimizer: keras.optimizers.Optimizer,
    batches: Iterable[tuple[tf.Tensor, tf.Tensor]],
    card: ModelCard,
) -> Iterator[tuple[int, dict[str, float]]]:
    """Takes the steps under a progress bar; yields each step's number and what to plot of it."""
    start_step, total = _steps_taken(optimizer), card.train.training_number_of_steps
    speed = 0.0
    with tqdm(initial=start_step, total=total, desc="train", unit="step") as bar:
        started = time.monotonic()
        for step, (images, labels) in enumerate(batches, start=start_step + 1):
            rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
            loss = float(step_function(images, labels))
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"The loss of step {step} is {loss}, at the learning rate {rate:g}. The usual "
                    "cause is a rate that is too high: lower --base_learning_rate, or "
                    "--adam_learning_rate for Adam."
                )
            now = card.data.batch_size / (time.monotonic() - started)
            speed = 0.9 * speed + 0.1 * now if speed else now
            bar.set_postfix_str(
                f"loss {loss:.3f}, lr {rate:.2g}, {speed:.1f} images/s", refresh=False
            )
            bar.update()
            yield step, {"loss": loss, "learning_rate": rate, "images_per_sec": speed}
            started = time.monotonic()


def _steps_taken(optimizer: keras.optimizers.Optimizer) -> int:
    return int(keras.ops.convert_to_numpy(optimizer.iterations))


def _validate(
    predict_labels: Callable[[np.ndarray], np.ndarray],
    card: ModelCard,
    dataset_dir: str,
    split: str,
    summaries: Summaries,
    step: int,
    *,
    sound: SoundRecords | None,
) -> SegmentationScores:
    """Scores predictions on a split, prints the result, and draws the first few examples."""
    info = card.dataset
    examples = pipeline.evaluation_examples(
        dataset_dir,
        split,
        info=info,
        min_resize_value=card.inference.min_resize_value,
        max_resize_value=card.inference.max_resize_value,
        resize_factor=card.inference.resize_factor,
        sound=sound,
    )
    scores = evaluate(
        predict_labels,
        naming_damage(examples.as_numpy_iterator(), dataset_dir, split, info=info),
        num_classes=info.num_classes,
        ignore_label=info.ignore_label,
        total=int(examples.cardinality()),
    )
    tqdm.write(
        f"step {step}: mIoU {scores.mean_iou:.4f}, pixel accuracy {scores.pixel_accuracy:.4f} "
        f"on {split}"
    )
    summaries.scalars(step, miou=scores.mean_iou, pixel_accuracy=scores.pixel_accuracy)
    summaries.images(
        step,
        [
            panel(
                display_rgb(example["image"]),
                predict_labels(example["image"]),
                class_names=info.class_names,
                palette=info.palette,
                label=example["label"],
                ignore_label=info.ignore_label,
            )
            for example in examples.take(_PICTURES).as_numpy_iterator()
        ],
    )
    return scores


def _validation_inference(inference: InferenceConfig) -> InferenceConfig:
    """Once, as it is: several scales, mirror images and the CRF would take longer than training."""
    return dataclasses.replace(
        inference, eval_scales=(1.0,), add_flipped_images=False, crf=None, eval_output_stride=None
    )


def _check_card(card: ModelCard) -> None:
    """What only several of its configs together can tell."""
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


def _check_logdir(logdir: str, card: ModelCard) -> None:
    """A folder that is not new or empty must hold a run with this very card."""
    if not os.path.exists(logdir) or not os.listdir(logdir):
        return
    if not os.path.isfile(os.path.join(logdir, FILENAME)):
        raise FileExistsError(
            f"--train_logdir={logdir} is not empty and holds no {FILENAME} of a run to go on "
            "with: give another folder, or empty this one."
        )
    if changed := differences(ModelCard.load(logdir), card):
        raise FileExistsError(
            f"--train_logdir={logdir} holds a run with other settings:\n  "
            + "\n  ".join(changed)
            + "\nGive the same settings to go on with it, or another folder to start anew."
        )
