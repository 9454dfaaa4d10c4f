"""What `python -m deeplab_tf.crf` does."""

import dataclasses
import json
import os
from collections.abc import Sequence

from absl import flags

from deeplab_tf.cli import cards, crf_flags, inputs
from deeplab_tf.config import CRFParams
from deeplab_tf.data.output import write_file

FLAGS = flags.FLAGS


def crf_search() -> None:
    """`python -m deeplab_tf.crf`: searches parameters of the CRF on some images of a split."""
    from deeplab_tf import predictors
    from deeplab_tf.crf import search

    info = inputs.records()
    split = inputs.split(info, "eval_split")
    if FLAGS.max_images < 1:
        raise ValueError(f"--max_images={FLAGS.max_images}: expected 1 or more.")
    sound = inputs.sound_records(info, split)
    chosen = set(search.spread(sound.count if sound else info.splits[split], FLAGS.max_images))
    ranges = dataclasses.replace(search.RANGES[FLAGS.ranges], **crf_flags.searched_values())
    start = crf_flags.search_start()
    checkpoint = inputs.located(FLAGS.checkpoint_dir)
    card = cards.card_of(checkpoint, FLAGS.checkpoint_dir, crop_flag="eval_crop_size", info=info)
    logdir = inputs.scores_folder(checkpoint)
    predict = predictors.probability_predictor(
        inputs.load_model(card, checkpoint), card.model, card.inference, resize=False
    )

    def score(points: Sequence[CRFParams]) -> dict[CRFParams, float]:
        examples = enumerate(inputs.examples(info, split, card.inference, sound=sound))
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
    if sound:
        about["corrupt_records"] = sound.to_json()
    write_file(path, json.dumps({**about, **search.search_to_json(result)}, indent=2).encode())
    print(f"Written to {path}.")
