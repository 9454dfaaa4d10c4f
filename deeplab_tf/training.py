"""The training loop: SGD on random crops, with validation, checkpoints and exact resume."""

import math
import os
import time
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from deeplab_tf.backbones import get_backbone
from deeplab_tf.config import TrainConfig
from deeplab_tf.data import pipeline
from deeplab_tf.deeplab import build_deeplab
from deeplab_tf.evaluation import evaluate, label_predictor
from deeplab_tf.losses import softmax_cross_entropy
from deeplab_tf.metrics import SegmentationScores
from deeplab_tf.model_card import FILENAME, ModelCard, differences
from deeplab_tf.optimizers import MomentumOptimizer, l2_loss, poly_schedule, regularized_kernels
from deeplab_tf.summaries import Summaries
from deeplab_tf.visualization import panel
from deeplab_tf.weights import training_checkpoint

_LOG_STEPS = 10
_PICTURES = 4
_PAPER_STEPS = 30_000

TrainStep = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def train(
    card: ModelCard,
    *,
    dataset_dir: str,
    train_split: str,
    val_split: str | None,
    logdir: str,
    val_interval_steps: int = 500,
    save_interval_secs: float = 1200,
) -> SegmentationScores | None:
    """Trains a network, or goes on where an earlier run in the same folder stopped.

    Args:
        card: What to train, and how.
        dataset_dir: Folder of records with its dataset.json.
        train_split: Split to train on.
        val_split: Split to score on; None for no validation.
        logdir: Folder of checkpoints, model card and summaries; made if it does not exist.
        val_interval_steps: Steps between validations; there is always one at the end.
        save_interval_secs: Seconds between checkpoints; one is always written at the end and when
            the run is interrupted with Ctrl-C.

    Returns:
        The last validation's scores, or None if there was none.

    Raises:
        FileExistsError: `logdir` holds something else than a run with this card.
        FloatingPointError: The loss is no longer finite.
        ValueError: A split does not exist, or the label weights do not fit the classes.
    """
    for split in filter(None, (train_split, val_split)):
        card.dataset.check_split(split)
    if len(card.train.label_weights) not in (0, card.dataset.num_classes):
        raise ValueError(
            f"{len(card.train.label_weights)} label_weights for {card.dataset.num_classes} classes:"
            " expected one for each class, or none."
        )
    _check_logdir(logdir, card)
    keras.utils.set_random_seed(card.train.seed)
    model = build_deeplab(card.model)
    set_batch_norm_decay(model, card.train)
    optimizer = _optimizer(model, card.train)
    manager = tf.train.CheckpointManager(
        training_checkpoint(model, optimizer), logdir, max_to_keep=3, checkpoint_name="model.ckpt"
    )
    if manager.latest_checkpoint:
        manager.checkpoint.restore(manager.latest_checkpoint).assert_consumed()
        tqdm.write(f"Resuming from {manager.latest_checkpoint}.")

    step = start_step = int(keras.ops.convert_to_numpy(optimizer.iterations))
    last_step = card.train.training_number_of_steps
    batches = _batches(card, dataset_dir, train_split, start_step=start_step)
    # Here, because a run that cannot start leaves no folder behind.
    os.makedirs(logdir, exist_ok=True)
    card.save(logdir)
    predict_labels = label_predictor(model, card.model, card.inference)
    summaries, scores, saved = Summaries(logdir), None, time.monotonic()
    steps = _steps(train_step(model, optimizer, card), batches, card, start_step)
    try:
        for step, curves in steps:
            if step % _LOG_STEPS == 0:
                summaries.scalars(step, **curves)
            if val_split and (step % val_interval_steps == 0 or step == last_step):
                scores = _validate(predict_labels, card, dataset_dir, val_split, summaries, step)
            if time.monotonic() - saved > save_interval_secs:
                manager.save(checkpoint_number=step)
                saved = time.monotonic()
    except KeyboardInterrupt:
        step = int(keras.ops.convert_to_numpy(optimizer.iterations))
        manager.save(checkpoint_number=step)
        tqdm.write(f"Stopped after step {step}; the same command goes on from there.")
        raise
    manager.save(checkpoint_number=step)
    return scores


