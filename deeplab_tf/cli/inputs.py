"""What the flags name: records, splits, checkpoints and the networks in them."""

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from absl import flags

from deeplab_tf.cli import cards
from deeplab_tf.cli.flag_table import given
from deeplab_tf.colormap import voc_colormap
from deeplab_tf.config import InferenceConfig
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.data.known_datasets import KNOWN_DATASETS, describe_records
from deeplab_tf.model_card import FILENAME, ModelCard

FLAGS = flags.FLAGS


def records() -> DatasetInfo:
    """What is known of the records in --dataset_dir."""
    info = describe_records(FLAGS.dataset_dir, FLAGS.dataset)
    if given("dataset"):
        known = cards.known_dataset()
        if known.num_classes != info.num_classes:
            raise ValueError(
                f"--dataset={FLAGS.dataset} has {known.num_classes} classes, but the records of "
                f"--dataset_dir={FLAGS.dataset_dir} have {info.num_classes} ({info.name}): leave "
                "the flag out."
            )
    return info


def training_data() -> DatasetInfo:
    """The records; without them, for a dry run, the recipe's data set or that of --dataset."""
    if FLAGS.dataset_dir is not None:
        return records()
    recipe = cards.chosen_recipe()
    return cards.known_dataset() if recipe is None else KNOWN_DATASETS[recipe.dataset]


def strategy() -> Any:
    """Where to train."""
    from deeplab_tf.training.distribution import build_strategy

    name, clones = FLAGS.strategy, FLAGS.num_clones
    if clones > 1 and not given("strategy"):
        name = "mirrored"
    if clones > 1 and name != "mirrored":
        raise ValueError(f"--num_clones={clones} is for --strategy=mirrored, not {name}.")
    return build_strategy(name, num_devices=clones if given("num_clones") else None, tpu=FLAGS.tpu)


def split(info: DatasetInfo, flag: str) -> str:
    """The split that a flag names."""
    return resolved(info, flag, getattr(FLAGS, flag))


def resolved(info: DatasetInfo, flag: str, name: str) -> str:
    """The split of a name, which may be the reference's; says so if it has another one here."""
    split = info.resolve_split(name)
    if split != name:
        print(f"--{flag}={name} is {split} here.")
    return split


def with_label_weights(card: ModelCard, split: str) -> ModelCard:
    """A card with the numbers that --label_weights=auto stands for.

    A run that goes on has those of its own card; a new one counts the labels of the split.
    """
    from deeplab_tf.data import class_weights

    if os.path.isfile(os.path.join(FLAGS.train_logdir, FILENAME)):
        earlier = ModelCard.load(FLAGS.train_logdir).train.label_weights
        if earlier:
            print(f"Label weights are those of the run in {FLAGS.train_logdir}.")
            return replace(card, train=replace(card.train, label_weights=earlier))
    counts = class_weights.count_labels(FLAGS.dataset_dir, split, info=card.dataset)
    weights = class_weights.median_frequency_weights(*counts)
    if weights is None:
        raise ValueError(
            f"--label_weights=auto: no pixel of {split} in {FLAGS.dataset_dir} has a class, all "
            f"are {card.dataset.ignore_label} (void). Check the masks and convert again."
        )
    print(class_weights.format_label_weights(weights, counts, card.dataset.class_names))
    return replace(card, train=replace(card.train, label_weights=weights))


def validation_split(info: DatasetInfo) -> str | None:
    """The split to validate on while training; None if there is none or none is wanted."""
    if not FLAGS.val_split:
        return None
    try:
        return split(info, "val_split")
    except ValueError:
        if given("val_split"):
            raise
        print(f"There is no split val in {FLAGS.dataset_dir}: training without validation.")
        return None


def watching() -> bool:
    """Whether checkpoints are to be evaluated as they appear, not the newest one, once."""
    return given("max_number_of_evaluations") or given("eval_interval_secs")


def checkpoints(path: str) -> Iterator[str]:
    """The newest checkpoint; or, while `watching`, those that appear from now on.

    Differs: the reference always waits for new checkpoints, and for ever.
    """
    from deeplab_tf.evaluation.new_checkpoints import new_checkpoints, step_of
    from deeplab_tf.training.early_stop import stopped_early_at

    if not watching():
        yield located(path)
        return
    for name in ("eval_interval_secs", "eval_timeout_secs"):
        if getattr(FLAGS, name) < 0:
            raise ValueError(f"--{name}={getattr(FLAGS, name)}: expected 0 or more.")

    def is_last(checkpoint: str) -> bool:
        if not os.path.isdir(path):
            return True
        folder = os.path.dirname(checkpoint)
        if not os.path.isfile(os.path.join(folder, FILENAME)):
            return False
        steps = ModelCard.load(folder).train.training_number_of_steps
        step = step_of(checkpoint) or 0
        return step >= steps or step == stopped_early_at(folder)

    yield from new_checkpoints(
        lambda: located(path),
        interval_secs=FLAGS.eval_interval_secs,
        timeout_secs=FLAGS.eval_timeout_secs,
        wanted=max(0, FLAGS.max_number_of_evaluations),
        is_last=is_last,
    )


