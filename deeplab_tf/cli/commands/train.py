"""What train.py does: flags -> configs -> one call of the library."""

import math
import sys
from collections.abc import Sequence

from absl import flags

from deeplab_tf.cli import advice, cards, inputs
from deeplab_tf.config import ModelConfig
from deeplab_tf.model_card import ModelCard

FLAGS = flags.FLAGS


def train() -> None:
    """train.py: trains, or goes on training, the network that the flags describe."""
    from deeplab_tf import weights
    from deeplab_tf.training import run

    # First, because workers find each other before anything else is done with TensorFlow.
    strategy = None if FLAGS.dry_run else inputs.strategy()
    info = inputs.training_data()
    card = cards.training_card(info)
    _check_crop(card.data.crop_size, card.model.output_stride, flag="train_crop_size")
    _check_rates(card.model, card.data.crop_size)
    _check_pooling(card.model, card.data.crop_size)
    train_split = inputs.resolved(info, "train_split", cards.train_split(info))
    at_a_time = card.data.batch_size // card.train.gradient_accumulation_steps
    if warning := advice.batch_norm_warning(
        card.model, card.train, at_a_time, split_size=info.splits[train_split]
    ):
        print(f"Warning: {warning}", file=sys.stderr)
    start = cards.initial_checkpoint()
    if FLAGS.dry_run:
        from deeplab_tf.cli.dry_run import description

        recipe = cards.chosen_recipe()
        print(description(card, recipe=recipe, train_split=train_split, initial_checkpoint=start))
        if cards.wants_auto_label_weights():
            print(f"\n--label_weights=auto: counted in {train_split} when the run starts.")
        return
    val_split = inputs.validation_split(info)
    _check_schedule(val_split)
    if FLAGS.check_data:
        _check_data(card, [split for split in (train_split, val_split) if split])
    initial, initial_names = start, None
    if start is not None and not weights.is_from_keras(start):
        initial = weights.locate_checkpoint(start)
        initial_names = inputs.class_names(start, initial)
    if cards.wants_auto_label_weights():
        card = inputs.with_label_weights(card, train_split)
    scores = run.train(
        card,
        dataset_dir=FLAGS.dataset_dir,
        train_split=train_split,
        val_split=val_split,
        logdir=FLAGS.train_logdir,
        strategy=strategy,
        initial_checkpoint=initial,
        initial_class_names=initial_names,
        val_interval_steps=FLAGS.val_interval_steps,
        save_interval_secs=FLAGS.save_interval_secs,
        save_interval_steps=FLAGS.save_interval_steps,
        rematerialize=FLAGS.rematerialize,
        log_steps=FLAGS.log_steps,
        early_stop_patience=FLAGS.early_stop_patience,
        skip_corrupt=FLAGS.skip_corrupt,
    )
    print(f"Checkpoints and config.json are in {FLAGS.train_logdir}.")
    if scores is not None:
        print(
            f"Next: python eval.py --checkpoint_dir={FLAGS.train_logdir} "
            f"--dataset_dir={FLAGS.dataset_dir}"
        )


def _check_schedule(val_split: str | None) -> None:
    for flag, least in (("val_interval_steps", 1), ("log_steps", 1), ("early_stop_patience", 0)):
        value = getattr(FLAGS, flag)
        if value < least:
            raise ValueError(f"--{flag}={value}: expected {least} or more.")
    if FLAGS.early_stop_patience and val_split is None:
        raise ValueError(
            f"--early_stop_patience={FLAGS.early_stop_patience} counts validations, and there are "
            "none: give a split with --val_split, or leave the flag out."
        )


def _check_crop(crop_size: tuple[int, int], output_stride: int, *, flag: str) -> None:
    if min(crop_size) <= output_stride:
        raise ValueError(
            f"--{flag}={crop_size[0]},{crop_size[1]} is no larger than the output stride "
            f"{output_stride}: expected k * {output_stride} + 1, such as 513."
        )
    for side in crop_size:
        if (side - 1) % output_stride:
            nearest = (side - 1) // output_stride * output_stride + 1
            print(
                f"Warning: --{flag} {side} is not k * {output_stride} + 1, where features and "
                f"pixels align: {nearest} or {nearest + output_stride} gives better borders.",
                file=sys.stderr,
            )


def _check_data(card: ModelCard, splits: Sequence[str]) -> None:
    """Stops if a sample of the records shows that training would fail or learn nonsense."""
    from deeplab_tf.data.doctor.kinds import OF_CORRUPT_RECORDS
    from deeplab_tf.data.doctor.report import summary
    from deeplab_tf.data.doctor.sample import examine_sample

    resized = card.data.min_resize_value is not None
    findings = examine_sample(
        FLAGS.dataset_dir,
        info=card.dataset,
        splits=splits,
        crop_size=card.data.crop_size,
        max_scale_factor=math.inf if resized else card.data.max_scale_factor,
    )
    if FLAGS.skip_corrupt:  # these are left out, and told of
        findings = [found for found in findings if found.kind not in OF_CORRUPT_RECORDS]
    command = f"python -m datasets.doctor {FLAGS.dataset_dir}"
    errors = [finding for finding in findings if finding.kind.severity == "error"]
    for line in summary([finding for finding in findings if finding not in errors]):
        print(f"{line} ({command})", file=sys.stderr)
    if errors:
        raise ValueError(
            "\n".join(
                [
                    *summary(errors, fixes=True),
                    f"{command} examines all records; --nocheck_data trains on them as they are.",
                ]
            )
        )


def _check_rates(model: ModelConfig, crop_size: tuple[int, int]) -> None:
    features = (min(crop_size) - 1) // model.output_stride + 1
    if any(rate >= features for rate in model.atrous_rates):
        print(
            f"Warning: the crop has {features} features across at output stride "
            f"{model.output_stride}. Atrous rates {model.atrous_rates} that are no smaller meet "
            "padding only, and untrained weights in larger images: lower --atrous_rates.",
            file=sys.stderr,
        )


def _check_pooling(model: ModelConfig, crop_size: tuple[int, int]) -> None:
    window = model.image_pooling_crop_size
    if window and (window[0] > crop_size[0] or window[1] > crop_size[1]):
        raise ValueError(
            f"--image_pooling_crop_size={window[0]},{window[1]} does not fit into "
            f"--train_crop_size={crop_size[0]},{crop_size[1]}: lower the one or raise the other."
        )
