"""The training loop: steps on random crops, with validation, checkpoints and exact resume."""

import math
import os
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import keras
import tensorflow as tf
from tqdm import tqdm

from deeplab_tf import optimizers
from deeplab_tf.data.damage import find_sound_records
from deeplab_tf.deeplab import build_deeplab
from deeplab_tf.distribution import (
    LOST_WORKER_ERRORS,
    any_worker,
    checkpoint_folder,
    is_chief,
    num_workers,
)
from deeplab_tf.ema import WeightAverage
from deeplab_tf.metrics import SegmentationScores
from deeplab_tf.model_card import ModelCard
from deeplab_tf.model_info.memory import TrainingMemory, training_memory
from deeplab_tf.nonfinite import FiniteCheck
from deeplab_tf.run_start import check_card, check_logdir, initialize, resume
from deeplab_tf.saver import Saver
from deeplab_tf.signals import StopRequest, stop_request
from deeplab_tf.train_step import TrainStep, freeze_layers, set_batch_norm
from deeplab_tf.training_data import batch_reader, training_parts
from deeplab_tf.watch import Watch
from deeplab_tf.weights import (
    training_checkpoint,
)


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
        FileExistsError: `logdir` holds something else than a run with this card.
        FloatingPointError: The loss is no longer finite.
        ValueError: A split does not exist, the label weights do not fit the classes, the batch has
            no such parts, the initial checkpoint is not of this network, or a record is damaged.
    """
    strategy = strategy or tf.distribute.get_strategy()
    splits = [split for split in (train_split, val_split) if split]
    for split in splits:
        card.dataset.check_split(split)
    check_card(card, strategy)
    check_logdir(logdir, card)
    sound = {}
    if skip_corrupt:
        for split in splits:
            sound[split] = find_sound_records(dataset_dir, split, info=card.dataset)
            tqdm.write(sound[split].report())
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
        tqdm.write(f"Memory of a step, estimated: {_memory(card, model, strategy)}.")
    if num_workers(strategy) > 1:
        save_interval_secs = math.inf  # clocks differ, and workers save together
    latest = tf.train.latest_checkpoint(logdir)
    if latest is not None:
        resume(checkpoint, latest, initial_checkpoint)
    elif initial_checkpoint is not None:
        initialize(model, card, initial_checkpoint, initial_class_names)

    step = _steps_taken(optimizer)
    batches = training_parts(
        card,
        strategy,
        dataset_dir,
        train_split,
        start_step=step,
        sound=sound.get(train_split),
    )
    chief, stopping = is_chief(strategy), False
    with checkpoint_folder(strategy, logdir) as folder, stop_request() as stop:
        # Here, because a run that cannot start leaves no folder behind.
        if chief:
            os.makedirs(logdir, exist_ok=True)
            card.save(logdir)
        own_logdir = logdir if chief else None
        check = FiniteCheck(
            model,
            card,
            own_logdir,
            batch_reader(card, dataset_dir, train_split, sound.get(train_split)),
        )
        saver = Saver(checkpoint, folder, check.weights)
        watch = Watch(
            model,
            card,
            step=step,
            logdir=own_logdir,
            dataset_dir=dataset_dir,
            val_split=val_split,
            sound=sound.get(val_split or ""),
            average=average,
            val_interval_steps=val_interval_steps,
            log_steps=log_steps,
            early_stop_patience=early_stop_patience,
            any_worker=partial(any_worker, strategy),
        )
        try:
            ended = watch.begin(step)
            steps = _steps(
                take_step, optimizer, batches, card, stop, check, log_steps, quiet=not chief
            )
            for step, stopping, curves in () if ended else steps:
                watch.log(step, curves)
                if stopping:
                    break
                at_interval = bool(save_interval_steps) and step % save_interval_steps == 0
                if watch.is_due(step) or at_interval or saver.seconds_since() > save_interval_secs:
                    saver.save(step)
                if ended := watch.validate(step):
                    break
        except KeyboardInterrupt:
            step = _steps_taken(optimizer)
            saver.save(step)
            tqdm.write(f"Stopped after step {step}; the same command goes on from there.")
            raise
        except LOST_WORKER_ERRORS as error:
            if num_workers(strategy) == 1:
                raise
            raise ConnectionError(
                f"Another worker is gone ({error.message.splitlines()[0]}). Start all workers "
                "again with the same command: training goes on from the last checkpoint."
            ) from error
        saver.save(step)
    watch.end(step, early=ended)
    if stopping:
        tqdm.write(f"Stopped after step {step}; the same command goes on from there.")
    return watch.scores


def _build(card: ModelCard, *, replicas: int) -> keras.Model:
    """The network of a card, as it is trained."""
    precision = card.train.mixed_precision
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32" if precision == "none" else f"mixed_{precision}")
    try:
        model = build_deeplab(card.model)
    finally:
        keras.config.set_dtype_policy(before)
    set_batch_norm(model, card.train, replicas=replicas)
    freeze_layers(model, card.train.trained_layers)
    return model


def _memory(
    card: ModelCard, model: keras.Model, strategy: tf.distribute.Strategy
) -> TrainingMemory:
    """What a step takes on one device."""
    parts = strategy.num_replicas_in_sync * card.train.gradient_accumulation_steps
    slots = 1 if card.train.optimizer == "momentum" else 2
    return training_memory(
        model,
        crop_size=card.data.crop_size,
        images=card.data.batch_size // parts,
        feature_bytes=4 if card.train.mixed_precision == "none" else 2,
        slots=slots + (card.train.ema_decay > 0) + (card.train.gradient_accumulation_steps > 1),
    )


def _steps(
    take_step: TrainStep,
    optimizer: keras.optimizers.Optimizer,
    batches: Iterator[Any],
    card: ModelCard,
    stop: StopRequest,
    check: FiniteCheck,
    log_steps: int,
    *,
    quiet: bool,
) -> Iterator[tuple[int, bool, dict[str, float]]]:
    """Takes the steps under a progress bar.

    Yields:
        Each step's number, whether any worker wants to stop, and what to plot of the step; the
        learning rate is that of the last step to plot.
    """
    start_step, total = _steps_taken(optimizer), card.train.training_number_of_steps
    parts = card.train.gradient_accumulation_steps
    speed = waiting = 0.0
    with tqdm(initial=start_step, total=total, desc="train", unit="step", disable=quiet) as bar:
        started = time.monotonic()
        for step in range(start_step + 1, total + 1):
            batch = [next(batches) for _ in range(parts)]
            waited = time.monotonic() - started
            result = take_step(batch, vote=float(stop.received))
            loss = float(result.loss)
            check.loss(step, loss, result.gradient_norms)
            if step == start_step + 1 or step % log_steps == 0:
                # Rarely: schedules are many small operations.
                rate = optimizers.learning_rate(card.train, step - 1)
            taken = time.monotonic() - started
            speed = _smoothed(speed, card.data.batch_size / taken)
            waiting = _smoothed(waiting, waited / taken)
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


def _smoothed(average: float, value: float) -> float:
    return 0.9 * average + 0.1 * value if average else value


def _steps_taken(optimizer: keras.optimizers.Optimizer) -> int:
    return int(keras.ops.convert_to_numpy(optimizer.iterations))
