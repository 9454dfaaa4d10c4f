"""The training loop: steps on random crops, with validation, checkpoints and exact resume."""

import contextlib
import math
import os
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import tensorflow as tf
from tqdm import tqdm

from deeplab_tf.deeplab import build_deeplab
from deeplab_tf.evaluation.metrics import SegmentationScores
from deeplab_tf.model_card import ModelCard
from deeplab_tf.precision import dtype_policy, training_policy
from deeplab_tf.training import optimizers
from deeplab_tf.training.data import batch_reader, training_parts
from deeplab_tf.training.distribution import (
    any_worker,
    checkpoint_folder,
    is_chief,
    lost_worker_reported,
    num_workers,
)
from deeplab_tf.training.ema import WeightAverage
from deeplab_tf.training.loop import Step, smoothed, take_steps
from deeplab_tf.training.nonfinite import FiniteCheck
from deeplab_tf.training.saver import Saver
from deeplab_tf.training.signals import StopRequest, stop_request
from deeplab_tf.training.start import check_start, memory_of_a_step, sound_records, start_from
from deeplab_tf.training.step import TrainStep, freeze_layers, set_batch_norm
from deeplab_tf.training.watch import Watch
from deeplab_tf.weights import training_checkpoint


def train(
    card: ModelCard,
    *,
    dataset_dir: str,
    train_split: str,
    val_split: str | None,
    logdir: str,
    strategy: tf.distribute.Strategy | None = None,
    initial_checkpoint: str | None = None,
    initial_class_names: Sequence[str] | None = None,
    val_interval_steps: int = 500,
    save_interval_secs: float = 1200,
    save_interval_steps: int = 0,
    log_steps: int = 10,
    early_stop_patience: int = 0,
    rematerialize: bool = False,
    skip_corrupt: bool = False,
) -> SegmentationScores | None:
    """Trains a network, or goes on where an earlier run in the same folder stopped.

    A run that goes on takes the very steps that the earlier one would have taken, on as many
    devices or on others. SIGTERM ends it in order, with a checkpoint.

    Args:
        card: What to train, and how.
        dataset_dir: Folder of records with its dataset.json.
        train_split: Split to train on.
        val_split: Split to score on; None for no validation.
        logdir: Folder of checkpoints, model card and summaries; made if it does not exist. All
            workers see it.
        strategy: Who computes (`distribution.build_strategy`); None for one device.
        initial_checkpoint: Checkpoint that a new run begins with; one that goes on has no use for
            it. See `weights.initialize_from_checkpoint`; those of pretraining are for
            `weights.initialize_from_classifier`, names such as "keras_vgg16" and .h5 files for
            `weights.initialize_from_keras`.
        initial_class_names: Classes of that checkpoint, where they are known.
        val_interval_steps: Steps between validations; there is always one at the end.
        save_interval_secs: Seconds between checkpoints; one is always written at the end and when
            the run is interrupted with Ctrl-C or SIGTERM. Several workers go by steps only.
        save_interval_steps: Steps between checkpoints, which are written then too; 0 for none.
        log_steps: Steps between the points of the curves, TensorBoard's and the history's.
        early_stop_patience: Validations in a row without a better mean IoU than the best before
            them that end the run; 0 for any number. A run that ended so takes no more steps, unless
            it is given more patience.
        rematerialize: Whether features are computed again in place of being kept, for less memory.
        skip_corrupt: Whether to look for damaged records before the first step and leave them out;
            they are reported. If not, they are an error.

    Returns:
        The last validation's scores, or None if there was none.

    Raises:
        ConnectionError: Another worker is gone.
        DiskFullError: The disk is full; the last checkpoint is whole.
        FileExistsError: `logdir` holds something else than a run with this card.
        FloatingPointError: The loss is no longer finite.
        ValueError: A split does not exist, the label weights do not fit the classes, the batch has
            no such parts, the initial checkpoint is not of this network, or a record is damaged.
    """
    strategy = strategy or tf.distribute.get_strategy()
    splits = [split for split in (train_split, val_split) if split]
    check_start(card, strategy, logdir, splits)
    sound = sound_records(dataset_dir, splits, info=card.dataset) if skip_corrupt else {}
    of_training, of_validation = sound.get(train_split), sound.get(val_split or "")
    learner = _set_up(card, strategy, rematerialize=rematerialize)
    start_from(
        learner.checkpoint, learner.model, card, logdir, initial_checkpoint, initial_class_names
    )
    step = learner.steps_taken()
    batches = training_parts(
        card, strategy, dataset_dir, train_split, start_step=step, sound=of_training
    )
    with checkpoint_folder(strategy, logdir) as folder, stop_request() as stop:
        own_logdir = logdir if is_chief(strategy) else None
        if own_logdir is not None:
            # Here, because a run that cannot start leaves no folder behind.
            os.makedirs(own_logdir, exist_ok=True)
            card.save(own_logdir)
        read_batch = batch_reader(card, dataset_dir, train_split, of_training)
        check = FiniteCheck(learner.model, card, own_logdir, read_batch)
        saver = Saver(
            learner.checkpoint,
            folder,
            check.weights,
            # Clocks differ, and workers save together.
            interval_secs=save_interval_secs if num_workers(strategy) == 1 else math.inf,
            interval_steps=save_interval_steps,
        )
        with saver.full_disk_reported(), lost_worker_reported(strategy):
            watch = Watch(
                learner.model,
                card,
                step=step,
                logdir=own_logdir,
                dataset_dir=dataset_dir,
                val_split=val_split,
                sound=of_validation,
                average=learner.average,
                val_interval_steps=val_interval_steps,
                log_steps=log_steps,
                early_stop_patience=early_stop_patience,
                any_worker=partial(any_worker, strategy),
            )
            steps = _steps(learner, batches, card, stop, check, log_steps, quiet=own_logdir is None)
            with contextlib.closing(steps):  # or an error's message would begin on the bar's line
                take_steps(steps, saver, watch, learner.steps_taken)
    return watch.scores


