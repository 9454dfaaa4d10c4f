"""The training of a classifier: steps on random crops, with validation and exact resume."""

import contextlib
import math
import os
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from tqdm import tqdm

from deeplab_tf.config import TrainConfig
from deeplab_tf.data.classification import batches
from deeplab_tf.data.classification.source import ImageSource
from deeplab_tf.precision import dtype_policy, training_policy
from deeplab_tf.pretrain.card import FILENAME, PretrainCard
from deeplab_tf.pretrain.classifier import build_classifier
from deeplab_tf.pretrain.schedule import build_optimizer, learning_rate_schedule
from deeplab_tf.pretrain.scores import ClassificationScores
from deeplab_tf.pretrain.step import ClassifierStep
from deeplab_tf.pretrain.watch import PretrainWatch
from deeplab_tf.training.distribution import (
    checkpoint_folder,
    distribute,
    is_chief,
    lost_worker_reported,
    num_workers,
)
from deeplab_tf.training.loop import Step, smoothed, take_steps
from deeplab_tf.training.saver import Saver
from deeplab_tf.training.signals import StopRequest, stop_request
from deeplab_tf.training.start import check_logdir, resume
from deeplab_tf.training.step import set_batch_norm
from deeplab_tf.weights import training_checkpoint


def pretrain(
    card: PretrainCard,
    sources: Mapping[str, ImageSource],
    *,
    logdir: str,
    val_split: str | None,
    strategy: tf.distribute.Strategy | None = None,
    val_interval_epochs: float = 1.0,
    save_interval_secs: float = 1200,
    save_interval_steps: int = 0,
    log_steps: int = 10,
) -> ClassificationScores | None:
    """Trains an encoder to classify images, or goes on where an earlier run in the folder stopped.

    A run that goes on takes the very steps that the earlier one would have taken. SIGTERM ends it
    in order, with a checkpoint. The checkpoints are initial ones for `training.train`.

    Args:
        card: What to train, and how.
        sources: The images of each split.
        logdir: Folder of checkpoints, card, history and curves; made if it does not exist.
        val_split: Split to score on; None for no validation.
        strategy: Who computes (`distribution.build_strategy`); None for one device.
        val_interval_epochs: Epochs between validations; there is always one at the end.
        save_interval_secs: Seconds between checkpoints; one is always written at the end and when
            the run is interrupted with Ctrl-C or SIGTERM. Several workers go by steps only.
        save_interval_steps: Steps between checkpoints, which are written then too; 0 for none.
        log_steps: Steps between the points of the curves.

    Returns:
        The last validation's scores, or None if there was none.

    Raises:
        ConnectionError: Another worker is gone.
        DiskFullError: The disk is full; the last checkpoint is whole.
        FileExistsError: `logdir` holds something else than a run with this card.
        FloatingPointError: The loss or a weight is no longer finite.
        ValueError: The batch cannot be shared by the devices, or an image is damaged.
    """
    strategy = strategy or tf.distribute.get_strategy()
    _check(card, logdir, strategy)
    learner = _set_up(card, strategy)
    latest = tf.train.latest_checkpoint(logdir)
    if latest is not None:
        resume(learner.checkpoint, latest, None)
    step = learner.steps_taken()
    own_logdir = logdir if is_chief(strategy) else None
    with checkpoint_folder(strategy, logdir) as folder, stop_request() as stop:
        if own_logdir is not None:
            # Here, because a run that cannot start leaves no folder behind.
            os.makedirs(own_logdir, exist_ok=True)
            card.save(own_logdir)
        saver = Saver(
            learner.checkpoint,
            folder,
            partial(_check_weights, learner.model),
            # Clocks differ, and workers save together.
            interval_secs=save_interval_secs if num_workers(strategy) == 1 else math.inf,
            interval_steps=save_interval_steps,
        )
        with saver.full_disk_reported(), lost_worker_reported(strategy):
            watch = PretrainWatch(
                learner.model,
                card,
                sources[val_split] if val_split else None,
                step=step,
                logdir=own_logdir,
                val_interval_epochs=val_interval_epochs,
                log_steps=log_steps,
            )
            images = _batches(card, sources[card.train_split], strategy, start_step=step)
            steps = _steps(learner, images, card, stop, log_steps, quiet=own_logdir is None)
            with contextlib.closing(steps):  # or an error's message would begin on the bar's line
                take_steps(steps, saver, watch, learner.steps_taken)
    return watch.scores


@dataclass(frozen=True)
class _Learner:
    """What learns: all that a step changes, and a checkpoint keeps.

    Attributes:
        model: The network.
        optimizer: Its optimizer, which counts the steps.
        take_step: Takes a step on a batch.
        checkpoint: Of the first two.
    """

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    take_step: ClassifierStep
    checkpoint: tf.train.Checkpoint

    def steps_taken(self) -> int:
        """Those of earlier parts of the run included."""
        return int(ops.convert_to_numpy(self.optimizer.iterations))