def train_step(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, card: ModelCard
) -> TrainStep:
    """A compiled function that takes one optimisation step and returns the loss before it.

    Its arguments are images, uint8 [b, h, w, 3], and labels, uint8 [b, h, w]. The loss is the
    cross entropy over the valid pixels at full resolution plus weight decay.
    """
    kernels = regularized_kernels(model)

    # jit_compile: XLA is eight times slower on a CPU.
    @tf.function(jit_compile=False)
    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = model(tf.cast(images, tf.float32), training=True)
            loss = softmax_cross_entropy(
                labels,
                logits,
                ignore_label=card.dataset.ignore_label,
                label_weights=card.train.label_weights or None,
            )
            loss += l2_loss(kernels, card.train.weight_decay)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    return step


def set_batch_norm_decay(model: keras.Model, config: TrainConfig) -> None:
    """Gives every batch norm the decay of the config, or one that suits the run's length.

    The networks' own decays (up to 0.9997) are made for the papers' 30,000 steps from pretrained
    weights. In a shorter run such an average is full of what the network was long before, and a
    network that trains well looks broken in evaluation (docs/camvid.md has an example).
    """
    steps = config.training_number_of_steps
    longest = 1.0 if steps >= _PAPER_STEPS else max(0.9, 1 - 90 / steps)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = config.batch_norm_decay or min(layer.momentum, longest)


def _schedule(config: TrainConfig) -> keras.optimizers.schedules.LearningRateSchedule:
    return poly_schedule(
        base_learning_rate=config.base_learning_rate,
        end_learning_rate=config.end_learning_rate,
        steps=config.training_number_of_steps,
        power=config.learning_power,
    )


def _optimizer(model: keras.Model, config: TrainConfig) -> keras.optimizers.Optimizer:
    optimizer = MomentumOptimizer(_schedule(config), config.momentum)
    optimizer.build(model.trainable_variables)
    return optimizer


def _batches(card: ModelCard, dataset_dir: str, split: str, *, start_step: int) -> tf.data.Dataset:
    data = card.data
    batches = pipeline.training_batches(
        dataset_dir,
        split,
        info=card.dataset,
        batch_size=data.batch_size,
        crop_size=data.crop_size,
        min_scale_factor=data.min_scale_factor,
        max_scale_factor=data.max_scale_factor,
        scale_factor_step_size=data.scale_factor_step_size,
        mean_pixel=get_backbone(card.model.model_variant).mean_pixel,
        seed=card.train.seed,
        start_step=start_step,
    )
    return batches.take(card.train.training_number_of_steps - start_step)


def _steps(
    step_function: TrainStep, batches: tf.data.Dataset, card: ModelCard, start_step: int
) -> Iterator[tuple[int, dict[str, float]]]:
    """Takes the steps under a progress bar; yields each step's number and what to plot of it."""
    schedule, total = _schedule(card.train), card.train.training_number_of_steps
    rate = 0.0
    with tqdm(initial=start_step, total=total, desc="train", unit="step") as bar:
        started = time.monotonic()
        for step, (images, labels) in enumerate(batches, start=start_step + 1):
            loss = float(step_function(images, labels))
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"The loss of step {step} is {loss}. The usual cause is a learning rate that "
                    f"is too high: --base_learning_rate is {card.train.base_learning_rate}."
                )
            now = card.data.batch_size / (time.monotonic() - started)
            rate = 0.9 * rate + 0.1 * now if rate else now
            curves = {
                "loss": loss,
                "learning_rate": float(schedule(step - 1)),
                "images_per_sec": rate,
            }
            bar.set_postfix_str(
                f"loss {loss:.3f}, lr {curves['learning_rate']:.2g}, {rate:.1f} images/s",
                refresh=False,
            )
            bar.update()
            yield step, curves
            started = time.monotonic()


def _validate(
    predict_labels: Callable[[np.ndarray], np.ndarray],
    card: ModelCard,
    dataset_dir: str,
    split: str,
    summaries: Summaries,
    step: int,
) -> SegmentationScores:
    """Scores predictions on a split, prints the result, and draws the first few examples."""
    info = card.dataset
    examples = pipeline.evaluation_examples(dataset_dir, split, info=info)
    scores = evaluate(
        predict_labels,
        examples.as_numpy_iterator(),
        num_classes=info.num_classes,
        ignore_label=info.ignore_label,
        total=info.splits[split],
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
                example["image"],
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