@dataclass(frozen=True)
class _Learner:
    """What learns: all that a step changes, and a checkpoint keeps.

    Attributes:
        model: The network.
        optimizer: Its optimizer, which counts the steps.
        average: Of the weights.
        take_step: Takes a step on the parts of a batch.
        checkpoint: Of the first three.
    """

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    average: WeightAverage
    take_step: TrainStep
    checkpoint: tf.train.Checkpoint

    def steps_taken(self) -> int:
        """Those of earlier parts of the run included."""
        return int(keras.ops.convert_to_numpy(self.optimizer.iterations))


def _set_up(card: ModelCard, strategy: tf.distribute.Strategy, *, rematerialize: bool) -> _Learner:
    """A new run's, as its seed has it; says what memory its steps take."""
    keras.utils.set_random_seed(card.train.seed)
    with strategy.scope():
        model = _build(card, replicas=strategy.num_replicas_in_sync)
        optimizer = optimizers.build_optimizer(
            card.train,
            model.trainable_variables,
            kernels=optimizers.regularized_kernels(model),
        )
        average = WeightAverage(model.trainable_variables, card.train.ema_decay)
        take_step = TrainStep(
            model, optimizer, card, strategy, average, rematerialize=rematerialize
        )
        checkpoint = training_checkpoint(model, optimizer, average.averages)
    if is_chief(strategy):
        memory = memory_of_a_step(card, model, replicas=strategy.num_replicas_in_sync)
        tqdm.write(f"Memory of a step, estimated: {memory}.")
    return _Learner(model, optimizer, average, take_step, checkpoint)


def _build(card: ModelCard, *, replicas: int) -> keras.Model:
    """The network of a card, as it is trained."""
    with dtype_policy(training_policy(card.train.mixed_precision)):
        model = build_deeplab(card.model)
    set_batch_norm(model, card.train, replicas=replicas)
    freeze_layers(model, card.train.trained_layers)
    return model


def _steps(
    learner: _Learner,
    batches: Iterator[Any],
    card: ModelCard,
    stop: StopRequest,
    check: FiniteCheck,
    log_steps: int,
    *,
    quiet: bool,
) -> Generator[Step, None, None]:
    """Takes the steps under a progress bar.

    Yields:
        Each step's number, whether any worker wants to stop, and what to plot of the step; the
        learning rate is that of the last step to plot.
    """
    start_step, total = learner.steps_taken(), card.train.training_number_of_steps
    parts = card.train.gradient_accumulation_steps
    speed = waiting = 0.0
    with tqdm(initial=start_step, total=total, desc="train", unit="step", disable=quiet) as bar:
        started = time.monotonic()
        for step in range(start_step + 1, total + 1):
            batch = [next(batches) for _ in range(parts)]
            waited = time.monotonic() - started
            result = learner.take_step(batch, vote=float(stop.received))
            loss = float(result.loss)
            check.loss(step, loss, result.gradient_norms)
            if step == start_step + 1 or step % log_steps == 0:
                # Rarely: schedules are many small operations.
                rate = optimizers.learning_rate(card.train, step - 1)
            taken = time.monotonic() - started
            speed = smoothed(speed, card.data.batch_size / taken)
            waiting = smoothed(waiting, waited / taken)
            bar.set_postfix_str(
                f"loss {loss:.3f}, lr {rate:.2g}, {speed:.1f} images/s, "
                f"{waiting:.0%} waiting for data",
                refresh=False,
            )
            bar.update()
            curves = {
                "loss": loss,
                "learning_rate": rate,
                "images_per_sec": speed,
                "data_wait_share": waiting,
            }
            yield step, float(result.votes) > 0, curves
            started = time.monotonic()