def _set_up(card: PretrainCard, strategy: tf.distribute.Strategy) -> _Learner:
    """A new run's, as its seed has it."""
    keras.utils.set_random_seed(card.train.seed)
    with strategy.scope():
        model = _build(card, replicas=strategy.num_replicas_in_sync)
        optimizer = build_optimizer(card, model.trainable_variables)
        take_step = ClassifierStep(model, optimizer, card.train, strategy)
        return _Learner(model, optimizer, take_step, training_checkpoint(model, optimizer))


def _check(card: PretrainCard, logdir: str, strategy: tf.distribute.Strategy) -> None:
    replicas = strategy.num_replicas_in_sync
    if card.train.batch_size % replicas:
        raise ValueError(
            f"--train_batch_size={card.train.batch_size} cannot be shared by {replicas} devices: "
            "expected a multiple."
        )
    check_logdir(logdir, card, filename=FILENAME)


def _build(card: PretrainCard, *, replicas: int) -> keras.Model:
    """The network of a card, as it is trained."""
    with dtype_policy(training_policy(card.train.mixed_precision)):
        model = build_classifier(card.model, dropout_rate=card.train.dropout_rate)
    batch_norm = TrainConfig(
        training_number_of_steps=card.steps, batch_norm_decay=card.train.batch_norm_decay
    )
    set_batch_norm(model, batch_norm, replicas=replicas)
    return model


def _batches(
    card: PretrainCard, source: ImageSource, strategy: tf.distribute.Strategy, *, start_step: int
) -> Iterator[Any]:
    """The batches that are left, as the replicas are to have them."""
    config, replicas = card.train, strategy.num_replicas_in_sync

    def of_worker(num_workers: int, worker: int) -> tf.data.Dataset:
        found = batches.training_batches(
            source,
            image_size=config.image_size,
            batch_size=config.batch_size,
            min_area=config.min_area,
            max_aspect_ratio=config.max_aspect_ratio,
            seed=config.seed,
            start_step=start_step,
            parts=replicas,
            num_workers=num_workers,
            worker=worker,
        )
        return found.take((card.steps - start_step) * replicas // num_workers)

    endless = source.endless(seed=config.seed, first_example=start_step * config.batch_size)
    return batches.naming_damage(
        distribute(strategy, of_worker),
        source,
        endless.map(lambda _, place: place),
        batch_size=config.batch_size,
    )


def _steps(
    learner: _Learner,
    images: Iterator[Any],
    card: PretrainCard,
    stop: StopRequest,
    log_steps: int,
    *,
    quiet: bool,
) -> Generator[Step, None, None]:
    """Takes the steps under a progress bar.

    Yields:
        Each step's number, whether any worker wants to stop, and what to plot of the step; the
        learning rate is that of the last step to plot.
    """
    start_step, schedule = learner.steps_taken(), learning_rate_schedule(card)
    speed = waiting = 0.0
    with tqdm(initial=start_step, total=card.steps, desc="pretrain", disable=quiet) as bar:
        started = time.monotonic()
        for step in range(start_step + 1, card.steps + 1):
            batch = next(images)
            waited = time.monotonic() - started
            result = learner.take_step(*batch, tf.constant(float(stop.received)))
            loss = float(result.loss)
            if step == start_step + 1 or step % log_steps == 0:
                rate = float(ops.convert_to_numpy(schedule(step - 1)))
            if not math.isfinite(loss):
                raise FloatingPointError(_not_finite(f"The loss of step {step} is {loss}", rate))
            taken = time.monotonic() - started
            speed = smoothed(speed, card.train.batch_size / taken)
            waiting = smoothed(waiting, waited / taken)
            curves = {
                "loss": loss,
                "accuracy": float(result.accuracy),
                "learning_rate": rate,
                "images_per_sec": speed,
                "data_wait_share": waiting,
            }
            bar.set_postfix_str(_bar_text(step / card.steps_per_epoch, curves), refresh=False)
            bar.update()
            yield step, float(result.votes) > 0, curves
            started = time.monotonic()


def _bar_text(epoch: float, curves: dict[str, float]) -> str:
    return (
        f"epoch {epoch:.1f}, loss {curves['loss']:.3f}, top-1 {curves['accuracy']:.2f}, "
        f"lr {curves['learning_rate']:.2g}, {curves['images_per_sec']:.1f} images/s, "
        f"{curves['data_wait_share']:.0%} waiting for data"
    )


def _check_weights(model: keras.Model, step: int) -> None:
    """Raises FloatingPointError if a weight is not finite, because weights are to be saved."""
    finite = [ops.all(ops.isfinite(weight)) for weight in model.trainable_variables]
    if not np.all(ops.convert_to_numpy(finite)):
        raise FloatingPointError(
            _not_finite(f"After step {step} the weights are not finite, and are not saved", None)
        )


def _not_finite(what: str, rate: float | None) -> str:
    at = "" if rate is None else f", at the learning rate {rate:g}"
    return (
        f"{what}{at}. Checkpoints are as they were. Start anew in another --train_logdir with a "
        "lower --base_learning_rate, or with --mixed_precision=bfloat16 in place of float16."
    )
