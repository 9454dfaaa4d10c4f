"""Validation in the course of training: scores, what they are shown in, and what follows."""

import os
from collections.abc import Callable

import numpy as np
from tqdm import tqdm

from deeplab_tf.data import pipeline
from deeplab_tf.data.channels import display_rgb
from deeplab_tf.data.damage import SoundRecords, naming_damage
from deeplab_tf.data.output import write_file
from deeplab_tf.evaluation.degenerate import dominating_class, warn_of_validation
from deeplab_tf.evaluation.metrics import (
    SegmentationScores,
    format_class_ious,
    scores_from_confusion,
)
from deeplab_tf.evaluation.run import split_confusion
from deeplab_tf.model_card import ModelCard
from deeplab_tf.training.best import keep_best
from deeplab_tf.training.history import History
from deeplab_tf.training.summaries import Summaries
from deeplab_tf.visualization.plots import confusion_png, decode_png
from deeplab_tf.visualization.run import panel

_PICTURES = 4


class Validation:
    """Scores a network on a split, again and again, and keeps the best checkpoint.

    Each time it prints the scores, adds them to the history and to TensorBoard, and draws
    `confusion_matrix.png` anew. It warns of predictions that are all of one class
    when that begins, in the first validation too: there it may still be normal, as the first of
    the causes says, but wrong labels are cheapest to find there, and it is said but once.

    Args:
        predict_labels: Image, [h, w, 3], to labels, integer [h, w].
        card: The run.
        dataset_dir: Folder of records.
        split: Name of the split.
        sound: Its records to read; None for all.
        logdir: Folder of the run, which has the checkpoint of each step that is validated.
        history: The run's log.
        summaries: TensorBoard's.
    """

    def __init__(
        self,
        predict_labels: Callable[[np.ndarray], np.ndarray],
        card: ModelCard,
        *,
        dataset_dir: str,
        split: str,
        sound: SoundRecords | None,
        logdir: str,
        history: History,
        summaries: Summaries,
    ) -> None:
        self._predict_labels = predict_labels
        self._card = card
        self._dataset_dir = dataset_dir
        self._split = split
        self._logdir = logdir
        self._history = history
        self._summaries = summaries
        self._examples = pipeline.evaluation_examples(
            dataset_dir,
            split,
            info=card.dataset,
            min_resize_value=card.inference.min_resize_value,
            max_resize_value=card.inference.max_resize_value,
            resize_factor=card.inference.resize_factor,
            sound=sound,
        )

    def __call__(self, step: int) -> SegmentationScores:
        """Validates the network as it is after a step."""
        info = self._card.dataset
        confusion = split_confusion(
            self._predict_labels,
            naming_damage(
                self._examples.as_numpy_iterator(), self._dataset_dir, self._split, info=info
            ),
            num_classes=info.num_classes,
            ignore_label=info.ignore_label,
            total=int(self._examples.cardinality()),
        )
        scores = scores_from_confusion(confusion)
        tqdm.write(
            f"step {step}: mIoU {scores.mean_iou:.4f}, pixel accuracy "
            f"{scores.pixel_accuracy:.4f} on {self._split}\n"
            + format_class_ious(scores, info.class_names)
        )
        dominating = self._warn(confusion)
        earlier = self._history.best
        if scores.mean_iou > (earlier["miou"] if earlier else -1.0):
            # Before the history says so: of a run that is killed between the two, the last
            # checkpoint, which is this one, is validated again.
            keep_best(os.path.join(self._logdir, f"model.ckpt-{step}"), self._card)
        self._history.add(
            step,
            miou=scores.mean_iou,
            pixel_accuracy=scores.pixel_accuracy,
            iou=dict(zip(info.class_names, scores.iou, strict=True)),
            dominating_class=dominating,
        )
        self._draw(step, confusion, scores)
        return scores

    def _warn(self, confusion: np.ndarray) -> str | None:
        """Says when nearly all predictions begin, or cease, to be of one class; names the class."""
        validations = self._history.validations
        before = validations[-1]["dominating_class"] if validations else None
        found = dominating_class(confusion)
        name = None if found is None else self._card.dataset.class_names[found]
        if found is not None and name is not None and name != before:
            shares = confusion / confusion.sum()
            predicted, labelled = shares[:, found].sum(), shares[found].sum()
            tqdm.write("\n".join(warn_of_validation(name, predicted, labelled)))
        elif name is None and before is not None:
            tqdm.write(f'The predictions are no longer nearly all "{before}".')
        return name

    def _draw(self, step: int, confusion: np.ndarray, scores: SegmentationScores) -> None:
        info, summaries = self._card.dataset, self._summaries
        classes = zip(info.class_names, scores.iou, strict=True)
        summaries.scalars(
            step,
            miou=scores.mean_iou,
            pixel_accuracy=scores.pixel_accuracy,
            **{f"iou/{name}": iou for name, iou in classes if not np.isnan(iou)},
        )
        title = f"{info.name} {self._split}, step {step}: mIoU {scores.mean_iou:.4f}"
        matrix = confusion_png(confusion, info.class_names, title=title)
        write_file(os.path.join(self._logdir, "confusion_matrix.png"), matrix)
        summaries.picture(step, "confusion_matrix", decode_png(matrix))
        summaries.images(
            step,
            [
                panel(
                    display_rgb(example["image"]),
                    self._predict_labels(example["image"]),
                    class_names=info.class_names,
                    palette=info.palette,
                    label=example["label"],
                    ignore_label=info.ignore_label,
                )
                for example in self._examples.take(_PICTURES).as_numpy_iterator()
            ],
        )
