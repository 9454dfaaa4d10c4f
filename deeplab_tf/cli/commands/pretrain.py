"""What `python -m deeplab_tf.pretrain` does."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from absl import flags

from deeplab_tf.backbones import get_backbone
from deeplab_tf.cli import inputs
from deeplab_tf.cli.flag_table import given
from deeplab_tf.config import ModelConfig, PretrainConfig

FLAGS = flags.FLAGS

# Fields whose flags have another name, that of train.py or of slim.
_RENAMED = {"batch_size": "train_batch_size", "image_size": "train_image_size"}


def pretrain() -> None:
    """`python -m deeplab_tf.pretrain`: trains an encoder to classify images."""
    from deeplab_tf.pretrain.card import PretrainCard
    from deeplab_tf.pretrain.run import pretrain as train

    # First, because workers find each other before anything else is done with TensorFlow.
    strategy = inputs.strategy()
    _check_intervals()
    class_names, sources = _sources()
    card = PretrainCard(
        model=_model(len(class_names)),
        train=_train_config(),
        class_names=class_names,
        splits={split: source.count for split, source in sources.items()},
        train_split=FLAGS.train_split,
    )
    val_split = FLAGS.val_split if FLAGS.val_split in sources else None
    shown = ", ".join(f"{count} images of {split}" for split, count in card.splits.items())
    print(f"{len(class_names)} classes, {shown}; {card.steps} steps.")
    train(
        card,
        sources,
        logdir=FLAGS.train_logdir,
        val_split=val_split,
        strategy=strategy,
        val_interval_epochs=FLAGS.val_interval_epochs,
        save_interval_secs=FLAGS.save_interval_secs,
        save_interval_steps=FLAGS.save_interval_steps,
        log_steps=FLAGS.log_steps,
    )
    print(
        f"Checkpoints and pretrain.json are in {FLAGS.train_logdir}.\nNext: python train.py "
        f"--tf_initial_checkpoint={FLAGS.train_logdir} --model_variant={FLAGS.model_variant} ..."
    )


def _sources() -> tuple[tuple[str, ...], Mapping[str, Any]]:
    """The class names and the images of each split."""
    from deeplab_tf.data.classification.class_records import open_records
    from deeplab_tf.data.classification.folders import open_folders

    splits = {"train_split": FLAGS.train_split, "val_split": FLAGS.val_split}
    if (FLAGS.image_folder is None) == (FLAGS.dataset_dir is None):
        raise ValueError("Give one of --image_folder, of class folders, and --dataset_dir.")
    if FLAGS.image_folder is not None:
        if wrong := [name for name in ("num_classes", "label_offset") if given(name)]:
            raise ValueError(f"--{wrong[0]} is for records: the classes of folders are counted.")
        return open_folders(
            FLAGS.image_folder, **splits, val_fraction=FLAGS.val_fraction, seed=FLAGS.seed
        )
    if given("val_fraction"):
        raise ValueError("--val_fraction is for folders: records have a split to validate on.")
    return open_records(
        FLAGS.dataset_dir,
        **splits,
        num_classes=FLAGS.num_classes,
        label_offset=FLAGS.label_offset,
    )


def _model(num_classes: int) -> ModelConfig:
    backbone = get_backbone(FLAGS.model_variant)
    names = {field.name for field in fields(ModelConfig)} - {"num_classes", "model_variant"}
    options: dict[str, Any] = {name: FLAGS[name].value for name in names if given(name)}
    if foreign := sorted(options.keys() - {"output_stride", *backbone.options}):
        raise ValueError(f"{FLAGS.model_variant} has no {foreign[0]}: leave the flag out.")
    options.setdefault("output_stride", FLAGS.output_stride)
    return ModelConfig(FLAGS.model_variant, num_classes=num_classes, **options)


def _train_config() -> PretrainConfig:
    flag_of = {field.name: _RENAMED.get(field.name, field.name) for field in fields(PretrainConfig)}
    values: dict[str, Any] = {
        name: FLAGS[flag].value for name, flag in flag_of.items() if given(flag)
    }
    return PretrainConfig(**values)


def _check_intervals() -> None:
    for flag, least in (("log_steps", 1), ("save_interval_steps", 0)):
        value = getattr(FLAGS, flag)
        if value < least:
            raise ValueError(f"--{flag}={value}: expected {least} or more.")
    if FLAGS.val_interval_epochs <= 0:
        raise ValueError(f"--val_interval_epochs={FLAGS.val_interval_epochs}: expected above 0.")
