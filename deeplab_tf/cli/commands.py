"""What each script does: flags -> configs -> one call of the library."""

import dataclasses
import json
import math
import os
import sys
from collections.abc import Sequence

from absl import flags

from deeplab_tf.cli import advice, cards, crf_flags, flag_table, inputs
from deeplab_tf.cli.flag_table import given
from deeplab_tf.config import CRFParams, ModelConfig
from deeplab_tf.data.known_datasets import CITYSCAPES_LABEL_IDS
from deeplab_tf.data.output import write_file
from deeplab_tf.model_card import ModelCard

FLAGS = flags.FLAGS


def train() -> None:
    """train.py: trains, or goes on training, the network that the flags describe."""
    from deeplab_tf import training, weights

    # First, because workers find each other before anything else is done with TensorFlow.
    strategy = None if FLAGS.dry_run else inputs.strategy()
    info = inputs.training_data()
    card = cards.training_card(info)
    _check_crop(card.data.crop_size, card.model.output_stride, flag="train_crop_size")
    _check_rates(card.model, card.data.crop_size)
    _check_pooling(card.model, card.data.crop_size)
    at_a_time = card.data.batch_size // card.train.gradient_accumulation_steps
    if warning := advice.batch_norm_warning(card.model, card.train, at_a_time):
        print(f"Warning: {warning}", file=sys.stderr)
    train_split = inputs.resolved(info, "train_split", cards.train_split(info))
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
    if start is not None and not weights.is_keras_vgg16(start):
        initial = weights.locate_checkpoint(start)
        initial_names = inputs.class_names(start, initial)
    if cards.wants_auto_label_weights():
        card = inputs.with_label_weights(card, train_split)
    scores = training.train(
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


def evaluate() -> None:
    """eval.py: prints the scores of a checkpoint on a split and writes them as JSON."""
    from deeplab_tf import boundary, evaluation, metrics

    info = inputs.records()
    split = inputs.split(info, "eval_split")
    widths, around = _trimap_widths(), FLAGS.trimap_around
    sound = inputs.sound_records(info, split)
    for checkpoint in inputs.checkpoints(FLAGS.checkpoint_dir):
        card = cards.card_of(
            checkpoint, FLAGS.checkpoint_dir, crop_flag="eval_crop_size", info=info
        )
        logdir = inputs.scores_folder(checkpoint)
        predict_labels = evaluation.label_predictor(
            inputs.load_model(card, checkpoint), card.model, card.inference, resize=False
        )
        scores, bands = evaluation.evaluate_trimaps(
            predict_labels,
            inputs.examples(info, split, card.inference, sound=sound),
            widths=widths,
            around=around,
            num_classes=info.num_classes,
            ignore_label=info.ignore_label,
            total=sound.count if sound else info.splits[split],
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
        if sound:
            result["corrupt_records"] = sound.to_json()
        if widths:
            print("\n" + boundary.format_trimap_scores(bands, scores, around=around))
            result["trimaps"] = boundary.trimap_scores_to_json(
                bands, scores, info.class_names, around=around
            )
        path = os.path.join(logdir, f"scores_{split}.json")
        write_file(path, json.dumps(result, indent=2).encode())
        print(f"Written to {path}.")


def visualize() -> None:
    """vis.py: draws predictions, or the inputs of a training run."""
    inputs_only = {flag.name for flag in flag_table.INPUTS_ONLY}
    of_inputs = FLAGS.what == "inputs"
    for name in flag_table.PREDICTIONS_ONLY if of_inputs else sorted(inputs_only):
        if given(name):
            raise ValueError(
                f"--{name} has no effect on --what={FLAGS.what}: leave it out, or give "
                f"--what={'predictions' if of_inputs else 'inputs'}."
            )
    if of_inputs:
        _visualize_inputs()
    else:
        _visualize_predictions()


def _visualize_inputs() -> None:
    """What a run trains on, drawn by way of the very pipeline that trains it."""
    from deeplab_tf import input_panels

    if FLAGS.dataset_dir is None:
        raise ValueError("--what=inputs needs --dataset_dir (a folder of records).")
    if FLAGS.max_inputs < 1:
        raise ValueError(f"--max_inputs={FLAGS.max_inputs}: expected 1 or more.")
    info = inputs.records()
    card = cards.inputs_card(info)
    split = inputs.resolved(info, "train_split", cards.train_split(info))
    summary = input_panels.visualize_inputs(
        inputs.training_inputs(card, split, FLAGS.max_inputs),
        output_dir=FLAGS.vis_logdir,
        class_names=info.class_names,
        palette=inputs.palette(info),
        ignore_label=info.ignore_label,
        total=FLAGS.max_inputs,
    )
    print(f"The first {FLAGS.max_inputs} inputs of a run on {split}, in {FLAGS.vis_logdir}:")
    print(summary)


def _visualize_predictions() -> None:
    """Predictions on a split of records, or on plain image files."""
    from deeplab_tf import evaluation, visualization

    if (FLAGS.images is None) == (FLAGS.dataset_dir is None):
        raise ValueError(
            "Give either --dataset_dir (a folder of records) or --images (files or folders)."
        )
    # Bad input is found before the network is built.
    info, split, sound = None, "", None
    if FLAGS.dataset_dir is not None:
        info = inputs.records()
        split = inputs.split(info, "vis_split")
        sound = inputs.sound_records(info, split)
    checkpoint = inputs.located(FLAGS.checkpoint_dir)
    card = cards.card_of(checkpoint, FLAGS.checkpoint_dir, crop_flag="vis_crop_size", info=info)
    if info is None:
        examples, total = inputs.image_examples(card.dataset)
    else:
        examples = inputs.examples(info, split, card.inference, sound=sound)
        total = sound.count if sound else info.splits[split]
    predict_labels = evaluation.label_predictor(
        inputs.load_model(card, checkpoint), card.model, card.inference, resize=info is None
    )
    summary = visualization.visualize_predictions(
        examples,
        predict_labels,
        output_dir=FLAGS.vis_logdir,
        class_names=card.dataset.class_names,
        palette=inputs.palette(card.dataset),
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

    checkpoint = inputs.located(FLAGS.checkpoint_path)
    card = cards.card_of(
        checkpoint,
        FLAGS.checkpoint_path,
        crop_flag="crop_size",
        scales_flag="inference_scales",
    )
    path = FLAGS.export_path
    if given("save_inference_graph") and not path.endswith(".pb"):
        raise ValueError(
            f"--save_inference_graph goes with a frozen graph, but --export_path={path} is none: "
            "end it in .pb."
        )
    model = inputs.load_model(card, checkpoint)
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


def crf_search() -> None:
    """`python -m deeplab_tf.crf`: searches parameters of the CRF on some images of a split."""
    from deeplab_tf import evaluation
    from deeplab_tf.crf import search

    info = inputs.records()
    split = inputs.split(info, "eval_split")
    if FLAGS.max_images < 1:
        raise ValueError(f"--max_images={FLAGS.max_images}: expected 1 or more.")
    chosen = set(search.spread(info.splits[split], FLAGS.max_images))
    ranges = dataclasses.replace(search.RANGES[FLAGS.ranges], **crf_flags.searched_values())
    start = crf_flags.search_start()
    checkpoint = inputs.located(FLAGS.checkpoint_dir)
    card = cards.card_of(checkpoint, FLAGS.checkpoint_dir, crop_flag="eval_crop_size", info=info)
    logdir = inputs.scores_folder(checkpoint)
    predict = evaluation.probability_predictor(
        inputs.load_model(card, checkpoint), card.model, card.inference, resize=False
    )

    def score(points: Sequence[CRFParams]) -> dict[CRFParams, float]:
        examples = enumerate(inputs.examples(info, split, card.inference))
        scores = search.score_points(
            points,
            (example for i, example in examples if i in chosen),
            predict,
            num_classes=info.num_classes,
            ignore_label=info.ignore_label,
            total=len(chosen),
        )
        return {point: scores[point].mean_iou for point in points}

    result = search.search(score, ranges, start)
    print(f"{len(chosen)} images of {split}, {len(result.mean_iou)} points:")
    print(search.format_search(result, ranges))
    path = os.path.join(logdir, f"crf_search_{split}.json")
    about = {
        "checkpoint": checkpoint,
        "dataset": info.name,
        "split": split,
        "images": len(chosen),
        "output_stride": card.model.output_stride,
        "inference": dataclasses.asdict(dataclasses.replace(card.inference, crf=None)),
    }
    write_file(path, json.dumps({**about, **search.search_to_json(result)}, indent=2).encode())
    print(f"Written to {path}.")


def _trimap_widths() -> list[int]:
    widths = FLAGS.trimap_widths or []
    if not widths and given("trimap_around"):
        raise ValueError("--trimap_around needs widths of bands, such as --trimap_widths=5.")
    if any(width < 1 for width in widths):
        raise ValueError(f"--trimap_widths={min(widths)}: expected numbers of pixels, 1 or more.")
    return sorted(set(widths))


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
