"""What a run of pretraining tells of itself: curves, validations, the best checkpoint."""

import os

import keras
import tensorflow as tf
from tqdm import tqdm

from deeplab_tf.data.classification import batches
from deeplab_tf.data.classification.source import ImageSource
from deeplab_tf.data.output import write_file
from deeplab_tf.pretrain.card import PretrainCard
from deeplab_tf.pretrain.scores import ClassificationScores, HitCounter
from deeplab_tf.training.best import keep_best
from deeplab_tf.training.history import History
from deeplab_tf.training.summaries import Summaries
from deeplab_tf.visualization.plots import curves_png


class PretrainWatch:
    """Logs the steps of a run, and scores the classifier on a schedule.

    Of several workers, one writes and validates; the others only know the schedule.

    Args:
        model: The network.
        card: The run.
        source: The images to validate on; None for no validation.
        step: Steps taken so far.
        logdir: Folder of the run; None for the workers that write nothing.
        val_interval_epochs: Epochs between validations; there is always one at the end.
        log_steps: Steps between the points of the curves.

    Attributes:
        scores: Of the last validation; None if there was none.
    """

    def __init__(
        self,
        model: keras.Model,
        card: PretrainCard,
        source: ImageSource | None,
        *,
        step: int,
        logdir: str | None,
        val_interval_epochs: float,
        log_steps: int,
    ) -> None:
        self.scores: ClassificationScores | None = None
        self._card = card
        self._source = source
        self._logdir = logdir
        self._interval = max(round(val_interval_epochs * card.steps_per_epoch), 1)
        self._log_steps = log_steps
        self._history = History(logdir, step, score="top1")
        self._summaries = Summaries(logdir)
        self._scores_of = tf.function(
            lambda images: model(tf.cast(images, tf.float32), training=False),
            reduce_retracing=True,  # the last batch is smaller
        )

    def begin(self, step: int) -> bool:
        """Validates, if an earlier part of the run was killed in it; False: it goes on."""
        return bool(step) and not self._history.has_validation(step) and self.validate(step)

    def log(self, step: int, curves: dict[str, float]) -> None:
        """Adds a step to the curves, if it is one of those that are."""
        if step % self._log_steps == 0:
            self._history.add(step, **curves)
            self._summaries.scalars(step, **curves)

    def is_due(self, step: int) -> bool:
        """Whether a step is validated, for which it must be saved."""
        return self._source is not None and (step % self._interval == 0 or step == self._card.steps)

    def validate(self, step: int) -> bool:
        """Validates a step if it is due, and keeps its checkpoint if it is the best one.

        Returns False: a run does not end before its last step.
        """
        if self._source is None or self._logdir is None or not self.is_due(step):
            return False
        self.scores = scores = self._score(self._source)
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
        self._draw_curves()
        return False

    def end(self, step: int, *, early: bool) -> None:
        """Draws loss, learning rate and top-1 over the steps as curves.png."""
        self._draw_curves()

    def _draw_curves(self) -> None:
        if self._logdir is not None:
            title = os.path.basename(os.path.abspath(self._logdir))
            curves = curves_png(self._history.rows, title=title, score="top1", score_name="top-1")
            write_file(os.path.join(self._logdir, "curves.png"), curves)

    def _score(self, source: ImageSource) -> ClassificationScores:
        config, hits = self._card.train, HitCounter()
        found = batches.evaluation_batches(
            source,
            image_size=config.image_size,
            batch_size=config.batch_size,
            central_fraction=config.central_fraction,
        )
        named = batches.naming_damage(found, source, source.once(), batch_size=config.batch_size)
        with tqdm(total=source.count, desc="validate", unit="image", leave=False) as bar:
            for images, labels in named:
                hits.add(self._scores_of(images).numpy(), labels.numpy())
                bar.update(len(labels))
        return hits.scores()
