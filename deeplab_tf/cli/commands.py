"""What each script does: flags -> configs -> one call of the library."""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from absl import flags

from deeplab_tf.cli import cards
from deeplab_tf.colormap import voc_colormap
from deeplab_tf.config import InferenceConfig, ModelConfig
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.data.known_datasets import CITYSCAPES_LABEL_IDS, KNOWN_DATASETS, describe_records
from deeplab_tf.data.output import write_file
from deeplab_tf.model_card import ModelCard

FLAGS = flags.FLAGS


def train() -> None:
    """train.py: trains, or goes on training, the network that the flags describe."""
    from deeplab_tf import training, weights

    info = _records()
    card = cards.training_card(info)
    _check_crop(card.data.crop_size, card.model.output_stride, flag="train_crop_size")
    _check_rates(card.model, card.data.crop_size)
    _check_pooling(card.model, card.data.crop_size)
    train_split = _split(info, "train_split")
    val_split = _validation_split(info)
    initial, initial_names = None, None
    if FLAGS.tf_initial_checkpoint:
        initial = weights.locate_checkpoint(FLAGS.tf_initial_checkpoint)
        initial_names = _class_names(FLAGS.tf_initial_checkpoint, initial)
    scores = training.train(
        card,
        dataset_dir=FLAGS.dataset_dir,
        train_split=train_split,
        val_split=val_split,
        logdir=FLAGS.train_logdir,
        initial_checkpoint=initial,
        initial_class_names=initial_names,
        val_interval_steps=FLAGS.val_interval_steps,
        save_interval_secs=FLAGS.save_interval_secs,
        log_steps=FLAGS.log_steps,
    )
    print(f"Checkpoints and config.json are in {FLAGS.train_logdir}.")
    if scores is not None:
        print(
            f"Next: python eval.py --checkpoint_dir={FLAGS.train_logdir} "
            f"--dataset_dir={FLAGS.dataset_dir}"
        )


def evaluate() -> None:
    """eval.py: prints the scores of a checkpoint on a split and writes them as JSON."""
    from deeplab_tf import evaluation, metrics

    info = _records()
    split = _split(info, "eval_split")
    for checkpoint in _checkpoints(FLAGS.checkpoint_dir):
        card = cards.card_of(
            checkpoint, FLAGS.checkpoint_dir, crop_flag="eval_crop_size", info=info
        )
        logdir = _scores_folder(checkpoint)
        predict_labels = evaluation.label_predictor(
            _load_model(card, checkpoint), card.model, card.inference, resize=False
        )
        scores = evaluation.evaluate(
            predict_labels,
            _examples(info, split, card.inference),
            num_classes=info.num_classes,
            ignore_label=info.ignore_label,
            total=info.splits[split],
        )
        print(metrics.format_scores(scores, info.class_names))
        result = {
            "checkpoint": checkpoint,
            "dataset": info.name,
            "split": split,
            "output_stride": card.model.output_stride,
            "inference": dataclasses.asdict(card.inference),
            **metrics.scores_to_json(scores, info.class_names),
        }
        path = os.path.join(logdir, f"scores_{split}.json")
        write_file(path, json.dumps(result, indent=2).encode())
        print(f"Written to {path}.")


def visualize() -> None:
    """vis.py: draws the predictions on a split of records, or on plain image files."""
    from deeplab_tf import evaluation, image_files, visualization

    if (FLAGS.images is None) == (FLAGS.dataset_dir is None):
        raise ValueError(
            "Give either --dataset_dir (a folder of records) or --images (files or folders)."
        )
    # Bad input is found before the network is built.
    files, info, split = [], None, ""
    if FLAGS.images is not None:
        files = image_files.find_images(FLAGS.images)
    else:
        info = _records()
        split = _split(info, "vis_split")
    checkpoint = _located(FLAGS.checkpoint_dir)
    card = cards.card_of(checkpoint, FLAGS.checkpoint_dir, crop_flag="vis_crop_size", info=info)
    if info is None:
        examples, total = image_files.file_examples(files), len(files)
    else:
        examples, total = _examples(info, split, card.inference), info.splits[split]
    predict_labels = evaluation.label_predictor(
        _load_model(card, checkpoint), card.model, card.inference, resize=info is None
    )
    summary = visualization.visualize_predictions(
        examples,
        predict_labels,
        output_dir=FLAGS.vis_logdir,
        class_names=card.dataset.class_names,
        palette=_palette(card.dataset),
        ignore_label=card.dataset.ignore_label,
        save_raw=FLAGS.also_save_raw_predictions,
        raw_ids=CITYSCAPES_LABEL_IDS if card.dataset.name == "cityscapes" else None,
        total=total,
    )
    print(summary)


