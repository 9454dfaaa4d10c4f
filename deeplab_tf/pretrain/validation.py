"""Validation in the course of pretraining."""

import os

import keras
import tensorflow as tf
from tqdm import tqdm

from deeplab_tf.best import keep_best
from deeplab_tf.data.classification import batches
from deeplab_tf.data.classification.source import ImageSource
from deeplab_tf.data.output import write_file
from deeplab_tf.history import History
from deeplab_tf.plots import curves_png
from deeplab_tf.pretrain.card import PretrainCard
from deeplab_tf.pretrain.scores import ClassificationScores, HitCounter
from deeplab_tf.summaries import Summaries


class Validation:
    """Scores a classifier on a split, again and again, and keeps the best checkpoint.

    Args:
        model: The network.
        card: The run.
        source: The split's images.
        logdir: Folder of the run, which has the checkpoint of each step that is validated.
        history: The run's log.
        summaries: TensorBoard's.
    """

    def __init__(
        self,
        model: keras.Model,
        card: PretrainCard,
        source: ImageSource,
        *,
        logdir: str,
        history: History,
        summaries: Summaries,
    ) -> None:
        self._card = card
        self._source = source
        self._logdir = logdir
        self._history = history
        self._summaries = summaries
        self._scores_of = tf.function(
            lambda images: model(tf.cast(images, tf.float32), training=False),
            reduce_retracing=True,
        )

    def __call__(self, step: int) -> ClassificationScores:
        """Validates the network as it is after a step."""
        scores = self._score()
        tqdm.write(f"step {step}: {scores} on {scores.images} images")
        earlier = self._history.best
        if scores.top1 > (earlier["top1"] if earlier else -1.0):
            # Before the history says so: of a run that is killed between the two, the last
            # checkpoint, which is this one, is validated again.
            keep_best(os.path.join(self._logdir, f"model.ckpt-{step}"), self._card)
        values = {"top1": scores.top1}
        if scores.top5 is not None:
            values["top5"] = scores.top5
        self._history.add(step, **values)
        self._summaries.scalars(step, **values)
        draw_curves(self._history, self._logdir)
        return scores

    def _score(self) -> ClassificationScores:
        config, hits = self._card.train, HitCounter()
        found = batches.evaluation_batches(
            self._source,
            image_size=config.image_size,
            batch_size=config.batch_size,
            central_fraction=config.central_fraction,
        )
        named = batches.naming_damage(
            found, self._source, self._source.once(), batch_size=config.batch_size
        )
        with tqdm(total=self._source.count, desc="validate", unit="image", leave=False) as bar:
            for images, labels in named:
                hits.add(self._scores_of(images).numpy(), labels.numpy())
                bar.update(len(labels))
        return hits.scores()


def draw_curves(history: History, logdir: str) -> None:
    """Draws loss, learning rate and top-1 over the steps as curves.png."""
    title = os.path.basename(os.path.abspath(logdir))
    curves = curves_png(history.rows, title=title, score="top1", score_name="top-1")
    write_file(os.path.join(logdir, "curves.png"), curves)