def located(path: str) -> str:
    """The prefix of a checkpoint to predict with, by whatever name it is given."""
    from deeplab_tf import weights

    known = weights.find_zoo_model(path)
    if known is not None:
        known.config()  # An encoder alone is an error, before it is downloaded.
    return weights.locate_checkpoint(path)


def load_model(card: ModelCard, checkpoint: str) -> Any:
    """The network of a card with the weights of a checkpoint."""
    from deeplab_tf.deeplab import build_deeplab
    from deeplab_tf.predictors import network_config

    model = build_deeplab(network_config(card.model, card.inference))
    load_weights(model, card, checkpoint)
    return model


def load_weights(model: Any, card: ModelCard, checkpoint: str) -> None:
    """Gives a network the weights of a checkpoint, and says what they are."""
    from deeplab_tf import weights

    if weights.is_of_a_run(checkpoint):
        weights.load_weights(model, checkpoint)
        if card.train.ema_decay > 0:
            print(f"Weights are averages over the steps (ema_decay {card.train.ema_decay:g}).")
    else:
        print(weights.load_tf1_checkpoint(model, checkpoint))


def scores_folder(checkpoint: str) -> str:
    """Where the scores of a checkpoint go; not among files that are not ours."""
    from deeplab_tf.weights import is_of_a_run

    if FLAGS.eval_logdir:
        return FLAGS.eval_logdir
    if not is_of_a_run(checkpoint):
        raise ValueError(
            f"{checkpoint} is of no run of train.py, whose folder the scores would go to: give a "
            "folder for them, --eval_logdir."
        )
    return os.path.dirname(checkpoint) or "."


def class_names(asked_for: str, checkpoint: str) -> tuple[str, ...] | None:
    """The classes of a checkpoint, if anything says them."""
    from deeplab_tf import weights

    if weights.is_classifier(checkpoint):
        return None  # they are of whole images
    if weights.is_of_a_run(checkpoint):
        return ModelCard.load(os.path.dirname(checkpoint) or ".").dataset.class_names
    known = weights.find_zoo_model(asked_for)
    if known is None or known.dataset not in KNOWN_DATASETS:
        return None
    return KNOWN_DATASETS[known.dataset].class_names


def palette(info: DatasetInfo) -> Any:
    """The colours to draw with: those of --colormap_type, or of the data set."""
    if not given("colormap_type"):
        return info.palette
    colors: Any = voc_colormap()
    if FLAGS.colormap_type != "pascal":
        colors = KNOWN_DATASETS[FLAGS.colormap_type].palette
    if len(colors) < info.num_classes:
        raise ValueError(
            f"--colormap_type={FLAGS.colormap_type} has {len(colors)} colours for "
            f"{info.num_classes} classes: leave the flag out for those of the data set."
        )
    return colors[: info.num_classes]


def image_examples(info: DatasetInfo) -> tuple[Iterator[Any], int]:
    """The image files of --images, read as the data set of a network has them; and their number."""
    from deeplab_tf import image_files
    from deeplab_tf.data import channels

    stored = {"input_channels": info.input_channels, "bit_depth": info.bit_depth}
    files = image_files.find_images(FLAGS.images, extensions=channels.extensions(**stored))
    return image_files.file_examples(files, value_range=info.value_range, **stored), len(files)


def sound_records(info: DatasetInfo, split: str) -> Any:
    """With --skip_corrupt the records that can be read, of which it tells; else None."""
    from deeplab_tf.data.damage import find_sound_records

    if not FLAGS.skip_corrupt:
        return None
    sound = find_sound_records(FLAGS.dataset_dir, split, info=info)
    print(sound.report())
    return sound


def examples(
    info: DatasetInfo, split: str, inference: InferenceConfig, *, sound: Any = None
) -> Iterator[Any]:
    """The examples of a split at the size that the network is to see, as numpy arrays."""
    from deeplab_tf.data import pipeline
    from deeplab_tf.data.damage import naming_damage

    dataset = pipeline.evaluation_examples(
        FLAGS.dataset_dir,
        split,
        info=info,
        min_resize_value=inference.min_resize_value,
        max_resize_value=inference.max_resize_value,
        resize_factor=inference.resize_factor,
        sound=sound,
    )
    return naming_damage(dataset.as_numpy_iterator(), FLAGS.dataset_dir, split, info=info)


def training_inputs(card: ModelCard, split: str, count: int) -> Iterator[dict[str, Any]]:
    """The first examples that a run sees, as `input_panels.visualize_inputs` takes them."""
    from deeplab_tf.training.data import input_examples
    from deeplab_tf.visualization.input_panels import Placement

    sound = sound_records(card.dataset, split)
    examples = input_examples(card, dataset_dir=FLAGS.dataset_dir, split=split, sound=sound)
    for example, source in examples.take(count).as_numpy_iterator():
        crop = example.crop
        yield {
            "filename": source["filename"],
            "source": source["image"],
            "source_label": source["label"],
            "image": example.image,
            "label": example.label,
            "placement": Placement(
                tuple(crop.scaled_size.tolist()),
                tuple(crop.offset.tolist()),
                bool(crop.flip),
                float(example.degrees),
            ),
        }
