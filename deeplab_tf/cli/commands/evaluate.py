"""What eval.py does: flags -> configs -> scores."""

import dataclasses
import json
import os

from absl import flags

from deeplab_tf.cli import cards, inputs
from deeplab_tf.cli.flag_table import given
from deeplab_tf.data.output import write_file

FLAGS = flags.FLAGS


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


def _trimap_widths() -> list[int]:
    widths = FLAGS.trimap_widths or []
    if not widths and given("trimap_around"):
        raise ValueError("--trimap_around needs widths of bands, such as --trimap_widths=5.")
    if any(width < 1 for width in widths):
        raise ValueError(f"--trimap_widths={min(widths)}: expected numbers of pixels, 1 or more.")
    return sorted(set(widths))