def export() -> None:
    """export_model.py: writes a checkpoint as a SavedModel, frozen graph or TF1 checkpoint."""
    from deeplab_tf import export as exporting
    from deeplab_tf import weights

    checkpoint = _located(FLAGS.checkpoint_path)
    card = cards.card_of(
        checkpoint,
        FLAGS.checkpoint_path,
        crop_flag="crop_size",
        scales_flag="inference_scales",
    )
    path = FLAGS.export_path
    if cards.given("save_inference_graph") and not path.endswith(".pb"):
        raise ValueError(
            f"--save_inference_graph goes with a frozen graph, but --export_path={path} is none: "
            "end it in .pb."
        )
    model = _load_model(card, checkpoint)
    if path.endswith(".pb"):
        exporting.export_frozen_graph(
            model, card, export_path=path, inference_graph=FLAGS.save_inference_graph
        )
        kind = "a frozen graph"
    elif path.endswith(".ckpt"):
        weights.save_tf1_checkpoint(model, path)
        kind = "a TF1 checkpoint"
    else:
        exporting.export_saved_model(model, card, export_path=path)
        kind = "a SavedModel"
    print(f"{checkpoint} is now {kind} in {path}.")


def model_info() -> None:
    """`python -m deeplab_tf.model_info`: prints parameters and Multiply-Adds of a network."""
    from deeplab_tf.model_info import model_info as count

    print(count(cards.model_from_flags(FLAGS.num_classes), cards.size("image_size")))


def _records() -> DatasetInfo:
    """What is known of the records in --dataset_dir."""
    info = describe_records(FLAGS.dataset_dir, FLAGS.dataset)
    if cards.given("dataset"):
        known = cards.known_dataset()
        if known.num_classes != info.num_classes:
            raise ValueError(
                f"--dataset={FLAGS.dataset} has {known.num_classes} classes, but the records of "
                f"--dataset_dir={FLAGS.dataset_dir} have {info.num_classes} ({info.name}): leave "
                "the flag out."
            )
    return info


def _split(info: DatasetInfo, flag: str) -> str:
    name = getattr(FLAGS, flag)
    split = info.resolve_split(name)
    if split != name:
        print(f"--{flag}={name} is {split} here.")
    return split


def _validation_split(info: DatasetInfo) -> str | None:
    if not FLAGS.val_split:
        return None
    try:
        return _split(info, "val_split")
    except ValueError:
        if cards.given("val_split"):
            raise
        print(f"There is no split val in {FLAGS.dataset_dir}: training without validation.")
        return None


def _checkpoints(path: str) -> Iterator[str]:
    """The newest checkpoint; or, with --max_number_of_evaluations, those that appear from now on.

    Differs: without that flag the reference waits for new checkpoints for ever.
    """
    watch, wanted = cards.given("max_number_of_evaluations"), FLAGS.max_number_of_evaluations
    done, last = 0, None
    while not done or (watch and (wanted <= 0 or done < wanted)):
        started = time.monotonic()
        while (checkpoint := _located(path)) == last:
            if not os.path.isdir(path):
                return  # there will be no other one
            time.sleep(1)
        yield checkpoint
        done, last = done + 1, checkpoint
        if watch and done != wanted:
            time.sleep(max(0.0, FLAGS.eval_interval_secs - (time.monotonic() - started)))


def _located(path: str) -> str:
    """The prefix of a checkpoint to predict with, by whatever name it is given."""
    from deeplab_tf import weights

    known = weights.find_zoo_model(path)
    if known is not None:
        known.config()  # An encoder alone is an error, before it is downloaded.
    return weights.locate_checkpoint(path)


def _load_model(card: ModelCard, checkpoint: str) -> Any:
    from deeplab_tf import weights
    from deeplab_tf.deeplab import build_deeplab
    from deeplab_tf.evaluation import network_config

    model = build_deeplab(network_config(card.model, card.inference))
    if weights.is_of_a_run(checkpoint):
        weights.load_weights(model, checkpoint)
    else:
        print(weights.load_tf1_checkpoint(model, checkpoint))
    return model


def _scores_folder(checkpoint: str) -> str:
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


def _class_names(asked_for: str, checkpoint: str) -> tuple[str, ...] | None:
    """The classes of a checkpoint, if anything says them."""
    from deeplab_tf import weights

    if weights.is_of_a_run(checkpoint):
        return ModelCard.load(os.path.dirname(checkpoint) or ".").dataset.class_names
    known = weights.find_zoo_model(asked_for)
    if known is None or known.dataset not in KNOWN_DATASETS:
        return None
    return KNOWN_DATASETS[known.dataset].class_names


def _palette(info: DatasetInfo) -> Any:
    if not cards.given("colormap_type"):
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


def _examples(info: DatasetInfo, split: str, inference: InferenceConfig) -> Iterator[Any]:
    from deeplab_tf.data import pipeline

    return pipeline.evaluation_examples(
        FLAGS.dataset_dir,
        split,
        info=info,
        min_resize_value=inference.min_resize_value,
        max_resize_value=inference.max_resize_value,
        resize_factor=inference.resize_factor,
    ).as_numpy_iterator()


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
